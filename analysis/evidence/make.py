"""Make the Case: read the PATHs, the control, the plan and a second lab's runs, each once, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.checks.plan import Kept, Planned, compare, own_rules
from analysis.evidence.case import Case
from analysis.evidence.compared import sample_of
from analysis.evidence.gather import Gathered, gather
from analysis.evidence.history import History
from analysis.evidence.look_plan import LookPlan, asked_looks, planned_looks
from analysis.evidence.options import Asked, check_design, check_something_to_beat, out_of_range
from analysis.evidence.usable import check_one_metric, check_results
from analysis.reading.result import Result
from analysis.record.selection import LeftOut, Why
from analysis.record.sweep import in_planned_order
from analysis.rules.findings import ERROR, WARNING, Code, Finding, Found, Place, graded
from analysis.sweepdir.layout import CONTROL, DONE, PLAN, is_sweep
from analysis.untrusted.refusal import EvidenceError


def make_case(asked: Asked) -> Case:
    """Make the Case that was asked for; what no verdict can rest on is its `fault`. Raises UsageError, HistoryError."""
    making = _Making(asked)
    try:
        making.read()
        making.follow_the_plan()
        making.put_in_order()
        making.find_the_control()
        making.add_history()
        making.add_second_lab()
    except EvidenceError as error:
        making.fault = str(error)
    return making.case()


class _Making:
    """A Case that is being made: what has been read so far stays in it when a later step finds a fault."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.gathered = Gathered()
        self.findings: list[Finding] = []
        self.not_counted: list[str] = []
        self.left_out: list[LeftOut] = []
        self.runs: tuple[Result, ...] = ()
        self.own_control: tuple[Result, ...] = ()  # that the PATHs hold
        self.control: tuple[Result, ...] = ()
        self.looks: LookPlan | None = None
        self.plan: Planned | None = None
        self.history: History | None = None
        self.second: Case | None = None
        self.fault: str | None = None

    def case(self) -> Case:
        asked = self.asked
        return Case(
            rules=asked.rules,
            rules_changed=asked.rules_changed,
            where=asked.where,
            runs=self.runs,
            control=self.control,
            left_out=tuple(self.left_out),
            sota=asked.sota,
            looks=self.looks,
            plan=self.plan,
            history=self.history,
            second=self.second,
            findings=tuple(self.findings),
            not_counted=tuple(self.not_counted),
            fault=self.fault,
        )

    def read(self) -> None:
        """Read the PATHs, and check that the options fit what is there. Raises EvidenceError, UsageError."""
        asked = self.asked
        if asked.fault is not None:
            raise EvidenceError(asked.fault)
        try:
            self.gathered = gather(asked.paths, asked.rules, asked.options.metric)
        finally:  # a wrong option is said before unusable evidence
            check_something_to_beat(asked, has_control=bool(self.gathered.control))
            check_design(asked)
            self.looks = self._looks()
        if fault := out_of_range(asked.sota, asked.rules.margin, asked.rules.alpha):
            raise EvidenceError(f"The plan cannot be meant: {fault}")
        self.runs, self.own_control = self.gathered.runs, self.gathered.control
        self.findings += self.gathered.findings
        self.not_counted += self.gathered.not_counted
        self.left_out += self.gathered.left_out

    def _looks(self) -> LookPlan | None:
        asked = self.asked
        if asked.plan is None:
            return asked_looks(asked.options.design, asked.rules, len(self.gathered.runs))
        return planned_looks(asked.plan, in_step=asked.sota is None and asked.control is None)

    def follow_the_plan(self) -> None:
        """Compare the runs, their control and the claim with the plan. Raises EvidenceError."""
        asked = self.asked
        self.findings += _own_rules(asked)
        if asked.planned_control is not None:
            self.own_control = self._runs_of_control(asked.planned_control)
        if asked.control_is_inside:
            inside = f"{CONTROL}/"
            self.not_counted = [log for log in self.not_counted if not log.startswith(inside)]
            self.left_out = [one for one in self.left_out if not one.result.log.startswith(inside)]
        if asked.plan is not None:
            where = next(path for path in asked.paths if asked.beside is not None or is_sweep(path))
            kept = Kept(runs=self.runs, control=self.own_control, seeds_aside=self.gathered.seeds_aside)
            self.plan = compare(
                asked.plan, where, kept, rules=asked.rules, sota=asked.sota, other_control=asked.control is not None
            )
        if self.gathered.fault is not None:
            raise EvidenceError(self.gathered.fault)

    def put_in_order(self) -> None:
        """Take the runs of a sequential plan in its order. Raises EvidenceError for runs that cannot be tested."""
        if self.looks is not None and self.looks.seeds:
            self.runs = self._in_order(self.runs, self.looks.seeds)
            self.own_control = self._in_order(self.own_control, self.looks.seeds)
        check_results(self.runs, self.asked.where, self._fewest)

    def _in_order(self, runs: Sequence[Result], seeds: Sequence[int]) -> tuple[Result, ...]:
        ordered = in_planned_order(runs, seeds)
        self.left_out += ordered.left_out
        self.not_counted += [one.result.log for one in ordered.left_out if one.result.state in DONE]
        return tuple(ordered.kept)

    @property
    def _fewest(self) -> int:
        return 2 if self.looks is None else 0

    def find_the_control(self) -> None:
        """Find the runs of the standing record: those the reviewer brought, else the PATHs' own. Raises EvidenceError."""
        asked = self.asked
        own_counts = asked.plan_may_set_the_target or asked.sota is not None or asked.planned_control is not None
        if asked.control is not None:
            self.control = self._runs_of_control(asked.control)
        elif own_counts:
            self.control = self.own_control
        if not self.control or asked.control is not None:
            self.left_out += [LeftOut(result=run, why=Why.OTHER_CONTROL) for run in self.own_control]
        if self.control:
            check_results(self.control, str(asked.control or asked.paths[0]), self._fewest)
            check_one_metric(self.runs + self.control)

    def _runs_of_control(self, control: Path) -> tuple[Result, ...]:
        """Read the runs of --control; what does not fit in them is a finding of the Case. Raises EvidenceError."""
        other = gather([control], self.asked.rules, self.asked.options.metric, of_control=True)
        if other.fault is not None:
            raise EvidenceError(f"--control {control}: {other.fault}")
        self.findings += [replace(found, file=_below(control, found.file)) for found in other.findings]
        rows = other.runs or other.control
        if not rows:
            raise EvidenceError(
                f"--control {control}: it holds no training log (*.log, *.txt). Name the standing record's."
            )
        return tuple(replace(row, arm=CONTROL, log=_below(control, row.log)) for row in rows)

    def add_history(self) -> None:
        """Add the earlier records, without the one that is judged. Raises HistoryError, EvidenceError."""
        past = self.asked.history
        if past is not None and len(self.runs) > 1 and all(run.succeeded for run in self.runs):
            self.history = past.without(sample_of(self.asked.rules, self.runs))

    def add_second_lab(self) -> None:
        """Add the runs of --verify as a Case of their own. Raises EvidenceError."""
        where = self.asked.options.verify
        if where is None:
            return
        try:
            other = gather([where], self.asked.rules, self.asked.options.metric, of_control=True)
            runs = tuple(replace(row, log=_below(where, row.log)) for row in other.runs)
            _check_second_lab(other.fault, runs, where, self.runs)
        except EvidenceError as error:
            raise EvidenceError(f"--verify {where}: {error}") from None
        self.second = replace(self.case(), where=str(where), runs=runs, findings=_of_second_lab(other.findings, where),
                              left_out=other.left_out, looks=None, plan=None, history=None)  # fmt: skip


def _below(folder: Path, name: str) -> str:
    """Return a file of a control or second lab as named from the working directory."""
    return str(folder / name) if folder.is_dir() else name


def _own_rules(asked: Asked) -> list[Finding]:
    """Find a sweep that brings its own rules: it passes only where the reviewer names them, and they cannot turn that off."""
    if asked.sweep is None or asked.options.rules is not None or asked.options.own_sweep:
        return []
    changed = own_rules(asked.sweep, asked.options.of_the_rules)
    if changed is None:
        return []
    found = Found(
        code=Code.RULES_CHANGED,
        at=Place(PLAN),
        found=changed,
        expected="a shipped ruleset or the reviewer's own",
        do="Name the rules to judge by with --rules, or the changed value with its own option.",
    )
    return graded([found], {})


def _check_second_lab(fault: str | None, own: Sequence[Result], where: Path, authors: Sequence[Result]) -> None:
    """Raise EvidenceError where the verifier's runs leave nothing to compare."""
    if fault is not None:
        raise EvidenceError(fault)
    check_results(own, str(where), at_least=1)
    if lost := [run for run in own if run.state == "failed"]:
        raise EvidenceError(f"{lost[0].log} is a failed run. Run it again, or leave it out and say why.")
    check_one_metric([*authors, *own])
    known = {(run.val_loss, run.val_bpb, run.run.train_time_ms): run for run in authors}
    for run in own:
        if other := known.get((run.val_loss, run.val_bpb, run.run.train_time_ms)):
            raise EvidenceError(f"{run.log} is the author's {other.log}. Verify with runs of your own.")


def _of_second_lab(findings: Sequence[Finding], where: Path) -> tuple[Finding, ...]:
    """Return what does not fit in the verifier's runs: never an error of the author's. One run is enough to verify."""
    return tuple(
        replace(found, file=_below(where, found.file), severity=WARNING if found.severity is ERROR else found.severity)
        for found in findings
        if found.code is not Code.TOO_FEW_SEEDS
    )
