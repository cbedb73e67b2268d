"""From PATHs and options to a verdict, in four steps: resolve, gather, decide, annotate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.evidence.case import Case
from analysis.evidence.make import make_case
from analysis.evidence.options import Options, resolve
from analysis.untrusted.files import one_budget
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.again.second_lab import after_second_lab
from analysis.verdict.annotate import annotate, as_planned
from analysis.verdict.criteria import with_criteria
from analysis.verdict.fixed_design import decide_fixed, decide_untested
from analysis.verdict.looks import decide_sequential
from analysis.verdict.stop_step import at_its_step
from analysis.verdict.verdict import Verdict, unusable

NOTHING_ASKED = Options()


def judge(paths: Sequence[Path], options: Options = NOTHING_ASKED) -> Verdict:
    """Judge the runs of the PATHs; unusable evidence is a verdict too. Raises UsageError, RulesError, HistoryError."""
    return verdict_on(case_of(paths, options), require_plan=options.require_plan)


def case_of(paths: Sequence[Path], options: Options) -> Case:
    """Make the Case of the PATHs, at the step that counts. Raises UsageError, RulesError, HistoryError."""
    asked = resolve(paths, options)
    with one_budget():
        return at_its_step(make_case(asked))


def verdict_on(case: Case, *, require_plan: bool = False) -> Verdict:
    """Decide a Case, and add what only the verdict shows."""
    verdict = annotate(case, decide(case))
    return as_planned(verdict) if require_plan else verdict


def decide(case: Case) -> Verdict:
    """Decide a Case. Nothing is read here: the same Case has the same verdict."""
    case = at_its_step(case)
    if case.fault is not None:
        return unusable(case, case.fault)
    if not case.rules.has_test:
        return decide_untested(case)
    try:
        verdict = with_criteria(case, decide_fixed(case) if case.looks is None else decide_sequential(case))
        return verdict if case.second is None else after_second_lab(case, verdict)
    except EvidenceError as error:
        return unusable(case, str(error))
