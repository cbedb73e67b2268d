"""events.jsonl, the driver's record of every attempt of a sweep: read and checked in this one place.

It lies outside every run's folder, and only the driver writes it. What the run.json of an attempt says is the word of a
folder that the script itself can write to, so it decides nothing where there is a journal.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from analysis.sweepdir.json_files import of_type, table_of
from analysis.sweepdir.layout import ARMS, EVENTS, STATES, SweepError
from analysis.untrusted.files import FileError, leads_out, read_bounded

LARGEST_JOURNAL = 2**26  # bytes; 1,000 seeds leave less than one MiB


class Attempt(NamedTuple):
    """Names one attempt of a sweep; used as a key."""

    arm: str
    seed: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the journal says of one attempt; None where it does not say.

    tells_of_the_log: whether it says anything of the log and of the time; an older version's does not. log_sha256: of the log's first log_bytes bytes; a run that was given up may have printed more before it was gone.
    last: the last value of the rules' metric in the log, final or of a validation. wall_s: from the start to the end by
    the driver's own clock.
    """

    state: str
    reason: str | None = None
    node: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    tells_of_the_log: bool = False
    log_sha256: str | None = None
    log_bytes: int | None = None
    metric: Mapping[str, Any] = field(default_factory=dict)
    last: float | None = None
    wall_s: float | None = None

    @property
    def has_ended(self) -> bool:
        return self.state not in ("pending", "running")


Runs = dict[tuple[str, int], dict[int, Entry]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRead:
    """What a journal says of each attempt, by (arm, seed) and number.

    events: how many lines tell of an attempt. skipped: how many say nothing; a driver that died left its last one cut off.
    """

    runs: Runs = field(default_factory=dict)
    events: int = 0
    skipped: int = 0

    def of(self, arm: str, seed: int) -> Mapping[int, Entry]:
        """Return what it says of the attempts of one run."""
        return self.runs.get((arm, seed), {})


def read_journal(directory: Path) -> JournalRead:
    """Read the journal of a sweep directory; an empty one where there is none. Raises SweepError."""
    path = directory / EVENTS
    if not os.path.lexists(path):
        return JournalRead()
    if leads_out(path, os.path.realpath(directory)):
        raise SweepError(f"{path} is a link that leads out of the folder.")
    try:
        return checked(parse(read_bounded(path, LARGEST_JOURNAL)), path)
    except FileError as error:
        raise SweepError(f"{path} {error}.") from None


def checked(found: JournalRead, path: Path) -> JournalRead:
    """Return what a journal says. Raises SweepError where none of its lines is an event: then it is no journal."""
    if found.skipped and not found.events:
        raise SweepError(
            f"{path} is not a journal: none of its {found.skipped} lines is an event. Put back the sweep's own file, or "
            f"plan a new sweep."
        )
    return found


def parse(content: bytes) -> JournalRead:
    """Return what the lines of a journal say. The first end of an attempt stands."""
    runs: Runs = {}
    events = skipped = 0
    for line in content.splitlines():
        try:
            table = json.loads(line)
        except (ValueError, RecursionError):
            table = None
        attempt = _attempt(table)
        if attempt is None:
            skipped += bool(line.strip())
            continue
        events += 1
        note(runs, attempt, table)
    return JournalRead(runs=runs, events=events, skipped=skipped)


def note(runs: Runs, attempt: Attempt, event: Mapping[str, Any]) -> None:
    """Add one event to what is known of each attempt."""
    entries = runs.setdefault((attempt.arm, attempt.seed), {})
    if (entry := _told(entries.get(attempt.attempt), event)) is None:
        entries.pop(attempt.attempt, None)
    else:
        entries[attempt.attempt] = entry


def _told(before: Entry | None, event: Mapping[str, Any]) -> Entry | None:
    """Return what is known of an attempt after one more event; None if its node refused it, because then it never began."""
    if before is not None and before.has_ended:
        return before
    when = as_time(event.get("time"))
    if event["state"] == "pending":
        return None
    if event["state"] == "running":
        return Entry(state="running", node=of_type(event.get("node"), str), started=when)
    return replace(
        before or Entry(state=""),
        state=event["state"],
        reason=of_type(event.get("reason"), str),
        node=of_type(event.get("node"), str),
        ended=when,
        tells_of_the_log="log_sha256" in event,
        log_sha256=of_type(event.get("log_sha256"), str),
        log_bytes=of_type(event.get("log_bytes"), int),
        metric=table_of(event.get("metric")),
        last=number(event.get("last")),
        wall_s=number(event.get("wall_s")),
    )


def _attempt(table: Any) -> Attempt | None:
    if not isinstance(table, dict) or table.get("arm") not in ARMS or table.get("state") not in STATES:
        return None
    seed, attempt = of_type(table.get("seed"), int), of_type(table.get("attempt"), int)
    return None if seed is None or attempt is None else Attempt(table["arm"], seed, attempt)


def number(value: Any) -> float | None:
    """Return a value where it is a finite number, else None."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e300 and math.isfinite(value) else None


def as_time(value: Any) -> datetime | None:
    """Return a time in UTC; None if it is missing or has no time zone."""
    try:
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None
