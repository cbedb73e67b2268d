"""Read PATHs: every run that is there, which of them count and why the others do not, and what does not fit.

A PATH is a log, a folder with logs (searched below too), a sweep directory, or a frame that we wrote. Which runs count
is decided in analysis/record (selection.py for folders, sweep.py for sweeps), what does not fit in analysis/checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.checks.folder import audit, audit_control
from analysis.checks.sweep import audit_sweep
from analysis.evidence.checked import NONE, Checked, checked
from analysis.reading.frame import SUFFIXES as FRAME_SUFFIXES
from analysis.reading.frame import is_frame, read_frame
from analysis.reading.importers.ask import imported
from analysis.reading.importers.typed import Given, Typed
from analysis.reading.names import normal
from analysis.reading.result import Result, Tried
from analysis.reading.run import Origin, Run
from analysis.record.arms import Arms
from analysis.record.folder import Record, attempts_by_log, read_record, records_below, records_instead, seed_of
from analysis.record.metrics import OWN, all_labels, unread_names
from analysis.record.selection import LeftOut, Selection, select, with_training
from analysis.record.stated.compare import statements
from analysis.record.stated.said import Statement
from analysis.record.sweep import read_sweep
from analysis.rules.findings import Code, Finding, Found, Place, graded
from analysis.rules.keys import LAST_VALIDATION
from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.layout import CANDIDATE, CONTROL, SweepError, is_sweep
from analysis.sweepdir.plan import read_plan
from analysis.untrusted.refusal import EvidenceError, nearest

MOST_NAMES = 8  # in a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What the PATHs hold. runs and control count; `left_out` is every other run, with the reason.

    fault: why no verdict can rest on them, where the folder and not a number shows it. not_counted: logs that the claim
    does not speak of; seeds_aside: the seeds of their runs. checked: which checks could be made. readable: false where
    `fault` is all that is known. claims: what JSON and README say, each with what the logs say. attempts: those of each run that
    a record names, by the log that counts; the runs of a sweep have their own. arms: which folders are compared.
    """

    runs: tuple[Result, ...] = ()
    control: tuple[Result, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    findings: tuple[Finding, ...] = ()
    claims: tuple[Statement, ...] = ()
    fault: str | None = None
    not_counted: tuple[str, ...] = ()
    seeds_aside: tuple[int, ...] = ()
    checked: Checked = NONE
    readable: bool = True
    attempts: Mapping[Path, Sequence[Tried]] = field(default_factory=dict)
    arms: Arms | None = None

    @property
    def told(self) -> dict[str, Any]:
        """Return what a Case says of the PATHs beside the runs that count, by its own keys."""
        names = ("left_out", "findings", "claims", "not_counted", "checked", "arms")
        return {name: getattr(self, name) for name in names}


def gather(
    paths: Sequence[Path] | Sequence[Given],
    rules: Ruleset,
    metric: str | None = None,
    *,
    of_control: bool = False,
    control: Path | None = None,
) -> Gathered:
    """Read the PATHs; `metric` forces the final metric of that label. Raises EvidenceError.

    of_control: audit the runs, but not what their folder claims. control: what the reviewer compares the runs with. It may be
    in a PATH: then it is not what the PATH claims. Instead of PATHs there may be runs that are typed or given in memory.
    """
    parts: list[Gathered] = []
    loose: list[Path] = []
    given = [path for path in paths if not isinstance(path, Path)]
    if given and normal(metric or rules.metric) == rules.metric:
        parts.append(_given(given, rules))
    for path in paths:
        if not isinstance(path, Path):
            continue
        if not path.exists():
            raise EvidenceError(f"{path} does not exist.")
        if is_sweep(path):
            parts.append(_sweep(path, rules, metric))
        elif path.is_file() and path.suffix in FRAME_SUFFIXES and _is_frame(path):
            parts.append(_frame(path, rules, metric))
        else:
            loose.append(path)
    if loose:
        parts.append(_record(loose, rules, metric, of_control=of_control, control=control))
    return _joined(parts)


def _is_frame(path: Path) -> bool:
    """Return whether a file is to be read as a frame: also one that nothing else can read, so that its reader says why."""
    return is_frame(path) or not imported([path], named=True).runs


def _joined(parts: list[Gathered]) -> Gathered:
    return Gathered(
        runs=tuple(run for part in parts for run in part.runs),
        control=tuple(run for part in parts for run in part.control),
        left_out=tuple(one for part in parts for one in part.left_out),
        findings=tuple(finding for part in parts for finding in part.findings),
        claims=tuple(claim for part in parts for claim in part.claims),
        fault=next((part.fault for part in parts if part.fault is not None), None),
        not_counted=tuple(log for part in parts for log in part.not_counted),
        seeds_aside=tuple(seed for part in parts for seed in part.seeds_aside),
        attempts={key: tries for part in parts for key, tries in part.attempts.items()},
        arms=next((part.arms for part in parts if part.arms is not None), None),
        checked=sum((part.checked for part in parts), NONE),
    )


def _sweep(path: Path, rules: Ruleset, metric: str | None) -> Gathered:
    try:
        plan = read_plan(path)
        read = read_sweep(path, plan, rules, metric)
        findings = audit_sweep(read, path, plan, rules)
    except SweepError as error:
        raise EvidenceError(str(error)) from None
    return replace(_by_arm(read.results, findings), checked=checked(read.claimed.get(CANDIDATE, ()), rules))


def _frame(path: Path, rules: Ruleset, metric: str | None) -> Gathered:
    rows = read_frame(path)
    if other := {row.label for row in rows if metric and row.label} - {metric}:
        raise EvidenceError(f"{path} holds the metric {other.pop()!r}, not {metric!r}.")
    return _by_arm(rows, graded([_is_a_frame(path.as_posix())], rules.findings))


def _is_a_frame(at: str) -> Found:
    return Found(
        code=Code.NO_LOGS,
        at=Place(at),
        found="a frame of runs",
        expected="the logs they were read from, without which none of its numbers can be checked",
        do=(
            "Name the folder that holds them. A frame has no plan: runs that were planned as pairs are tested as independent "
            "samples here, and planned looks are unknown."
        ),
    )


def _by_arm(results: Sequence[Result], findings: list[Finding]) -> Gathered:
    return Gathered(
        runs=tuple(result for result in results if result.arm == CANDIDATE),
        control=tuple(result for result in results if result.arm == CONTROL),
        findings=tuple(findings),
    )


def _record(
    paths: list[Path], rules: Ruleset, metric: str | None, *, of_control: bool, control: Path | None
) -> Gathered:
    record = read_record(paths)
    if inside := records_below(record):
        raise EvidenceError(records_instead(paths[0], inside))
    selection = select(record, rules, metric, control)
    runs = tuple(Result.of(with_training(one), one.metric, log=record.shown(one.run.log)) for one in selection.claimed)
    claims = [] if of_control else statements(record, selection, rules)
    findings = audit_control(record, selection, rules) if of_control else audit(record, selection, rules, claims)
    findings += graded([*_without_logs(runs), *_without_training(runs, rules)], rules.findings)
    counted = {one.run.seed for one in selection.claimed}
    others = {seed_of(run) for log in selection.aside for run in record.logs.get(log, [])}
    return Gathered(
        runs=runs,
        left_out=tuple(selection.left_out),
        findings=tuple(findings),
        claims=tuple(claims),
        checked=checked(selection.claimed, rules, record),
        attempts=attempts_by_log(record, rules),
        fault=_fault(record, selection, rules, metric),
        not_counted=tuple(record.shown(log) for log in selection.aside),
        seeds_aside=tuple(sorted(seed for seed in others - counted if seed is not None)),
        arms=selection.arms,
    )


def _given(given: Sequence[Given], rules: Ruleset) -> Gathered:
    runs = [one if isinstance(one, Result) else one.result(rules.metric) for one in given]
    for one, run in zip(given, runs, strict=True):
        if run is None and isinstance(one, Typed):
            there = ", ".join(one.numbers) or "nothing"
            raise EvidenceError(f"A run of {one.at} has no {rules.metric}; it has {there}. Name the metric.")
    found = [run for run in runs if run is not None]
    frame = [_is_a_frame(".")] if any(isinstance(one, Result) for one in given) else []
    return _by_arm(found, graded([*_without_logs(found), *frame], rules.findings))


def _without_logs(runs: Sequence[Result]) -> Iterator[Found]:
    """Yield what is wrong with runs whose numbers are not from text that was printed during the run."""
    said = {Origin.TRACKER: "a tracker's files", Origin.TYPED: "a list of numbers"}
    for origin, what in said.items():
        logs = [one.log for one in runs if one.run.origin is origin]
        if logs:
            yield Found(
                code=Code.NO_LOGS,
                at=Place(logs[0]),
                found=f"{what} ({len(logs)} of {len(runs)} runs)",
                expected="the logs that the runs printed, without which none of these numbers can be checked",
                do="Name the folder that holds the logs.",
            )


def _without_training(runs: Sequence[Result], rules: Ruleset) -> Iterator[Found]:
    """Yield a text that gives a loss where the rules ask for a validation in training, and prints no step of it."""
    bare = [one for one in runs if one.run.origin is Origin.LOG and not one.run.curve and not one.run.metrics]
    if bare and rules.metric in OWN and rules.final == LAST_VALIDATION:
        yield Found(
            code=Code.NO_LOGS,
            at=Place(bare[0].log, bare[0].line or 1),
            found=f"a {rules.metric} without a step of training ({len(bare)} of {len(runs)} runs)",
            expected="a validation at the last step of each run",
            do="Name the logs of the training.",
        )


def _unprinted(runs: Sequence[Run], rules: Ruleset) -> str | None:
    """Return the end of a sentence where runs print other metrics than the one asked for; None where they print none."""
    asked = rules.metric
    metrics = [metric for run in runs for metric in run.metrics]
    names = dict.fromkeys(name for one in metrics for name in ("val_bpb", "val_loss", *one.others))
    known = [name for name in names if any(one.value(name) is not None for one in metrics)]
    if not known or asked in known:
        return None
    return f"prints no {asked}, but {', '.join(known[:MOST_NAMES])}: name one with --metric.{nearest(asked, known)}"


def _fault(record: Record, selection: Selection, rules: Ruleset, metric: str | None) -> str | None:
    """Return why no verdict can rest on a folder: a run that is there without a result, or a log that cannot be read."""
    for aside in record.listing.left_aside:
        if not aside.is_link:
            return f"{record.shown(aside.path)} {aside.why}. Nobody can tell what it holds."
    for run in selection.lacking:
        labels = ", ".join(all_labels(run, rules))
        return f"{record.shown(run.log)} has no final metric {metric!r}; it has {labels}."
    if selection.arms is not None and selection.arms.candidate is None:
        return selection.arms.sentence
    if not rules.has_test and not selection.claimed and record.runs:
        return f"No JSON claims a number, and {rules.name} asks nothing but that the evidence fits it."
    if selection.incomplete:
        log = next(iter(selection.incomplete))
        what = (
            "is empty: a run that died, or a copy that failed"
            if log in record.empty
            else f"holds a run without a final metric ({rules.name} reads {rules.result_line}; --rules names others)"
        )
        if unknown := next(filter(None, (unread_names(run, rules) for run in record.logs.get(log, ()))), None):
            return f"{record.shown(log)}: {unknown}."
        if unprinted := _unprinted(record.logs.get(log, ()), rules):
            return f"{record.shown(log)} {unprinted}"
        do = "Let the run finish, or remove the log and say why."
        if isinstance(rules.at_step, int):
            do = "Name a step at which every run validates with --at-step."
        return f"{record.shown(log)} {what}. {do}"
    return None
