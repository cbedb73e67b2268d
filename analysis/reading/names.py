"""Other names of what a log prints, in the words of the grammar: `val/loss`, JSON lines, printed Python dicts.

Most logs use the usual names; what they say is left as it is. So is an embedded source.
"""

from __future__ import annotations

import re

from analysis.reading.grammar import LONGEST_METRIC
from analysis.reading.source import cut

TAIL = 2**14  # bytes; the names at the end of a log are those of the whole log

_LOSS = re.compile(rb"\b(?:val(?:id(?:ation)?)?|eval)[ _/](loss|bpb)\b", re.IGNORECASE)
_TRAIN = re.compile(rb"\btrain(?:ing)?[ /](loss|time)\b", re.IGNORECASE)
_TABLE = re.compile(rb"^[ \t]{0,9}\{[ \t]{0,9}[\"'][^\n]{2,%d}\}[ \t,]{0,9}$" % LONGEST_METRIC, re.MULTILINE)
_ENTRY = re.compile(
    rb"""["']([A-Za-z][^"'\n]{0,80})["']\s{0,9}:\s{0,9}(?:["']([^"'\n]{0,200})["']|([-+]?[\w.][-+\w.]{0,40}))"""
)
_UNITS = {b"seconds": b"s", b"secs": b"s", b"sec": b"s", b"s": b"s", b"ms": b"ms", b"minutes": b"m", b"min": b"m"}
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
        lines = _TABLE.sub(_of_table, data[stretch.start : stretch.end])
        lines = _LOSS.sub(lambda found: b"val_" + found[1].lower(), lines)
        parts += [data[position : stretch.start], _TRAIN.sub(lambda found: b"train_" + found[1].lower(), lines)]
        position = stretch.end
    return b"".join(parts)


def _of_table(found: re.Match[bytes]) -> bytes:
    """Return a line of `name:value` for a line of JSON or a dict; the same line if it has no number of ours."""
    texts: dict[bytes, bytes] = {}
    numbers: dict[bytes, bytes] = {}
    for key, text, number in _ENTRY.findall(found[0]):
        name = re.sub(rb"[ /.-]", b"_", key.strip().lower())
        if number:
            numbers.setdefault(name, number)
        else:
            texts.setdefault(name, text)
    step = next((numbers.pop(name) for name in _STEPS if name in numbers), None)
    total = next((numbers.pop(name) for name in _TOTALS if name in numbers), None) if step else None
    label = next((texts[name] for name in _LABELS if texts.get(name)), b"")
    before = {name: of_label[1] for name in numbers if (of_label := _LABELLED.fullmatch(name))}
    if not label and len(set(before.values())) == 1:  # "quantized_val_loss": 2.02
        label = min(before.values())
        numbers = {name.removeprefix(label + b"_"): number for name, number in numbers.items()}
    said = b" ".join(map(_pair, numbers, numbers.values()))
    if step is None or label.lower().startswith(b"final"):
        return b" ".join(filter(None, (label, said)))
    return b"step:" + step + (b"/" + total if total else b"") + b" " + said


def _pair(name: bytes, number: bytes) -> bytes:
    """Return name:number with the unit at the end of a time's name behind the number."""
    stem, _, unit = name.rpartition(b"_")
    is_time = unit in _UNITS and stem.endswith((b"time", b"avg"))
    return stem + b":" + number + _UNITS[unit] if is_time else _LOSS.sub(rb"val_\1", name) + b":" + number
