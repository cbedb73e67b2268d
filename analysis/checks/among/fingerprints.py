"""Find signs of edited numbers: values that no training gives, and lines that one log lacks.

The thresholds were measured on honest runs of public Parameter Golf records.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from analysis.checks.consistent import Trace
from analysis.record.selection import Claimed
from analysis.rules.findings import ERROR, Code, Found, Raised, Severity
from analysis.rules.keys import LABELLED
from analysis.rules.ruleset import Ruleset

GAPS_APART = 0.0025  # bpb between the seeds' gaps; of 32 honest folders at most 0.0019
LARGEST_GAP = 0.1  # bpb that an evaluation can gain
MOST_ALIKE = 100  # runs of one value that are compared
GRID_STEPS = 5  # fewest logged steps of a log with a grid


def check_fingerprints(traces: Sequence[Trace], rules: Ruleset) -> Raised:
    """Check the claimed runs of one arm."""
    claimed = [trace.one for trace in traces]
    yield from _fixed_column(claimed)
    if rules.final == LABELLED:
        yield from _gaps(claimed)
    yield from _grid(traces)


# -- the final metrics -------------------------------------------------------------------------------------------------


def _fixed_column(claimed: Sequence[Claimed]) -> Raised:
    """Check that val_loss and val_bpb move together: they are one number in two units."""
    known = [one for one in claimed if _is_finite(one.metric.val_bpb) and _is_finite(one.metric.val_loss)]
    for name, other in (("val_loss", "val_bpb"), ("val_bpb", "val_loss")):
        half = 0.5 * 10.0 ** -min((_decimals(getattr(one.metric, name)) for one in known), default=0)
        alike: dict[float, dict[tuple[float, int], Claimed]] = {}  # by their value, those whose other value differs
        for one in known:
            pair = (getattr(one.metric, other), one.metric.decimals)
            alike.setdefault(getattr(one.metric, name), {}).setdefault(pair, one)
        for one, two in chain.from_iterable(combinations([*same.values()][:MOST_ALIKE], 2) for same in alike.values()):
            a, b = one.metric, two.metric
            ratio = getattr(a, other) / getattr(a, name) if getattr(a, name) else 0.0
            rounding = 2.1 * (half * abs(ratio) + 0.5 * 10.0 ** -min(a.decimals, b.decimals))
            if abs(getattr(a, other) - getattr(b, other)) > rounding:
                yield Found(
                    code=Code.BYTES_PER_TOKEN_UNEXPECTED,
                    at=two.at(b.line),
                    found=f"the {name} of {one.beside(two)}, {getattr(b, name)}, with another {other}, {getattr(b, other)}",
                    expected=f"{getattr(a, other)}, as there",
                    do="One of the two numbers is wrong: rerun the seed.",
                    severity=ERROR,
                )
                return


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _decimals(value: float) -> int:
    """Return the number of decimals that a number is printed with, without zeros at the end."""
    return len(repr(value).partition(".")[2]) if "e" not in repr(value) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    """How far a run's final metric is above its last validation in training, in bpb. Below 0 it is better."""

    one: Claimed
    bpb: float

    @property
    def words(self) -> str:
        return f"{abs(self.bpb):.4f} bpb {'better' if self.bpb < 0 else 'worse'}"

    def found(self, expected: str, severity: Severity | None = None) -> Found:
        """Return the finding that the gap does not fit."""
        validation = self.one.training.validation
        line = validation.line if validation is not None else 1
        return Found(
            code=Code.FINAL_BETTER_THAN_TRAINING,
            at=self.one.at(self.one.metric.line),
            found=f"a final metric {self.words} than the last validation in training (line {line})",
            expected=expected,
            do="Say what the evaluation does, and rerun it from the checkpoint.",
            severity=severity,
        )


def _gaps(claimed: Sequence[Claimed]) -> Raised:
    """Check that the evaluation changes the last validation in training by about the same amount in every run."""
    gaps = [_Gap(one=one, bpb=gap) for one in claimed if (gap := _gap(one)) is not None]
    large = [gap for gap in gaps if gap.bpb < -LARGEST_GAP]
    yield from (gap.found(f"at most {LARGEST_GAP:g}: no evaluation gains more", ERROR) for gap in large)
    if large or len({gap.one.metric.label for gap in gaps}) != 1:
        return
    best, worst = min(gaps, key=lambda gap: gap.bpb), max(gaps, key=lambda gap: gap.bpb)
    if worst.bpb - best.bpb > GAPS_APART:
        yield best.found(f"about {worst.words}, as in {worst.one.beside(best.one)}")


def _gap(one: Claimed) -> float | None:
    run, final = one.training, one.metric
    last = run.validation
    if last is None or run.validated_step != run.last_step or not last.val_loss or not final.val_bpb:
        return None
    if last.val_bpb is None and not final.val_loss:
        return None
    trained = last.val_bpb if last.val_bpb is not None else last.val_loss * final.val_bpb / (final.val_loss or 1.0)
    gap = final.val_bpb - trained
    return gap if math.isfinite(gap) else None


# -- the logged steps --------------------------------------------------------------------------------------------------


def _grid(traces: Sequence[Trace]) -> Raised:
    """Check that runs of one program log the same steps, up to the last one that all of them reach."""
    for same in _programs(traces):
        logged = {id(trace): {step.step for step in trace.steps} for trace in same}
        end = min(map(max, logged.values()))
        counted = Counter(step for steps in logged.values() for step in steps if step < end)
        in_all_but_one = {step for step, count in counted.items() if count == len(same) - 1}
        for trace in same:
            lacking = sorted(in_all_but_one - logged[id(trace)])
            if lacking:
                steps = f"step {lacking[0]}" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else "")
                yield Found(
                    code=Code.LOG_CLOBBERED,
                    at=trace.one.at(
                        next((s.line for s in trace.steps if s.step > lacking[0]), trace.one.training.line)
                    ),
                    found=f"no line of {steps}",
                    expected="the steps that the logs of the other seeds have",
                    do="Lines were lost or taken out: show the whole log.",
                    severity=ERROR,
                )


def _programs(traces: Sequence[Trace]) -> Iterator[Sequence[Trace]]:
    """Yield the runs of each program whose logs have a grid of steps, if there are several."""
    groups: dict[object, list[Trace]] = {}
    for trace in traces:
        run = trace.one.training
        if len(trace.steps) >= GRID_STEPS and run.clobbered_at is None:
            program = run.source.text if run.source is not None else None
            groups.setdefault((program, run.code_bytes, run.total_steps), []).append(trace)
    yield from (group for group in groups.values() if len(group) > 1)
