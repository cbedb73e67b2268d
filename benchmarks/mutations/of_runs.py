"""List frauds and mistakes with whole runs: worse runs left out, runs chosen by result, one run shown as several."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.mutations.claims import seal, write_attempt
from benchmarks.mutations.edits import ONE, STEP, Change, finals, twin, write_text
from benchmarks.mutations.folders import Folder, rewrite
from benchmarks.mutations.study import Kind


def plain(text: str) -> bytes:
    return text.encode()


def zipped(text: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("train_seed7.log"), text)
    return packed.getvalue()


def left(name: str, pack: Callable[[str], bytes] = plain, **facts: Any) -> Change:
    """Put a run that nobody counts into a file. In a sweep it does not go next to the plan."""

    def change(folder: Folder) -> None:
        run = folder.extra(**facts)
        if folder.dialect.is_sweep:
            name_there = f"candidate/seed-7/attempt-1/{name.rpartition('/')[2]}"
            write_attempt(folder.path / "candidate/seed-7/attempt-1", run, hour=9, state="failed")
        elif folder.dialect.is_speedrun:
            name_there = name.replace("train_seed7.log", "9d0f3a1c-run.txt")
        else:
            name_there = name
        write_text(folder, folder.path / name_there, pack(folder.text_of(run)))

    return change


def no_result(text: str) -> bytes:
    """Respell every result line so that the run seems to have failed."""
    head, ruler, rest = text.rpartition("=" * 100)
    return (head + ruler + re.sub(r"^(?!.*step|\d+/)(.*)val_bpb([:=])", r"\1bits\2", rest, flags=re.MULTILINE)).encode()


def cut(text: str) -> bytes:
    return text[: int(len(text) * 0.9)].rpartition("\n")[0].encode()


def header(text: str) -> bytes:
    return "\n".join(text.split("\n")[:-40]).partition("step:1/")[0].encode()


def as_nan(text: str) -> bytes:
    head, ruler, rest = text.rpartition("=" * 100)
    pattern = r"(val_(?:loss|bpb)[:=] ?)[\d.]+(?=(?: val_bpb[:=] ?[\d.]+)?[^\n]*(?:\n[^\n]*){0,6}\Z)"
    return (head + ruler + re.sub(pattern, r"\1nan", rest)).encode()


def other_label(text: str) -> bytes:
    head, ruler, rest = text.rpartition("=" * 100)
    return (head + ruler + re.sub(r"^(?:final|quantized|result)\w*", "debug_eval", rest, flags=re.MULTILINE)).encode()


def trials(worse_first: bool) -> Change:
    """Put a worse run of its seed into the log of a run that counts."""

    def change(folder: Folder) -> None:
        run, path = folder.runs[ONE], folder.logs[ONE]
        worse = folder.text_of(folder.extra(seed=run.seed))
        own = folder.text_of(run)
        write_text(folder, path, worse + own if worse_first else own + worse)

    return change


def retried(folder: Folder) -> None:
    """Keep the worse log of a seed next to the one that counts."""
    if folder.dialect.is_sweep:
        return
    text = folder.text_of(folder.extra(seed=folder.runs[ONE].seed))
    write_text(folder, folder.logs[ONE].with_name("train_seed42_first.log"), text)


def best_three(folder: Folder) -> None:
    """Leave three worse runs in the folder, of seeds that the JSON does not name."""
    if folder.dialect.is_sweep:
        return
    for seed in (7, 8, 9):
        run = folder.extra(noise=seed, clock=seed)
        run = replace(run, seed=None if run.seed is None else seed)
        write_text(folder, folder.log(run, seed), folder.text_of(run))


def copied(folder: Folder) -> None:
    """Show the first run as the last one too, with only the seed changed."""
    first, last = folder.runs[0], folder.runs[-1]
    rewrite(folder, [*folder.runs[:-1], replace(first, seed=last.seed)])
    seal(folder)


def copied_as_is(folder: Folder) -> None:
    write_text(folder, folder.logs[-1], folder.logs[0].read_bytes())


def spliced(folder: Folder) -> None:
    """Replace the second half of the last run's steps by the first run's lines."""
    taken = {found[0]: line for line in folder.logs[0].read_text().split("\n") if (found := STEP.match(line))}
    half = folder.runs[0].last_step // 3
    lines = [
        taken.get(found[0], line)
        if (found := STEP.match(line)) and half < int(found[1]) < folder.runs[0].last_step - 30
        else line
        for line in folder.logs[-1].read_text().split("\n")
    ]
    write_text(folder, folder.logs[-1], "\n".join(lines))


def close(apart: float) -> Change:
    """Give all runs nearly the same final value."""

    def change(folder: Folder) -> None:
        first = folder.runs[0]
        runs = [replace(run, val_loss=round(first.val_loss + n * apart, 8)) for n, run in enumerate(folder.runs)]
        rewrite(folder, runs)
        seal(folder)

    return change


def clock_of_first(folder: Folder) -> None:
    rewrite(folder, [*folder.runs[:-1], replace(folder.runs[-1], clock=folder.runs[0].clock)])
    seal(folder)


def own_clock(**facts: Any) -> Change:
    return lambda folder: twin(clock=folder.runs[-1].clock, **facts)(folder)


KINDS = (
    Kind(name="a worse seed's log that the JSON does not name", change=left("train_seed7.log")),
    Kind(name="three of six seeds, the worse logs next to them", change=best_three),
    Kind(name="a worse log in a subfolder", change=left("old/train_seed7.log")),
    Kind(name="a worse log in a hidden folder", change=left(".old/train_seed7.log")),
    Kind(name="a worse log named .bak", change=left("train_seed7.log.bak")),
    Kind(name="a worse log named .md", change=left("notes.md")),
    Kind(name="a worse log named .json", change=left("notes.json")),
    Kind(name="a worse log as a hidden file", change=left(".train_seed7.log")),
    Kind(name="a worse log without a suffix", change=left("seed7")),
    Kind(name="a worse log in UTF-16, as .dat", change=left("seed7.dat", lambda text: text.encode("utf-16"))),
    Kind(
        name="a worse log, gzip", change=left("train_seed7.log.gz", lambda text: gzip.compress(text.encode(), mtime=0))
    ),
    Kind(name="a worse log, xz", change=left("train_seed7.log.xz", lambda text: lzma.compress(text.encode()))),
    Kind(name="a worse log in a zip", change=left("old.zip", zipped)),
    Kind(name="a worse log whose result is respelled", change=left("train_seed7.log", no_result)),
    Kind(name="a worse log cut before its result", change=left("train_seed7.log", cut)),
    Kind(name="a worse log cut, in a subfolder", change=left("failed/train_seed7.log", cut)),
    Kind(name="a worse log with its label renamed", change=left("train_seed7.log", other_label)),
    Kind(name="a run that ended in NaN, not named", change=left("train_seed7.log", as_nan)),
    Kind(name="a worse seed's log, emptied", change=left("train_seed7.log", lambda _: b"")),
    Kind(name="two trials in a log, the better one last", change=trials(worse_first=True)),
    Kind(name="two trials in a log, the better one first", change=trials(worse_first=False)),
    Kind(name="two logs of one seed, the better one claimed", change=retried),
    Kind(name="a log copied, with another seed", change=copied),
    Kind(name="a log copied without any change", change=copied_as_is),
    Kind(name="a copy with another result", change=twin()),
    Kind(name="a copy with losses shifted", change=twin(shift=0.003)),
    Kind(name="a copy with losses scaled", change=twin(scale=1.0007)),
    Kind(name="a copy with noise on its losses", change=twin(jitter=0.003)),
    Kind(name="a copy's losses with another clock", change=own_clock()),
    Kind(name="a copy's losses with noise and another clock", change=own_clock(jitter=0.003)),
    Kind(name="a copy's losses shifted, with another clock", change=own_clock(shift=0.006)),
    Kind(name="a copy's clock under other losses", change=clock_of_first),
    Kind(name="the second half of another seed's curve", change=spliced),
    Kind(name="results that differ in the seventh decimal", change=close(2e-7)),
    Kind(name="the same result in all runs", change=close(0.0)),
    Kind(
        name="worse seeds' logs deleted",
        change=lambda folder: rewrite(folder, folder.runs[:2] if len(folder.runs) > 3 else folder.runs),
        unseen="nothing of them is left",
    ),
    Kind(
        name="a worse run printed as another configuration",
        change=left("train_seed7.log", lambda text: text.replace("20000", "21000").encode()),
        unseen="its log says that it is another experiment",
    ),
    Kind(
        name="a copy with noise as large as between seeds, and another clock",
        change=own_clock(jitter=0.06),
        unseen="such losses are as far apart as those of two seeds",
    ),
    Kind(
        name="one result better by 0.0007",
        change=finals(-0.0012, ONE),
        unseen="honest results scatter as much around the last validation",
    ),
    Kind(name="all results better by 0.012", change=finals(-0.02), unseen="a better evaluation looks the same"),
)
