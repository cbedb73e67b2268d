"""Translate other names into the grammar's words: `val/loss`, JSON lines, printed Python dicts.

Logs that use the usual names are left unchanged. So is an embedded source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from analysis.reading.grammar import LONGEST_METRIC
from analysis.reading.source import cut

MOST_LINES = 50_000  # of a log that are translated; a training log has fewer
TAIL = 2**14  # bytes; the end of a log shows which names the whole log uses

_LOSS = re.compile(rb"\b(?:val(?:id(?:ation)?)?|eval)[ _/](loss|bpb)\b", re.IGNORECASE)
_TRAIN = re.compile(rb"\btrain(?:ing)?[ /](loss|time)\b", re.IGNORECASE)
_TABLE = re.compile(rb"^[ \t]{0,9}\{[ \t]{0,9}[\"'][^\n]{2,%d}\}[ \t,]{0,9}$" % LONGEST_METRIC, re.MULTILINE)
_ENTRY = re.compile(
    rb"""["']([A-Za-z][^"'\n]{0,80})["']\s{0,9}:\s{0,9}(?:["']([^"'\n]{0,200})["']|([-+]?[\w.][-+\w.]{0,40}))"""
)
_SECONDS = re.compile(rb"(?<=time|_avg)_sec(?:ond)?s?$")
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
        parts += [data[position : stretch.start], lines]
        position = stretch.end
    return b"".join(parts)


def _of_table(line: re.Match[bytes]) -> bytes:
    """Return a line of `name:value` pairs for a line of JSON or a dict."""
    texts: dict[bytes, bytes] = {}
    numbers: dict[bytes, bytes] = {}
    for key, text, number in _ENTRY.findall(line[0]):
        (numbers if number else texts).setdefault(_usual(key), number or text)
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
def _usual(key: bytes) -> bytes:
    """Return a key in the grammar's words: eval/loss is val_loss, train_time_seconds is train_time_s."""
    name = re.sub(rb"[ /.-]", b"_", key.strip().lower())
    return _SECONDS.sub(b"_s", _LOSS.sub(rb"val_\1", name))
