"""A run while its log is being read: facts gathered line by line, then frozen into a Run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.reading import grammar
from analysis.reading.ending import End, end_of_curve, finals, with_diagnostics
from analysis.reading.metric import Metric
from analysis.reading.names import alone, values_in
from analysis.reading.run import Run
from analysis.reading.source import Source
from analysis.untrusted.files import FileError

MOST_METRICS, MOST_STRETCHES = 500, 50_000  # of one run; a training log has fewer
MOST_SETTINGS, LONGEST_SETTING = 2000, 500
MOST_NAMED = 1000  # the last lines of a run that may print metrics of other names
TRAINED_S = ("total_training_time", "training_time", "total_train_time", "train_time")
PRINTED_ONCE = (
    "seed",
    "model_params",
    "world_size",
    "python",
    "torch",
    "gpu",
    "train_shards",
    "val_tokens",
    "dataset",
    "train_files",
    "tokenizer",
    "complete_config",
    "source",
)


@dataclass(slots=True)
class Lines:
    """Line numbers of positions in a log. Ask for positions in rising order: each newline is counted once."""

    data: bytes
    counted: int = 0
    number: int = 1

    def at(self, position: int) -> int:
        """Return the line of a position."""
        self.number += self.data.count(b"\n", self.counted, position)
        self.counted = position
        return self.number

    def numbered(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """Yield lines that come with their positions, all counted already, with their numbers instead."""
        at, number = self.counted, self.number
        for position, line in lines:
            back = position < at
            step = self.data.count(b"\n", min(position, at), max(position, at))
            at, number = position, number - step if back else number + step
            yield number, line


@dataclass(slots=True)
class Draft:
    """One run of a log, still open.

    `facts` are fields of the Run. `ended` is what a line after the steps says of the end of training; it overrules the
    step lines. `totals` are submission sizes: codec, bytes, line. `named` are lines that may print other metrics, by position.
    """

    lines: Lines
    line: int
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    curve: list[tuple[int, bytes]] = field(default_factory=list)
    config: dict[str, str] = field(default_factory=dict)
    config_is_of_last_run: bool = False
    totals: list[tuple[bytes, int, int]] = field(default_factory=list)
    named: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=MOST_NAMED))
    ended: End = field(default_factory=End)
    code_is_packed: bool = False
    last_number: int = 0
    in_block: bool = False

    @property
    def trained(self) -> bool:
        """Whether a step or a metric was read."""
        return bool(self.curve or self.metrics)

    # -- its end

    def freeze(self, log: Path) -> Run:
        """Return the finished record."""
        end = end_of_curve(self.curve)
        if (stopped := self.ended.train_time_ms) is not None:
            logged = end.train_time_ms or 0.0
            end.train_time_ms = logged if logged > 1.01 * stopped + 1000 else stopped  # the larger, if they contradict
        if self.ended.last_step is not None:
            end.last_step, end.total_steps = self.ended.last_step, self.ended.total_steps
        self._settle_sizes()
        metrics = with_diagnostics(self.metrics)
        values = values_in(self.lines.numbered(self.named))
        if end.train_time_ms is None:
            timed = (values[name].number for name in TRAINED_S if name in values and values[name].timed)
            end.train_time_ms = next((1000 * seconds for seconds in timed), None)
        if not self.curve and not metrics:
            end.validation = alone(values)
        return Run(
            log=log,
            line=self.line,
            metrics=metrics,
            finals=finals(metrics),
            validation=end.validation,
            validated_step=end.validated_step,
            last_step=end.last_step,
            total_steps=end.total_steps,
            train_time_ms=end.train_time_ms,
            curve=tuple(self.curve),
            hyperparameters=self.config,
            values=values,
            **self.facts,
        )

    def _settle_sizes(self) -> None:
        """Choose the size that counts: the last total with a codec's name, the larger of two of one codec, else model plus code.

        A total without a codec's name is that of the raw model where the model's packed size is printed too.
        """
        facts = self.facts
        totals = [total for total in self.totals if total[0]]
        if not totals and "model_bytes" not in facts:
            totals = self.totals
        if totals:
            same = [total for total in totals if total[0] == totals[-1][0]]
            _, facts["artifact_bytes"], facts["size_line"] = max(same, key=lambda total: total[1])
        elif "model_bytes" in facts and "code_bytes" in facts:
            facts["artifact_bytes"] = facts["model_bytes"] + facts["code_bytes"]
        facts["totals"] = tuple((grammar.as_text(codec), size) for codec, size, _ in totals)

    def inherit(self, run: Run) -> None:
        """Take over what a program prints once from the run before."""
        kept = {name: getattr(run, name) for name in PRINTED_ONCE}
        self.facts |= {name: value for name, value in kept.items() if value is not None}
        self.config, self.config_is_of_last_run = run.hyperparameters, True

    # -- what is added to it

    def add_source(self, source: Source) -> None:
        """Keep a source. Of two blocks before one run the shorter one is a helper's."""
        known = self.facts.get("source")
        self.facts["source"] = max(known, source, key=lambda one: one.size_bytes) if known else source

    def add_metric(self, metric: Metric) -> None:
        """Keep a metric. Of too many, keep each label's last one; refuse too many labels."""
        self.metrics.append(metric)
        if len(self.metrics) > MOST_METRICS:
            last = {metric.label: metric for metric in self.metrics}
            self.metrics = sorted(last.values(), key=lambda metric: metric.line)
            if len(last) > MOST_METRICS // 2:
                raise FileError(
                    f"holds more than {MOST_METRICS // 2} different final metrics, which no training log does"
                )

    def add_steps(self, first: int, text: bytes, last_number: int) -> None:
        """Keep a stretch of step lines that begins on line `first` and ends at step `last_number`."""
        if not self.curve:
            self.named.clear()  # settings
            if "seed" not in self.facts and (seed := grammar.SEED_IN_STEP.search(text, 0, text.find(b"\n"))):
                self.facts["seed"] = int(seed[1])
        self.curve.append((first, text))
        if last_number > max(self.last_number, self.ended.last_step or 0):
            self.ended = End()
        self.last_number = last_number
        if len(self.curve) > MOST_STRETCHES:
            raise FileError(f"holds more than {MOST_STRETCHES} stretches of steps, which no training log does")

    def add_setting(self, name: bytes, value: bytes) -> None:
        """Keep a hyper-parameter as it was first printed."""
        key = grammar.as_text(name[:LONGEST_SETTING])
        if key in self.config or len(self.config) >= MOST_SETTINGS:
            return
        if self.config_is_of_last_run:
            self.config = dict(self.config)
            self.config_is_of_last_run = False
        self.config[key] = grammar.as_text(value[:LONGEST_SETTING])

    # -- lines

    def names_other_seed(self, line: bytes) -> bool:
        """Whether a line begins with another seed than this run's."""
        seed = grammar.SEED.match(line) if line[:4].lower() == b"seed" else None
        return seed is not None and int(seed[1]) != self.facts.get("seed")

    def take_end_time(self, line: bytes) -> bool:
        """Read a line that says when and where training stopped; return whether it is one."""
        stopped = grammar.END_TIME.match(line)
        if stopped is None:
            return False
        self.ended = End(train_time_ms=float(stopped[1]) * grammar.MS[stopped[2]])
        if stopped[3]:
            self.ended.last_step, self.ended.total_steps = int(stopped[3]), int(stopped[4])
        return True

    def take_eval_time(self, line: bytes) -> None:
        """Read how long an evaluation took, and keep the longest."""
        for time in grammar.read_eval_times(line):
            self.facts["eval_time_ms"] = max(time, self.facts.get("eval_time_ms", 0.0))

    def take_size(self, line: bytes, position: int) -> None:
        """Read the sizes of the code, of the model or of the submission that a line prints."""
        if code := grammar.CODE.match(line):
            self._take_code(b" ".join(filter(None, code.group(1, 2, 4))), code[3] or code[5])
        elif model := grammar.MODEL.match(line):
            self.facts["model_bytes"] = grammar.as_integer(model[2])
        elif total := grammar.TOTAL.match(line):
            codec, size = (total[1].strip(), total[2]) if total[2] else (b"budget", total[4])
            no_unit = total[2] and not total[3] and b"bytes" not in line[: total.start(2)].lower()
            if not no_unit and not (grammar.NO_TOTAL.search(codec) and total[2]):
                self.totals.append((codec, grammar.as_integer(size), self.lines.at(position)))
        if line.count(b" bytes") > 1:
            self._take_more_sizes(line, position)

    def _take_code(self, words: bytes, digits: bytes) -> None:
        """Keep a code size. That of the packed script is part of the artifact; without such a word it is the largest."""
        facts, size = self.facts, grammar.as_integer(digits)
        if grammar.UNPACKED.search(words):
            facts["unpacked_code_bytes"] = size
        elif grammar.PACKED.search(words):
            if "code_bytes" in facts and not self.code_is_packed:
                facts.setdefault("unpacked_code_bytes", facts["code_bytes"])
            facts["code_bytes"], self.code_is_packed = size, True
        elif self.code_is_packed:
            facts.setdefault("unpacked_code_bytes", size)
        else:
            facts["code_bytes"] = max(size, facts.get("code_bytes", 0))

    def _take_more_sizes(self, line: bytes, position: int) -> None:
        """Read a line of several sizes: those that its beginning does not tell."""
        first, *others = grammar.SIZES_END.split(line)
        known = any(pattern.match(first) for pattern in (grammar.CODE, grammar.MODEL, grammar.TOTAL))
        for part in others if known else [first, *others]:
            if (size := grammar.SIZE.match(part)) is None or grammar.NO_TOTAL.search(size[4]):
                continue
            words = size[4].replace(b"size", b"").strip()
            if size[1]:
                self._take_code(part[: size.start(5)], size[5])
            elif size[2] and words:
                self.facts["model_bytes"] = grammar.as_integer(size[5])
            elif size[3]:
                self.totals.append((words, grammar.as_integer(size[5]), self.lines.at(position)))

    def take_fact(self, line: bytes, position: int) -> None:
        """Read a line from before the first step."""
        facts = self.facts
        if grammar.BLOCK.match(line):
            self.in_block = True
            self.config, self.config_is_of_last_run = {}, False
            facts["complete_config"] = True
            return
        if not facts.get("complete_config") or not self.config:
            self._take_tokens(line)
        if grammar.SAYS_SOMETHING.search(line) is None:
            return
        self._take_seed(line)
        for word, name, kind, pattern in grammar.FACTS:
            if word in line and (found := pattern.match(line)):
                value = grammar.as_text(found[1])
                if name == "world_size" and name in facts and not line.startswith(b"world_size"):
                    continue  # of some part of the program
                facts[name] = int(value) if kind is int else value.rstrip("/").rsplit("/", 1)[-1]
        self.take_size(line, position)

    def _take_seed(self, line: bytes) -> None:
        facts = self.facts
        seed = None
        if b"eed" in line.lower():
            seed = grammar.SEED.match(line) or (None if "seed" in facts else grammar.SEED_WITHIN.match(line))
        if seed:
            facts["seed"] = int(seed[1])
        elif b" ws:" in line and (both := grammar.SEED_AND_RANKS.match(line)):
            facts["world_size"], facts["seed"] = int(both[1]), int(both[2])

    def _take_tokens(self, line: bytes) -> None:
        """Read a line of nothing but name:value or name=value."""
        if grammar.TOKENS.fullmatch(line) is None:
            return
        for name, value in grammar.TOKEN.findall(line):
            self.add_setting(name, value)
        seed = self.config.get("seed", "")
        if seed.isascii() and seed.isdecimal() and "seed" not in self.facts:
            self.facts["seed"] = int(seed[:18])
