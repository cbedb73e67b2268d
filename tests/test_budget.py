"""The arithmetic of a training step, against the recipe's own figures."""

from __future__ import annotations

import pytest

from benchmarks import budget


def test_the_budget_of_a_step_is_the_recipes_own() -> None:
    assert budget.SEQ4096.params == 17_059_912
    useful = [part.tflop for part in budget.budget(budget.SEQ4096, budget.SHARE_TOKENS) if part.gigabytes > 0.3]
    assert sum(useful) * 8 == pytest.approx(84.8, abs=0.1)  # TFLOP of a step of 393,216 tokens
