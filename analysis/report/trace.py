"""One number of a verdict, traced: where it is printed, which rule chose it, whether it counts, what the test did with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from analysis.reading.metric import Metric
from analysis.reading.result import Result
from analysis.reading.run import Origin
from analysis.report.grid import named, wrapped
from analysis.report.said.claims import WORDS as FITS
from analysis.report.said.findings import finding_lines
from analysis.report.said.headline import first_name, headline
from analysis.report.said.quotes import quotes
from analysis.report.said.tables import place
from analysis.sweepdir.layout import CANDIDATE
from analysis.untrusted.escape import printable
from analysis.verdict.again.one_run import Effect, Outcome, Part
from analysis.verdict.numbers import format_p, in_metric
from analysis.verdict.verdict import Verdict

Row = tuple[str, str]
Rows = Iterator[Row]


def trace(verdict: Verdict, parts: Sequence[Part], label: str | None = None, width: int | None = None) -> str:
    """Return what is known of each of these runs, wrapped; `label` is the one that was asked for, if any."""
    return "\n".join(_shown(verdict, part, label, width) for part in parts)


def _shown(verdict: Verdict, part: Part, label: str | None, width: int | None) -> str:
    result = part.result
    value = result.value(verdict.metric)
    number = result.state if value is None else in_metric(value, verdict.metric)
    counts = "counts" if part.why is None else f"does not count: {part.why}"
    who = f"seed {result.seed}" if result.seed is not None else f"run of {result.log}"
    rows = [*_of_the_line(result, verdict, label), *_of_the_run(result), *_claimed(part, verdict)]
    rows += [*_findings(result, verdict), *_tested(part, verdict), ("verdict", headline(verdict))]
    head = wrapped([printable(f"{who}, {part.arm}: {verdict.metric} {number} {counts}")], width)
    below = named([(name, printable(said)) for name, said in rows], None if width is None else width - 2)
    return "".join(f"{line}\n" for line in (*head, *(f"  {line}" for line in below)))


def _of_the_line(result: Result, verdict: Verdict, label: str | None) -> Rows:
    """Yield where the number is printed, the line itself, and what chose it among the other numbers of the run."""
    yield "read in", place(result)
    yield from (("line", quote.strip()) for quote in quotes([result]).values())
    if result.metric is not None:
        yield "label", result.metric.label or "none"
        yield "chosen as", _chosen(result, result.metric, verdict, label)


def _chosen(result: Result, metric: Metric, verdict: Verdict, label: str | None) -> str:
    run = result.run
    if run.origin is not Origin.LOG:
        return f"what {'a tracker' if run.origin is Origin.TRACKER else 'a list of values'} says of the run"
    if not run.trained:
        return "what a frame says of the run"
    step = (
        next((at for at, one in run.validations.items() if one == metric), None) if metric not in run.finals else None
    )
    if step is not None and (verdict.at_step is not None):
        asked = "the one of --at-step" if "at_step" in verdict.rules_changed else "the earliest at which all runs pass"
        return f"the validation at step {step}, {asked}"
    if step is not None or metric == run.validation:
        return f"the last validation in training, at step {run.validated_step}"
    if metric not in run.finals:
        return f"the last {metric.label} that the run prints"
    if metric.label == label:
        return "the final metric of the label that --metric names"
    if metric == run.finals[-1]:
        return f"the last of {len(run.finals)} final metrics" if len(run.finals) > 1 else "the only final metric"
    return f"one of {len(run.finals)} final metrics: the claimed values are under this label"


def _of_the_run(result: Result) -> Rows:
    """Yield what the run took: steps, time and size, with lines where they are known."""
    run = result.run
    steps = run.steps
    if run.last_step is not None:
        planned = f" of {run.total_steps}" if run.total_steps is not None else ""
        lines = f"; lines {steps[0].line} to {steps[-1].line} of the log" if steps else ""
        yield "steps", f"{run.last_step}{planned}{lines}"
    if run.validation is not None and run.validation is not result.metric:
        yield "last validation", f"{run.validation.number:.4f} at step {run.validated_step}, line {run.validation.line}"
    if run.train_time_ms is not None:
        yield "training time", f"{run.train_time_ms / 1000:.1f} s"
    if run.artifact_bytes is not None:
        at = f", line {run.size_line}" if run.size_line is not None else ""
        yield "artifact", f"{run.artifact_bytes:,} B{at}"
    if len(result.attempts) > 1:
        yield "attempts", ", ".join(f"{one.attempt} {one.state}" for one in result.attempts)


def _claimed(part: Part, verdict: Verdict) -> Rows:
    """Yield what JSON and README claim of the seed, and whether it is planned."""
    seed = part.result.seed
    if seed is None:
        return
    for one in verdict.claims if part.arm == CANDIDATE else ():
        if one.claim.seed == seed:
            row = one.row()
            yield "claimed", f"{row['what']} {row['said']} in {row['file']}:{row['line']}: {FITS[one.holds]}"
    if verdict.plan is not None:
        yield "planned", "yes" if seed in verdict.plan.seeds else "no: its seed is not in the plan"


def _findings(result: Result, verdict: Verdict) -> Rows:
    """Yield the findings that name its log."""
    name = re.compile(rf"(?<![\w./-]){re.escape(result.log)}(?![\w/-])")
    for line in finding_lines(one for one in verdict.findings if one.file == result.log or name.search(one.message)):
        yield "finding", line


def _tested(part: Part, verdict: Verdict) -> Rows:
    """Yield each test with the run and without it, and whether the answer hangs on it."""
    if not part.effects:
        yield "test", "none that this run is in"
    for one in part.effects:
        yield from _effect(one, part, verdict)


def _effect(one: Effect, part: Part, verdict: Verdict) -> Rows:
    if verdict.criteria:
        rival = one.criterion or first_name(verdict)
        is_rival = one.metric == verdict.metric and rival is not None
        yield "test", f"against the {rival}" if is_rival else f"of {one.criterion or one.metric}"
    now, other = (one.with_it, one.without_it) if part.why is None else (one.without_it, one.with_it)
    yield "with it", _outcome(one, one.with_it) + (" (as tested)" if now is one.with_it else "")
    yield "without it", _outcome(one, one.without_it) + (" (as tested)" if now is one.without_it else "")
    if now.tested is not None and other.tested is not None:
        same = now.tested.passed == other.tested.passed
        yield "so", "the test's answer is the same either way" if same else "the test's answer hangs on this run"


def _outcome(effect: Effect, one: Outcome) -> str:
    runs = f"{one.n} run{'s' if one.n != 1 else ''}"
    runs += f" against {one.control_n}" if one.control_n else ""
    if one.tested is None or one.value is None:
        return f"{runs}: {one.fault or 'no test'}"
    p = f", p {format_p(one.tested.test.p_value)}" if one.tested.test is not None else ""
    return f"{runs}, {effect.statistic} {in_metric(one.value, effect.metric)}{p}: {'passes' if one.tested.passed else 'does not pass'}"
