"""What a JSON and a README claim, number by number, and whether the logs hold it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.audit import audit
from analysis.evidence.options import Options
from analysis.record.stated.said import Holds, Kind
from analysis.verdict.judge import judge
from tests.conftest import SOURCE

Run = Callable[..., subprocess.CompletedProcess[str]]
Folder = Callable[..., Path]
VALUES = {1337: 1.2014, 42: 1.1994, 7: 1.2031}
MEAN = 1.2013
SD = 0.00185202  # with n - 1; 0.00151217 with n
YES, NO, UNKNOWN = "yes", "no", "unknown"
SIZE = 15820 + len(SOURCE)


def judged(folder: Path, readme: str) -> list[tuple[str, str]]:
    """Return what the README claims, and whether it holds."""
    (folder / "README.md").write_text(readme)
    claims = audit([folder]).claims
    return [(one.claim.what, str(one.holds)) for one in claims if one.claim.at.file == "README.md"]


def table(*rows: str, head: str = "| Seed | val_bpb |") -> str:
    columns = head.count("|") - 1
    return "\n".join(["# A record", "", head, "|" + " --- |" * columns, *rows, ""])


THREE = ("| 1337 | 1.2014 |", "| 42 | **1.1994** |", "| 7 | 1.2031 |")
FIT = [("val_bpb of seed 1337", YES), ("val_bpb of seed 42", YES), ("val_bpb of seed 7", YES)]


@pytest.mark.parametrize(
    ("readme", "claims"),
    [
        (table(*THREE), FIT),
        (table(*THREE, "| **Mean** | **1.2013** |", "| std | 0.0019 |"), [*FIT, ("mean val_bpb", YES), ("sd val_bpb", YES)]),
        (table(*THREE, "| Mean ± std | 1.2013 ± 0.0015 |"), [*FIT, ("mean val_bpb", YES), ("sd val_bpb", YES)]),
        (table(*THREE, "| mean | 1.1913 |", "| sd | 0.0005 |"), [*FIT, ("mean val_bpb", NO), ("sd val_bpb", NO)]),
        (table("| 42 | 1.1899 |", *THREE[:1]), [("val_bpb of seed 42", NO), ("val_bpb of seed 1337", YES)]),
        (table("| 9 | 1.1899 |", *THREE), [("seed", NO), *FIT]),
        (table("| 9 | 1.1899 |", "| 8 | 1.1899 |"), []),
        (table("| 42 | 1.1994 | 1.2000 |", head="| Seed | BPB | Pre-quant BPB |"), [("val_bpb of seed 42", YES)]),
        (table("| baseline | 42 | 1.2244 |", head="| Run | Seed | BPB |"), []),
        (table("| val_bpb | 1.2014 | 1.1994 | 1.2013 |", head="| | 1337 | 42 | Mean |"), [*FIT[:2], ("mean val_bpb", YES)]),
        (table("| 42 | 1.1994 | 600.1 s |", head="| Seed | BPB | Train time |"), [("val_bpb of seed 42", YES), ("training time of seed 42", NO)]),
        (table(f"| 42 | {SIZE:,} |", head="| Seed | Artifact |"), [("artifact size of seed 42", YES)]),
        (table(f"| 42 | {SIZE + 70:,} bytes |", head="| Seed | Artifact |"), [("artifact size of seed 42", NO)]),
        ("## Baseline\n" + table("| 42 | 1.2244 |").replace("# A record", ""), []),
        ("Mean val_bpb **1.2013** (std 0.0019, n=3)\n", [("mean val_bpb", YES), ("sd val_bpb", YES), ("number of runs", YES)]),
        ("3-seed mean: 1.1913 BPB (std: 0.0019)\n", [("mean val_bpb", NO), ("sd val_bpb", YES), ("number of runs", YES)]),
        ("**1.2013** BPB (5-seed mean), beating the baseline mean of 1.2244\n", [("mean val_bpb", YES), ("number of runs", NO)]),
        ("The mean of the baseline is 1.2244 bpb. Our mean improves on 1.2244.\n", []),
        ("The weights have a mean of 0.0213.\n", []),
        ("The mean norm is 0.0213 over 3 seeds.\n", [("mean", UNKNOWN), ("number of runs", YES)]),
        ("losses = [1.2014, 1.1994,\n 1.2031]\n", [("list of values", YES)]),
        ("vals = [1.2014, 1.1994, 1.1899]\n", [("list of values", NO)]),
        ("baseline_losses = [1.2244, 1.2251]\ntimes = [1.2, 1.3]\nlosses = [a, b]\n", []),
        ("losses = [1.2014, 1.1994]\nold = 1\nvals = [1.21, 1.22]\n", [("list of values", YES), ("list of values", UNKNOWN)]),
        (table(*THREE) + "\n| Seed | val_bpb |\n|---|---|\n| 42 | 1.2244 |\n| 7 | 1.2251 |\n",
         [*FIT, ("val_bpb of seed 42", UNKNOWN), ("val_bpb of seed 7", UNKNOWN)]),
        (table("| 42 | 1.1899 |", "| 7 | 1.1902 |"), [("val_bpb of seed 42", NO), ("val_bpb of seed 7", NO)]),
        ("The runs beat SOTA at p = 0.0021 (t-test, 3 seeds).\n", [("p", UNKNOWN)]),
        ("One-sided t-test over 3 seeds: t = -20.5, p = 0.0021.\n", [("t", UNKNOWN), ("p", UNKNOWN)]),
    ],
)  # fmt: skip
def test_what_a_readme_claims(record: Folder, readme: str, claims: list[tuple[str, str]]) -> None:
    assert judged(record(VALUES), readme) == claims


def test_a_p_needs_what_must_be_beaten(command: Run, record: Folder) -> None:
    folder = record(VALUES)

    def p_of(readme: str, *more: str) -> list[tuple[str, str]]:
        (folder / "README.md").write_text(readme)
        found = command("analysis.significance", "report", folder, "--sota", "1.22", "--format", "json", *more)
        return [(one["what"], one["holds"]) for one in json.loads(found.stdout)["claims"] if one["what"] in ("t", "p")]

    one, two = p_and_t(folder, command)
    assert p_of(f"Mean over 3 seeds, p = {one[1]:.6f}\n") == [("p", YES)]
    assert p_of(f"t-test: t = {one[0]:.4f}, two-sided p = {two:.5f}\n") == [("t", YES), ("p", YES)]
    assert p_of("Mean over 3 seeds, p = 0.0002\n") == [("p", UNKNOWN)]  # of another number to beat
    assert p_of(f"t-test over 3 seeds: t = {one[0]:.4f}, p = 0.0002\n") == [("t", YES), ("p", NO)]
    assert p_of("Mean over 3 seeds, p < 0.01\n") == [("p", YES)]
    assert p_of("Mean over 3 seeds, p < 0.0001\n") == [("p", UNKNOWN)]
    assert p_of("Welch's t-test, 3 seeds: p = 0.0002\n") == [("p", UNKNOWN)]


def p_and_t(folder: Path, command: Run) -> tuple[tuple[float, float], float]:
    """Return t and p as the verdict has them, and the two-sided p."""
    found = command("analysis.significance", "report", folder, "--sota", "1.22", "--format", "json")
    test = json.loads(found.stdout)["test"]
    return (test["statistic"], test["p_value"]), 2 * test["p_value"]


def of_json(folder: Path, **more: Any) -> dict[str, str]:
    """Return what the JSON claims with these keys besides, and whether it holds."""
    file = folder / "submission.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more, indent=1))
    return {one.claim.what: str(one.holds) for one in audit([folder]).claims}


@pytest.mark.parametrize(
    ("more", "claims"),
    [
        ({"val_bpb": 1.2013}, {"headline val_bpb": YES}),
        ({"val_bpb": 1.1913}, {"headline val_bpb": NO}),
        ({"seeds": [42, 9]}, {"seed": NO}),
        ({"seed_results": {"42": {"val_bpb": 1.1994}}}, {"val_bpb of seed 42": YES}),
        ({"seed_results": {"42": {"val_bpb": 1.1899}}}, {"val_bpb of seed 42": NO}),
        ({"seed_results": {"42": {"val_bpb": 1.1994, "ttt_val_bpb": 1.15}}}, {"ttt": None, "val_bpb of seed 42": UNKNOWN}),
        ({"seed_results": {"42": {"val_bpb": 1.1994, "artifact_bytes": SIZE + 9}}}, {"artifact size of seed 42": NO}),
        ({"val_bpb_std": 0.00185}, {"sd val_bpb": YES}),
        ({"val_bpb_std": 0.00151}, {"sd val_bpb": YES}),
        ({"val_bpb_std": 0.0005}, {"sd val_bpb": NO}),
        ({"num_seeds": 3}, {"number of runs": YES}),
        ({"num_seeds": 5}, {"number of runs": NO}),
        ({"bytes_code": len(SOURCE)}, {"code size": YES}),
        ({"bytes_code": len(SOURCE) + 99}, {"code size": NO}),
        ({"train_time_s": 6.0}, {"training time": YES}),
        ({"train_time_s": 5.0}, {"training time": NO}),
        ({"train_time": 5.0}, {"training time": None}),
        ({"eval_time_s": 2.1}, {"evaluation time": YES}),
        ({"eval_time_s": 1.0}, {"evaluation time": NO}),
        ({"eval_time_s": 5.0}, {"evaluation time": UNKNOWN}),
        ({"p_value": 0.002, "t_statistic": -11.8}, {"p": UNKNOWN, "t": UNKNOWN}),
        ({"baseline": {"val_bpb": 1.22, "val_bpb_std": 0.1, "num_seeds": 9}}, {"sd val_bpb": None, "number of runs": None}),
    ],
)  # fmt: skip
def test_what_a_json_claims(record: Folder, more: dict[str, Any], claims: dict[str, str | None]) -> None:
    found = of_json(record(VALUES), **more)
    assert {what: found.get(what) for what in claims} == claims


def test_a_claim_that_improves_on_its_log_is_an_error(record: Folder) -> None:
    def severity(value: float) -> str | None:
        of_json(folder, seed_results={"1337": 1.2014, "42": value, "7": 1.2031})
        found = {one.line: one.severity for one in audit([folder]).findings if one.code == "claim-not-in-logs"}
        return next(iter(found.values()), None)

    folder = record(VALUES)
    assert [severity(value) for value in (1.1994, 1.1899, 1.1992, 1.2099)] == [None, "error", "warning", "warning"]
    judged(folder, table("| 42 | 1.1899 |", *THREE[:1]))
    readme = [one for one in audit([folder]).findings if one.file == "README.md"]
    assert [(one.code, one.severity, one.line) for one in readme] == [("claim-not-in-logs", "warning", 5)]
    judged(folder, table("| 42 | 1.1899 |", THREE[0], THREE[2]))  # a column in which the other seeds fit
    readme = [one for one in audit([folder]).findings if one.file == "README.md"]
    assert [(one.code, one.severity, one.line) for one in readme] == [("claim-not-in-logs", "error", 5)]


def test_both_sides_of_a_claim_have_a_line(record: Folder) -> None:
    folder = record(VALUES)
    of_json(folder, seed_results={"42": {"val_bpb": 1.1994}, "7": {"val_bpb": 1.2031}})
    lines = (folder / "submission.json").read_text().split("\n")
    claims = [one for one in audit([folder]).claims if one.claim.kind is Kind.VALUE]
    assert [str(one.claim.value) in lines[one.claim.at.line - 1] for one in claims] == [True, True]
    for one in claims:
        assert one.log is not None
        assert one.log_line is not None
        assert str(one.claim.value) in (folder / one.log).read_text().split("\n")[one.log_line - 1]


def test_a_record_on_one_line_hides_no_claim(record: Folder) -> None:
    folder = record(VALUES)
    table = json.loads((folder / "submission.json").read_text()) | {"bytes_total": 1, "val_bpb_std": 0.5}
    (folder / "submission.json").write_text(json.dumps(table))
    assert {"size-not-in-logs", "claim-not-in-logs"} <= {one.code for one in audit([folder]).findings}


@pytest.mark.parametrize(
    "readme",
    [
        "a" * 50_000_000,
        "| Seed | val_bpb |\n|---|---|\n" + "| 42 | 1.1994 |\n" * 60_000,
        "| Seed | val_bpb |\n|---|---|\n" * 30_000,
        "x = [" * 200_000,
        "losses = [" + "1.2," * 200_000,
        "losses = [1.2, 1.3]\n" * 40_000,
        "mean " * 200_000,
        "mean 1.2014 n=3 seeds bpb\n" * 35_000,
        ("|" * 1999 + "\n" + "|-" * 999 + "\n") * 300,
        "#" * 1_000_000,
    ],
)
def test_a_readme_takes_little_time(record: Folder, readme: str) -> None:
    folder = record(VALUES)
    (folder / "README.md").write_text(readme)
    began = time.process_time()
    assert len(audit([folder]).claims) < 700
    assert time.process_time() - began < 5


def test_a_readme_that_is_not_read_whole_is_said(record: Folder) -> None:
    folder = record(VALUES)
    assert ("file", UNKNOWN) in judged(folder, "a" * 2_000_000)
    assert ("file", UNKNOWN) in judged(folder, "Mean of 3 seeds 1.2013 bpb\n" * 200)


def test_claims_are_escaped_in_every_format(command: Run, record: Folder) -> None:
    folder = record(VALUES)
    readme = "losses_<b>|`[x](http://x.y)`@a\nlosses = [1.1994, 1.2014]\n| Seed | val_bpb |\n|---|---|\n| 42 | 1.3 \x1b[31m<i>@x |\n"
    (folder / "README.md").write_text(readme)
    for form in ("text", "markdown", "html", "json"):
        shown = command("analysis.significance", "report", folder, "--sota", "1.3", "--format", form).stdout
        assert "\x1b" not in shown
        assert form not in ("markdown", "html") or "<i>" not in shown


def test_a_claim_without_a_folder_says_nothing(record: Folder) -> None:
    folder = record(VALUES)
    assert audit([folder / "train_seed42.log"]).claims == ()
    assert {one.holds for one in audit([folder]).claims} == {Holds.YES}


@pytest.mark.parametrize(
    "readme",
    [
        table("| 1337 | 0.02 | 1.1950 |", "| 1337 | 0.03 | 1.1970 |", head="| seed | lr | val_bpb |"),
        table("| wide | 1337 | 1.1950 |", head="| Config | seed | val_bpb |"),
        "train set mean bpb 1.1800, val 1.2013\n",
        "Dev-set mean: 1.1900 bpb\n",
        "Mean val_bpb 1.2013 ± 0.0011 (s.e.m.)\n",
        "mean val_bpb of 1.2013 holds with n=50 validation shards\n",
        "A one-sample t-test over the seeds against 1.2194: t = -12.251, p = 0.0033\n",
    ],
)
def test_a_readme_that_may_mean_something_else_refuses_nothing(record: Folder, readme: str) -> None:
    folder = record(VALUES)
    (folder / "README.md").write_text(readme)
    assert [one for one in judge((folder,), Options(sota=1.216)).findings if one.severity == "error"] == []


@pytest.mark.parametrize(
    ("more", "codes"),
    [
        ({"p_value": 0.0033, "t_statistic": -12.251}, []),  # of another number to beat
        ({"p_value": 0.00033, "t_statistic": -12.251}, ["claim-not-in-logs"]),
        ({"p_value": 0.0033, "t_statistic": -24.5}, ["claim-not-in-logs"]),
        ({"configurations": {"wide": {"mean_val_bpb": 1.19, "n": 12}}}, []),
        ({"model": {"n": 12}, "optimizer": {"p": 0.5}, "sampling": {"top_p": 0.9}}, []),
        ({"total_train_time_minutes": 30, "eval_time_total_all_seeds_s": 1500}, []),
        ({"development_gpu": "RTX 4090", "hardware": "8xH100 SXM"}, []),
        ({"statistics": {"n_seeds": 5}}, ["claim-not-in-logs"]),
    ],
)
def test_numbers_of_a_json_that_are_of_something_else_refuse_nothing(
    record: Folder, more: dict[str, Any], codes: list[str]
) -> None:
    folder = record(VALUES)
    of_json(folder, **more)
    errors = {one.code for one in judge((folder,), Options(sota=1.216)).findings if one.severity == "error"}
    assert errors == set(codes)


def test_a_number_too_large_for_any_use_is_no_claim(record: Folder, command: Run) -> None:
    folder = record(VALUES)
    text = (folder / "submission.json").read_text()
    for key in ("x", "n", "p_value"):
        (folder / "submission.json").write_text(text.replace("{", f'{{"{key}": 1e999999999,', 1))
        found = command("analysis.significance", "check", folder, "--sota", "1.3")
        assert found.returncode in (0, 1)
        assert "Traceback" not in found.stderr
