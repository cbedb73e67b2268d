"""What a key of a submission JSON means, and the number under it.

Public submissions use some 140 keys: the headline as val_bpb, mean_val_bpb or a table with a mean, numbers as strings,
seeds as a list, as a table or as keys such as seed_42_val_bpb. So the rule here is what a key means, not a list of keys: a
number whose key says bpb is a bpb. Whatever a key calls a baseline, a delta, a deviation or a threshold is no claim about
this submission.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from analysis.reading.names import normal

LARGEST = 1_000_000  # of a bpb or a loss
DEEPEST = 6  # tables in tables
MOST_DIGITS = 40
_MS = {"ms": 1.0, "s": 1e3, "sec": 1e3, "second": 1e3, "m": 6e4, "min": 6e4, "minute": 6e4}
_UNIT = re.compile(r"\d\s?(ms|s|secs?|seconds?|m|mins?|minutes?)\b", re.IGNORECASE)
LONGEST_KEY = 100
SMALLEST = Decimal("1e-6")

_NUMBER = re.compile(
    r"\s{0,9}[~≈]?\s{0,9}([-+]?\d{1,18}(?:[_,]\d{3})*(?:\.\d{1,18})?(?:[eE][-+]?\d{1,3})?)\s*(?:$|[^\d\w.]|bpb|BPB|bytes|nats|\s)"
)
_OTHERS = (  # of another submission or another stage
    r"baseline|control|previous|prior|sota|standing|threshold|compar|versus|(?:^|_)(?:vs|prev|old|before|ref|reference|target|goal"
    r"|delta|diff|gain|improvement|excluded|failed|planned|extra|not_run|parent|merged|leader|beat|naive|upstream|original|pr_?\d+|prequant|unquantized|fp32|bf16|float|ema|swa|train_end|last_step|step"
    r"|limit|cap|budget|notes?|roundtrip|no_ttt|without|pre|ablations?|int8_only|diagnostic|expected)(?:_|$)"
)
_NO_VALUE = r"(?:^|_)(?:std|sd|stdev|stddev|var|variance|sem|ci|stderr|error|range|spread|p_value|p|t|df|t_statistic|z|max|min|best|worst)(?:_|$)"
is_of_others = re.compile(_OTHERS).search  # of a normal key
ELSEWHERE = re.compile(f"{_OTHERS}|{_NO_VALUE}")
is_bpb = re.compile(r"(?:^|_)bpb(?:_|$)|bits_per_byte").search  # of a normal key
is_loss = re.compile(r"(?:^|_)(?:val|eval|validation|test)_(?:loss|nats)(?:_|$)|^loss$").search
_TOTAL = re.compile(r"(?:^|_)(?:total|artifact|submission)(?:_|$).*bytes|bytes_(?:total|artifact|submission)")
_PART_OF_TOTAL = re.compile(
    r"(?:^|_)(?:code|model|weights?|script|mean|avg|raw|uncompressed|headroom|left|remaining|free|params|val|eval|train|slack|allowed|margin|under|compressed)(?:_|$)"
)
SEED_KEY = re.compile(r"(?:^|_)seed_?(\d{1,18})(?:_|$)", re.IGNORECASE)  # seed_42_val_bpb
SEEDS = re.compile(r"(?:^|_)seeds?(?:_|$)|^(?:runs|per_run|individual_runs|all_runs|run_results|results)$")


def is_total(key: str) -> bool:
    """Return whether a number of bytes under this key is the whole artifact's."""
    return _TOTAL.search(key) is not None and not _PART_OF_TOTAL.search(key)


def number(value: Any) -> Decimal | None:
    """Return a number, or that at the beginning of a string ("1.0856 +- 0.0007", "15,940,380 bytes"), as printed."""
    if isinstance(value, str):
        match = _NUMBER.match(value[:LONGEST_KEY] + " ")
        try:
            value = Decimal(re.sub(r"[_,]", "", match[1])) if match else None
        except InvalidOperation:
            return None
    if not isinstance(value, Decimal) or not value.is_finite():
        return None
    if len(value.as_tuple().digits) > MOST_DIGITS:
        value = Context(prec=MOST_DIGITS).plus(value)
    return value if SMALLEST < value < 10**15 else None


def unit_in(text: str) -> float:
    """Return how many ms the unit after a number is, as in "688 s"; 0 where none is written."""
    written = _UNIT.search(text)
    return unit_of_key(written[1]) if written else 0.0


def unit_of_key(key: str) -> float:
    """Return how many ms the unit that a key names is, as in train_time_minutes; 0 where it names none."""
    words = reversed(normal(key).split("_"))
    return next((_MS[unit] for word in words if (unit := word if word in _MS else word.removesuffix("s")) in _MS), 0.0)


def seed_number(value: Any) -> int | None:
    """Return a whole number, 0 included."""
    found = number(value)
    if found is None and value in (0, Decimal(0), "0") and not isinstance(value, bool):
        return 0
    return int(found) if found is not None and found == found.to_integral_value() else None
