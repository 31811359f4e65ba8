"""integral_accumulated in JAX: all 5,000 updates in one jit, each the gradient of 25 windows one after another."""

from functools import partial

from benchmarks import implementation
from benchmarks.jax_implementations.integral import prepare

if __name__ == "__main__":
    implementation.command(partial(prepare, updates=5_000, windows=25))
