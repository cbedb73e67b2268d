"""Values, runs and outputs that the tests of verdicts share."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from analysis.reading.frame import Result
from analysis.report import text
from analysis.report.page import page
from analysis.verdict.verdict import Verdict
from tests.conftest import RATIO

SEEDS = {1337: 1.20143417, 1338: 1.19945102, 1339: 1.20319508}
CONTROL = {1: 1.20576485, 2: 1.20617460, 3: 1.20715923}
TEN = list(range(1, 11))
METRICS = st.lists(st.floats(1.1, 1.3), min_size=3, max_size=8, unique=True).filter(lambda v: max(v) - min(v) > 1e-4)


def runs(*values: float, arm: str = "candidate", first: int = 1) -> list[Result]:
    return [
        Result(arm, seed, "succeeded", value / RATIO, value, "final", f"{arm}{seed}.log", 9)
        for seed, value in enumerate(values, start=first)
    ]


def everywhere(verdict: Verdict, tmp_path: Path) -> str:
    """What all formats print; none of them may fail on a verdict."""
    return text.text(verdict) + text.markdown(verdict) + text.as_json(verdict) + text.gate(verdict) + page(
        verdict, tmp_path, "command"
    )  # fmt: skip


def p_of(verdict: Verdict) -> float:
    assert verdict.test is not None
    return verdict.test.p_value
