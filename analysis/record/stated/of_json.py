"""Read the numbers that a submission JSON claims, one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

from analysis.reading.names import normal
from analysis.record.claim import Claim
from analysis.record.keys import (
    DEEPEST,
    SEEDS,
    is_bpb,
    is_loss,
    is_of_others,
    is_total,
    number,
    unit_in,
    unit_of_key,
)
from analysis.record.stated.said import LONGEST, Kind, Of, Said

MOST = 300  # claims of one file
MOST_LOOKS = 20  # at places where a number may be written
_SD = re.compile(r"(?:^|_)(?:std|sd|stdev|stddev)(?:_|$)")
_P = re.compile(r"^p$|(?:^|_)p_?val(?:ue)?(?:_(?:one|two)_(?:sided|tailed))?$")
_OWN_TABLE = re.compile(  # the keys above a number that is of all the runs
    r"(?:(?:^|_)(?:stat\w{0,12}|summary|results?|metrics?|aggregated?|significance|t_?test|test|final|scores?|seeds?|runs?))*"
)
_T = re.compile(r"(?:^|_)t(?:_?stat(?:istic)?)?$")
_STEPS = re.compile(r"^(?:last_|num_|train_|training_)?(?:steps?|iterations|iters)(?:_completed|_taken)?$")
_RUNS = re.compile(r"^(?:n|(?:n|num|number_of|count)_(?:seeds?|runs?)|(?:seeds?|runs?)_(?:count|n))$")
_CODE = re.compile(r"^(?:bytes_code|code_bytes|code_size_bytes|code_size)$")
_TIME = re.compile(
    r"(?:^|_)(train(?:ing)?|eval(?:uation)?)_(?:\w{1,30}_)?(?:time|duration|wallclock|runtime|ms|s|secs?|seconds)(?:_|$)"
)
_OF_A_STEP = re.compile(r"(?:^|_)(?:step|steps|iter|token|per|compile|warmup|setup|avg_ms|budget)(?:_|$)")
_OF = {Of.MEAN: r"mean|avg|average", Of.LARGEST: r"max|largest", Of.SMALLEST: r"min|smallest"}
_OWN_VALUES = ("val_bpb", "bpb", "val_loss", "loss")


def said_in_json(claim: Claim) -> Iterator[Said]:
    """Yield what the JSON claims, at most MOST numbers."""
    yield from islice(_all(claim), MOST)


def _all(claim: Claim) -> Iterator[Said]:
    if claim.fault is not None:
        return
    writer = _Writer(claim)
    for metric, value in (("val_bpb", claim.val_bpb), ("val_loss", claim.val_loss)):
        if value is not None:
            yield writer.said(Kind.HEADLINE, value, writer.key_line(metric, value), metric=metric)
    if claim.artifact_bytes is not None:
        total = Decimal(claim.artifact_bytes)
        yield writer.said(
            Kind.SIZE, total, writer.key_line("artifact_bytes", total), of=_of(claim.keys["artifact_bytes"])
        )
    for seed in claim.seeds:
        yield from _of_seed(writer, seed)
    table = json.loads(claim.text.removeprefix("\ufeff"), parse_float=Decimal, parse_int=Decimal, parse_constant=str)
    known = {normal(key) for key in claim.keys.values()}
    for path, key, value in _leaves(table):
        found = number(value.strip(" <") if isinstance(value, str) else value) or _any_sign(value)
        if found is not None and normal(key) not in known:
            yield from _fact(writer, path, key, _Value(number=found, raw=value))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    """A number in the JSON, and its text there."""

    number: Decimal
    raw: Any


def _any_sign(value: Any) -> Decimal | None:
    """Return a number that need not look like a metric: a negative t, or a very small p."""
    plain = isinstance(value, Decimal) and value.is_finite() and value.adjusted() < 6 and len(str(value)) <= LONGEST
    return value if plain else None


def _of_seed(writer: _Writer, seed: int) -> Iterator[Said]:
    about, line = writer.claim.seeds[seed], writer.claim.line_of(f"seed {seed}")
    start = writer.start_of(seed, about.key)
    yield writer.said(Kind.SEED, Decimal(seed), line, seed=seed)
    metrics = [one for one in about.numbers if is_bpb(one.key) or is_loss(one.key)]
    for value, key in about.numbers:
        at = writer.line_of_value(value, start) or line
        if is_of_others(key) or _SD.search(key):
            continue
        if is_bpb(key) or is_loss(key):
            metric = "val_bpb" if is_bpb(key) else "val_loss"
            strict = key in _OWN_VALUES or len(metrics) == 1
            yield writer.said(Kind.VALUE, value, at, metric=metric, seed=seed, strict=strict)
        elif is_total(key):
            yield writer.said(Kind.SIZE, value, at, seed=seed)
        elif _CODE.search(key):
            yield writer.said(Kind.CODE, value, at, seed=seed)
        elif _STEPS.search(key):
            yield writer.said(Kind.STEPS, value, at, seed=seed)
        elif (time := _TIME.search(key)) and not _OF_A_STEP.search(key) and (unit := unit_of(key)):
            yield writer.said(_time(time), value, at, seed=seed, unit=unit, strict=time.start() == 0)


def _fact(writer: _Writer, path: str, key: str, value: _Value) -> Iterator[Said]:
    """Yield what one number of the JSON claims of the whole submission."""
    plain, found = normal(key), value.number
    own = _OWN_TABLE.fullmatch(path.removesuffix(plain).strip("_")) is not None
    line = writer.key_line(key, found)
    text = value.raw if isinstance(value.raw, str) else ""
    if _SD.search(path) and (is_bpb(path) or is_loss(path)):
        yield writer.said(Kind.SD, found, line, metric="val_bpb" if is_bpb(path) else "val_loss", strict=own)
    elif own and (_P.search(plain) or (_T.search(plain) and plain != "t")):
        kind = Kind.P if _P.search(plain) else Kind.T
        yield writer.said(kind, found, line, strict=not writer.two_samples, most=text.strip().startswith("<"))
    elif own and _RUNS.search(plain):
        yield writer.said(Kind.RUNS, found, line)
    elif re.search(r"(?:^|_)(?:mean|avg|average)(?:_|$)", path) and (is_bpb(path) or is_loss(path)):
        yield writer.said(Kind.MEAN, found, line, metric="val_bpb" if is_bpb(path) else "val_loss", strict=own)
    elif _CODE.search(plain):
        yield writer.said(Kind.CODE, found, line)
    elif is_total(re.sub(r"_(?:mean|avg|average)$", "", plain)):
        yield writer.said(Kind.SIZE, found, line, of=_of(plain))
    elif (time := _TIME.search(plain)) and not _OF_A_STEP.search(plain) and (unit := unit_of(text) or unit_of(plain)):
        yield writer.said(_time(time), found, line, unit=unit, of=_of(plain), strict=time.start() == 0)


def unit_of(text: str) -> float:
    """Return how many ms the unit of a key or a text is; 0 where none is written."""
    return unit_in(text[:LONGEST]) or unit_of_key(text)


def _time(found: re.Match[str]) -> Kind:
    return Kind.TRAIN_TIME if found[1].startswith("train") else Kind.EVAL_TIME


def _of(key: str) -> Of:
    plain = normal(key)
    return next((of for of, words in _OF.items() if re.search(rf"(?:^|_)(?:{words})(?:_|$)", plain)), Of.ANY)


def _leaves(table: Mapping[str, Any], above: str = "", depth: int = 0) -> Iterator[tuple[str, str, Any]]:
    """Yield the values that are about the whole submission: a normal key with those above it, the key, the value."""
    for key, value in table.items():
        plain = normal(key)
        of_seeds = ("seed" in plain or plain.isdecimal() or SEEDS.search(plain)) and not isinstance(value, dict)
        if (of_seeds and not _RUNS.search(plain)) or is_of_others(plain) or re.search(r"seed_?\d|^\d+$", plain):
            continue
        path = f"{above}_{plain}".strip("_")[-LONGEST * 5 :]
        if isinstance(value, dict):
            if depth < DEEPEST and "seed" not in value:
                yield from _leaves(value, path, depth + 1)
        else:
            yield path, key, value


class _Writer:
    """Makes claims of one JSON, each with the line that it is written on."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.two_samples = "welch" in claim.text.lower()

    def said(self, kind: Kind, value: Decimal, line: int, **more: Any) -> Said:
        """Return a claim of the JSON."""
        return Said(kind=kind, text=f"{value:f}"[:LONGEST], at=self.claim.at(line), value=value, of_json=True, **more)

    def key_line(self, key: str, value: Decimal) -> int:
        """Return the line where a key has this value, else the line of the key."""
        written = self.claim.keys.get(key, key)
        found = re.search(
            rf'"{re.escape(written)}"\s{{0,20}}:\s{{0,20}}"?[~≈ ]{{0,4}}{re.escape(str(value))}', self.claim.text
        )
        return self._line(found.start()) if found else self.claim.line_of_key(written)

    def start_of(self, seed: int, key: str) -> int:
        """Return where the JSON begins to speak of a seed."""
        named = rf'"{re.escape(key)}"\s{{0,20}}:' if str(seed) in key else rf'"seed"\s{{0,20}}:\s{{0,20}}"?{seed}(?!\d)'
        found = re.search(named, self.claim.text)
        return found.start() if found else 0

    def line_of_value(self, value: Decimal, start: int) -> int | None:
        """Return the first line after `start`, else of all, that holds a number as written; None without one."""
        text, written = self.claim.text, str(value)
        for begin in (start, 0):
            place = begin
            for _ in range(MOST_LOOKS):
                place = text.find(written, place)
                if place < 0:
                    break
                around = text[max(place - 1, 0) : place] + text[place + len(written) :][:1]
                if not re.search(r"[\d.\-_]", around):
                    return self._line(place)
                place += 1
        return None

    def _line(self, place: int) -> int:
        return self.claim.text.count("\n", 0, place) + 1
