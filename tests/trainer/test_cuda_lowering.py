"""The trainer compiles for a GPU: every graph of a run, lowered for an H100 on a machine that has none."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT, clean_environment

pytestmark = pytest.mark.slow
TRAINING = ("front, forward", "back, forward", "back, backward", "front, backward")
VALIDATION = ("front, validation", "back, validation")
MOST_LAUNCHES = dict(zip(TRAINING + VALIDATION, (37, 47, 96, 73, 41, 52), strict=True))  # torch 2.8's, at 9 layers
Found = dict[str, Any]


def lowered(part: str) -> Found:
    """Lower in a process of its own: it changes torch."""
    command = [sys.executable, "-m", "tests.trainer.lowering", part, "--json"]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: Found = json.loads(done.stdout)
    assert found["recompile_limit"] >= 8
    if found["triton"] is not None:  # `make oldest` has it
        assert found["triton"]["failed"] == []
        assert set(found["triton"]["binaries"]) == {"sm_90"}
        assert found["triton"]["binaries"]["sm_90"] >= found["triton"]["kernels"] > 0
    return found


def check_compilations(case: Found) -> None:
    """A run compiles six graphs, and none again in a later step, a second validation or the step after it."""
    assert case["breaks"] == 0
    assert case["surprises"] == []
    assert case["seams"] == 3  # the hook between the halves runs in each of the three backward passes
    assert [graph["name"] for graph in case["graphs"]] == [*TRAINING, *VALIDATION]
    assert case["versions"] == {"front": 2, "back": 2}  # training and validation
    assert case["misaligned"] == []


def check_graph(graph: Found, case: Found) -> None:
    """A layer has one attention and 4 products (q, k and v are one), the head one more; backward needs two for each."""
    kernel, layers = f"_scaled_dot_product_{case['attention']}_attention", case["layers"]
    front = graph["name"].startswith("front")
    count = layers // 2 if front else layers - layers // 2
    products = 4 * count + (0 if front else 1)
    if "backward" in graph["name"]:
        kernel, products = f"{kernel}_backward", 2 * products
    assert graph["attention"] == {kernel: count}
    assert graph["products"] == {"mm": products}
    assert graph["float32_logits"] == 0
    assert graph["atomics"] == (graph["name"] == "front, backward" and not case["deterministic"])  # the embedding's
    assert 0 < graph["kernels"] <= graph["launches"] <= MOST_LAUNCHES[graph["name"]]


def test_both_halves_compile_for_a_gpu() -> None:
    cases = lowered("halves")["cases"]
    whole = [case["case"] for case in cases if case["case"]["layers"] == 9]
    assert [case["recipe"] for case in whole] == ["seq4096"]
    assert {case["case"]["attention"] for case in cases} == {"flash", "cudnn"}
    assert (
        {case["case"]["tied"] for case in cases} == {case["case"]["deterministic"] for case in cases} == {True, False}
    )
    for case in cases:
        check_compilations(case)
        for graph in case["graphs"]:
            check_graph(graph, case["case"])


def test_muon_compiles_for_a_gpu_and_stays_far_from_the_limit() -> None:
    (case,) = lowered("muon")["cases"]
    assert case["breaks"] == 0
    assert case["surprises"] == []  # the second update compiles nothing
    assert set(case["versions"]) == {"Muon at world size 1", "Muon at world size 8"}
    assert sum(case["versions"].values()) == len(case["graphs"])
    for graph in case["graphs"]:  # five steps of three products, and a norm
        assert sum(graph["products"].values()) == 15
        assert graph["launches"] <= 4
    assert max(case["versions"].values()) <= 4  # half of recompile_limit
