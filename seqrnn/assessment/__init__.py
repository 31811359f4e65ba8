"""Repeats the test of trained runs from their weights, with confidence intervals: of one run, of several side by
side, or of their mean, an ensemble."""
