"""The demo dataset has the same bytes every time, and `verify` finds damage."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from trainer import corpus, dataset
from trainer.shards import problems, read_manifest, shard_bytes, write_whole

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prose: str) -> Path:
    """Put a small standard library in place of the real one."""
    root = tmp_path / "lib"
    (root / "pydoc_data").mkdir(parents=True)
    (root / "test").mkdir()
    (root / "test" / "test_x.py").write_text("never = 1\n")
    for index in range(40):
        (root / f"m{index}.py").write_text(f"# module {index}\n{prose}")
    (root / "bad.py").write_bytes(b"\xff\xfe")
    (root / "empty.py").write_text("\n")
    (root / "pydoc_data" / "topics.py").write_text("topics = {'assert': 'The assert statement', 'if': 'The if one'}\n")
    monkeypatch.setattr(dataset.sysconfig, "get_paths", lambda: {"stdlib": str(root)})
    monkeypatch.setattr(dataset, "DEMO_VOCAB_SIZE", 400)
    return root


def test_documents_are_sources_and_topics_without_tests(library: Path) -> None:
    documents = list(dataset.standard_library_documents())
    assert len(documents) == 42
    assert "The assert statement" in documents
    assert not any("never" in document for document in documents)


def test_excerpts_lose_nothing_and_mix_the_documents() -> None:
    documents = ["".join(f"{name} line {i}\n" for i in range(500)) for name in "abc"]
    parts = corpus.excerpts(documents)
    assert sum(map(len, parts)) == sum(map(len, documents))
    assert max(map(len, parts)) <= corpus.EXCERPT_CHARACTERS
    assert sorted("".join(parts)) == sorted("".join(documents))
    assert corpus.excerpts(documents[::-1]) == parts


def test_the_demo_dataset_is_the_same_every_time(library: Path, tmp_path: Path) -> None:
    one = dataset.build_demo(tmp_path / "one", lambda line: None)
    two = dataset.build_demo(tmp_path / "two", lambda line: None)
    assert one == two
    stats = one["datasets"][0]["stats"]
    assert stats["tokens_train"] > stats["tokens_val"] > 0
    assert list(problems(tmp_path / "one", read_manifest(tmp_path / "one"))) == []
    said: list[str] = []
    dataset.build_demo(tmp_path / "one", said.append)
    assert said == [f"{tmp_path / 'one'} already holds the demo dataset of this Python; kept."]


def test_no_held_out_text_is_trained_on(library: Path) -> None:
    documents = list(dataset.standard_library_documents())
    held_out = [document for document in documents if corpus.is_validation(document)]
    assert 0 < len(held_out) < len(documents) / 5


@pytest.fixture
def small(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    name = "datasets/x/fineweb_val_000000.bin"
    entry = write_whole(folder / name, shard_bytes(np.arange(9)))
    write_whole(folder / "manifest.json", json.dumps({"files": {name: entry}}).encode())
    return folder


def test_verify_accepts_a_whole_dataset(command: Run, small: Path) -> None:
    found = command("trainer.dataset", "verify", small)
    assert found.returncode == 0
    assert found.stdout == f"{small}: 1 files match the manifest.\n"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2]), "1040 bytes, the manifest says 1042"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2] + b"xx"), "SHA-256"),
    ],
)
def test_verify_finds_damage(command: Run, small: Path, change: Callable[[Path], object], word: str) -> None:
    change(small / "datasets/x/fineweb_val_000000.bin")
    found = command("trainer.dataset", "verify", small)
    assert found.returncode == 1
    assert word in found.stderr


@pytest.mark.parametrize(
    ("tokens", "header", "word"),
    [(9, (20240520, 1, 8), "8 tokens"), (9, (1, 1, 9), "magic 1"), (None, None, "shorter")],
)
def test_verify_reads_headers(small: Path, tokens: int | None, header: tuple[int, ...] | None, word: str) -> None:
    path = small / "datasets/x/fineweb_val_000000.bin"
    content = b"short"
    if tokens and header:
        content = b"".join(n.to_bytes(4, "little") for n in header).ljust(1024, b"\0") + b"\0\0" * tokens
    entry = write_whole(path, content)
    (sentence,) = problems(small, {"files": {"datasets/x/fineweb_val_000000.bin": entry}})
    assert word in sentence


@pytest.mark.parametrize(
    ("manifest", "word"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", 'no "files" table'),
        ('{"files": []}', 'no "files" table'),
        ('{"files": {}}', 'no "files" table'),
        ('{"files": {"a": 1}}', "'a' the number of its bytes"),
        ('{"files": {"a": {"bytes": "1", "sha256": "0"}}}', "'a' the number of its bytes"),
        ('{"files": {"a": {"bytes": 1}}}', "'a' the number of its bytes"),
        ('{"files": {"a": {"bytes": 1, "sha256": "0"}}, "datasets": [3]}', '"datasets"'),
        ('{"files": {"a\\u0000b": {"bytes": 1, "sha256": "0"}}}', "embedded null"),
        (f'{{"files": {{"{"a" * 300}": {{"bytes": 1, "sha256": "0"}}}}}}', "name too long"),
        ('{"files": {"loop": {"bytes": 1, "sha256": "0"}}}', "loop"),
    ],
)
def test_verify_names_what_is_wrong_with_a_manifest(tmp_path: Path, manifest: str, word: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "loop").symlink_to("loop")
    found = CliRunner().invoke(dataset.main, ["verify", str(tmp_path)])
    assert found.exit_code == 1
    assert isinstance(found.exception, SystemExit)
    assert word in found.stderr


def test_a_malformed_manifest_is_replaced_as_one_without_digests_is(library: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"files": {"a": {}}, "datasets": [3]}')
    dataset.build_demo(tmp_path, lambda line: None)
    assert list(problems(tmp_path, read_manifest(tmp_path))) == []


def test_a_file_that_cannot_be_written_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "a", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_verify_stays_inside_the_folder_and_needs_a_manifest(command: Run, tmp_path: Path) -> None:
    (sentence,) = problems(tmp_path, {"files": {"../x": {}}})
    assert "outside" in sentence
    found = command("trainer.dataset", "verify", tmp_path)
    assert found.returncode == 1
    assert "manifest.json is missing" in found.stderr
