"""What the commands share: their arguments, exit codes, errors and interruptions."""
