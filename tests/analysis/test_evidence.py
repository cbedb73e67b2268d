"""Which logs, which run of a log and which of its metrics a verdict rests on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.gather import Gathered
from analysis.evidence.gather import gather as gather_by
from analysis.evidence.usable import check_results
from analysis.reading.frame import columns_of, from_frame, read_frame, to_frame, write_rows
from analysis.reading.result import COLUMNS
from analysis.rules.ruleset import load
from analysis.untrusted.refusal import EvidenceError
from tests.conftest import make_log

Record = Callable[..., Path]
LOGS_ALONE = replace(load("parameter-golf"), submission="none", minimum_runs=2)


def gather(paths: list[Path], label: str | None = None) -> Gathered:
    """The evidence by rules that ask for no submission files."""
    return gather_by(paths, LOGS_ALONE, label)


def usable(evidence: Gathered, where: str) -> None:
    if evidence.fault is not None:
        raise EvidenceError(evidence.fault)
    check_results(evidence.runs, where)


def test_a_folder_of_seeds(record: Record) -> None:
    evidence = gather([record({1: 1.20, 2: 1.21}, bare=True)])
    assert [(r.seed, r.val_bpb, r.log) for r in evidence.runs] == [
        (1, 1.20, "train_seed1.log"),
        (2, 1.21, "train_seed2.log"),
    ]
    assert evidence.findings == ()


def test_a_log_under_two_names_is_one_run_and_is_said(record: Record) -> None:
    folder = record({1: 1.20, 2: 1.21}, bare=True)
    (folder / "train.log").write_bytes((folder / "train_seed1.log").read_bytes())
    evidence = gather([folder])
    assert [r.seed for r in evidence.runs] == [1, 2]
    assert [f.code for f in evidence.findings] == ["duplicate-log"]


def test_the_last_run_of_a_log_counts_and_is_said(record: Record) -> None:
    folder = record({1: 1.20, 2: 1.21}, bare=True)
    (folder / "train_seed2.log").write_text(make_log(2, 1.5) + make_log(2, 1.22))
    evidence = gather([folder])
    assert evidence.runs[1].val_bpb == 1.22
    assert [(f.code, f.severity) for f in evidence.findings] == [
        ("runs-left-out", "warning"),
        ("several-runs-in-log", "warning"),
    ]


def test_one_log_may_hold_several_seeds(tmp_path: Path) -> None:
    """Three runs of three seeds in one file are three runs; three of one seed are one, the last."""
    (tmp_path / "train.log").write_text("".join(make_log(seed, 1.2 + seed / 1000) for seed in (1, 2, 3)))
    evidence = gather([tmp_path])
    assert [(r.seed, r.val_bpb) for r in evidence.runs] == [(1, 1.201), (2, 1.202), (3, 1.203)]
    assert [f.code for f in evidence.findings] == ["several-runs-in-log"]
    (tmp_path / "train.log").write_text("".join(make_log(7, 1.2 + k / 1000) for k in (1, 2, 3)))
    assert [(r.seed, r.val_bpb) for r in gather([tmp_path]).runs] == [(7, 1.203)]


def test_the_claim_selects_the_run_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("".join(make_log(7, 1.2 + k / 1000) for k in (1, 2, 3)))
    (tmp_path / "submission.json").write_text('{"val_bpb": 1.202}')
    assert [r.val_bpb for r in gather([tmp_path]).runs] == [1.202]


def test_the_claim_selects_the_metric(record: Record) -> None:
    folder = record({1: 1.20, 2: 1.21}, bare=True)
    for log in folder.glob("*.log"):
        log.write_text(log.read_text() + "final_later val_loss:1.5 val_bpb:0.9\n")
    assert gather([folder]).runs[0].label == "final_later"
    (folder / "submission.json").write_text(json.dumps({"val_bpb": 1.205}))
    assert gather([folder]).runs[0].label == "final_int8_zlib_roundtrip_exact"


def test_a_metric_can_be_asked_for(record: Record) -> None:
    folder = record({1: 1.20001, 2: 1.21}, bare=True)
    assert gather([folder], "final_int8_zlib_roundtrip").runs[0].val_bpb == 1.2
    with pytest.raises(EvidenceError, match="no final metric 'nope'; it has final_int8_zlib_roundtrip"):
        usable(gather([folder], "nope"), "x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: [log.unlink() for log in folder.glob("*.log")], ["No training log", "record"]),
        (lambda folder: (folder / "train_seed2.log").unlink(), ["one run", "train_seed1.log"]),
        (lambda folder: (folder / "train_seed2.log").write_text(make_log(1, 1.3)), ["Seed 1 is there twice"]),
        (lambda folder: (folder / "x.log").write_text("step:1/2 train_loss:3\n"), ["x.log", "without a final metric"]),
        (lambda folder: (folder / "x.log").write_text("final_z val_loss:2 val_bpb:1\n"), ["different metrics"]),
        (lambda folder: (folder / "x.log").write_text(make_log(3, float("nan"))), ["x.log, line", "nan"]),
        (lambda folder: (folder / "x.log").write_text(make_log(3, float("inf"))), ["x.log, line", "inf"]),
        (lambda folder: (folder / "x.log").write_text(make_log(3, 0.0)), ["x.log, line", "0.0"]),
        (lambda folder: (folder / "x.log").write_text(make_log(3, -1.2)), ["x.log, line", "-1.2"]),
        (lambda folder: (folder / "x.log").write_text(make_log(3, 1e200)), ["x.log, line", "1e+200"]),
        (lambda folder: (folder / "x.log").write_text("seed:3\nCUDA out of memory\n"), ["x.log", "without a final"]),
        (lambda folder: (folder / "x.log").write_text(""), ["x.log", "empty"]),
        (lambda folder: (folder / "x.txt").write_text(make_log(3, 1.2).split("\n")[-2]), ["x.txt", "no seed"]),
    ],
)
def test_unusable_evidence_is_refused_with_a_sentence(
    record: Record, change: Callable[[Path], object], words: list[str]
) -> None:
    folder = record({1: 1.20, 2: 1.21}, bare=True)
    change(folder)
    with pytest.raises(EvidenceError) as error:
        usable(gather([folder]), str(folder))
    for word in words:
        assert word in str(error.value)


def test_a_broken_claim_is_ignored(record: Record) -> None:
    folder = record({1: 1.20, 2: 1.21}, bare=True)
    for content in ("{", "[]", '{"val_bpb": null}', '{"val_bpb": "x"}', '{"val_bpb": 1e400000}', "[" * 100_000):
        (folder / "submission.json").write_text(content)
        assert len(gather([folder]).runs) == 2


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json"])
def test_a_frame_gives_back_what_was_written(record: Record, tmp_path: Path, suffix: str) -> None:
    results = gather([record({1: 1.20, 2**31 - 1: 1.21}, bare=True)]).runs
    path = tmp_path / f"runs.{suffix}"
    rows = [result.row() for result in results]
    write_rows(rows, columns_of(rows), suffix, path)
    assert [result.row() for result in read_frame(path)] == [result.row() for result in results]
    assert [result.row() for result in gather([path]).runs] == [result.row() for result in results]


def test_a_foreign_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(EvidenceError, match="columns arm, seed"):
        gather([path])
    path.with_suffix(".parquet").write_bytes(b"PAR1 no")
    with pytest.raises(EvidenceError, match="cannot be read as a frame"):
        gather([path.with_suffix(".parquet")])


def test_unknown_values_stay_unknown_in_a_frame(record: Record) -> None:
    folder = record({1: 1.20, 2: 1.21}, bare=True)
    (folder / "train_seed2.log").write_text("seed:2\nfinal_int8_zlib_roundtrip_exact val_loss:2.0 val_bpb:1.21\n")
    results = gather([folder]).runs
    assert results[1].run.last_step is None
    again = from_frame(to_frame(results), "memory")
    assert [result.row() for result in again] == [result.row() for result in results]


def test_runs_without_seeds_that_agree_in_every_number_are_one_run(tmp_path: Path) -> None:
    for name, end in (("a", "\n"), ("b", "\n\n")):
        (tmp_path / f"{name}.log").write_text("final_x val_loss:2.0 val_bpb:1.2" + end)
    with pytest.raises(EvidenceError, match="holds one run"):
        usable(gather([tmp_path]), "x")
    (tmp_path / "b.log").write_text("final_x val_loss:2.1 val_bpb:1.3\n")
    usable(gather([tmp_path]), "x")


def test_a_rounded_claim_does_not_select_the_rounded_twin(record: Record) -> None:
    folder = record({1: 1.20143, 2: 1.19945}, bare=True)
    (folder / "submission.json").write_text('{"val_bpb": 1.2014}')
    assert gather([folder]).runs[0].label == "final_int8_zlib_roundtrip_exact"
    for log in folder.glob("*.log"):  # the order of the twins does not matter
        *lines, rounded, exact = log.read_text().strip().split("\n")
        log.write_text("\n".join([*lines, exact, rounded]) + "\n")
    assert gather([folder]).runs[0].val_bpb == 1.20143


def test_a_folder_that_may_not_be_seen_is_said(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = record({1: 1.20, 2: 1.21}, bare=True)
    (folder / "sub").mkdir()
    seen = os.listdir

    def listdir(path: Path) -> list[str]:
        if path.name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return seen(path)

    monkeypatch.setattr("analysis.untrusted.files.os.listdir", listdir)
    with pytest.raises(EvidenceError, match="sub cannot be read: Permission denied"):
        usable(gather([folder]), "x")


def test_strange_frames_are_refused(record: Record, tmp_path: Path) -> None:
    frame = to_frame(gather([record({1: 1.20, 2: 1.21}, bare=True)]).runs)
    path = tmp_path / "runs.csv"
    for column, value, word in (("arm", "baseline", "'baseline'"), ("seed", "3.5", "cannot be read")):
        changed = frame.astype(object)
        changed.loc[0, column] = value
        changed.to_csv(path, index=False)
        with pytest.raises(EvidenceError, match=word):
            gather([path])
    frame.to_csv(path, index=False)
    with pytest.raises(EvidenceError, match="not 'other'"):
        gather([path], "other")


HEAD = ",".join(COLUMNS)
TAIL = "," * (len(COLUMNS) - 10)


@pytest.mark.parametrize(
    ("cells", "extra", "expected"),
    [
        ("candidate,1337,succeeded,2.0,1.2,x,a.log,3,10", "", (1337, 1.2, 10, {})),
        ("candidate,1337.0,succeeded,,1.2,x,a.log,3.0,NaN", "0.5", (1337, 1.2, None, {"loss_at_end": 0.5})),
        ("candidate,NA,succeeded,nan,1e0,x,a.log,,", "<NA>", (None, 1.0, None, {})),
        ("candidate,9007199254740993,succeeded,,1.2,x,a.log,,", "seven", (9007199254740993, 1.2, None, {})),
    ],
)
def test_a_csv_frame_is_read_as_tables_are_written(tmp_path: Path, cells: str, extra: str, expected: Any) -> None:
    (tmp_path / "runs.csv").write_text(f"{HEAD},loss_at_end\n{cells},{TAIL}log,{extra}\r\n")
    (one,) = read_frame(tmp_path / "runs.csv")
    assert (one.seed, one.val_bpb, one.run.last_step, one.values) == expected


@pytest.mark.parametrize(
    "cells",
    [
        "candidate,1_337,succeeded,2.0,1.2,x,a.log,3,10", "candidate,1337,succeeded,2.0,low,x,a.log,3,10",
        "candidate,1337,succeeded,2.0,1.2,x,a.log,3,1e400", "candidate,99999999999999999999,succeeded,2.0,1.2,x,a.log,3,10",
        "candidate,1337,succeeded,2.0,1.2,x,a.log,3,10,,,,,,,,,,,,,,,,,,,,,,,",
    ],
)  # fmt: skip
def test_a_value_that_its_column_cannot_hold_is_refused(tmp_path: Path, cells: str) -> None:
    (tmp_path / "runs.csv").write_text(f"{HEAD}\n{cells},{TAIL}log\n")
    with pytest.raises(EvidenceError):
        read_frame(tmp_path / "runs.csv")


def test_a_frame_with_an_empty_state_or_log_is_refused(record: Record, tmp_path: Path) -> None:
    frame = to_frame(gather([record({1: 1.20, 2: 1.21}, bare=True)]).runs)
    for column in ("state", "log"):
        changed = frame.astype(object)
        changed.loc[0, column] = None
        changed.to_csv(tmp_path / "runs.csv", index=False)
        with pytest.raises(EvidenceError, match="row 1: state is"):
            gather([tmp_path / "runs.csv"])
