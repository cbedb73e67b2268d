"""The code of a sweep: its script, and the modules that the script imports from its own folder, frozen with the plan."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.sweepdir.json_files import of_type
from analysis.sweepdir.layout import MODULES, SCRIPT, SweepError
from analysis.untrusted.escape import beginning
from analysis.untrusted.files import FileError, leads_out, read_bounded

LARGEST_SCRIPT = 2**22  # bytes, of the script and its modules together
MOST_MODULES = 200
CACHE = "__pycache__"  # Python writes it next to the modules
_NAME = re.compile(r"(?:[^\W\d]\w*/)*[^\W\d]\w*\.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFile:
    """A module that was frozen with the script: its path below `modules`, and what it held."""

    name: str
    bytes: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The training script that was frozen: where it was, its digest, and the modules it imports from its own folder."""

    path: str | None
    sha256: str | None
    files: tuple[CodeFile, ...] = ()

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Script:
        """Take the part `script` of a plan in which `files_fault` finds nothing."""
        files, older = table.get("files", []), table.get("modules")  # once named in the plan, and not kept
        if not files and isinstance(older, list):
            files = [{"name": str(name), "bytes": None, "sha256": None} for name in older]
        return cls(
            path=of_type(table.get("path"), str),
            sha256=of_type(table.get("sha256"), str),
            files=tuple(CodeFile(name=one["name"], bytes=one["bytes"], sha256=one["sha256"]) for one in files),
        )

    @property
    def digests(self) -> dict[str, str | None]:
        """Return the SHA-256 of every file of the code, by its path in the sweep directory."""
        return {SCRIPT: self.sha256} | {f"{MODULES}/{file.name}": file.sha256 for file in self.files}


def files_fault(files: Any) -> str | None:
    """Return what is wrong with the list of a plan's modules, or None."""
    listed = isinstance(files, list) and len(files) <= MOST_MODULES and all(isinstance(one, dict) for one in files)
    if not listed:
        return f"script.files is {beginning(files)}; it must be a list of at most {MOST_MODULES} tables."
    for one in files:
        name, size, digest = (one.get(key) for key in ("name", "bytes", "sha256"))
        if not (isinstance(name, str) and _NAME.fullmatch(name) and type(size) is int and isinstance(digest, str)):
            return f"script.files has {beginning(one)}; it needs the name of a .py file below the script's folder, bytes, sha256."
    return None


def digests_of(code: Mapping[str, bytes]) -> dict[str, str | None]:
    """Return the SHA-256 of every file of the code."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in code.items()}


def described(code: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the part `script` of plan.json and run.json, without the path."""
    tables = {name: {"sha256": digest, "bytes": len(code[name])} for name, digest in digests_of(code).items()}
    files: list[dict[str, Any]] = [
        {"name": name.removeprefix(f"{MODULES}/")} | tables[name] for name in code if name != SCRIPT
    ]
    return {**tables[SCRIPT], **({"files": files} if files else {})}


def read_code(directory: Path, digests: Mapping[str, str | None]) -> dict[str, bytes]:
    """Read the code as it was when the plan was frozen. Raises SweepError if a file is missing, changed or added."""
    root, code = os.path.realpath(directory), {}
    for name, digest in digests.items():
        path = directory / name
        if leads_out(path, root):
            raise SweepError(f"{path} is a link that leads out of the sweep.")
        try:
            code[name] = read_bounded(path, LARGEST_SCRIPT)
        except FileError as error:
            raise SweepError(f"{path} {error}.") from None
        if hashlib.sha256(code[name]).hexdigest() != digest:
            raise SweepError(f"{path} was changed after the plan was frozen: put back the file with the plan's sha256.")
    for folder, folders, files in os.walk(directory / MODULES):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = [name for name in folders if name != CACHE]
        for path in (Path(folder, name) for name in (*links, *files)):
            if path.relative_to(directory).as_posix() not in digests:
                raise SweepError(f"{path} is not in the plan: take it away.")
    return code
