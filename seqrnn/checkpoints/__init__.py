"""Checkpoints: everything that a run needs to be resumed, on disk."""
