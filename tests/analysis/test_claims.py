"""What a submission JSON claims, in the shapes that people give it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from analysis.record.claim import Claim, read_claim, submission_file


def read(tmp_path: Path, table: Any) -> Claim:
    file = tmp_path / "submission.json"
    file.write_text(table if isinstance(table, str) else json.dumps(table))
    return read_claim(file)


@pytest.mark.parametrize(
    "table",
    [
        {"val_bpb": 1.0856},
        {"mean_val_bpb": 1.0856},
        {"val_bpb_mean": 1.0856},
        {"val_bpb": "1.0856"},
        {"val_bpb": "1.0856 ± 0.0007"},
        {"val_bpb": "~1.0856 BPB"},
        {"bpb": 1.0856},
        {"results": {"val_bpb": 1.0856, "val_bpb_std": 0.0007}},
        {"metrics": {"final": {"mean_val_bpb": 1.0856}}},
        {"val_bpb": {"mean": 1.0856, "std": 0.0007}},
        {"meanValBpb": 1.0856},
        {"pre_quant_val_bpb": 1.07, "baseline_val_bpb": 1.22, "sota_bpb": 1.1, "val_bpb_std": 0.1, "val_bpb": 1.0856},
        {"best_val_bpb": 1.08, "delta_bpb": 0.1, "mean_val_bpb": 1.0856, "comparison": {"val_bpb": 1.2}},
        {"sliding_val_bpb": 1.07, "val_bpb": 1.0856},
    ],
)
def test_shapes_of_a_headline(tmp_path: Path, table: dict[str, Any]) -> None:
    assert read(tmp_path, table).val_bpb == Decimal("1.0856")


@pytest.mark.parametrize(
    "table",
    [
        {"val_bpb": None}, {"val_bpb": True}, {"val_bpb": "about one"}, {"val_bpb": -1}, {"val_bpb": 0}, {"val_bpb": [1.1]},
        {"previous_val_bpb": 1.1}, {"delta_vs_sota_bpb": 0.1}, {"val_bpb_std": 0.1}, {"seed_42_val_bpb": 1.1}, {"val_bpb": 1e400},
    ],
)  # fmt: skip
def test_what_is_no_headline(tmp_path: Path, table: dict[str, Any]) -> None:
    assert read(tmp_path, table).val_bpb is None


SEEDS = {42: Decimal("1.0856"), 7: Decimal("1.0861")}


@pytest.mark.parametrize(
    "table",
    [
        {"seeds": [42, 7], "seed_results": {"42": {"val_bpb": 1.0856}, "7": {"val_bpb": 1.0861}}},
        {"seed_results": {"42": 1.0856, "7": 1.0861}},
        {"seed_results": {"seed_42": {"val_bpb": "1.0856"}, "seed_7": {"val_bpb": "1.0861"}}},
        {"seeds": [{"seed": 42, "val_bpb": 1.0856}, {"seed": "7", "bpb": 1.0861}]},
        {"seeds": {"42": {"val_bpb": 1.0856, "pre_quant_val_bpb": 1.0}, "7": {"val_bpb": 1.0861}}},
        {"runs": [{"seed": 42, "val_bpb": 1.0856}, {"seed": 7, "val_bpb": 1.0861}]},
        {"results": {"per_seed": {"42": {"val_bpb": 1.0856}, "7": {"val_bpb": 1.0861}}}},
        {"seed_42_val_bpb": 1.0856, "seed_7_val_bpb": 1.0861},
        {"seed42": {"val_bpb": 1.0856}, "seed7": {"val_bpb": 1.0861}},
        {"val_bpb": {"mean": 1.08585, "seeds": {"42": 1.0856, "7": 1.0861}}},
        {"seeds": [42, 7], "val_bpbs": [1.0856, 1.0861]},
    ],
)
def test_shapes_of_seeds(tmp_path: Path, table: dict[str, Any]) -> None:
    assert {seed: about.val_bpbs[0] for seed, about in read(tmp_path, table).seeds.items()} == SEEDS


def test_seeds_of_somebody_else_are_none_of_ours(tmp_path: Path) -> None:
    table = {"seeds": ["42", 0], "baseline_seed_results": {"9": {"val_bpb": 1.2}}, "comparison": {"seeds": [5]}}
    assert list(read(tmp_path, table).seeds) == [42, 0]


def test_sizes_and_losses(tmp_path: Path) -> None:
    claim = read(
        tmp_path,
        {
            "val_loss": 1.9,
            "bytes_total": "15,940,380 bytes",
            "bytes_code": 58509,
            "bytes_model": 15,
            "artifact_bytes_max": 16,
        },
    )
    assert claim.val_loss == Decimal("1.9")
    assert claim.artifact_bytes == 15940380
    claim = read(tmp_path, {"seeds": {"4": {"val_loss": 1.88, "artifact_bytes": 15863278}}, "artifact_bytes_mean": 159})
    assert claim.seeds[4].val_losses == [Decimal("1.88")]
    assert claim.artifact_bytes is None


def test_every_key_has_its_line(tmp_path: Path) -> None:
    claim = read(tmp_path, '{\n "name": "x",\n "val_bpb": 1.1,\n "bytes_total": 1000000,\n "seeds": [42]\n}')
    assert [claim.line_of(what) for what in ("val_bpb", "artifact_bytes", "seed 42", "nothing")] == [3, 4, 5, 1]


@pytest.mark.parametrize(
    ("text", "word"),
    [("{", "is not JSON"), ("[1]", "no JSON object"), ("[" * 100_000, "is not JSON"), ("\xff", "is not JSON"), ("[1,\n" * 2**19, "MiB")],
)  # fmt: skip
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "submission.json"
    file.write_bytes(text.encode("latin-1"))
    assert word in (read_claim(file).fault or "")


def test_the_schema_is_looked_at(tmp_path: Path) -> None:
    whole = {"name": "a", "author": "b", "date": "2026-04-05", "val_bpb": 1.1}
    assert not read(tmp_path, whole).schema
    for change in ({"author": ""}, {"date": "April"}, {"val_bpb": "1.1"}, {"name": 5}):
        assert len(read(tmp_path, whole | change).schema) == 1, change


def test_which_file_is_the_submission(tmp_path: Path) -> None:
    names = [
        tmp_path / name for name in ("submission_b.json", "submission_a.json", "sub/submission.json", "results.json")
    ]
    assert submission_file(names, tmp_path) == tmp_path / "submission_a.json"
    assert submission_file([*names, tmp_path / "submission.json"], tmp_path) == tmp_path / "submission.json"
    assert submission_file(names[2:], tmp_path) is None
