"""Benchmarks: how fast seqrnn trains, starts and computes, against plain PyTorch and JAX."""
