"""A record folder as it was read: every log once, and the claim. A log under two names is one log."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from analysis.reading.importers.ask import has_result, imported
from analysis.reading.reader import read_log
from analysis.reading.result import Attempts, Tried, remade
from analysis.reading.run import Run
from analysis.record.claim import Claim, is_submission, read_claim, submission_file
from analysis.record.metrics import with_common_stop, with_log
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.files import LOG_SUFFIXES, FileError, Listing, files_below, printable_path, read_bounded
from analysis.untrusted.invoked import command

EXACT_DECIMALS = 6
_FILE_SEED = re.compile(r"seed[_=-]?(\d{1,18})(?!\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A log that repeats another one: the log that counts, and what the copy itself holds."""

    original: Path
    runs: Sequence[Run]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything below the PATHs that bears on a claim. `base` is the folder, None for single logs.

    logs: the runs of each log, without copies. empty: logs without a byte in them. attempts: the claim's
    list of attempts of each run that counts, by arm and seed. attempt_logs: the logs of attempts that ended without a
    result; they are in no other list.
    """

    base: Path | None
    paths: Sequence[Path]
    listing: Listing
    logs: Mapping[Path, Sequence[Run]]
    copies: Mapping[Path, Copy]
    empty: Sequence[Path]
    claim: Claim | None
    attempts: Attempts = field(default_factory=dict)
    attempt_logs: Mapping[Path, Sequence[Run]] = field(default_factory=dict)

    def shown(self, path: Path) -> str:
        """Return a file as it is printed: relative to the folder, or as it was given."""
        return printable_path(path.relative_to(self.base) if self.base else path)

    def depth(self, log: Path) -> int:
        """Return how far a log is below the PATH it was found in; 0 for one that was given by name."""
        return min((len(log.relative_to(path).parts) for path in self.paths if log.is_relative_to(path)), default=0)

    @property
    def runs(self) -> list[Run]:
        return [run for runs in self.logs.values() for run in runs]


def read_record(paths: Sequence[Path]) -> Record:
    """Read every log of the PATHs and, if they are one folder, its claim. `listing.left_aside` is what cannot be read."""
    base = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
    listing = Listing()
    found: list[Path] = []
    for path in paths:
        below = files_below(path) if path.is_dir() else Listing(files=[path])
        listing.files += below.files
        listing.left_aside += below.left_aside
        found += below.logs if path.is_dir() else [path]
    empty: list[Path] = []
    logs = _read(found, listing, empty)
    file = submission_file(listing.files, base) if base is not None else None
    claim = read_claim(file) if file is not None else None
    if claim is None and not any(has_result(run) for runs in logs.values() for run in runs):
        logs = _with_imports(logs, listing)
    attempts = _attempts(claim) if claim is not None else {}
    named = {} if base is None else {base / one.log: one.seed for one in _without_result(attempts) if one.log}
    of_attempts = {
        log: runs
        for log, runs in (logs | {log: [] for log in empty}).items()
        if log in named and all(run.seed in (None, named[log]) for run in runs)
    }
    copies = _copies({log: runs for log, runs in logs.items() if log not in of_attempts})
    return Record(
        base=base,
        paths=paths,
        listing=listing,
        logs=_with_common_stops(
            {log: runs for log, runs in logs.items() if log not in copies and log not in of_attempts}
        ),
        copies=copies,
        empty=[log for log in empty if log not in of_attempts],
        claim=claim,
        attempts=attempts,
        attempt_logs=of_attempts,
    )


def _with_imports(logs: dict[Path, list[Run]], listing: Listing) -> dict[Path, list[Run]]:
    """Return the runs that trackers' files tell of, and those of the logs, which have no result.

    The one log in a folder of one such run is that run's.
    """
    found = imported(listing.files)
    listing.left_aside += found.left_aside
    in_folder = Counter(path.parent for path, runs in found.runs.items() for _ in runs)
    logs_in_folder = Counter(log.parent for log in logs)
    kept = {log: runs for log, runs in logs.items() if not in_folder[log.parent] == logs_in_folder[log.parent] == 1}
    return kept | found.runs


def _with_common_stops(logs: Mapping[Path, Sequence[Run]]) -> dict[Path, Sequence[Run]]:
    """Return the runs, each with the step at which nearly all runs of its folder stopped."""
    folders: dict[Path, dict[Path, Sequence[Run]]] = {}
    for log, runs in logs.items():
        folders.setdefault(log.parent, {})[log] = runs
    stopped = {log: runs for own in folders.values() for log, runs in with_common_stop(own).items()}
    return {log: stopped[log] for log in logs}


def _attempts(claim: Claim) -> Attempts:
    """Return the attempts that a claim lists for the seeds that it claims, if one of them has the seed's result.

    An attempt of any other seed is not a retry of a run that counts, so its log is a run like any other.
    """
    found: dict[tuple[str, int], list[Tried]] = {}
    for one in claim.attempts:
        found.setdefault((one.arm, one.seed), []).append(one)
    return {
        key: tuple(tries) for key, tries in found.items() if key[1] in claim.seeds and any(one.counts for one in tries)
    }


def _without_result(attempts: Attempts) -> Iterator[Tried]:
    yield from (one for tries in attempts.values() for one in remade(tries))


def attempts_in(record: Record, rules: Ruleset) -> Attempts:
    """Return the attempts that the claim lists. Those without a result get the last value from their log in the folder."""
    there = set(record.listing.files)

    def read(one: Tried) -> Tried:
        if not one.ended_without_result or record.base is None or one.log is None:
            return one
        log = record.base / one.log
        if log not in there or log in record.logs or log in record.copies:  # not there, or another seed's
            return replace(one, log=None)
        return with_log(one, record.attempt_logs.get(log, ()), rules)

    return {key: tuple(map(read, tries)) for key, tries in record.attempts.items()}


def attempts_by_log(record: Record, rules: Ruleset) -> dict[Path, Sequence[Tried]]:
    """Return the same by the real path of the log that counts: a log need not print its seed."""
    if record.base is None:
        return {}
    found = ((tries, one.log) for tries in attempts_in(record, rules).values() for one in tries if one.counts)
    return {Path(os.path.realpath(record.base / log)): tries for tries, log in found if log is not None}


def _read(paths: Iterable[Path], listing: Listing, empty: list[Path]) -> dict[Path, list[Run]]:
    """Return the runs of each log; note what cannot be read in `listing`, and logs without a byte in `empty`."""
    logs: dict[Path, list[Run]] = {}
    for log in dict.fromkeys(paths):
        try:
            if not log.name.lower().endswith(LOG_SUFFIXES) and (named := imported([log], named=True)).runs:
                logs |= named.runs
                continue
            content = read_bounded(log)
            runs = read_log(log, content)
        except FileError as error:
            listing.leave_aside(log, str(error))
            continue
        if runs:
            logs[log] = runs
        elif not content.strip() and log.name.endswith(".log"):
            empty.append(log)
    return logs


def records_below(record: Record) -> list[Path]:
    """Return the record folders inside a folder that is not one itself: they hold a submission JSON and it does not."""
    if record.base is None or record.claim is not None:
        return []
    return sorted({path.parent for path in record.listing.files if is_submission(path.name)})


def records_instead(path: Path, inside: Sequence[Path]) -> str:
    """Return what to name instead of a folder that is no record and holds records."""
    if len(inside) == 1:
        return f"{path} is no record, but holds one besides other logs: name {inside[0]}."
    return (
        f"{path} holds {len(inside)} record folders. Name one, such as {inside[0]}, or see all with "
        f"{command('analysis.leaderboard', str(path))}."
    )


def _copies(logs: Mapping[Path, Sequence[Run]]) -> dict[Path, Copy]:
    """Return the logs whose runs are all in another log. Of two copies the one with its seed in its name is kept."""
    seen: dict[bytes, Path] = {}
    copies: dict[Path, Copy] = {}
    for log in sorted(logs, key=lambda log: _kept_first(log, logs[log])):
        prints = [_content_of(run) for run in logs[log]]
        others = {seen.get(one) for one in prints}
        if len(others) == 1 and (other := others.pop()) is not None:
            copies[log] = Copy(original=other, runs=logs[log])
        else:
            for one in prints:
                seen.setdefault(one, log)
    return copies


def _kept_first(log: Path, runs: Sequence[Run]) -> tuple[object, ...]:
    """Return the sort key of what is kept of two logs of one run: more runs, steps, its seed in its name, more steps."""
    steps = sum(len(text) for run in runs for _, text in run.curve)
    seeds = [run.seed for run in runs if run.seed is not None]
    named = any(re.search(rf"(?<!\d){seed}(?!\d)", log.name) for seed in seeds)
    return -len(runs), steps == 0, not named, -steps


def _content_of(run: Run) -> bytes:
    """Return a digest of what identifies a run: its seed and metrics and, if these have few decimals, its step lines.

    Two runs never agree in eight decimals. A console log and a file of one run may hold different lines.
    """
    digest = hashlib.sha256(repr((run.seed, [(m.label, m.val_loss, m.val_bpb) for m in run.finals])).encode())
    if max((metric.decimals for metric in run.finals), default=0) < EXACT_DECIMALS:
        for _, text in run.curve:
            digest.update(text.strip() + b"\n")
    if not run.curve and not run.metrics:
        digest.update(repr((run.log, run.line)).encode())
    return digest.digest()


def file_seed(log: Path) -> int | None:
    """Return the seed that a log's name claims: train_seed1337.log."""
    match = _FILE_SEED.search(log.stem)
    return int(match[1]) if match else None


def seed_of(run: Run) -> int | None:
    """Return the seed that a run prints, else what its file name claims."""
    return run.seed if run.seed is not None else file_seed(run.log)
