"""`report --explain`: one number traced to its line, its rule and the test without it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from tests.analysis.test_criteria import trials
from tests.conftest import make_log

Run = Callable[..., Any]
Folder = Callable[..., Path]
VALUES = {1: 1.2, 2: 1.201, 3: 1.203}


@pytest.fixture
def explain(command: Run) -> Run:
    """Return what is said of a seed or log, as a list of (name, text), by its first line."""

    def run(name: str | int, *words: str | Path) -> dict[str, list[tuple[str, str]]]:
        found = command("analysis.significance", "report", *words, "--explain", str(name))
        assert found.returncode in (0, 1), found.stderr
        said: dict[str, list[tuple[str, str]]] = {}
        for line in found.stdout.splitlines():
            if line and not line.startswith("  "):
                head = line
                said[head] = []
            elif line:
                what, _, text = line.strip().partition("  ")
                said[head].append((what, text.strip()))
        return said

    return run


def test_a_number_is_traced_to_its_line_and_the_test_without_it(record: Folder, explain: Run) -> None:
    folder = record(VALUES, claim=1.20133333)
    ((head, rows),) = explain(2, folder, "--sota", "1.216").items()
    assert head == "seed 2, candidate: val_bpb 1.20100000 counts"
    said = dict(rows)
    log, _, line = said["read in"].rpartition(":")
    printed = (folder / log).read_text().splitlines()
    assert said["line"] == printed[int(line) - 1]
    assert "val_bpb:1.20100000" in said["line"]
    assert said["label"] == "final_int8_zlib_roundtrip_exact"
    first, last = map(int, re.findall(r"lines (\d+) to (\d+)", said["steps"])[0])
    assert printed[first - 1].startswith("step:0/")
    assert printed[last - 1].startswith("step:100/")
    for name, values in (("with it", [1.2, 1.201, 1.203]), ("without it", [1.2, 1.203])):
        p = stats.ttest_1samp(values, 1.211, alternative="less").pvalue
        assert said[name].startswith(f"{len(values)} runs, mean {sum(values) / len(values):.8f}, p = {p:.4g}")
    assert "hangs on this run" in said["so"]
    assert said["verdict"].startswith(("SUPPORTED: ", "REFUSED: "))


def test_a_test_that_passes_is_not_taken_for_a_claim_that_does(record: Folder, explain: Run) -> None:
    folder = record(VALUES)
    (folder / "train_seed3.log").write_text(make_log(3, 1.203).replace("world_size:8", "world_size:2"))
    for words, word in (((), "REFUSED"), (("--require-plan",), "NOT SUPPORTED")):
        ((_, rows),) = explain(2, folder, "--sota", "1.3", *words).items()
        assert dict(rows)["with it"].endswith("passes (as tested)")
        assert dict(rows)["verdict"].startswith(f"{word}: ")


def test_a_run_that_does_not_count_says_why_and_what_it_would_change(record: Folder, explain: Run) -> None:
    folder = record(VALUES)
    (folder / "old").mkdir()
    (folder / "old/train_seed9.log").write_text(make_log(9, 1.26))
    ((head, rows),) = explain(9, folder, "--sota", "1.3").items()
    said = dict(rows)
    assert "does not count: it is in a folder below" in head
    assert said["with it"].startswith("4 runs")
    assert said["without it"].startswith("3 runs")
    assert "runs-left-out" in said["finding"]


def test_a_seed_of_both_arms_is_shown_twice(record: Folder, explain: Run) -> None:
    ours, theirs = record(VALUES), record({1: 1.25, 2: 1.252, 3: 1.253}, "theirs")
    heads = list(explain(1, ours, "--control", theirs))
    assert [head.split(": ")[0] for head in heads] == ["seed 1, candidate", "seed 1, control"]
    of_control = dict(explain(1, ours, "--control", theirs)[heads[1]])
    assert of_control["without it"].startswith("3 runs against 2")


def test_with_a_sota_and_a_control_each_run_is_traced_to_every_test_that_it_is_in(sweep: Folder, explain: Run) -> None:
    folder = sweep(VALUES, sota=1.3, control={1: 1.25, 2: 1.252, 3: 1.253})
    candidate, control = explain(1, folder, "--sota", "1.3").values()
    of = {name: [said for what, said in candidate if what == name] for name in ("test", "with it", "without it", "so")}
    assert of["test"] == ["against the SOTA", "against the control"]
    assert [one.partition(", ")[0] for one in of["with it"]] == ["3 runs", "3 runs against 3"]
    assert [one.partition(", ")[0] for one in of["without it"]] == ["2 runs", "2 runs against 3"]
    assert len(of["so"]) == 2
    assert [said for what, said in control if what == "test"] == ["against the control"]
    assert dict(control)["with it"].startswith("3 runs against 3, ")
    assert dict(control)["planned"] == "yes"


def test_at_a_look_the_test_is_that_of_the_look(sweep: Folder, explain: Run) -> None:
    """A p of 0.0088 is below alpha, and not below what the first of three looks asks: not yet."""
    values = {1: 1.2, 2: 1.201, 3: 1.203}
    sd = stats.tstd([*values.values()])
    sota = 1.2013333333 + 0.005 + sd / 3**0.5 * -stats.t.ppf(0.0088, 2)
    ((_, rows),) = explain(1, sweep(values, seeds=[1, 2, 3, 4, 5], looks=[3, 4, 5], sota=sota)).items()
    assert dict(rows)["verdict"].startswith("NOT YET")
    assert "p = 0.0088: does not pass (as tested)" in dict(rows)["with it"]


def test_a_run_without_a_seed_is_known_by_its_log(tmp_path: Path, explain: Run) -> None:
    folder = trials(tmp_path / "speedrun", 3.29, 3.279, 3.2775)
    ((head, rows),) = explain("t2.txt", folder, "--rules", "nanogpt-track-3").items()
    assert head.startswith("run of t2.txt, candidate")
    assert "at step 2200" in dict(rows)["chosen as"]
    asked = explain("t2.txt", folder, "--rules", "nanogpt-track-3", "--at-step", "2100")
    assert "--at-step" in dict(next(iter(asked.values())))["chosen as"]


def test_what_is_not_there_is_an_error_that_says_what_is(record: Folder, command: Run) -> None:
    words = ("analysis.significance", "report", record(VALUES), "--sota", "1.3")
    found = command(*words, "--explain", "17")
    assert found.returncode == 2
    assert "Seeds: 1, 2, 3." in found.stderr
    assert "'train_seed2.log'" in command(*words, "--explain", "trainseed2.log").stderr
    assert command(*words, "--explain", "1", "--format", "json").returncode == 2


def test_a_number_of_very_many_digits_is_no_seed(record: Folder, command: Run) -> None:
    found = command("analysis.significance", "report", record(VALUES), "--sota", "1.3", "--explain", "9" * 5000)
    assert (found.returncode, "no run has that seed" in found.stderr) == (2, True)


def test_a_line_is_shown_redacted_and_escaped(record: Folder, explain: Run) -> None:
    folder = record(VALUES)
    log = folder / "train_seed1.log"
    key = "hf_" + "a1B2" * 9
    log.write_text(log.read_text().rstrip("\n") + f" \x1b[31mHF_TOKEN={key}\n")
    shown = str(explain(1, folder, "--sota", "1.3"))
    assert key not in shown
    assert "\x1b" not in shown
