"""How long an install takes and how large it is: the wheel alone, then with each extra, each in a fresh environment.

    python -m benchmarks.install [EXTRA...]      # default: frames, report. It needs a package index.

What is committed is measured. pip's cache is off, so that downloads count. Sizes include the bytecode that pip makes.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.table import publish

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "install.md"
BEFORE = ("pandas", "pyarrow")  # in the base until version 0.2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """What was installed, the seconds that pip took, the packages that came, and their size."""

    what: str
    seconds: float
    packages: int
    megabytes: float


def pip(python: Path, *arguments: str) -> str:
    words = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def measured(what: str, wheel: Path, extra: str, more: Sequence[str], room: Path) -> Install:
    """Install a wheel in an environment of its own, and measure."""
    folder = room / what.replace(" ", "-")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    before = size_of(folder)
    began = time.monotonic()
    wanted = f"seedproof[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    pip(python, "install", "--quiet", "--no-cache-dir", "--constraint", "constraints.txt", wanted, *more)
    seconds = time.monotonic() - began
    listed = pip(python, "list", "--format=freeze").splitlines()
    packages = sum(not line.startswith(("pip==", "setuptools==", "seedproof")) for line in listed)
    return Install(what=what, seconds=seconds, packages=packages, megabytes=(size_of(folder) - before) / 2**20)


def size_of(folder: Path) -> int:
    """Return the bytes on disk below a folder, in whole blocks."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def main(extras: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="seedproof-install-") as name:
        room = Path(name)
        subprocess.run(["git", "archive", "--output", str(room / "tree.tar"), "HEAD"], check=True, cwd=ROOT)
        shutil.unpack_archive(room / "tree.tar", room / "tree", filter="data")
        words = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", name)
        pip(Path(sys.executable), "wheel", *words, str(room / "tree"))
        (wheel,) = room.glob("*.whl")
        plans = [("the base", "", ()), ("the base as it was", "", BEFORE), *((f"[{one}]", one, ()) for one in extras)]
        found = [measured(what, wheel, extra, more, room) for what, extra, more in plans]
    lines = [
        f"## {datetime.now(UTC):%Y-%m-%d}",
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores.\n",
        "| installed | seconds | packages | MB |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {one.what} | {one.seconds:.1f} | {one.packages} | {one.megabytes:.0f} |" for one in found),
    ]
    publish(lines, RESULTS)


if __name__ == "__main__":
    main(sys.argv[1:] or ["frames", "report"])
