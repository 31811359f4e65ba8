"""A trained network that is fed one timestep at a time, and holds its state in between."""
