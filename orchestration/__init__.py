"""The running side: one torchrun a seed, scheduled by Ray. Imports `analysis` to read logs, and never `trainer`."""

from analysis.untrusted.refusal import refuse_other_modules

refuse_other_modules("orchestration", ("sweep", "record", "verify"))
