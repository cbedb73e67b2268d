"""The project as a package: requirements are pinned, and every answer has an exit code and a word."""

from __future__ import annotations

import re

from analysis.report.said.headline import WORDS
from analysis.verdict.answer import EXIT_CODES, REFUSED, Answer
from tests.conftest import ROOT


def test_constraints_pin_every_requirement() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    names = {name.lower().replace("_", "-") for name in pinned}
    assert pinned["torch"] == "2.13.0"
    for name in re.findall(r'^\s+"([a-z-]+)(?:\[\w+\])?(?:>=|")', (ROOT / "pyproject.toml").read_text(), re.MULTILINE):
        assert name in names | {"seedproof"}, name


def test_every_answer_has_an_exit_code_and_a_word() -> None:
    assert set(EXIT_CODES) == set(Answer)
    assert set(WORDS) == {*Answer, REFUSED}
