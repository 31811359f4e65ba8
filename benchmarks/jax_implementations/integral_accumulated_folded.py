"""integral_accumulated in JAX, with seqrnn's own trick: the 25 windows of an update run side by side."""

from functools import partial

from benchmarks import implementation
from benchmarks.jax_implementations.integral import folded, prepare

if __name__ == "__main__":
    implementation.command(partial(prepare, updates=5_000, windows=25, loss_of=folded))
