"""Published figures, the runs that repeat them, and verdicts. ``python -m seqrnn.reproduce`` is the command."""
