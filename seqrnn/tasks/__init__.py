"""Tasks: the data to learn from. The protocol and the checks of data, and one file per task."""
