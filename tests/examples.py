"""The folders that the documents' examples name: records of three boards' ages, and logs alone."""

from __future__ import annotations

from pathlib import Path

from tests import dialects

LOSSES = {
    "records/2026-04-12_baseline": {42: 2.0531, 1337: 2.0557, 2025: 2.0512},
    "records/2026-05-03_longer_context": {42: 2.0262, 1337: 2.0287, 2025: 2.0239},
    "records/2026-05-10_wider": {42: 2.0101, 1337: 2.0123, 2025: 2.0094},
    "mine": {42: 2.0262, 1337: 2.0287, 2025: 2.0239},
    "theirs": {7: 2.0270, 8: 2.0246, 9: 2.0291},
}
SOURCE = dialects.program("final_int8_zlib_roundtrip", dialects.EXACT)


def write(folder: Path) -> None:
    """Make the folders; `mine` holds nothing but logs."""
    (folder / "records").mkdir()
    for name, losses in LOSSES.items():
        step_ms = 1950 if "wider" in name else 75  # 624 s of training
        runs = [dialects.Told(source=SOURCE, seed=s, val_loss=loss, step_ms=step_ms) for s, loss in losses.items()]
        dialects.write_record(folder / name, dialects.root_script, runs, dialects.claim_of(runs))
    for name in ("README.md", "train_gpt.py", "submission.json"):
        (folder / "mine" / name).unlink()
