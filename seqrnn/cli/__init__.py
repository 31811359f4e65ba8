"""What all commands share: exit codes and errors, config errors of hydra in plain words, and resuming a run."""
