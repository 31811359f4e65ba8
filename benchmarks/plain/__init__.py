"""The source experiments in plain PyTorch, as a good user would write them: one operation per line, no tricks."""
