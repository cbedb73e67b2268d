"""Read training logs: bytes in, frozen runs out. Nothing of a log is ever executed or imported.

The rules, in order:

1. An embedded source (a block of code closed by a line of `=`) is cut out and kept as text (analysis.source).
2. A log is split into runs where a new source or header begins, the warm-up starts again, another seed is printed or
   the steps fall back. Steps that fall back again and again with nothing between them are two writers in one file.
3. Prefixes (rank, Ray, epoch stamps) and terminal codes are taken off; `name:value` and `name=value` mean the same.
4. A final-metric line is a label with a val_loss and a val_bpb that is no step and no progress line; one marked
   diagnostic or pre-quantization is kept apart.
5. The seed comes from inside the log.

Step lines are most of a log and few of them are needed for a verdict, so whole stretches of them are taken at once and
read line by line only when `Run.steps` is asked for.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.reading import grammar
from analysis.reading.grammar import Metric, Step
from analysis.reading.source import Source, cut
from analysis.untrusted.files import FileError, read_bounded

RESTARTS = 3  # falls of the step within one stretch that make it two writers
MOST_RUNS, MOST_METRICS, MOST_STRETCHES = 200, 500, 50_000  # of one log, of one run; more is no training log
MOST_SETTINGS, LONGEST_SETTING = 2000, 500
PIECE = 2**18  # bytes of step lines whose order is looked at at once


@dataclass(frozen=True, slots=True)
class Run:
    """What one log says about one run. "Unknown" is None. Lines count from 1, in the log as it lies on disk.

    `finals` are the metrics that are no diagnostics, without those that an `_exact` twin gives with more decimals.
    `validation` is the last in-training validation, at `validated_step`. `unpacked_code_bytes` is printed by scripts that ship themselves
    compressed. `totals` are all submission sizes the run prints with their codecs, `artifact_bytes`
    the one that counts: the last with a codec's name, else model and code. `hyperparameters` are as printed; `complete_config` says that
    they come from a block that lists them all. `curve` holds stretches of step lines as they stand, with the line each
    begins on. `clobbered_at` is the line where a second writer shows.
    """

    log: Path
    line: int
    seed: int | None = None
    metrics: tuple[Metric, ...] = ()
    finals: tuple[Metric, ...] = ()
    validation: Metric | None = None
    validated_step: int | None = None
    last_step: int | None = None
    total_steps: int | None = None
    train_time_ms: float | None = None
    code_bytes: int | None = None
    unpacked_code_bytes: int | None = None
    model_bytes: int | None = None
    artifact_bytes: int | None = None
    totals: tuple[tuple[str, int], ...] = ()
    size_line: int | None = None
    model_params: int | None = None
    world_size: int | None = None
    python: str | None = None
    torch: str | None = None
    gpu: str | None = None
    train_shards: int | None = None
    val_tokens: int | None = None
    dataset: str | None = None
    tokenizer: str | None = None
    hyperparameters: dict[str, str] = field(default_factory=dict)
    complete_config: bool = False
    source: Source | None = None
    curve: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)
    clobbered_at: int | None = None

    @property
    def trained(self) -> bool:
        """Whether the run came as far as a step or a metric."""
        return bool(self.curve or self.metrics)

    @property
    def steps(self) -> list[Step]:
        """The logged steps in the order of their lines."""
        return [step for first, text in self.curve for step in grammar.read_steps(first, text)]


# -- one log -----------------------------------------------------------------------------------------------------------


def read_log(path: Path, content: bytes | None = None) -> list[Run]:
    """The runs of one log, in order, those that ended before the first step too. Empty when it is no training log.

    Raises FileError for a log that cannot be read.
    """
    return _Reader(path, _plain(read_bounded(path) if content is None else content)).runs()


def _plain(data: bytes) -> bytes:
    """UTF-8 with bare newlines, whatever the shell that wrote the log made of it."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    data = data.removeprefix(b"\xef\xbb\xbf")
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


class _Reader:
    """One pass over one log. `facts` is the run that is being read; it is frozen when the next one begins."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data = path, data
        self.done: list[Run] = []
        self.counted, self.number = 0, 1  # a position in data and its line
        self.waiting: list[bytes] = []  # step lines, from waiting_from up to the line before waiting_to
        self.waiting_from = self.waiting_to = 0
        self.waiting_fast = True
        self.begin(1)

    def runs(self) -> list[Run]:
        for start, end, source in cut(self.data):
            if source is not None:
                if self.trained:
                    self.finish(self.line_of(start), inherit=False)
                known = self.facts.get("source")  # of two blocks before one run, one is a helper's
                self.facts["source"] = max(known, source, key=lambda one: one.size_bytes) if known else source
            self.stretch(start, end)
        self.finish(self.number)
        return [
            run
            for run in self.done
            if run.trained or run.seed is not None or run.source or run.model_params is not None
        ]

    # -- runs

    def begin(self, line: int) -> None:
        self.facts: dict[str, Any] = {"line": line}
        self.metrics: list[Metric] = []
        self.curve: list[tuple[int, bytes]] = []
        self.config: dict[str, str] = {}
        self.config_is_of_last_run = False
        self.totals: list[tuple[bytes, int, int]] = []
        self.ended: dict[str, Any] = {}  # what a line after the steps says of the end of training
        self.last_number = 0
        self.in_block = False

    @property
    def trained(self) -> bool:
        return bool(self.curve or self.metrics or self.waiting)

    def check_size(self) -> None:
        """Refuse what would fill the memory and is no training log. Of too many metrics each label's last one is kept."""
        if len(self.metrics) > MOST_METRICS:
            last = {metric.label: metric for metric in self.metrics}
            self.metrics = sorted(last.values(), key=lambda metric: metric.line)
            if len(last) > MOST_METRICS // 2:
                raise FileError(
                    f"holds more than {MOST_METRICS // 2} different final metrics, which no training log does"
                )
        if len(self.done) > MOST_RUNS or len(self.curve) > MOST_STRETCHES:
            raise FileError(
                f"holds more than {MOST_RUNS} runs or {MOST_STRETCHES} stretches of steps, which no training log does"
            )

    def finish(self, line: int, inherit: bool = True) -> None:
        """Freeze the run; the next begins on `line`, with the facts that are printed once when it is of one program."""
        self.facts |= _of_curve(self.curve) | self.ended
        coded = [total for total in self.totals if total[0]]
        if (
            not coded and "model_bytes" not in self.facts
        ):  # else a total without a codec's name is that of the raw model
            coded = self.totals
        if coded:
            _, self.facts["artifact_bytes"], self.facts["size_line"] = coded[-1]
        elif "model_bytes" in self.facts and "code_bytes" in self.facts:
            self.facts["artifact_bytes"] = self.facts["model_bytes"] + self.facts["code_bytes"]
        self.facts["totals"] = tuple((grammar.as_text(codec), size) for codec, size, _ in coded)
        metrics = _without_memory(self.metrics)
        run = Run(
            self.path,
            metrics=metrics,
            finals=_finals(metrics),
            curve=tuple(self.curve),
            hyperparameters=self.config,
            **self.facts,
        )
        self.done.append(run)
        self.check_size()
        self.begin(line)
        if inherit:
            kept = {name: getattr(run, name) for name in _PRINTED_ONCE}
            self.facts |= {name: value for name, value in kept.items() if value is not None}
            self.config, self.config_is_of_last_run = run.hyperparameters, True

    def line_of(self, position: int) -> int:
        """The line of a position; positions are asked for in rising order."""
        self.number += self.data.count(b"\n", self.counted, position)
        self.counted = position
        return self.number

    # -- lines

    def stretch(self, position: int, end: int) -> None:
        data = self.data
        while position < end:
            steps = grammar.STEPS_FAST.match(data, position, end) or grammar.STEPS.match(data, position, end)
            if steps is not None:
                self.wait(steps[0], position, steps.re is grammar.STEPS_FAST)
                position = steps.end()
                continue
            newline = data.find(b"\n", position, end)
            stop = end if newline < 0 else newline
            if stop > position:
                self.take_line(data[position : min(stop, position + grammar.LONGEST)], position)
            position = stop + 1
        self.take_waiting()

    def wait(self, text: bytes, position: int, fast: bool) -> None:
        """Gather step lines until another line comes; blank lines between them are kept, so that lines can be counted."""
        first = self.line_of(position)
        if not self.waiting:
            self.waiting_from = self.waiting_to = first
            self.waiting_fast = True
        self.waiting += [b"\n" * (first - self.waiting_to), text]
        if not text.endswith(b"\n"):
            self.waiting.append(b"\n")
        self.waiting_to = first + text.count(b"\n") + (not text.endswith(b"\n"))
        self.waiting_fast = self.waiting_fast and fast

    def take_waiting(self) -> None:
        if self.waiting:
            text = b"".join(self.waiting)
            self.waiting = []
            self.take_steps(text, self.waiting_from, self.waiting_fast)

    def take_line(self, raw: bytes, position: int) -> None:
        if raw[0] in b"|+=":
            if b"NVIDIA" in raw and "gpu" not in self.facts and (gpu := grammar.GPU.match(raw)):
                self.facts["gpu"] = grammar.as_text(gpu[1])
            return
        line = grammar.normalised(raw)
        if line is not raw and (not line or grammar.STEPS.match(line)):
            if line:
                self.wait(line, position, fast=False)
            return
        self.take_waiting()
        if self.in_block:
            if entry := grammar.BLOCK_ENTRY.match(raw):
                self.set(entry[1], entry[2].strip())
                self.take_fact(line, position)
                return
            self.in_block = False
        if b"val_" in line and (metric := grammar.read_metric(line)) is not None:
            self.metrics.append(replace(metric, line=self.line_of(position)))
            self.check_size()
        elif self.trained:
            self.take_ending(line, position)
        else:
            self.take_fact(line, position)

    def take_ending(self, line: bytes, position: int) -> None:
        """What is printed after the first step: sizes and the end of training, or the start of another run."""
        if (line[:6].lower() == b"warmup" and grammar.WARMUP.match(line)) or self.other_seed(line):
            self.finish(self.line_of(position))
            self.take_fact(line, position)
        elif self.metrics and line.startswith(grammar.HEADERS):
            self.finish(self.line_of(position), inherit=False)
            self.take_fact(line, position)
        elif ended := grammar.END_TIME.match(line):
            self.ended = {"train_time_ms": float(ended[1]) * grammar.MS[ended[2]]}
            if ended[3]:
                self.ended |= {"last_step": int(ended[3]), "total_steps": int(ended[4])}
        else:
            self.take_size(line, position)

    def other_seed(self, line: bytes) -> bool:
        seed = grammar.SEED.match(line) if line[:4].lower() == b"seed" else None
        return seed is not None and int(seed[1]) != self.facts.get("seed")

    def take_size(self, line: bytes, position: int) -> None:
        if code := grammar.CODE.match(line):
            unpacked = (code[1] or b"").lower() == b"uncompressed"
            self.facts["unpacked_code_bytes" if unpacked else "code_bytes"] = grammar.as_integer(code[2] or code[3])
        elif model := grammar.MODEL.match(line):
            self.facts["model_bytes"] = grammar.as_integer(model[2])
        elif total := grammar.TOTAL.match(line):
            codec, size = (total[1].strip(), total[2]) if total[2] else (b"budget", total[3])
            if grammar.NO_TOTAL.search(codec) and total[2]:
                return
            self.totals.append((codec, grammar.as_integer(size), self.line_of(position)))

    def take_fact(self, line: bytes, position: int) -> None:
        """What is printed before the first step."""
        facts = self.facts
        if grammar.BLOCK.match(line):
            self.in_block = True
            self.config, self.config_is_of_last_run = {}, False
            facts["complete_config"] = True
            return
        if not facts.get("complete_config") or not self.config:
            self.take_tokens(line)
        if grammar.SAYS_SOMETHING.search(line) is None:
            return
        if (b"eed" in line.lower() and (seed := grammar.SEED.match(line))) or (
            "seed" not in facts and b"eed" in line.lower() and (seed := grammar.SEED_WITHIN.match(line))
        ):
            facts["seed"] = int(seed[1])
        elif b" ws:" in line and (both := grammar.SEED_AND_RANKS.match(line)):
            facts["world_size"], facts["seed"] = int(both[1]), int(both[2])
        for word, name, kind, pattern in grammar.FACTS:
            if word in line and (found := pattern.match(line)):
                value = grammar.as_text(found[1])
                if name == "world_size" and name in facts and not line.startswith(b"world_size"):
                    continue  # of some part of the program
                facts[name] = int(value) if kind is int else value.rstrip("/").rsplit("/", 1)[-1]
        self.take_size(line, position)

    def set(self, name: bytes, value: bytes) -> None:
        """Keep a hyper-parameter as it was first printed."""
        key = grammar.as_text(name[:LONGEST_SETTING])
        if key in self.config or len(self.config) >= MOST_SETTINGS:
            return
        if self.config_is_of_last_run:
            self.config = dict(self.config)
            self.config_is_of_last_run = False
        self.config[key] = grammar.as_text(value[:LONGEST_SETTING])

    def take_tokens(self, line: bytes) -> None:
        """A line of nothing but name:value or name=value."""
        if grammar.TOKENS.fullmatch(line) is None:
            return
        for name, value in grammar.TOKEN.findall(line):
            self.set(name, value)
        seed = self.config.get("seed", "")
        if seed.isascii() and seed.isdecimal() and "seed" not in self.facts:
            self.facts["seed"] = int(seed[:18])

    def take_steps(self, text: bytes, first: int, fast: bool) -> None:
        """A stretch of step lines with nothing between them, from line `first` on."""
        ends = _rising(text, grammar.STEP_NUMBERS_FAST if fast else grammar.STEP_NUMBERS)
        if ends is None:
            self.take_each(text, first)
            return
        if self.curve and ends[0] < self.last_number:
            self.finish(first)
        self.add_steps(first, text, ends[1])

    def take_each(self, text: bytes, first: int) -> None:
        """A stretch whose steps fall back: a new run at each fall or, where they do so again and again, two writers."""
        lines = text.split(b"\n")[:-1]
        last = self.last_number if self.curve else 0
        numbers = [last := int(match[1]) if (match := grammar.STEP.match(line)) else last for line in lines]
        before = [self.last_number if self.curve else 0, *numbers[:-1]]
        falls = [i for i, (number, last) in enumerate(zip(numbers, before, strict=True)) if number < last]
        if len([i for i in falls if numbers[i] > 1]) >= RESTARTS or len(falls) > 10 * RESTARTS:
            self.facts.setdefault("clobbered_at", first + falls[0])
            falls = []
        starts = [0, *(i for i in falls if i), len(lines)]
        for start, end in itertools.pairwise(starts):
            if start in falls:
                self.finish(first + start)
            self.add_steps(first + start, b"\n".join(lines[start:end]) + b"\n", numbers[end - 1])

    def add_steps(self, first: int, text: bytes, last_number: int) -> None:
        self.curve.append((first, text))
        if last_number > max(self.last_number, self.ended.get("last_step", 0)):
            self.ended = {}
        self.last_number = last_number
        self.check_size()


def _without_memory(metrics: list[Metric]) -> tuple[Metric, ...]:
    """The metrics; a final one of the weights before quantisation is a diagnostic where one of the artifact follows."""
    of_artifact = [not metric.diagnostic and not grammar.PREQUANT.search(metric.label) for metric in metrics]
    last = max((i for i, is_so in enumerate(of_artifact) if is_so), default=-1)
    return tuple(
        metric if of_artifact[i] or i > last else replace(metric, diagnostic=True) for i, metric in enumerate(metrics)
    )


def _finals(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    plain = [metric for metric in metrics if not metric.diagnostic]
    decimals = {metric.label: metric.decimals for metric in plain}
    return tuple(metric for metric in plain if decimals.get(f"{metric.label}_exact", 0) <= metric.decimals)


def _rising(text: bytes, pattern: re.Pattern[bytes]) -> tuple[int, int] | None:
    """The first and the last step of a stretch; None when the steps do not rise, or some line says none."""
    first, last, start = None, -1, 0
    while start < len(text):
        end = text.find(b"\n", start + PIECE) + 1 or len(text)
        numbers = list(map(int, pattern.findall(text, start, end)))
        if not numbers or numbers[0] < last or numbers != sorted(numbers):
            return None
        first = numbers[0] if first is None else first
        last, start = numbers[-1], end
    return None if first is None else (first, last)


def _of_curve(curve: list[tuple[int, bytes]]) -> dict[str, Any]:
    """What the last step lines of a run say: its last step, its time, its last validation."""
    found: dict[str, Any] = {}
    wanted = {"last_step", "train_time_ms", "validation"}
    for first, text in reversed(curve):
        if not wanted:
            break
        if "last_step" in wanted:
            start = text.rstrip(b"\n").rfind(b"\n") + 1
            if match := grammar.STEP.match(text, start):
                found["last_step"] = int(match[1])
                found |= {"total_steps": int(match[2])} if match[2] else {}
                wanted.discard("last_step")
        if "train_time_ms" in wanted and (at := max(text.rfind(b"train_time"), text.rfind(b" t:"))) >= 0:
            timed = grammar.read_step(grammar.line_around(text, at), 0)
            if timed is not None and timed.train_time_ms is not None:
                found["train_time_ms"] = timed.train_time_ms
                wanted.discard("train_time_ms")
        if "validation" in wanted and (at := max(text.rfind(b"val_loss"), text.rfind(b" tel:"))) >= 0:
            line = grammar.line_around(text, at)
            step = grammar.read_step(line, first + text.count(b"\n", 0, at))
            if step is not None and step.val_loss is not None:
                decimals = grammar.DECIMALS.search(line)
                places = len(decimals[1]) if decimals else 0
                found["validated_step"] = step.step
                found["validation"] = Metric("val_loss", step.val_loss, step.val_bpb, places, step.line)
                wanted.discard("validation")
    return found


_PRINTED_ONCE = (
    "seed", "model_params", "world_size", "python", "torch", "gpu", "train_shards", "val_tokens", "dataset", "tokenizer",
    "complete_config", "source",
)  # fmt: skip
