"""The source experiments in JAX with the whole training loop inside one jit: the fastest that a user can have there."""
