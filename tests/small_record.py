"""Write a small record that passes: `python -m tests.small_record FOLDER`. It needs the standard library alone."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.dialects import EXACT, Told, claim_of, program, root_script, write_record

SOURCE = program(EXACT.removesuffix("_exact"), EXACT)
RUNS = [Told(source=SOURCE, seed=seed, val_loss=loss) for seed, loss in ((1, 2.029), (2, 2.03), (3, 2.031))]


def write(folder: Path) -> Path:
    """Write the record. Its mean is 1.2023 bpb."""
    return write_record(folder, root_script, RUNS, claim_of(RUNS))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
