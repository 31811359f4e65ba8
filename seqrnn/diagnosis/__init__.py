"""The doctor: instruments that look at a finished run, and a verdict with remedies (python -m seqrnn.diagnose)."""
