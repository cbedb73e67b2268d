"""Read training logs: bytes in, frozen runs out. Nothing of a log is ever executed or imported.

The rules, in order:

1. Cut out an embedded source (a block of code closed by a line of `=`) and keep it as text (analysis.reading.source).
2. Split a log into runs: where a new source or header begins, where the warm-up starts again, where another seed is
   printed, where the steps fall back. A run without a seed goes on where they fall back to a checkpoint: a step after its
   first one. Steps that fall back again and again with nothing in between show two writers in one file.
3. Take off prefixes (analysis.reading.plain) and terminal codes. `name:value` and `name=value` mean the same.
4. A final-metric line is a label with a val_loss and a val_bpb, and no step or progress line. Those marked diagnostic
   or pre-quantization are kept apart.
5. The seed comes from inside the log.

Most lines of a log are step lines, and a verdict needs few of them. So the reader takes whole stretches of them at once;
only `Run.steps` reads them line by line.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from analysis.reading import grammar
from analysis.reading.draft import Draft, Lines
from analysis.reading.importers.mllog import MARK, read_mllog
from analysis.reading.importers.tables import read_tables
from analysis.reading.names import with_usual_names
from analysis.reading.plain import plain
from analysis.reading.run import Run
from analysis.reading.source import cut
from analysis.untrusted.files import FileError, read_bounded, spend

RESTARTS = 3  # falls of the step within one stretch that show two writers
MOST_RUNS = 200  # of one log; a training log has fewer
NEWLINES = re.compile(rb"\n++")
LOOKED_AT, STRETCHES = 2**12, 8  # bytes of a stretch, and stretches, in which a run's first step is looked for
PIECE = 2**18  # bytes of step lines whose order is checked at once
# how many bytes these count as, of the budget of their folder (untrusted/files.py): by the time that they take
STEP_LINE, FALLING_LINE, OTHER_LINE, BYTE_OF_LINE, METRIC_LINE, INHERITED = 32, 128, 1024, 32, 2**14, 1024


def read_log(path: Path, content: bytes | None = None) -> list[Run]:
    """Return the runs of one log in order, with those that ended before their first step.

    The list is empty when the file is no training log. Raises FileError when it cannot be read.
    """
    data = plain(read_bounded(path) if content is None else content)
    runs = _Reader(path, with_usual_names(data)).runs()
    if any(run.trained for run in runs):
        return runs
    if MARK in data:
        return read_mllog(path, data) or runs
    return (read_tables(path, data, runs) if data.startswith(b"|") or b"\n|" in data else []) or runs


@dataclass(slots=True)
class _Waiting:
    """Step lines gathered until another line comes, from line `first` to the line before `following`.

    `fast`: all are of the usual shape, `step:N/T`.
    """

    parts: list[bytes] = field(default_factory=list)
    first: int = 0
    following: int = 0
    fast: bool = True

    def add(self, text: bytes, line: int, *, fast: bool) -> None:
        """Add the step lines that begin on `line`. Blank lines in between are kept, so that lines can be counted."""
        if not self.parts:
            self.first = self.following = line
        self.parts += [b"\n" * (line - self.following), text]
        if not text.endswith(b"\n"):
            self.parts.append(b"\n")
        self.following = line + text.count(b"\n") + (not text.endswith(b"\n"))
        self.fast = self.fast and fast


class _Reader:
    """One pass over one log. `draft` is the run being read; it is frozen when the next one begins."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data = path, data
        self.lines = Lines(data)
        self.done: list[Run] = []
        self.draft = Draft(self.lines, 1)
        self.waiting = _Waiting()

    def runs(self) -> list[Run]:
        """Read the log, and return its runs without those that say nothing."""
        for stretch in cut(self.data):
            if stretch.after is not None:
                if self.draft.trained:
                    self._finish(self.lines.at(stretch.start), inherit=False)
                self.draft.add_source(stretch.after)
            self._read(stretch.start, stretch.end)
        self._finish(self.lines.number)
        return [
            run
            for run in self.done
            if run.trained or run.seed is not None or run.source or run.model_params is not None
        ]

    def _finish(self, line: int, *, inherit: bool = True) -> None:
        """Freeze the run. The next begins on `line`; one of the same program inherits what is printed once."""
        run = self.draft.freeze(self.path)
        self.done.append(run)
        spend(0, runs=1)
        if len(self.done) > MOST_RUNS:
            raise FileError(f"holds more than {MOST_RUNS} runs, which no training log does")
        self.draft = Draft(self.lines, line)
        if inherit:
            spend(INHERITED * len(run.hyperparameters))
            self.draft.inherit(run)

    # -- lines

    def _read(self, position: int, end: int) -> None:
        """Read a stretch of the log that holds no source."""
        data = self.data
        while position < end:
            steps = grammar.STEPS_FAST.match(data, position, end) or grammar.STEPS.match(data, position, end)
            if steps is not None:
                self.waiting.add(steps[0], self.lines.at(position), fast=steps.re is grammar.STEPS_FAST)
                position = steps.end()
                continue
            newline = data.find(b"\n", position, end)
            stop = end if newline < 0 else newline
            if stop > position:
                self._take_line(data[position : min(stop, position + grammar.LONGEST)], position)
            blank = NEWLINES.match(data, stop, end)
            position = blank.end() if blank else end
        self._take_waiting()

    def _take_line(self, raw: bytes, position: int) -> None:
        spend(OTHER_LINE + BYTE_OF_LINE * len(raw))
        draft = self.draft
        if raw[0] in b"|+=":
            if b"NVIDIA" in raw and "gpu" not in draft.facts and (gpu := grammar.GPU.match(raw)):
                draft.facts["gpu"] = grammar.as_text(gpu[1])
            return
        line = grammar.normalised(raw)
        if line is not raw and (not line or grammar.STEPS.match(line)):
            if line:
                self.waiting.add(line, self.lines.at(position), fast=False)
            return
        self._take_waiting()
        draft = self.draft  # the steps may have begun another run
        if draft.in_block:
            if entry := grammar.BLOCK_ENTRY.match(raw):
                draft.add_setting(entry[1], entry[2].strip())
                draft.take_fact(line, position)
                return
            draft.in_block = False
        if b"val_" in line and (metric := grammar.read_metric(line)) is not None:
            spend(METRIC_LINE)
            draft.add_metric(replace(metric, line=self.lines.at(position)))
            if not metric.diagnostic:
                draft.take_eval_time(line)
            return
        draft.named.append((position, line))
        if draft.trained:
            self._take_ending(line, position)
        else:
            draft.take_fact(line, position)

    def _take_ending(self, line: bytes, position: int) -> None:
        """Read a line from after the first step: sizes, the end of training, or the start of another run."""
        draft = self.draft
        again = (line[:6].lower() == b"warmup" and grammar.WARMUP.match(line)) or draft.names_other_seed(line)
        if again or (draft.metrics and line.startswith(grammar.HEADERS)):
            self._finish(self.lines.at(position), inherit=bool(again))
            self.draft.take_fact(line, position)
        elif not draft.take_end_time(line):
            draft.take_size(line, position)
            if b"val" in line:
                draft.take_eval_time(line)

    # -- steps

    def _take_waiting(self) -> None:
        """Read the step lines that were gathered, with nothing in between."""
        if not self.waiting.parts:
            return
        waiting, self.waiting = self.waiting, _Waiting()
        text = b"".join(waiting.parts)
        spend(STEP_LINE * (waiting.following - waiting.first))
        ends = _ends(text, grammar.STEP_NUMBERS_FAST if waiting.fast else grammar.STEP_NUMBERS)
        if ends is None:
            self._take_each(text, waiting.first)
            return
        if self.draft.curve and ends.first < self.draft.last_number:
            if self._goes_on(ends.first):
                self.draft.facts.setdefault("restarted_at", waiting.first)
            else:
                self._finish(waiting.first)
        self.draft.add_steps(waiting.first, text, ends.last)

    def _take_each(self, text: bytes, first: int) -> None:
        """Read step lines whose steps fall back: a new run at each fall or, where falls are many, two writers."""
        spend(FALLING_LINE * text.count(b"\n"))
        lines = text.split(b"\n")[:-1]
        known = last = self.draft.last_number if self.draft.curve else 0
        numbers = [last := int(match[1]) if (match := grammar.STEP.match(line)) else last for line in lines]
        before = [known, *numbers[:-1]]
        falls = [i for i, (number, last) in enumerate(zip(numbers, before, strict=True)) if number < last]
        start_of_run = self._first_number() or next(filter(None, numbers), None)
        if len([i for i in falls if numbers[i] > 1 and numbers[i] != start_of_run]) >= RESTARTS:
            self.draft.facts.setdefault("clobbered_at", first + falls[0])
            falls = []
        starts = [0, *(i for i in falls if i), len(lines)]
        for start, end in itertools.pairwise(starts):
            if start in falls:
                if self._goes_on(numbers[start]):
                    self.draft.facts.setdefault("restarted_at", first + start)
                else:
                    self._finish(first + start)
            self.draft.add_steps(first + start, b"\n".join(lines[start:end]) + b"\n", numbers[end - 1])

    def _goes_on(self, number: int) -> bool:
        """Return whether steps that fall back to this one are the same run's, from a checkpoint on.

        Where a seed is printed, each such part is a run: its seed says to which it belongs.
        """
        draft = self.draft
        if "seed" in draft.facts or draft.metrics:
            return False
        first, first_above_0 = self._first_number(above=-1) or 0, self._first_number() or 1
        if number == first_above_0 > max(1, first):  # a later trial may leave out step 0, or this one did not end
            total = grammar.STEP.match(draft.curve[0][1])
            return total is not None and total[2] is not None and draft.last_number < int(total[2])
        return number > first_above_0

    def _first_number(self, above: int = 0) -> int | None:
        """Return the first step above this one of the run being read; None where it has none yet."""
        begins = b"\n".join(text[:LOOKED_AT] for _, text in self.draft.curve[:STRETCHES])
        return next((step for step in map(int, grammar.STEP_NUMBERS.findall(begins)) if step > above), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """The first and the last step of a stretch."""

    first: int
    last: int


def _ends(text: bytes, pattern: re.Pattern[bytes]) -> _Ends | None:
    """Return the ends of a stretch of step lines; None when the steps do not rise or a line has no step."""
    first, last, start = None, -1, 0
    while start < len(text):
        end = text.find(b"\n", start + PIECE) + 1 or len(text)
        numbers = list(map(int, pattern.findall(text, start, end)))
        if not numbers or numbers[0] < last or numbers != sorted(numbers):
            return None
        first = numbers[0] if first is None else first
        last, start = numbers[-1], end
    return None if first is None else _Ends(first=first, last=last)
