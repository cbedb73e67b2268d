"""Frauds are found and harmless edits are not: a small run of benchmarks.mutations."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.mutations import harmless, of_facts, of_numbers, of_plans, of_runs
from benchmarks.mutations.__main__ import FRAUDS
from benchmarks.mutations.folders import DIALECTS, Dialect
from benchmarks.mutations.study import Kind, Outcome, clean, content, judged, rows

KINDS = (*FRAUDS, *harmless.KINDS)
BY_NAME = {dialect.name: dialect for dialect in DIALECTS}
SURE = (
    "a worse seed's log that the JSON does not name",
    "a log copied, with another seed",
    "a copy with losses shifted",
    "one result better by 0.006",
    "headline better by 0.002",
    "evaluation over the cap",
    "artifact over the cap",
    "half of the validation tokens",
    "another program in one run",
)
HARMLESS = ("CRLF", "colours", "a warning of a library", "JSON: other order", "more text in the README")


def named(*names: str) -> list[Kind]:
    return [kind for kind in KINDS if kind.name in names]


def test_there_are_kinds_enough() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert len(DIALECTS) >= 6
    assert len([kind for kind in FRAUDS if kind.unseen is None]) >= 60
    assert len(harmless.KINDS) >= 35


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_clean_folder_is_supported_and_clean(dialect: Dialect, tmp_path: Path) -> None:
    found = judged(clean(dialect, tmp_path))
    untested = [("warning", "criterion-not-tested")] if dialect.is_speedrun else []  # no prior record's times
    assert found.answer == "supported"
    assert list(found.found) == untested


@pytest.mark.parametrize(
    "kinds", [of_runs.KINDS, of_numbers.KINDS, of_facts.KINDS, of_plans.KINDS, harmless.KINDS], ids=len
)
def test_every_kind_changes_a_folder(kinds: tuple[Kind, ...], tmp_path: Path) -> None:
    left = list(kinds)
    for name in ("golf", "with control", "sweep", "speedrun"):
        before = content(clean(BY_NAME[name], tmp_path))
        for kind in list(left):
            folder = clean(BY_NAME[name], tmp_path)
            kind.change(folder)
            if content(folder) != before:
                left.remove(kind)
    assert [kind.name for kind in left if kind.name not in PREFIXES] == []


PREFIXES = [kind.name for kind in harmless.KINDS if kind.name.startswith("prefix")]  # of logs that embed no program


def test_frauds_fail_and_harmless_edits_do_not(tmp_path: Path) -> None:
    for row in rows(named(*SURE), [BY_NAME["golf"]], tmp_path):
        assert row.outcomes == {"golf": Outcome.FAILS}, row.kind.name
    for row in rows(named(*HARMLESS), [BY_NAME["golf"], BY_NAME["own trainer"]], tmp_path):
        assert not any(row.new.values()), row.kind.name
