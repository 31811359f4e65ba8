"""Predictions of a trained run: on new data at once, on lines as they come, and with further training as true values
arrive."""
