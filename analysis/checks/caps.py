"""Check the ruleset's caps: whether the claimed runs print what they used, and what else in the folder shows it.

Besides the logs, the JSON states times and hardware, and the artifact and code files have a size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from analysis.reading.names import normal
from analysis.reading.run import Origin, Run
from analysis.record.claim import Claim
from analysis.record.folder import Record
from analysis.record.keys import DEEPEST, number, unit_in, unit_of_key
from analysis.record.selection import Claimed, with_training
from analysis.rules.findings import WARNING, Code, Found, Place, Raised
from analysis.rules.ruleset import Ruleset

ONE_STEP_MS = 1000.0
MOST_SAID = 100  # texts of a JSON about hardware that are looked at
MOST_NAMED = 5  # logs in one sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A cap: its key in the ruleset, the word for what it caps, the run's value, and how a log prints it."""

    key: str
    word: str
    used: Callable[[Run], float | None]
    printed: str


CAPS = (
    Cap(key="train_time_s", word="training time", used=lambda run: run.train_time_ms, printed="train_time:599912ms"),
    Cap(
        key="artifact_bytes",
        word="size of code and model",
        used=lambda run: run.artifact_bytes,
        printed="Total submission size int8+zlib: 15863489 bytes",
    ),
    Cap(key="world_size", word="number of ranks", used=lambda run: run.world_size, printed="world_size:8"),
)


def check_told(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check that the claimed runs print what the ruleset caps. Typed numbers print nothing; `no-logs` refuses them."""
    claimed = [one for one in claimed if one.run.origin is not Origin.TYPED]
    runs = [with_training(one) for one in claimed]
    for cap in CAPS:
        limit = getattr(rules, cap.key)
        silent = [one for one, run in zip(claimed, runs, strict=True) if cap.used(run) is None]
        if limit is None or not silent:
            continue
        named = ", ".join(one.log for one in silent[:MOST_NAMED]) + (", ..." if len(silent) > MOST_NAMED else "")
        some_tell = len(silent) < len(claimed)
        yield Found(
            code=Code.CAP_UNKNOWN,
            at=silent[0].at(silent[0].run.line),
            found=f"no {cap.word} in {named}" if some_tell else f"no {cap.word} in any log of a claimed run",
            expected=f'a line with "{cap.printed}", because the ruleset caps it at {limit:,.10g}',
            do="Print it with its unit: without it nobody can see that the cap was kept.",
            severity=WARNING if some_tell else None,
        )


def check_eval_time(one: Claimed, rules: Ruleset) -> Raised:
    """Check the longest evaluation that a run prints."""
    time = one.run.eval_time_ms
    if rules.eval_time_s is not None and time is not None and time > 1000 * rules.eval_time_s:
        yield Found(
            code=Code.EVAL_TIME_OVER_CAP,
            at=one.at(one.metric.line),
            found=f"{time:.0f} ms of evaluation",
            expected=f"at most {rules.eval_time_s:g} s",
            do="Evaluate in time.",
        )


# -- the JSON ----------------------------------------------------------------------------------------------------------

_ELSEWHERE = re.compile(
    r"baseline|control|previous|prior|sota|threshold|compar|versus|parent|upstream|original"
    r"|(?:^|_)(?:vs|prev|old|before|ref|reference|delta|diff|std|sd|saved|cap|limit|budget|total|sum|overall|dev|development|local|debug|smoke|allowed|max_allowed|pr_?\d+)(?:_|$)"
)
_OF_A_STEP = re.compile(r"(?:^|_)(?:step|steps|iter|token|per|download|compile|warmup|setup)(?:_|$)")
_EVALUATION = re.compile(
    r"(?:^|_)eval(?:uation)?_(?:\w{1,30}_)?(?:time|seconds|secs?|duration|wallclock|runtime|ms)(?:_|$)"
)
_TRAINING = re.compile(
    r"(?:^|_)train(?:ing)?_(?:\w{1,30}_)?(?:time|seconds|secs?|duration|wallclock|runtime|ms)(?:_|$)|^wall_?clock"
)
_HARDWARE = re.compile(r"(?:^|_)(?:hardware|gpus?|gpu_type|accelerators?|device|machine)(?:_|$)")
_GPU = re.compile(r"(?:\b|(?<=\dx))(?:[ABHLTV]\d{1,3}S?|GH200|GB\d{3}|RTX|[2345]0[6789]0|MI\d{3}|TPU)\b", re.IGNORECASE)
_COUNT = re.compile(r"(?<![\w.])(\d{1,4})\s?[xX*]\s?\w")


def check_stated(claim: Claim, rules: Ruleset, file: str) -> Raised:
    """Check what the JSON says about times and hardware."""
    said = list(_leaves(json.loads(claim.text, parse_float=Decimal, parse_int=Decimal, parse_constant=str)))
    for code, pattern, cap_s, slack in (
        (Code.EVAL_TIME_OVER_CAP, _EVALUATION, rules.eval_time_s, 0.0),
        (Code.TIME_OVER_CAP, _TRAINING, rules.train_time_s, ONE_STEP_MS),
    ):
        times = [(time, one.key) for one in said if pattern.search(one.path) and (time := _ms(one)) is not None]
        if cap_s is not None and times and max(times)[0] > 1000 * cap_s + slack:
            time, key = max(times)
            yield Found(
                code=code,
                at=Place(file, claim.line_of_key(key)),
                found=f"{time / 1000:g} s under {key}",
                expected=f"at most {cap_s:g} s",
                do="Correct the number, or keep the cap.",
            )
    texts = (one for one in said if isinstance(one.value, str) and _HARDWARE.search(normal(one.key)))
    for one in islice(texts, MOST_SAID):
        if _is_other(one.value, rules):
            yield Found(
                code=Code.HARDWARE_UNEXPECTED,
                at=Place(file, claim.line_of_key(one.key)),
                found=f"{one.value[:80]!r} under {one.key}",
                expected=f"{rules.world_size or ''} {rules.gpu}".strip(),
                do="Times on different hardware cannot be compared: run it there.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    """A value in the JSON, its key as written, and its path: its normal key after those above it."""

    path: str
    key: str
    value: Any


def _leaves(value: Any, path: str = "", key: str = "", depth: int = 0) -> Iterator[_Leaf]:
    """Yield what a JSON says about its own runs, together and seed by seed."""
    if _ELSEWHERE.search(path) or depth > DEEPEST:
        return
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _leaves(below, f"{path}_{normal(name)}"[-300:], name, depth + 1)
    elif isinstance(value, list):
        for below in value:
            yield from _leaves(below, path, key, depth + 1)
    else:
        yield _Leaf(path=path, key=key, value=value)


def _ms(leaf: _Leaf) -> float | None:
    """Return a time in the JSON in ms; None if neither its key nor its text has a unit."""
    value = number(leaf.value)
    if value is None or _OF_A_STEP.search(normal(leaf.key)):
        return None
    unit = (unit_in(leaf.value[:80]) if isinstance(leaf.value, str) else 0.0) or unit_of_key(leaf.key)
    return float(value) * unit if unit else None


def _is_other(hardware: str, rules: Ruleset) -> bool:
    """Return whether a text names other GPUs, or another number of them, than the ruleset."""
    text = hardware[:200]
    gpus, counts = _GPU.findall(text), [int(count) for count in _COUNT.findall(text)]
    other_gpu = rules.gpu is not None and bool(gpus) and rules.gpu.lower() not in text.lower()
    return other_gpu or (rules.world_size is not None and bool(counts) and rules.world_size not in counts)


# -- the files ---------------------------------------------------------------------------------------------------------

PACKED = (".ptz", ".zst", ".zstd", ".br", ".brotli", ".lzma", ".xz", ".zlib", ".bz2", ".z", ".zip", ".gz", ".7z")
RAW = (".pt", ".pth", ".bin", ".safetensors", ".npz", ".npy", ".ckpt", ".pkl", ".pickle", ".gguf", ".onnx")
_TEXT_INSIDE = re.compile(r"\.(?:log|txt|md|json|csv|tsv|py|out|model|vocab)\b|tar", re.IGNORECASE)


def check_files(record: Record, claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check the artifact and code files of a folder against the cap, and the artifact against the printed sizes."""
    if rules.artifact_bytes is None:
        return
    runs = [with_training(one) for one in claimed]
    printed = max((size for run in runs for size in (run.artifact_bytes, run.model_bytes) if size), default=None)
    code = min((run.code_bytes for run in runs if run.code_bytes is not None), default=0)
    scripts = [path for path in record.listing.files if path.suffix == ".py"]
    for path, more in [*((path, code) for path in _artifacts(record)), *((path, 0) for path in scripts)]:
        size = _size(path)
        if size + more > rules.artifact_bytes:
            yield Found(
                code=Code.SIZE_OVER_CAP,
                at=Place(record.shown(path)),
                found=f"a file of {size} bytes" + (f", and {more} of code" if more else ""),
                expected=f"at most {rules.artifact_bytes} together",
                do="Shrink the artifact.",
            )
        elif path.suffix != ".py" and printed is not None and size > printed:
            yield Found(
                code=Code.SIZE_NOT_IN_LOGS,
                at=Place(record.shown(path)),
                found=f"an artifact of {size} bytes",
                expected=f"at most {printed}, the largest total that a claimed run prints",
                do="Ship the artifact that was evaluated.",
            )


def _artifacts(record: Record) -> list[Path]:
    """Return the files that hold weights: packed files, or raw ones if none is packed."""
    files = [path for path in record.listing.files if path not in record.logs]
    packed = [path for path in files if path.suffix.lower() in PACKED and not _TEXT_INSIDE.search(path.name)]
    return packed or [path for path in files if path.suffix.lower() in RAW]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
