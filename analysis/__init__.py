"""The reading side: logs to runs, runs to a verdict. Imports neither torch nor ray nor the other two packages."""

from analysis.untrusted.refusal import refuse_other_modules

refuse_other_modules("analysis", ("significance", "audit", "leaderboard", "logs", "explain", "action", "hook"))
