"""Ways to compute updates. All have one interface (``protocol``); the training loop does not know which it uses."""
