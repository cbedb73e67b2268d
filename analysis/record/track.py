"""Choose the rules if the reviewer names none: those for a record, or those for a non-record submission."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.record.claim import is_submission, read_claim, submission_file
from analysis.rules.ruleset import USUAL
from analysis.untrusted.escape import printable

NON_RECORD = "parameter-golf-non-record"
SHOWN = 40  # characters of a track
_NON_RECORD = re.compile(r"(?:^|[\W_])non[\W_]?record(?:$|[\W_])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """The name of the rules. because: what chose them instead of the usual ones, to follow "chosen by"."""

    rules: str = USUAL
    because: str | None = None


def track_of(paths: Sequence[Path], *, asks_for_a_test: bool) -> Track:
    """Return the rules for the PATHs: by the names of the folders that hold them, else by the track in their JSON.

    asks_for_a_test: the reviewer gave a number or a control to beat. Then the JSON, which the claimant wrote, is ignored.
    """
    if len(paths) != 1 or not paths[0].is_dir():
        return Track()
    for name in reversed(Path(os.path.abspath(paths[0])).parts):
        if _NON_RECORD.search(name):
            return Track(rules=NON_RECORD, because=f"the folder {printable(name)}")
    claimed = None if asks_for_a_test else _claimed(paths[0])
    if claimed is None or not _NON_RECORD.search(claimed.track):
        return Track()
    return Track(
        rules=NON_RECORD, because=f"the track {printable(claimed.track[:SHOWN])!r} in {printable(claimed.file)}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claimed:
    """The track that a JSON names, and the name of the JSON."""

    track: str
    file: str


def _claimed(folder: Path) -> _Claimed | None:
    """Return the track that the JSON at the top of a folder names. A link is ignored."""
    names = [name for name in os.listdir(folder) if is_submission(name)] if os.access(folder, os.R_OK) else []
    files = [path for name in names if os.path.isfile(path := folder / name) and not os.path.islink(path)]
    file = submission_file(files, folder)
    track = read_claim(file).track if file is not None else None
    return _Claimed(track=track, file=file.name) if file is not None and track is not None else None
