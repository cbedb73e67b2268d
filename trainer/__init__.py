"""The training side: one standalone trainer, its recipes and its data. Imports nothing of the other packages."""
