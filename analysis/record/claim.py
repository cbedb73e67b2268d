"""What a submission's JSON claims, in whatever shape it says it: the headline, the size, and each seed's values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from analysis.reading.names import normal
from analysis.reading.result import Tried
from analysis.record.keys import (
    DEEPEST,
    ELSEWHERE,
    LARGEST,
    LONGEST_KEY,
    SEEDS,
    is_bpb,
    is_loss,
    is_total,
    number,
)
from analysis.record.stated.claimed_seeds import SeedClaim, read_attempts, read_seeds
from analysis.rules.findings import ERROR, Place, Severity
from analysis.untrusted.files import FileError, printable_path, read_bounded

LIMIT = 2**20  # bytes
MOST_STATED = 20  # bpbs besides the first that may be the headline
MOST_REPEATED = 10  # keys that are named


class SchemaFault(NamedTuple):
    """A field that is missing or has another type than everybody else's: its key, and what is wrong as a clause.

    severity: where a reader and a program may take different numbers from it.
    """

    key: str
    what: str
    severity: Severity | None = None


class Stated(NamedTuple):
    """A number of the JSON, and the key it is under. Of several the first of the highest rank counts."""

    value: Decimal
    key: str
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One submission JSON. Values keep the decimals that they are printed with.

    other_bpbs: further bpbs of the submission, in case the first is not the one that is meant. keys: the key that each
    fact is under. attempts: those of counted seeds, as a record of a sweep names them. fault: why the file cannot be understood at all.
    """

    file: Path
    text: str = field(default="", repr=False)
    val_bpb: Decimal | None = None
    val_loss: Decimal | None = None
    other_bpbs: Sequence[Stated] = ()
    artifact_bytes: int | None = None
    seeds: Mapping[int, SeedClaim] = field(default_factory=dict)
    attempts: Sequence[Tried] = ()
    date: str | None = None
    track: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    schema: Sequence[SchemaFault] = ()
    fault: str | None = None

    def at(self, line: int) -> Place:
        """Return a line of the JSON as the place of a finding."""
        return Place(printable_path(Path(self.file.name)), line)

    def line_of(self, what: str) -> int:
        """Return the line of a fact, such as val_bpb or `seed 42`, or else of a key of that name."""
        return self.line_of_key(self.keys.get(what, what))

    def line_of_key(self, key: str) -> int:
        """Return the line of a key; 1 if there is none."""
        found = re.search(rf'"{re.escape(key)}"\s*:', self.text)
        return self.text.count("\n", 0, found.start()) + 1 if found else 1


def is_submission(name: str) -> bool:
    return re.fullmatch(r"submission.*\.json", name) is not None


def submission_file(files: Iterable[Path], folder: Path) -> Path | None:
    """Return the submission JSON at the top of a folder: submission.json, else the first submission*.json."""
    found = [path for path in files if path.parent == folder and is_submission(path.name)]
    return min(found, key=lambda path: (path.name != "submission.json", path.name), default=None)


def read_claim(file: Path) -> Claim:
    """Read the claim of a submission JSON; one that cannot be read is a claim with a `fault`."""
    text, repeated = "", _Repeated()
    try:
        text = read_bounded(file, LIMIT).decode("utf-8-sig")
        table = json.loads(
            text, parse_float=Decimal, parse_int=Decimal, parse_constant=Decimal, object_pairs_hook=repeated.table
        )
    except FileError as error:
        return Claim(file=file, fault=str(error))
    except (ValueError, ArithmeticError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Claim(file=file, text=text, fault=f"is not JSON: {reason}")
    if not isinstance(table, dict):
        return Claim(file=file, text=text, fault="holds no JSON object")
    claim = _claim_of(table, file, text)
    return replace(claim, schema=[*repeated.faults.values(), *claim.schema])


@dataclass(slots=True)
class _Repeated:
    """The keys that are in one table twice. Programs take the last value of such a key, and readers the first."""

    faults: dict[str, SchemaFault] = field(default_factory=dict)

    def table(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return a table of a JSON."""
        table = dict(pairs)
        if len(table) < len(pairs):
            first: dict[str, Any] = {}
            for key, value in pairs:
                if key in first and len(self.faults) < MOST_REPEATED:
                    differ = first[key] != value
                    what = f"{key} is there twice{', with different values' if differ else ''}"
                    self.faults.setdefault(key, SchemaFault(key, what, ERROR if differ else None))
                first.setdefault(key, value)
        return table


def _claim_of(table: Mapping[str, Any], file: Path, text: str) -> Claim:
    numbers, seeds = _numbers(table), read_seeds(table)
    bpb, size = _chosen(numbers["val_bpb"]), _chosen(numbers["artifact_bytes"])
    loss = _chosen(numbers["val_loss"])
    if bpb is not None:  # only the loss whose key goes with the bpb's says anything about it
        partner = normal(bpb.key).replace("bpb", "loss")
        loss = next((one for one in numbers["val_loss"] if normal(one.key) == partner), None)
    chosen = {"val_bpb": bpb, "val_loss": loss, "artifact_bytes": size}
    return Claim(
        file=file,
        text=text,
        val_bpb=bpb.value if bpb is not None else None,
        val_loss=loss.value if loss is not None else None,
        other_bpbs=[one for one in numbers["val_bpb"] if bpb is not None and bpb.rank == 0 and one.key != bpb.key][
            :MOST_STATED
        ],
        artifact_bytes=int(size.value) if size is not None else None,
        seeds=seeds,
        attempts=read_attempts(table),
        date=_text(table, "date")[:200] or None,
        track=_text(table, "track")[:200] or None,
        keys={what: one.key for what, one in chosen.items() if one is not None}
        | {f"seed {seed}": said.key for seed, said in seeds.items()},
        schema=_schema(table, has_headline=bpb is not None or loss is not None),
    )


def _leaves(table: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, str, Any]]:
    """Yield what the JSON says of this submission and of no single seed, the shallow ones first.

    Each is a normal key with those above it, the key as written, and the value.
    """
    deeper: list[tuple[str, Mapping[str, Any]]] = []
    for key, value in table.items():
        plain = normal(key)
        of_seeds = "seed" in plain or plain.isdecimal() or (SEEDS.search(plain) and not isinstance(value, dict))
        if of_seeds or ELSEWHERE.search(plain):
            continue
        if isinstance(value, dict):
            deeper.append((plain, value))
        else:
            yield plain, key, value
    if depth < DEEPEST:
        for parent, below in deeper:
            for path, key, value in _leaves(below, depth + 1):
                yield f"{parent}_{path}"[: 3 * LONGEST_KEY], key, value


def _numbers(table: Mapping[str, Any]) -> dict[str, list[Stated]]:
    """Return every number that may be the headline bpb, the headline loss or the artifact's size."""
    found: dict[str, list[Stated]] = {"val_bpb": [], "val_loss": [], "artifact_bytes": []}
    for path, key, value in _leaves(table):
        one = number(value)
        if one is None:
            continue
        is_mean = re.search(r"(?:^|_)(?:mean|avg|average)(?:_|$)", path) is not None
        rank = 2 if path in found else int(is_mean)
        if (is_bpb(path) or is_loss(path)) and one < LARGEST:
            found["val_bpb" if is_bpb(path) else "val_loss"].append(Stated(one, key, rank))
        elif is_total(path) and one == one.to_integral_value():
            found["artifact_bytes"].append(Stated(one, key, rank=int("total" in path)))
    return found


def _chosen(values: Sequence[Stated]) -> Stated | None:
    return max(values, key=lambda one: one.rank, default=None)


def _schema(table: Mapping[str, Any], *, has_headline: bool) -> list[SchemaFault]:
    """Return which fields are missing or have another type than in everybody else's JSON."""
    faults = [
        SchemaFault(key, f"{key} is missing or no text") for key in ("name", "author", "date") if not _text(table, key)
    ]
    unreadable = _unreadable(table, has_headline=has_headline)
    faults += unreadable
    if not has_headline and not unreadable:
        faults.append(SchemaFault("val_bpb", "no key holds the headline val_bpb as a number", ERROR))
    for key in ("val_bpb", "val_loss", "bytes_total"):
        if isinstance(table.get(key), str) and key not in [fault.key for fault in unreadable]:
            faults.append(SchemaFault(key, f"{key} is a text; a number is expected"))
    date = _text(table, "date")[:200]
    if date and not re.match(r"\d{4}-\d\d-\d\d", date):
        faults.append(SchemaFault("date", f"date is {date!r}; expected as YYYY-MM-DD"))
    return faults


def _unreadable(table: Mapping[str, Any], *, has_headline: bool) -> list[SchemaFault]:
    """Return the headlines that are no number: val_bpb itself and, if nothing else is readable, other bpbs and losses."""
    found = []
    for path, key, value in _leaves(table):
        is_headline = path == "val_bpb" or (not has_headline and (is_bpb(path) or is_loss(path)))
        one = number(value)
        if is_headline and value not in (None, "") and (one is None or one >= LARGEST):
            what = f"{key} is {str(value)[:LONGEST_KEY]!r}, which is no number that can be a headline"
            found.append(SchemaFault(key, what, ERROR))
    return found[:MOST_REPEATED]


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    return value.strip() if isinstance(value, str) else ""
