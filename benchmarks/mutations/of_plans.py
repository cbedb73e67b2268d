"""List frauds and mistakes with a sweep: its plan, its attempts, and what is recorded about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.mutations.claims import seal, write_attempt, write_sweep
from benchmarks.mutations.edits import Change, both, file, write_text
from benchmarks.mutations.folders import Folder
from benchmarks.mutations.study import Kind


def sweep(change: Change) -> Change:
    return lambda folder: change(folder) if folder.dialect.is_sweep else None


def planned(**changes: Any) -> Change:
    return sweep(lambda folder: (write_sweep(folder, **changes), seal(folder), None)[-1])


def attempt(seed: int, number: int, state: str, text: Callable[[str], str] = str) -> Change:
    """Add an attempt with a worse run to a sweep."""

    def change(folder: Folder) -> None:
        run, at = folder.extra(seed=seed), folder.path / "candidate" / f"seed-{seed}" / f"attempt-{number}"
        write_attempt(at, run, hour=9, state=state)
        write_text(folder, at / "train.log", text(folder.text_of(run)))

    return sweep(change)


def before_it(change: Change) -> Change:
    """Make the claimed run of seed 42 its second attempt, so that another can be the first."""

    def apply(folder: Folder) -> None:
        seed = folder.path / "candidate" / "seed-42"
        (seed / "attempt-1").rename(seed / "attempt-2")
        table = json.loads((seed / "attempt-2" / "run.json").read_text()) | {"attempt": 2}
        (seed / "attempt-2" / "run.json").write_text(json.dumps(table))
        change(folder)

    return sweep(apply)


def started_late(folder: Folder) -> None:
    write_attempt(folder.path / "candidate/seed-1337/attempt-1", folder.runs[0], hour=20)
    seal(folder)


def unsealed(folder: Folder) -> None:
    """Edit a log after its run.json was written."""
    path = folder.path / "candidate/seed-42/attempt-1/train.log"
    path.write_text(path.read_text().replace("peak memory allocated: 9001", "peak memory allocated: 8001"))


def remove_seed(folder: Folder) -> None:
    for name in ("train.log", "run.json"):
        (folder.path / "candidate/seed-2025/attempt-1" / name).unlink()


KINDS = (
    Kind(name="plan: a worse seed taken out", change=both(attempt(7, 1, "succeeded"), planned())),
    Kind(name="plan: a seed without a result", change=sweep(remove_seed)),
    Kind(name="plan: a worse attempt made again", change=before_it(attempt(42, 1, "succeeded"))),
    Kind(
        name="plan: a worse attempt killed",
        change=before_it(attempt(42, 1, "stopped", lambda text: text[: int(len(text) * 0.9)])),
    ),
    Kind(name="plan: a worse attempt called lost", change=before_it(attempt(42, 1, "lost"))),
    Kind(
        name="plan: a worse run called failed", change=both(planned(seeds=[1337, 42, 2025, 7]), attempt(7, 1, "failed"))
    ),
    Kind(
        name="plan: edited after it was frozen",
        change=sweep(file("plan.json", lambda text: text.replace("2025", "2026"))),
    ),
    Kind(
        name="plan: a weaker level",
        change=sweep(
            lambda f: write_sweep(f, ruleset=json.loads((f.path / "plan.json").read_text())["ruleset"] | {"alpha": 0.3})
        ),
    ),
    Kind(name="plan: another number to beat", change=planned(sota=1.25)),
    Kind(name="plan: a seed started after a later one's result", change=sweep(started_late)),
    Kind(name="plan: another script", change=sweep(file("script.py", lambda text: f"{text}\nTUNED = 2\n"))),
    Kind(name="plan: a log edited after its run", change=sweep(unsealed)),
)
