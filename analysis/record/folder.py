"""A record folder as it was read: every log once, and the claim. A log that is kept under two names is one log."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from analysis.reading.reader import Run, read_log
from analysis.record.claim import Claim, read_claim, submission_file
from analysis.untrusted.files import FileError, Listing, files_below, printable_path, read_bounded

EXACT_DECIMALS = 6
MOST_BYTES = 2**29  # of the logs of one folder
_FILE_SEED = re.compile(r"seed[_=-]?(\d{1,18})(?!\d)", re.IGNORECASE)


@dataclass(slots=True)
class Record:
    """Everything below the PATHs that bears on a claim. `base` is the folder, None for single logs."""

    base: Path | None
    paths: list[Path]
    listing: Listing = field(default_factory=Listing)
    logs: dict[Path, list[Run]] = field(default_factory=dict)
    copies: dict[Path, Path] = field(default_factory=dict)
    empty: list[Path] = field(default_factory=list)
    kept_bytes: int = 0
    claim: Claim | None = None

    def shown(self, path: Path) -> str:
        """A file as it is printed: from the folder on, or as it was given."""
        return printable_path(path.relative_to(self.base) if self.base else path)

    def depth(self, log: Path) -> int:
        """How far a log lies below the PATH that it was found under; 0 for one that was given by name."""
        return min((len(log.relative_to(path).parts) for path in self.paths if log.is_relative_to(path)), default=0)

    @property
    def runs(self) -> list[Run]:
        return [run for runs in self.logs.values() for run in runs]


def read_record(paths: list[Path]) -> Record:
    """Every log of the PATHs, and the claim when they are one folder. What cannot be read is in `listing.left_aside`."""
    base = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
    record = Record(base, paths)
    for path in paths:
        if path.is_dir():
            below = files_below(path)
            record.listing.files += below.files
            record.listing.left_aside += below.left_aside
            for log in below.logs:
                _read(record, log)
        else:
            record.listing.files.append(path)
            _read(record, path)
    _find_copies(record)
    if base is not None and (file := submission_file(record.listing.files, base)) is not None:
        record.claim = read_claim(file)
    return record


def records_below(record: Record) -> list[Path]:
    """The record folders inside a folder that is none itself: it holds no submission JSON and they do."""
    if record.base is None or record.claim is not None:
        return []
    folders: dict[Path, list[Path]] = {}
    for path in record.listing.files:
        folders.setdefault(path.parent, []).append(path)
    return sorted(folder for folder, files in folders.items() if submission_file(files, folder) is not None)


def _read(record: Record, log: Path) -> None:
    if log in record.logs:
        return
    try:
        content = read_bounded(log)
        runs = read_log(log, content)
        record.kept_bytes += len(content) if runs else 0
        if record.kept_bytes > MOST_BYTES:
            raise FileError(f"is more than {MOST_BYTES / 2**20:g} MiB of logs in one folder can be kept")
    except FileError as error:
        record.listing.left_aside.append((log, str(error)))
        return
    if runs:
        record.logs[log] = runs
    elif not content.strip() and log.name.endswith(".log"):
        record.empty.append(log)


def _find_copies(record: Record) -> None:
    """Logs whose runs all stand in another log; of two copies the one with its seed in its name is kept."""
    seen: dict[bytes, Path] = {}
    order = sorted(record.logs, key=lambda log: _kept_first(log, record.logs[log]))
    for log in order:
        prints = [_content_of(run) for run in record.logs[log]]
        others = {seen.get(one) for one in prints}
        if len(others) == 1 and (other := others.pop()) is not None:
            record.copies[log] = other
        else:
            for one in prints:
                seen.setdefault(one, log)
    for log in record.copies:
        del record.logs[log]


def _kept_first(log: Path, runs: list[Run]) -> tuple[object, ...]:
    """Of two logs of one run: the one with more runs, with steps, with its seed in its name, with more steps."""
    steps = sum(len(text) for run in runs for _, text in run.curve)
    return -len(runs), steps == 0, not _names_its_seed(log, runs), -steps


def _names_its_seed(log: Path, runs: list[Run]) -> bool:
    return any(run.seed is not None and re.search(rf"(?<!\d){run.seed}(?!\d)", log.name) for run in runs)


def _content_of(run: Run) -> bytes:
    """What makes a run itself: its seed and its metrics, and where these have few decimals its steps with their times.

    Two runs never agree in eight decimals, and of one run a console log and a file may hold different lines.
    """
    digest = hashlib.sha256(repr((run.seed, [(m.label, m.val_loss, m.val_bpb) for m in run.finals])).encode())
    if max((metric.decimals for metric in run.finals), default=0) < EXACT_DECIMALS:
        for _, text in run.curve:
            digest.update(text.strip() + b"\n")
    if not run.curve and not run.metrics:
        digest.update(repr((run.log, run.line)).encode())
    return digest.digest()


def file_seed(log: Path) -> int | None:
    """The seed that a log's name claims: train_seed1337.log."""
    match = _FILE_SEED.search(log.stem)
    return int(match[1]) if match else None


def seed_of(run: Run) -> int | None:
    """The seed that a run prints, else what its file name claims."""
    return run.seed if run.seed is not None else file_seed(run.log)
