"""`make demo` ends with a claim that is not supported, and fails if anything else happens."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.plan.asked import read_recipe
from tests import demo_page
from tests.conftest import ROOT, clean_environment

Demo = Callable[..., subprocess.CompletedProcess[str]]
REFUSED = "NOT SUPPORTED: 0.0012 bpb better, perhaps 0.0142 worse at 99%; 0.0050 needed"
PYTHON = """#!/bin/sh
case "$*" in
  *" run "*/null) echo the sweep failed; exit {sweep} ;;
  *" report "*/null/*) exit 1 ;;
  *" check "*/null/*) printf '%s\\n' "{said}" "  and why"; exit {check} ;;
  *" check "*) exit {supported} ;;
esac
"""


def recipe(name: str) -> dict[str, str]:
    return read_recipe(ROOT / "trainer" / "recipes" / f"demo-{name}.toml")


def differing(name: str) -> set[str]:
    """Return the settings in which a recipe of the demo differs from the control."""
    return {key for key, _ in recipe("baseline").items() ^ recipe(name).items()}


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    """Run `make demo` with a Python that does nothing and exits with the given codes: the null's sweep, the two checks."""

    def run(
        sweep: int = 1, check: int = 1, said: str = REFUSED, supported: int = 0
    ) -> subprocess.CompletedProcess[str]:
        python = tmp_path / "python"
        python.write_text(PYTHON.format(sweep=sweep, check=check, said=said, supported=supported))
        python.chmod(0o755)
        (tmp_path / "ready").touch()
        places = {"BIN": ".", "READY": "ready", "SWEEP": "main", "NULL": "null"}
        words = ["make", "demo", *(f"{name}={tmp_path / place}" for name, place in places.items())]
        return subprocess.run(words, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)

    return run


def test_the_last_line_of_the_demo_is_a_claim_that_is_refused(demo: Demo, tmp_path: Path) -> None:
    found = demo()
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == REFUSED
    assert f"{tmp_path}/main/report.html and {tmp_path}/null/report.html" in found.stdout.splitlines()[-2]


@pytest.mark.parametrize("check", [0, 2, 3, 4])
def test_any_other_exit_code_of_that_check_fails_the_demo(demo: Demo, check: int) -> None:
    found = demo(check=check)
    assert found.returncode != 0
    assert "and why" in found.stdout


@pytest.mark.parametrize("said", ["", "REFUSED: 0.1 bpb better", "SUPPORTED: 0.1 bpb better"])
def test_code_1_for_another_reason_fails_the_demo(demo: Demo, said: str) -> None:
    assert demo(said=said).returncode != 0


@pytest.mark.parametrize("sweep", [2, 3, 4])
def test_a_run_of_the_null_that_fails_fails_the_demo(demo: Demo, sweep: int) -> None:
    found = demo(sweep=sweep)
    assert found.returncode != 0
    assert "the sweep failed" in found.stdout


def test_a_first_claim_that_is_not_supported_fails_the_demo(demo: Demo) -> None:
    assert demo(supported=1).returncode != 0


def test_the_candidate_differs_from_the_control_in_batch_alone() -> None:
    per_step = {"ITERATIONS", "WARMDOWN_ITERS", "MUON_MOMENTUM_WARMUP_STEPS", "VAL_LOSS_EVERY"}
    assert differing("candidate") == {"TRAIN_BATCH_TOKENS", *per_step}
    for key in per_step:
        tokens = {
            int(recipe(name)["TRAIN_BATCH_TOKENS"]) * int(recipe(name)[key]) for name in ("baseline", "candidate")
        }
        assert len(tokens) == 1, key


def test_both_are_validated_five_times_in_training() -> None:
    for name in ("baseline", "candidate", "null"):
        assert int(recipe(name)["ITERATIONS"]) == 4 * int(recipe(name)["VAL_LOSS_EVERY"])


def test_the_null_changes_only_the_rate_of_a_head_that_it_does_not_have() -> None:
    assert differing("null") == {"HEAD_LR"}
    assert "TIE_EMBEDDINGS" not in recipe("null")  # tied by default


def test_the_documents_show_one_run_of_this_demo() -> None:
    readme, tutorial = (page.read_text() for page in demo_page.PAGES)
    shown = [
        line.removesuffix(demo_page.ELIDED) for block in demo_page.BLOCK.findall(readme) for line in block.splitlines()
    ]
    steps = re.findall(r'@echo "(\[\d/4\].+)"', (ROOT / "Makefile").read_text())
    assert {line for line in shown if line.startswith("[")} <= {*steps}
    assert {line for line in [*shown, *steps] if line[0] not in "$."} <= {*tutorial.splitlines()}
