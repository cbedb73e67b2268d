"""A label that `--metric` chose among several: its price, and Holm's p over them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analysis.evidence.options import Options
from analysis.stats.best_of import holm
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict
from tests.conftest import RATIO

Folder = Callable[..., Path]
INT8 = {1: 1.2051, 2: 1.2062, 3: 1.2049}
TTT = {1: 1.2044, 2: 1.2058, 3: 1.2046}
SLIDING = {1: 1.2012, 2: 1.2024, 3: 1.2093}
OWN, LAST = "final_int8_zlib_roundtrip_exact", "final_int8_zlib_roundtrip val"
THRESHOLD = 1.215 - 0.005


def closed_testing(p_values: list[float]) -> list[float]:
    """Holm's by its definition: the largest Bonferroni p of all sets of tests that a test is in."""
    of_all = range(len(p_values))
    sets = [some for many in of_all for some in itertools.combinations(of_all, many + 1)]
    return [max(min(1.0, len(some) * min(p_values[j] for j in some)) for some in sets if i in some) for i in of_all]


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(closed_testing(p_values))


def test_holm_worked() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def labelled(folder: Path, **labels: dict[int, float]) -> Path:
    for name, values in labels.items():
        for seed, bpb in values.items():
            log = folder / f"train_seed{seed}.log"
            line = f"{name} val_loss:{bpb / RATIO:.8f} val_bpb:{bpb:.8f}\n"
            log.write_text(log.read_text().replace(LAST, line + LAST, 1))
    return folder


def said(verdict: Verdict) -> list[str]:
    return [note for note in verdict.notes if "labels" in note]


def test_a_chosen_label_is_said_with_its_price(record: Folder) -> None:
    folder = labelled(record(INT8), final_ttt_exact=TTT, final_sliding_exact=SLIDING)
    verdict = judge([folder], Options(sota=1.215, metric="final_ttt_exact"))
    (reading,) = [one for one in verdict.also if one.kind == "among labels"]
    p = [
        scipy.stats.ttest_1samp(list(values.values()), THRESHOLD, alternative="less").pvalue
        for values in (TTT, SLIDING, INT8)
    ]
    assert reading.test is not None
    assert reading.test.p_value == pytest.approx(closed_testing(p)[0], rel=1e-4)
    assert reading.verdict == "not_supported"
    assert verdict.verdict == "supported"
    (note,) = said(verdict)
    assert "3 labels" in note
    assert "up to 3 %" in note


def test_where_nothing_is_chosen_nothing_is_said(record: Folder) -> None:
    several = labelled(record(INT8), final_ttt_exact=TTT)
    for folder, metric in (
        (several, None),
        (several, "val_bpb"),
        (several, OWN),
        (several, OWN.removesuffix("_exact")),  # the same numbers with fewer decimals
        (labelled(record(INT8, "twin"), final_twin_exact=INT8), "final_twin_exact"),
    ):
        verdict = judge([folder], Options(sota=1.215, metric=metric))
        assert verdict.verdict == "supported"
        assert not said(verdict)
        assert not [one for one in verdict.also if one.kind == "among labels"]


def test_a_label_that_some_run_lacks_was_no_choice(record: Folder) -> None:
    folder = labelled(record(INT8), final_ttt_exact=TTT, final_odd_exact={1: 1.1})
    (note,) = said(judge([folder], Options(sota=1.215, metric="final_ttt_exact")))
    assert "2 labels" in note


def test_among_labels_a_sequential_design_says_the_price_alone(record: Folder) -> None:
    folder = labelled(record(INT8), final_ttt_exact=TTT)
    verdict = judge([folder], Options(sota=1.3, metric="final_ttt_exact", design="sequential"))
    assert len(said(verdict)) == 1
    assert not [one for one in verdict.also if one.kind == "among labels"]
