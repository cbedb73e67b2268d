"""The faults of benchmarks.faults that have to do with the sweep's files: its disk, its log, its storage, its attempts."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from analysis.untrusted.files import LIMIT
from benchmarks.fault_kinds import Fault, Scene, kill
from benchmarks.fault_places import ROOT, Local, Small, Stored, wait_for

LONG_S = 12.0


def fill_disk(scene: Scene) -> None:
    with contextlib.suppress(OSError), open(scene.place.room / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))


def free_disk(scene: Scene) -> None:
    (scene.place.room / "filler").unlink(missing_ok=True)


def free_after_a_wait(scene: Scene) -> None:
    wait_for(lambda: waits(scene), "the driver's word that its disk is full")
    time.sleep(LONG_S)
    free_disk(scene)


def waits(scene: Scene) -> bool:
    """Return whether the driver says that it waits for its disk."""
    text = said(scene)
    return text.count("; waiting") > text.count(" could be written after ")


def make_read_only(scene: Scene) -> None:
    """Let no file of the sweep be opened for writing any more, and give the driver something to write."""
    where = str(scene.sweep)
    subprocess.run(["mount", "--bind", where, where], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", where], check=True)
    kill(scene.ranks()[-1])


def make_writable(scene: Scene) -> None:
    wait_for(lambda: waits(scene), "the driver's word that its disk is read-only")
    time.sleep(LONG_S)
    subprocess.run(["umount", "--lazy", str(scene.sweep)], check=True)


def said(scene: Scene) -> str:
    return (scene.place.folder / "driver.log").read_text()


def waited(why: str) -> Callable[[Scene], str]:
    """Return a check that the driver has waited for its disk, and has left no broken line in the journal."""

    def check(scene: Scene) -> str:
        text = said(scene)
        if f" cannot be written: {why}; waiting" not in text or " could be written after " not in text:
            return f"the driver did not wait: {text[-1000:]}"
        try:
            [json.loads(line) for line in (scene.sweep / "events.jsonl").read_text().splitlines()]
        except ValueError as error:
            return f"the journal is broken: {error}"
        return ""

    return check


def delete_sweep(scene: Scene) -> None:
    while scene.sweep.exists():
        shutil.rmtree(scene.sweep, ignore_errors=True)


def remains_of_a_deleted_sweep(scene: Scene) -> str:
    text = said(scene)
    if scene.sweep.exists():
        return f"made anew: {sorted(scene.sweep.rglob('*'))}"
    if text.count(" is gone: it was deleted or moved") != 1 or "Traceback" in text:
        return f"not one sentence: {text[-1000:]}"
    return ""


def long_log(scene: Scene) -> str:
    size = (scene.attempt / "train.log").stat().st_size
    return f"the log has {size} bytes" if size > LIMIT + 1 else ""


def second_user(scene: Scene) -> str:
    """Let another user run a sweep of the same name at the same storage; return what that changed."""
    there, other = scene.place.storage / scene.sweep.name, scene.place.folder / "other" / scene.sweep.name
    shutil.rmtree(other, ignore_errors=True)
    before = (there / "plan.json").read_bytes()
    words = ["run", "--script", str(scene.place.folder / "train.py"), "--sota", "1.3", "--seeds", "1,2,3"]
    found = command(scene, "orchestration.sweep", *words, "--output", str(other), *scene.place.options)
    driver = json.loads((scene.sweep / "sweep.lock").read_text())["driver"]
    if found.returncode != 2 or "Traceback" in found.stderr:
        return f"the second user's sweep exited with {found.returncode}: {found.stderr[-500:]}"
    same = (there / "plan.json").read_bytes() == before
    same &= json.loads((there / "sweep.lock").read_text())["driver"] == driver
    return "" if same else "the second user changed the storage"


def run_by_a_second_user(scene: Scene) -> str:
    trouble = second_user(scene)
    kill(scene.ranks()[-1])
    return trouble


def lacks(scene: Scene, finding: str) -> str:
    """Return what `check` says of the sweep if it does not find this."""
    found = command(scene, "analysis.significance", "check", str(scene.sweep))
    return "" if finding in found.stdout else f"`check` does not find {finding}: {found.stdout}{found.stderr}"


def command(scene: Scene, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        env=scene.place.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def remade(scene: Scene) -> str:
    """Return what the journal does not say of an attempt that killed itself for its value."""
    events = [json.loads(line) for line in (scene.sweep / "events.jsonl").read_text().splitlines()]
    seed, attempt = (int(name.rpartition("-")[2]) for name in scene.attempt.parts[-2:])
    ends = [one for one in events if (one["seed"], one["attempt"], one["state"]) == (seed, attempt, "lost")]
    return "" if [one["last"] for one in ends] == [1.8] else f"the journal says {ends}"


OF_THE_FILES = {
    "disk": Fault(
        name="full disk (tmpfs)",
        place=Small,
        inject=fill_disk,
        heal=free_disk,
        rounds=0.5,
    ),
    "disk-long": Fault(
        name="disk full for 12 s, the journal on it",
        place=Small,
        inject=fill_disk,
        heal=free_after_a_wait,
        after=waited("No space left on device"),
        rounds=0.5,
    ),
    "read-only": Fault(
        name="disk read-only for 12 s",
        place=Small,
        inject=make_read_only,
        heal=make_writable,
        after=waited("Read-only file system"),
        word="SIGKILL",
        rounds=0.5,
    ),
    "long-log": Fault(
        name="200 MB of log",
        place=Local,
        inject=lambda scene: kill(scene.ranks()[0], number=signal.SIGUSR2),
        states=("failed",),
        word="grew beyond 64 MiB",
        after=long_log,
        ends=4,
        rounds=0.3,
    ),
    "deleted": Fault(
        name="sweep directory deleted",
        place=Local,
        inject=delete_sweep,
        states=(),
        after=remains_of_a_deleted_sweep,
        ends=4,
        rounds=0.3,
    ),
    "second-user": Fault(
        name="second user's sweep at its storage",
        place=Stored,
        inject=run_by_a_second_user,
        at_end=second_user,
        word="SIGKILL",
        rounds=0.5,
    ),
    "reroll": Fault(
        name="self-kill for its value",
        place=Local,
        inject=lambda scene: kill(scene.ranks()[0], number=signal.SIGRTMIN),
        word="SIGKILL",
        after=remade,
        at_end=lambda scene: lacks(scene, "attempts-remade"),
    ),
}
