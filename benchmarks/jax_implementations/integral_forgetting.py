"""integral_forgetting in JAX: all 125,000 updates in one jit."""

from functools import partial

from benchmarks import implementation
from benchmarks.jax_implementations.integral import prepare

if __name__ == "__main__":
    implementation.command(partial(prepare, updates=125_000, windows=1))
