"""Read the numbers in a Markdown table that has a row or a column for each seed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from analysis.reading.names import normal
from analysis.record.keys import ELSEWHERE, is_bpb, is_loss, is_of_others, number
from analysis.record.stated.of_json import unit_of
from analysis.record.stated.said import LONGEST, Kind, Of, Said
from analysis.rules.findings import Place

MOST_ROWS = 200
MOST_COLUMNS = 50
_SEED = re.compile(r"\W{0,4}(?:seed\W{0,3})?(\d{1,18})\W{0,4}", re.IGNORECASE)
_SEEDS = re.compile(r"^(?:random_)?seeds?$")
_MEAN = re.compile(r"(?:^|_)(?:mean|avg|average)(?:_|$)")
_SD = re.compile(r"^(?:std|sd|stdev|stddev|std_dev|standard_deviation)(?:_|$)")
_SIZE = re.compile(r"(?:^|_)(?:artifact|total|submission)(?:_size|_bytes|_mb|$)")
_TIME = re.compile(r"^(train(?:ing)?|eval(?:uation)?)_(?:time|duration|wallclock|s|ms|secs?|seconds)(?:_|$)")
_SPREAD = re.compile(r"(?:±|\+/-|\(std|\(sd)\W{0,3}(\d?\.\d{2,12})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The cells of a table, its head first; the line of each row; how many lines the table has."""

    rows: Sequence[Sequence[str]]
    lines: Sequence[int]
    height: int

    def by_seed(self) -> Cells | None:
        """Return the table with a row for each seed, turned if its columns are the seeds; None if it has no seeds."""
        head = self.rows[0]
        if any(_SEEDS.search(normal(cell)) for cell in head[1:]) or not _columns_are_seeds(head):
            return self if any(_SEEDS.search(normal(cell)) for cell in head) else None
        width = len(head)
        whole = [row for row in self.rows if len(row) == width]
        turned = [[row[column] for row in whole] for column in range(width)]
        turned[0][0] = "seed"
        line = self.lines[min(1, len(self.lines) - 1)]
        return Cells(rows=turned, lines=[line] * width, height=self.height)


def _columns_are_seeds(head: Sequence[str]) -> bool:
    return len(head) > 2 and sum(_SEED.fullmatch(cell) is not None for cell in head[1:]) > 1


def said_in_table(table: Cells, shown: str, group: int) -> Iterator[Said]:
    """Yield what a table claims for each seed, and what its mean and sd rows claim for all. Every column is a group."""
    turned = table.by_seed()
    if turned is None or len(turned.rows[0]) > MOST_COLUMNS:
        return
    head = [normal(cell) for cell in turned.rows[0]]
    seeds = next(column for column, cell in enumerate(head) if _SEEDS.search(cell))
    for row, line in zip(turned.rows[1:], turned.lines[1:], strict=True):
        texts = [normal(cell) for column, cell in enumerate(row) if column != seeds and not re.search(r"\d", cell)]
        if len(row) != len(head) or any(map(is_of_others, texts)):
            continue
        place, label = Place(shown, line), normal(row[seeds]) or next((text for text in texts if text), "")
        seed = _SEED.fullmatch(row[seeds])
        more: dict[str, Any] = {"at": place}
        if seed:
            more["seed"] = int(seed[1])
        elif not (_MEAN.search(label) or _SD.search(label)):
            continue
        for column, cell in enumerate(row):
            if column != seeds:
                yield from _cell(head[column], cell, label, more | {"group": group + column})


def _cell(head: str, cell: str, label: str, more: dict[str, Any]) -> Iterator[Said]:
    """Yield what one cell claims under its head."""
    text = re.sub(r"[*`]", "", cell).strip()[:LONGEST]
    value = number(re.sub(r"(?<=\d)\s?(?:ms|s|secs?|m|min)$", "", text))
    if value is None:
        return
    of_seed, written = "seed" in more, re.match(r"[\d.,_]*", text)
    said: dict[str, Any] = {"text": written[0] if written and written[0] else text, "value": value}
    if (is_bpb(head) or is_loss(head)) and not ELSEWHERE.search(_MEAN.sub("_", head)):
        metric = "val_bpb" if is_bpb(head) else "val_loss"
        kind = Kind.VALUE if of_seed else Kind.SD if _SD.search(label) else Kind.MEAN
        yield Said(kind=kind, metric=metric, **said, **more)
        if kind is Kind.MEAN and (spread := _SPREAD.search(text)):
            yield Said(kind=Kind.SD, metric=metric, text=spread[1], value=Decimal(spread[1]), **more)
    elif _SD.search(label) or is_of_others(head):
        return
    elif _SIZE.search(head) and value == value.to_integral_value() and value >= 1000:
        yield Said(kind=Kind.SIZE, of=Of.ANY if of_seed else Of.MEAN, strict=of_seed, **said, **more)
    elif time := _TIME.search(head):
        kind = Kind.TRAIN_TIME if time[1].startswith("train") else Kind.EVAL_TIME
        unit = unit_of(text) or unit_of(head)
        if unit:
            yield Said(kind=kind, of=Of.ANY if of_seed else Of.MEAN, unit=unit, strict=of_seed, **said, **more)
