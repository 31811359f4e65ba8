"""What a run says while it lasts and leaves behind."""
