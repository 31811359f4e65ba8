"""The pictures of predictions: a file for each, by the name that a task asks for (``seqrnn.plots.picture``)."""
