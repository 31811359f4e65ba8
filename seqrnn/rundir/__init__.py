"""The run directory: its file names, who writes it, who reads it, and the lock between them."""
