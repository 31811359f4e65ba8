"""integral_accumulated in JAX, with seqrnn's own trick: the 25 windows of an update run side by side."""

from functools import partial

from benchmarks import rival
from benchmarks.jax_rivals.integral import folded, prepare

if __name__ == "__main__":
    rival.command(partial(prepare, updates=5_000, windows=25, loss_of=folded))
