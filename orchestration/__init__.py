"""The running side: one torchrun a seed, scheduled by Ray. Imports `analysis` to read logs; never imports `trainer`."""
