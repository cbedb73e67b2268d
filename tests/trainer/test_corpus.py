"""Datasets of your own text: the same bytes on any number of processes, and one sentence about unusable text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from trainer import corpus
from trainer.dataset import main
from trainer.shards import DatasetError, problems, read_manifest


@pytest.fixture
def texts(tmp_path: Path, prose: str) -> Path:
    """Write sixty documents in three kinds of files."""
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"text {number}\n{prose}")
        (folder / "deep" / f"{number}.md").write_text(f"# mark {number}\n{prose}")
    lines = [json.dumps({"text": f"line {number}\n{prose}", "id": number}) for number in range(20)]
    (folder / "lines.jsonl").write_text("\n".join([*lines, "", json.dumps({"text": " "})]))
    (folder / "picture.png").write_bytes(b"\xff\x00")
    return folder


def build(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["build", *map(str, arguments)])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_corpus_becomes_a_dataset_that_verifies(texts: Path, tmp_path: Path) -> None:
    result = build(texts, "--output", tmp_path / "data", "--vocab-size", "400", "--name", "notes")
    assert result.exit_code == 0, result.output
    assert "Read 60 documents" in result.stdout
    assert set(files(tmp_path / "data")) == {
        "manifest.json",
        "tokenizers/notes_400_bpe.model",
        "datasets/notes_sp400/fineweb_train_000000.bin",
        "datasets/notes_sp400/fineweb_val_000000.bin",
    }
    verified = CliRunner().invoke(main, ["verify", str(tmp_path / "data")])
    assert verified.stdout.endswith("3 files match the manifest.\n")
    stats = read_manifest(tmp_path / "data")["datasets"][0]["stats"]
    assert stats["tokens_train"] > stats["tokens_val"] > 0


def test_the_bytes_do_not_depend_on_processes_or_the_order_of_files(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "CHUNK_EXCERPTS", 70)
    monkeypatch.setattr(corpus, "SHARD_TOKENS", 100_000)
    corpus.build_corpus([texts], tmp_path / "one", 400, "x", 1, list)
    corpus.build_corpus([texts / "lines.jsonl", texts / "deep", texts], tmp_path / "two", 400, "x", 2, list)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert read_manifest(tmp_path / "one")["datasets"][0]["stats"]["files_train"] > 1
    monkeypatch.setattr(corpus, "SHARD_TOKENS", 10_000_000)
    corpus.build_corpus([texts], tmp_path / "one", 400, "x", 1, list)  # fewer shards: the old ones are removed
    assert list(problems(tmp_path / "one", read_manifest(tmp_path / "one"))) == []
    assert len(list((tmp_path / "one").rglob("*.bin"))) == 2


def test_shards_are_cut_at_their_size_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SHARD_TOKENS", 10)
    arrays = [np.arange(start, end) for start, end in ((0, 3), (3, 10), (10, 45), (45, 45), (45, 47))]
    shards = list(corpus.in_shards(arrays))
    assert [len(shard) for shard in shards] == [10, 10, 10, 10, 7]
    assert np.concatenate(shards).tolist() == list(range(47))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "Found no text in 1 files"),
        ("a.jsonl", b"\n\n", "Found no text"),
        ("a.txt", b"caf\xe9", "is not UTF-8 at byte 3"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 1}\n', "a.jsonl:2 is not a JSON object"),
        ("a.jsonl", b"{\n", "a.jsonl:1 is not a JSON object"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl:1 is not a JSON object"),
        ("a.csv", b"text", "does not end in .txt or .md or .jsonl"),
        ("a.txt", b"one document", "1 documents are too few"),
    ],
)
def test_unusable_text_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    result = build(tmp_path / name, "--output", tmp_path / "data")
    assert result.exit_code == 1
    assert words in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("vocab_size", "words"),
    [
        ("1024", r"The text gives at most (\d+) pieces; got --vocab-size 1024\. Lower it"),
        ("260", r"The text's characters need at least (\d+) pieces; got --vocab-size 260\. Raise it"),
    ],
)
def test_text_that_does_not_fit_the_vocabulary(tmp_path: Path, vocab_size: str, words: str) -> None:
    lines = [json.dumps({"text": f"short {number}"}) for number in range(100)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    result = build(tmp_path / "a.jsonl", "--output", tmp_path / "data", "--vocab-size", vocab_size)
    assert result.exit_code == 1
    assert "trainer_interface" not in result.stderr
    assert not (tmp_path / "data").exists()
    found = re.search(words, result.stderr)
    assert found
    assert build(tmp_path / "a.jsonl", "--output", tmp_path / "data", "--vocab-size", found[1]).exit_code == 0


def test_an_unknown_complaint_of_sentencepiece_stays_out_of_the_sentence() -> None:
    said = corpus.tokenizer_fault(400, "INTERNAL: src/x.cc(7) [a == b] something new")
    assert said == "The text gives no tokenizer of 400 pieces. Give more text or another --vocab-size."


def test_a_folder_without_text_a_bad_name_and_a_published_dataset(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no text in 0 files" in build(tmp_path / "empty", "--output", tmp_path / "data").stderr
    assert "is not a plain file name" in build(texts, "--output", tmp_path / "data", "--name", "../x").stderr
    manifest = {"datasets": [{"name": "x_sp400", "source": {}}], "files": {"a": {"bytes": 1, "sha256": "0"}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="holds the published x_sp400"):
        corpus.build_corpus([texts], tmp_path, 400, "x", 1, list)
