"""The files of a dataset directory: a tokenizer, token shards, and a manifest with every file's size and SHA-256.

manifest.json                                   names, counts, sizes, SHA-256
tokenizers/NAME.model                           SentencePiece
datasets/NAME/fineweb_{train,val}_NNNNNN.bin    256 int32 of header, then uint16 tokens
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHARD_MAGIC, SHARD_VERSION, SHARD_HEADER_INTS = 20240520, 1, 256
MANIFEST = "manifest.json"


class DatasetError(ValueError):
    """A dataset that is missing, damaged or not writable: one sentence with the path."""


def shard_name(dataset: str, split: str, number: int) -> str:
    """Return a shard's path in the dataset directory."""
    return f"datasets/{dataset}/fineweb_{split}_{number:06d}.bin"


def shard_bytes(tokens: Any) -> bytes:
    """Return a shard's whole content: header and tokens."""
    import numpy as np

    header = np.zeros(SHARD_HEADER_INTS, dtype="<i4")
    header[:3] = SHARD_MAGIC, SHARD_VERSION, len(tokens)
    content: bytes = header.tobytes() + tokens.astype("<u2").tobytes()
    return content


def counts(files: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return how many shards and tokens of each split these manifest entries hold."""
    stats = {}
    for split in ("train", "val"):
        sizes = [entry["bytes"] for name, entry in files.items() if f"/fineweb_{split}_" in name]
        stats[f"files_{split}"] = len(sizes)
        stats[f"tokens_{split}"] = sum((size - 4 * SHARD_HEADER_INTS) // 2 for size in sizes)
    return stats


def write_whole(path: Path, content: bytes) -> dict[str, Any]:
    """Write a file that appears complete or not at all; return its manifest entry (bytes, SHA-256)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read the manifest. Raise DatasetError if it is missing, is not JSON, or lacks what its readers rely on."""
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing. Make a dataset with `demo`, `fetch` or `build`.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}. Make the dataset again.") from None
    if fault := manifest_fault(manifest):
        raise DatasetError(f"{path} {fault}. Make the dataset again.")
    return manifest


def manifest_fault(manifest: Any) -> str | None:
    """Return how a manifest differs from what `record` writes, or None."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict) or not manifest["files"]:
        return 'has no "files" table of digests'
    for key in ("datasets", "tokenizers"):
        entries = manifest.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return f'has a "{key}" that is not a list of tables'
    for name, entry in manifest["files"].items():
        kinds = [type(entry.get(key)) for key in ("bytes", "sha256")] if isinstance(entry, dict) else []
        if kinds != [int, str]:
            return f"does not give {name[:80]!r} the number of its bytes and its SHA-256: {str(entry)[:80]}"
    return None


def record(
    directory: Path, dataset: dict[str, Any], tokenizer: dict[str, Any], files: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Enter one dataset and its tokenizer into the manifest, and return the manifest.

    A directory may hold several datasets: only entries of the same names are replaced. A manifest without digests
    (such as the publisher's own) is replaced as a whole.
    """
    try:
        manifest = read_manifest(directory)
    except DatasetError:
        manifest = {}
    merged: dict[str, Any] = {"version": 1}
    for key, entry in (("datasets", dataset), ("tokenizers", tokenizer)):
        merged[key] = [*(other for other in manifest.get(key, []) if other.get("name") != entry["name"]), entry]
    shards = f"datasets/{dataset['name']}/"
    kept = {name: entry for name, entry in manifest.get("files", {}).items() if not name.startswith(shards)}
    merged["files"] = kept | files
    write_whole(directory / MANIFEST, (json.dumps(merged, indent=1) + "\n").encode())
    return merged


def problems(directory: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Yield one sentence for each file that is missing, cut, changed, not a shard, or cannot be read."""
    for name, entry in manifest["files"].items():
        try:
            if problem := file_problem(directory, directory / name, entry):
                yield f"{directory / name}: {problem}"
        except (OSError, RuntimeError, ValueError) as error:  # such as a loop of links, a null byte, no permission
            yield f"{directory}: {name[:80]!r} cannot be read: {error}."


def file_problem(directory: Path, path: Path, entry: dict[str, Any]) -> str | None:
    if not path.resolve().is_relative_to(directory.resolve()):
        return "outside the dataset directory."
    if not path.is_file():
        return "missing."
    if (size := path.stat().st_size) != entry.get("bytes"):
        return f"{size} bytes, the manifest says {entry.get('bytes')}."
    if file_digest(path) != entry.get("sha256"):
        return "SHA-256 differs from the manifest's."
    return shard_fault(path) if path.suffix == ".bin" else None


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_fault(path: Path) -> str | None:
    """Return what is wrong with a shard's header, or None."""
    header_bytes = 4 * SHARD_HEADER_INTS
    with open(path, "rb") as file:
        head = file.read(header_bytes)
    if len(head) < header_bytes:
        return f"shorter than a shard's header of {header_bytes} bytes."
    magic, version, count = (int.from_bytes(head[at : at + 4], "little") for at in (0, 4, 8))
    if (magic, version) != (SHARD_MAGIC, SHARD_VERSION):
        return f"magic {magic}, version {version}; expected {SHARD_MAGIC}, {SHARD_VERSION}."
    present = (path.stat().st_size - header_bytes) / 2
    return None if present == count else f"the header says {count} tokens, the file has {present:g}."
