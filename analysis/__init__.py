"""The reading side: logs to runs, runs to a verdict. Imports neither torch nor ray nor the other two packages."""
