"""Questions that take many runs to answer: each is one command that makes every figure and table of its page."""
