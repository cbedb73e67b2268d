"""The data that a run reads, as run.json says it: tokenizer and token shards, by their digests."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from orchestration.disk.files import file_digest
from orchestration.worker.facts import Facts, Unknown, plain

DATA_S = 20.0
MOST_SHARDS, MOST_FILES, END_BYTES, MOST_TOKENIZER_BYTES = 256, 20_000, 2**20, 2**28


def data(facts: Facts, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the tokenizer's digest, and the name, bytes and `ends_sha256` of every file below DATA_PATH.

    `ends_sha256` is the SHA-256 of the first and the last MiB (of all of a smaller file): reading 10 GB would keep the GPUs
    waiting. It shows another data set and a file that was cut, not a byte that changed in the middle.
    Hidden files are left out. Of very many files only the first and the last by name are read; `count` is the number of all.
    """

    def path_of(name: str) -> Path:
        if not (text := environment.get(name)):
            raise Unknown(f"{name} is not set")
        if not os.path.isabs(text):
            raise Unknown(f"{name} is relative: only the script knows to what")
        return Path(text)

    def tokenizer() -> dict[str, Any]:
        path = path_of("TOKENIZER_PATH")
        if not path.is_file():
            raise Unknown("TOKENIZER_PATH is not a file")
        if (size := path.stat().st_size) > MOST_TOKENIZER_BYTES:
            raise Unknown(f"TOKENIZER_PATH has {size} bytes; at most {MOST_TOKENIZER_BYTES} are read")
        return {"bytes": size, "sha256": file_digest(path)}

    def shards() -> dict[str, Any]:
        root, deadline = path_of("DATA_PATH"), time.monotonic() + DATA_S
        names = _names(root, deadline)
        chosen = names if len(names) <= MOST_SHARDS else names[: MOST_SHARDS // 2] + names[-MOST_SHARDS // 2 :]
        digests: list[dict[str, Any]] = []
        for name in chosen:
            if time.monotonic() > deadline:
                break
            found = facts.get(f"data.shards.digests.{len(digests)}", partial(_ends, root / name))
            digests.append({"name": plain(name)} | (found or {"bytes": None, "ends_sha256": None}))
        if len(digests) < len(names):
            why = f"at most {MOST_SHARDS} are" if len(digests) == len(chosen) else f"{DATA_S:g} s had passed"
            facts.unknown["data.shards.digests"] = f"{len(digests)} of {len(names)} files were read: {why}"
        return {"count": len(names), "digests": digests}

    return {"tokenizer": facts.get("data.tokenizer", tokenizer), "shards": facts.get("data.shards", shards)}


def _names(root: Path, deadline: float) -> list[str]:
    """Return the paths of the files below a folder, in order. A link to a folder counts as a file and is not followed."""

    def refused(error: OSError) -> None:
        raise error

    names: list[str] = []
    for folder, folders, files in os.walk(root, onerror=refused):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        names += [os.path.relpath(os.path.join(folder, n), root) for n in files + links if not n.startswith(".")]
        folders[:] = [name for name in folders if not name.startswith(".")]
        if len(names) > MOST_FILES or time.monotonic() > deadline:
            raise Unknown(f"DATA_PATH holds more than {MOST_FILES} files, or took more than {DATA_S:g} s to list")
    return sorted(names)


def _ends(path: Path) -> dict[str, Any]:
    if not path.is_file():  # reading a pipe would block
        raise Unknown("not a regular file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(file.read(END_BYTES))
        file.seek(max(END_BYTES, size - END_BYTES))
        digest.update(file.read(END_BYTES))
    return {"bytes": size, "ends_sha256": digest.hexdigest()}
