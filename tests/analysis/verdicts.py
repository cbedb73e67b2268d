"""Values, runs and outputs that the tests of verdicts share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from analysis.evidence.case import Case
from analysis.evidence.look_plan import LookPlan
from analysis.reading.metric import Metric
from analysis.reading.result import Result
from analysis.reading.run import Run
from analysis.report.gate import gate
from analysis.report.html.page import page
from analysis.report.markdown import markdown
from analysis.report.text import text
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.escape import json_text
from analysis.verdict.judge import decide
from analysis.verdict.verdict import Verdict
from tests.conftest import RATIO

SEEDS = {1337: 1.20143417, 1338: 1.19945102, 1339: 1.20319508}
CONTROL = {1: 1.20576485, 2: 1.20617460, 3: 1.20715923}
WEAK = {1337: 1.2160, 1338: 1.2158, 1339: 1.2166}  # a control that SEEDS beat
TEN = list(range(1, 11))
METRICS = st.lists(st.floats(1.1, 1.3), min_size=3, max_size=8, unique=True).filter(lambda v: max(v) - min(v) > 1e-4)


def runs(*values: float, arm: str = "candidate", first: int = 1) -> list[Result]:
    """Return a result for each val_bpb, of seeds counted from `first`."""
    found = []
    for seed, value in enumerate(values, start=first):
        log = f"{arm}{seed}.log"
        metric = Metric(label="final", val_loss=value / RATIO, val_bpb=value, decimals=8, line=9)
        found.append(Result(log=log, run=Run(log=Path(log), line=1, seed=seed), metric=metric, arm=arm))
    return found


def decided(
    rules: Ruleset,
    candidate: Sequence[Result],
    sota: float | None,
    control: Sequence[Result],
    looks: LookPlan | None = None,
) -> Verdict:
    """Return the verdict on a Case that was not read from anywhere."""
    return decide(
        Case(rules=rules, where="here", runs=tuple(candidate), control=tuple(control), sota=sota, looks=looks)
    )


def everywhere(verdict: Verdict) -> str:
    """Return what all formats print; none of them may fail on a verdict."""
    shown = (text(verdict), markdown(verdict), json_text(verdict.to_json()), gate(verdict), page(verdict, "command"))
    return "".join(shown)


def p_of(verdict: Verdict) -> float:
    assert verdict.test is not None
    return verdict.test.p_value
