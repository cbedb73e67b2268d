"""What works without extras and off Linux: the same bytes, or one sentence that says what to install."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from analysis.untrusted.files import printable_path
from tests.lacking import EXTRAS, NOT_ON_WINDOWS, Done, lacking
from tests.test_package import PROJECT

SEEDS = {1: 1.2014, 2: 1.1994, 3: 1.2031}
Folder = Callable[..., Path]
Command = Callable[..., Done]


@pytest.fixture
def evidence(record: Folder, sweep: Folder, command: Command, tmp_path: Path) -> dict[str, Path]:
    """Return a record, a sweep, a registry that is empty, and the record's runs as a frame and a table."""
    folder = record(SEEDS)
    (tmp_path / "registry").mkdir()
    rows = "".join(f"{seed},{value}\n" for seed, value in SEEDS.items())
    (tmp_path / "table.csv").write_text(f"seed,val_bpb\n{rows}")
    for form in ("csv", "json"):
        assert command("analysis.logs", folder, "--format", form, "--output", tmp_path / f"runs.{form}").returncode == 0
    return {"record": folder, "sweep": sweep(SEEDS), "registry": tmp_path / "registry", "tmp": tmp_path}


def commands(evidence: dict[str, Path]) -> list[list[str]]:
    """Return what a reviewer runs, without parquet, HTML and stores."""
    record, swept, at = evidence["record"], evidence["sweep"], evidence["tmp"]
    judged = ("--sota", "1.3", "--rules", "parameter-golf")
    lines: list[tuple[str | Path, ...]] = [
        ("analysis.significance", "check", record, *judged),
        ("analysis.significance", "check", record, *judged, "--format", "sarif"),
        *(("analysis.significance", "report", record, *judged, "--format", form) for form in ("text", "markdown", "json")),
        *(("analysis.significance", "report", at / name, *judged) for name in ("runs.csv", "runs.json", "table.csv")),
        ("analysis.significance", "check", swept, "--registry", f"file://{evidence['registry']}"),
        ("analysis.significance", "plan", "--sd", "0.0014", "--gain", "0.004"),
        ("analysis.audit", record, "--rules", "parameter-golf"),
        *(("analysis.logs", record, "--format", form) for form in ("csv", "json")),
        ("analysis.logs", record, "--curves"),
        *(("analysis.leaderboard", at, "--no-cache", "--format", form) for form in ("markdown", "csv", "json")),
    ]  # fmt: skip
    return [[*map(str, words)] for words in lines]


def test_a_reviewer_sees_the_same_bytes_without_extras_and_without_what_windows_lacks(
    evidence: dict[str, Path], command: Command
) -> None:
    asked = commands(evidence)
    for bare, words in zip(lacking((*EXTRAS, *NOT_ON_WINDOWS), *asked), asked, strict=True):
        full = command(*words)
        assert (bare.returncode, bare.stdout, bare.stderr) == (full.returncode, full.stdout, full.stderr)
        assert bare.stdout, words


def test_sweeps_are_seen_from_their_files_without_extras(sweep: Folder, command: Command) -> None:
    folder = sweep(SEEDS)
    asked = [("status", folder), ("list", folder), ("collect", folder), ("collect", folder, "--format", "json")]
    words = [("orchestration.sweep", *one) for one in asked]
    for light, one in zip(lacking(EXTRAS, *words), words, strict=True):
        assert (light.returncode, light.stdout) == (0, command(*one).stdout), light.stderr


def test_a_missing_extra_is_one_sentence_with_its_command(evidence: dict[str, Path]) -> None:
    record, swept, at = evidence["record"], evidence["sweep"], evidence["tmp"]
    (at / "runs.parquet").write_bytes(b"PAR1 and more")
    script = at / "train.py"
    script.write_text("pass\n")
    (at / "artifact").write_bytes(b"x")
    (at / "texts.jsonl").write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(200)))
    dataset, run = ("--data", at, "--tokenizer", at / "artifact"), ("--script", script, "--sota", "1.3")
    needs = {
        ("analysis.significance", "report", record, "--sota", "1.3", "--format", "html"): "report",
        ("analysis.leaderboard", at, "--format", "html"): "report",
        ("analysis.significance", "report", at / "runs.parquet", "--sota", "1.3"): "frames",
        ("analysis.logs", record, "--format", "parquet", "--output", at / "x.parquet"): "frames",
        ("analysis.significance", "check", swept, "--registry", "s3://bucket/registry"): "frames",
        ("orchestration.sweep", "collect", swept, "--format", "parquet"): "frames",
        ("orchestration.sweep", "collect", "s3://bucket/sweeps"): "frames",
        ("orchestration.sweep", "run", *run, "--seeds", "1,2,3", "--output", at / "new"): "orchestration",
        ("orchestration.sweep", "resume", swept): "orchestration",
        ("orchestration.verify", record, "--output", at / "verified"): "orchestration",
        ("trainer.dataset", "demo", "--output", at / "data"): "trainer",
        ("trainer.dataset", "fetch", "--output", at / "data"): "trainer",
        ("trainer.dataset", "build", at / "texts.jsonl", "--output", at / "data"): "trainer",
        ("trainer.evaluate", at / "artifact", *dataset): "trainer",
    }
    for found, extra in zip(lacking(EXTRAS, *needs), needs.values(), strict=True):
        assert found.returncode == 2, found
        (said,) = re.findall(r"^Error: (.+)", found.stderr, re.MULTILINE)
        assert re.fullmatch(rf"This needs \w+, which is not installed: pip install 'seedproof\[{extra}\]'\.", said), (
            said
        )
        assert extra in PROJECT["optional-dependencies"]
    assert not (at / "new").exists()


def test_the_trainer_says_what_it_needs_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import trainer

    monkeypatch.setattr("sys.argv", ["-m"])  # as while Python looks for the module
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "trainer.train_gpt"])
    monkeypatch.setattr("trainer.find_spec", lambda package: object())
    trainer._refuse_non_commands()
    monkeypatch.setattr("trainer.find_spec", lambda package: None if package == "torch" else object())
    with pytest.raises(SystemExit, match="2"):
        trainer._refuse_non_commands()
    assert "torch: pip install 'seedproof[trainer]'" in capsys.readouterr().err


def test_paths_are_shown_with_slashes_on_windows_too() -> None:
    assert printable_path(PureWindowsPath(r"records\a\train.log")) == "records/a/train.log"


def test_sweeps_say_on_windows_where_they_run(sweep: Folder) -> None:
    folder = sweep(SEEDS)
    for found in lacking(NOT_ON_WINDOWS, *(("orchestration.sweep", name, folder) for name in ("status", "resume"))):
        assert found.returncode == 2
        assert re.search(r"^Error: Sweeps run on Linux", found.stderr, re.MULTILINE)
