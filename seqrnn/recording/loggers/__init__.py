"""Where people look at runs: ``logger=NAME`` sends the rows of metrics there, too, under their names in metrics.csv.

Each logger is a file here, or in a plugin, and registered by its name.
"""
