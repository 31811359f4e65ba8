"""Tasks: what is to be learned. The protocol, then one file per task."""
