"""What a dataset directory holds: shards, and the manifest that names every file with its size and SHA-256.

manifest.json                                what is here: names, counts, sizes, SHA-256
tokenizers/NAME.model                        SentencePiece
datasets/NAME/fineweb_{train,val}_NNNNNN.bin 256 int32 of header, then uint16 tokens
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHARD_MAGIC, SHARD_VERSION, SHARD_HEADER_INTS = 20240520, 1, 256
MANIFEST = "manifest.json"


class DatasetError(ValueError):
    """A dataset that is missing, damaged or not writable, as one sentence with the path."""


def shard_bytes(tokens: Any) -> bytes:
    """A shard's whole content: header and tokens."""
    import numpy as np

    header = np.zeros(SHARD_HEADER_INTS, dtype="<i4")
    header[:3] = SHARD_MAGIC, SHARD_VERSION, len(tokens)
    return header.tobytes() + tokens.astype("<u2").tobytes()


def write_whole(path: Path, content: bytes) -> dict[str, Any]:
    """Write a file that appears complete or not at all; returns its manifest entry (bytes, SHA-256)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{path} is no file: a dataset directory has one. Make one with `demo` or `fetch`."
        ) from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise DatasetError(f'{path} has no "files" table of digests.')
    return manifest


def record(
    directory: Path, dataset: dict[str, Any], tokenizer: dict[str, Any], files: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Enter one dataset and its tokenizer into the manifest; returns the whole of it.

    Entries of the same names are replaced, those of other datasets stay: a directory may hold several. A manifest
    without digests (the publisher's own, say) cannot be kept up to date and gives way to ours.
    """
    try:
        manifest = read_manifest(directory)
    except DatasetError:
        manifest = {}
    merged: dict[str, Any] = {"version": 1}
    for key, entry in (("datasets", dataset), ("tokenizers", tokenizer)):
        others = [other for other in manifest.get(key, []) if other.get("name") != entry["name"]]
        merged[key] = [*others, entry]
    shards = f"datasets/{dataset['name']}/"
    others = {name: entry for name, entry in manifest.get("files", {}).items() if not name.startswith(shards)}
    merged["files"] = others | files
    write_whole(directory / MANIFEST, (json.dumps(merged, indent=1) + "\n").encode())
    return merged


def problems(directory: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """One sentence for each file that is missing, cut, changed, or no shard."""
    for name, entry in manifest["files"].items():
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            yield f"{name}: lies outside the dataset directory."
        elif not path.is_file():
            yield f"{path}: missing."
        elif path.stat().st_size != entry.get("bytes"):
            yield f"{path}: {path.stat().st_size} bytes, the manifest says {entry.get('bytes')}."
        elif file_digest(path) != entry.get("sha256"):
            yield f"{path}: SHA-256 differs from the manifest's."
        elif path.suffix == ".bin" and (fault := shard_fault(path)):
            yield f"{path}: {fault}"


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_fault(path: Path) -> str | None:
    """What is wrong with a shard's header, or None."""
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
