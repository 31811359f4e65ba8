"""The source experiments in JAX with the whole training loop inside one jit, which is as fast as it gets there."""
