"""Names: other words for the grammar's (`val/loss`, JSON lines, printed Python dicts), and the numbers of any name.

Logs that use the usual names are left unchanged. So is an embedded source.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from analysis.reading.grammar import LONGEST_METRIC, MS_IN_WORDS, NUMBER, PREFIX, STEP, as_text, line_around
from analysis.reading.metric import Metric
from analysis.reading.source import cut

MOST_LINES = 200_000  # of a log that are translated; a training log has fewer, with 30 trials in it too
LONGEST_NAME = 100
TAIL = 2**14  # bytes; the end of a log shows which names the whole log uses

_LOSS = re.compile(rb"\b(?:val(?:id(?:ation)?)?|eval)[ _/](loss|bpb)\b", re.IGNORECASE)
_VALIDATES = re.compile(rb"(?<!\w)(?:valid|eval)\w{0,10}[ :]{1,3}(step[:= \t]\s{0,9}\d[^\n]*)", re.IGNORECASE)
_PLAIN_LOSS = re.compile(rb"(?<![\w])loss(?=\s*[:=])")
_TRAIN = re.compile(rb"\btrain(?:ing)?[ /](loss|time)\b", re.IGNORECASE)
_TABLE = re.compile(rb"^[ \t]{0,9}\{[ \t]{0,9}[\"'][^\n]{2,%d}\}[ \t,]{0,9}$" % LONGEST_METRIC, re.MULTILINE)
_ENTRY = re.compile(
    rb"""["']([A-Za-z][^"'\n]{0,80})["']\s{0,9}:\s{0,9}(?:["']([^"'\n]{0,200})["']|([-+]?[\w.][-+\w.]{0,40}))"""
)
_IN_SECONDS = re.compile(rb"(?<=time|_avg)_sec(?:ond)?s?$")
_LABELLED = re.compile(rb"(\w{1,80}?)_val_(?:loss|bpb)")
_STEPS = (b"step", b"global_step", b"iter", b"iteration")
_TOTALS = (b"total_steps", b"max_steps", b"num_steps", b"num_iterations", b"iterations")
_LABELS = (b"label", b"event", b"metric", b"tag", b"eval", b"type", b"stage", b"phase", b"split", b"msg")


def with_usual_names(data: bytes) -> bytes:
    """Return a log with its lines in the grammar's words. The lines keep their numbers."""
    tail = data[-TAIL:]
    has_usual = tail.count(b"val_loss") > tail.count(b"eval_loss")
    if has_usual and b"\n{" not in tail and not data.startswith(b"{"):
        return data
    parts, position = [], 0
    for stretch in cut(data):
        lines = _TABLE.sub(_of_table, data[stretch.start : stretch.end], MOST_LINES)
        if not has_usual:
            lines = _LOSS.sub(lambda found: b"val_" + found[1].lower(), lines, MOST_LINES)
            lines = _TRAIN.sub(lambda found: b"train_" + found[1].lower(), lines, MOST_LINES)
            lines = _VALIDATES.sub(_of_validation, lines, MOST_LINES)
        parts += [data[position : stretch.start], lines]
        position = stretch.end
    return b"".join(parts)


def _of_validation(found: re.Match[bytes]) -> bytes:
    """Return a step line whose loss is that of the validation, if at most a prefix comes before: `validate step: 20 loss:`."""
    start = found.string.rfind(b"\n", 0, found.start()) + 1
    before = found.string[start : found.start()]
    is_prefix = len(before) <= LONGEST_NAME and (not before.strip() or PREFIX.fullmatch(before))
    return _PLAIN_LOSS.sub(b"val_loss", found[1]) if is_prefix else found[0]


def _of_table(line: re.Match[bytes]) -> bytes:
    """Return a line of `name:value` pairs for a line of JSON or a dict."""
    texts: dict[bytes, bytes] = {}
    numbers: dict[bytes, bytes] = {}
    for key, text, number in _ENTRY.findall(line[0]):
        (numbers if number else texts).setdefault(usual(key), number or text)
    step = next((numbers.pop(name) for name in _STEPS if name in numbers), None)
    total = next((numbers.pop(name) for name in _TOTALS if name in numbers), None) if step else None
    label = next((texts[name] for name in _LABELS if texts.get(name)), b"") or _common_label(numbers)
    said = b" ".join(name.removeprefix(label + b"_") + b":" + number for name, number in numbers.items())
    if step is None or label.lower().startswith(b"final"):
        return b" ".join(filter(None, (label, said)))
    return b"step:" + step + (b"/" + total if total else b"") + b" " + said


def _common_label(names: Iterable[bytes]) -> bytes:
    """Return the label before val_loss and val_bpb in names such as quantized_val_loss, if both have the same."""
    labels = {found[1] for name in names if (found := _LABELLED.fullmatch(name))}
    return min(labels) if len(labels) == 1 else b""


@lru_cache(maxsize=1000)
def usual(key: bytes) -> bytes:
    """Return a key in the grammar's words: eval/loss is val_loss, train_time_seconds is train_time_s."""
    name = re.sub(rb"[ /.-]", b"_", key.strip().lower())
    return _IN_SECONDS.sub(b"_s", _LOSS.sub(rb"val_\1", name))


# -- numbers of any name -----------------------------------------------------------------------------------------------

MOST_VALUES = 200  # names of one run
_SECONDS = {unit: ms / 1000 for unit, ms in MS_IN_WORDS.items()} | {b"h": 3600.0, b"hours": 3600.0}
_NAMED = re.compile(  # at most six words, and a number after a colon
    rb"(?<![\w/.@-])([A-Za-z_][\w/.@-]{0,80}+(?:[ \t][A-Za-z(][\w/.@()-]{0,80}+){0,5}+)[ \t]{0,9}[:=]\s{0,40}"
    rb"(\d{1,3}(?:,\d{3}){1,5}|" + NUMBER + rb")[ \t]?([A-Za-z/%]{0,12})(?![\w.]|[ \t]?[:=])",
    re.IGNORECASE,
)
_BYTES = re.compile(rb"[kmgt]?i?b(?:ytes?)?", re.IGNORECASE)
_DIGIT = re.compile(rb"[:=\s][-+]?\.?\d|nan|inf", re.IGNORECASE)
_TABLED = re.compile(rb"(?:\w{1,40}:\s+)?([A-Za-z_][\w/.@-]{0,80})\s+(" + NUMBER + rb")()$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A number that a run prints under a name, and the line that prints it.

    step: that of the line, if it is a step line. timed: it is a time in seconds.
    """

    number: float
    line: int
    step: int | None = None
    timed: bool = False


def normal(key: str) -> str:
    """Return a name in lower case with underscores: meanValBpb and mean-val-bpb are mean_val_bpb."""
    key = key[:LONGEST_NAME]
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower()).strip("_")


def values_in(lines: Iterable[tuple[int, bytes]]) -> dict[str, Value]:
    """Return the last number of every name that numbered lines print: times in seconds, no sizes in bytes."""
    found: dict[str, Value] = {}
    for number, line in lines:
        if _DIGIT.search(line := line[:LONGEST_METRIC]) is None:
            continue
        tabled = _TABLED.match(line)
        for name, digits, unit in [tabled.groups()] if tabled else _NAMED.findall(line):
            key, factor = normal(as_text(name)), _SECONDS.get(unit.lower())
            if _BYTES.fullmatch(unit) or (key not in found and len(found) >= MOST_VALUES):
                continue
            seconds = float(digits.replace(b",", b"")) * (1.0 if factor is None else factor)
            found[key] = Value(number=seconds, line=number, timed=factor is not None)
    return found


def in_steps(curve: Iterable[tuple[int, bytes]], name: str) -> Value | None:
    """Return the last number that step lines print under a name, given as its normal name. `curve` is in order."""
    pattern = _printed_as(name)
    for first, text in reversed([*curve]):
        if last := deque(pattern.finditer(text), maxlen=1):
            found = last[0]
            step = STEP.match(line_around(text, found.start()))
            line = first + text.count(b"\n", 0, found.start())
            return Value(number=float(found[1]), line=line, step=int(step[1]) if step else None)
    return None


@lru_cache(maxsize=64)
def _printed_as(name: str) -> re.Pattern[bytes]:
    words = b"[ _/.-]?".join(re.escape(word.encode()) for word in name.split("_"))
    return re.compile(rb"(?<!\w)" + words + rb"(?:\s?[:=]\s{0,9}|\s{1,9})(" + NUMBER + rb")(?![\w.])", re.IGNORECASE)


def alone(values: Mapping[str, Value]) -> Metric | None:
    """Return the val_loss and val_bpb that a run prints without a step or a label; None where it prints neither."""
    found = {name: values[name] for name in ("val_loss", "val_bpb") if name in values}
    if not found:
        return None
    numbers = {name: value.number for name, value in found.items()}
    return Metric(
        label=next(iter(found)),
        val_loss=numbers.get("val_loss"),
        val_bpb=numbers.get("val_bpb"),
        decimals=max(len(repr(number).partition(".")[2]) for number in numbers.values()),
        line=max(value.line for value in found.values()),
    )
