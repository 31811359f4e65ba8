"""Exports a trained network, with its state as inputs and outputs, for programs that do not have seqrnn."""
