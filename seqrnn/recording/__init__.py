"""What a run prints while it lasts, and what it writes."""
