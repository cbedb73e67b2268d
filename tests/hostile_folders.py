"""Folders made to cost whoever reads them as much time or memory as they can: each a name and what writes it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

Make = Callable[[Path], object]
SIZE = 2**26  # what is read of one log at most


def filled(unit: bytes, size: int = SIZE) -> bytes:
    return (unit * (size // len(unit) + 1))[:size]


def small(seed: int) -> bytes:
    return b"seed:%d\nstep:1/1 train_loss:%d\nfinal val_loss:2.%06d val_bpb:1.2%05d\n" % (seed, seed, seed, seed)


def one(unit: bytes) -> Make:
    """Return what writes one log of the largest size, of one piece again and again."""
    return lambda folder: (folder / "train.log").write_bytes(filled(unit))


def many(count: int, content: Callable[[int], bytes], name: str = "seed{}.log") -> Make:
    def make(folder: Path) -> None:
        for number in range(count):
            path = folder / name.format(number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content(number))

    return make


def beside(name: str, content: Callable[[], bytes], claim: object = None) -> Make:
    """Return what writes three honest logs and a file next to them."""

    def make(folder: Path) -> None:
        many(3, small)(folder)
        (folder / "submission.json").write_text(json.dumps({} if claim is None else claim))
        (folder / name).write_bytes(content())

    return make


def sparse(count: int, size: int, suffix: str) -> Make:
    def make(folder: Path) -> None:
        for number in range(count):
            with open(folder / f"y{number}{suffix}", "wb") as file:
                file.truncate(size)

    return make


def claiming(claim: dict[str, object], runs: Make) -> Make:
    def make(folder: Path) -> None:
        (folder / "submission.json").write_text(json.dumps(claim))
        runs(folder)

    return make


def archive_of_names(folder: Path) -> None:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"a{number}.txt", "")


def archive_of_long_names(folder: Path) -> None:
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 10
    (folder / "x.tar").write_bytes((head.tobuf() + b"abc".ljust(512, b"\0")) * 20_000)


def fifos(folder: Path) -> None:
    for name in ("train.log", "README.md", "submission.json", "train_gpt.py", "x.gz", "plan.json"):
        os.mkfifo(folder / name)


def curve(seed: int) -> bytes:
    steps = (
        b"step:%d/1000 train_loss:%.4f train_time:%dms\n" % (n, 3 + (seed * n) % 997 / 1e4, 101 * n + seed % 89)
        for n in range(1000)
    )
    return b"seed:%d\n" % seed + b"".join(steps) + small(seed).split(b"\n")[2] + b"\n"


LABELS = b"".join(b"l%d val_loss:2.0 val_bpb:1.2\n" % n for n in range(240))
SETTINGS = b"hyperparameters:\n" + b"".join(b" k%d: v%d\n" % (n, n) for n in range(1990))
SOURCE = b"import os\n" + b"".join(b'x%d = "lit%d"\n' % (n, n) for n in range(12_000))
LOGS: dict[str, Make] = {
    "one seed": one(b"seed:5\n"),
    "many seeds": lambda folder: (folder / "train.log").write_bytes(
        b"".join(b"seed:%d\n" % n for n in range(5_000_000))[:SIZE]
    ),
    "one step": one(b"step:1/2\n"),
    "metrics and steps": one(b"final val_loss:2.0 val_bpb:1.2\nstep:1/2\n"),
    "two metrics": one(b"a val_loss:2.0 val_bpb:1.2\nb val_loss:2.0 val_bpb:1.2\n"),
    "val_loss": one(b"val_loss\n"),
    "labels": lambda folder: (folder / "train.log").write_bytes(
        b"".join(b"l%d val_loss:2 val_bpb:1\n" % n for n in range(9**6))
    ),
    "settings": one(b"a=1\n"),
    "settings of one line": one(b"a=1 " * 4000 + b"\n"),
    "newlines": one(b"\n"),
    "blanks": one(b" \n"),
    "one line": one(b"a"),
    "zeros": one(b"\0"),
    "zeros in lines": one(b"\0\n"),
    "bytes that are no text": one(b"\xff\xc3\x80\n"),
    "UTF-16": lambda folder: (folder / "train.log").write_bytes(
        b"\xff\xfe" + filled("step:1/2\n".encode("utf-16-le"), SIZE - 2)
    ),
    "rulers": one(b"=" * 20 + b"\n"),
    "sources": one(b"import os\n" + b"=" * 20 + b"\nstep:1/2\n"),
    "warm-ups": one(b"step:1/2\nwarmup_step:1/2\n"),
    "ranks": one(b"[rank0]: step:1/2\n"),
    "two writers": one(b"step:5/9 \nstep:2/9 \n"),
    "evaluations": lambda folder: (folder / "train.log").write_bytes(b"step:1/2\n" + filled(b"val eval_time:5ms\n", SIZE // 2)),
    "nine large logs": many(9, lambda n: b"seed:%d\n" % n + filled(b"step:1/2 train_loss:3\n", SIZE - 99)),
    "twenty thousand logs": many(20_000, small),
    "twenty thousand empty logs": many(20_000, lambda n: b""),
    "two thousand folders": many(1900, small, "y{}/a.log"),
    "twenty thousand folders": many(20_000, lambda n: b"", "y{}/a.md"),
    "two hundred runs a log": many(50, lambda n: b"".join(small(1000 * n + k) for k in range(199))),
    "five hundred curves": many(500, curve),
    "labels in every log": many(200, lambda n: small(n) + LABELS),
    "settings in every log": many(190, lambda n: SETTINGS + b" last: %d\nx\n" % n + small(n)),
    "programs in every log": many(60, lambda n: SOURCE + b"y=%d\n" % n + b"=" * 100 + b"\nRunning Python 3.11\n" + small(n)),
    "a deep program": many(
        3, lambda n: b"import os\nx=" + b"[" * 60_000 + b"]" * 60_000 + b"\n" + b"=" * 100 + b"\nRunning Python 3.11\n" + small(n)
    ),
    "a claim that no label fits": claiming({"val_bpb": 1.7}, many(90, lambda n: small(n) + LABELS)),
    "a claim that no step fits": claiming(
        {"val_bpb": 1.5}, many(3, lambda n: filled(b"step:1/2 val_bpb:1.1\n", 10**7) + small(n))
    ),
    "a hundred claimed seeds": claiming(
        {"val_bpb": 1.5, "seeds": {str(n): {"val_bpb": 1.23456789, "log": "x.log"} for n in range(100)}}, many(1900, small)
    ),
}  # fmt: skip
OTHERS: dict[str, Make] = {
    "a JSON of keys": beside("a.md", bytes, {f"k{n}": 1 for n in range(90_000)}),
    "a JSON of a million keys": beside("a.md", bytes, {f"k{n}": 1 for n in range(1_000_000)}),
    "a JSON of hardware": beside("a.md", bytes, {f"hardware_{n}": "4xA100" for n in range(30_000)}),
    "a JSON of times": beside("a.md", bytes, {f"train_time_s_{n}": n for n in range(30_000)}),
    "a JSON of headlines": beside("a.md", bytes, {f"val_bpb_{n}": 1.5 for n in range(40_000)}),
    "a table of 50 MB": beside("README.md", lambda: filled(b"| seed | val_bpb |\n| 1 | 1.2 |\n", 50 * 2**20)),
    "bars": beside("README.md", lambda: filled(b"|", 50 * 2**20)),
    "losses": beside("README.md", lambda: filled(b"losses = [1.2, 1.3, ", 2**20)),
    "a nested program": beside("train_gpt.py", lambda: b"(" * 100_000 + b")" * 100_000),
    "a program of 60 MB": beside("train_gpt.py", lambda: filled(b"x = [[[[1]]]] + 1\n", 60 * 2**20)),
    "three thousand programs": many(3000, lambda n: b"x = 1\n" * 2000, "s{}.py"),
    "packed seeds": beside("train.log.gz", lambda: gzip.compress(filled(b"seed:5\n"))),
    "packed zeros": beside("x.log.gz", lambda: gzip.compress(b"\0" * 2**29, 1)),
    "packed lines": beside("x.log.gz", lambda: gzip.compress(b"a\n" * 2**27, 1)),
    "a million packed parts": beside("x.gz", lambda: gzip.compress(b"a") * 1_000_000),
    "xz": beside("x.log.xz", lambda: lzma.compress(b"a\n" * 2**26, preset=0)),
    "bz2": beside("x.log.bz2", lambda: bz2.compress(b"a\n" * 2**26, 1)),
    "twenty packed logs": many(20, lambda n: gzip.compress(b"step:1/2 a\n" * 5_000_000, 1), "x{}.log.gz"),
    "names in a zip": archive_of_names,
    "names in a tar": archive_of_long_names,
    "fifty sparse logs": sparse(50, 2**30, ".log"),
    "fifty sparse texts": sparse(50, 2**30, ".md"),
    "the largest log": sparse(1, 2**32, ".log"),
    "sixty thousand files": many(60_000, lambda n: b"", "y{}.dat"),
    "pipes": fifos,
}
