"""Checkpoints: what a run needs to go on from where it was, on disk."""
