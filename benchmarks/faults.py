"""Inject faults into real sweeps of 2-rank runs; count what is lost, run twice or left behind.

    python -m benchmarks.faults [--rounds 7] [--kinds rank,driver] [--no-results]

Every seed of a sweep gets one fault while its ranks are training. Then three questions: is the attempt's state named
as it should be? How long do its processes live? Once the sweep is through (resumed where its driver died), does every
seed have exactly one result? Half of the seeds have ranks that ignore SIGTERM, and all start a daemon outside their
process tree. The table is appended to benchmarks/results/faults.md.

Needs Linux. The full disk and the out-of-memory kill are real and need root (a tmpfs, a memory control group).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.fault_kinds import FAULTS, STALL_S, Fault, Scene, kill
from benchmarks.fault_places import SCRIPT, Jobs, Local, Nodes, processes, wait_for
from benchmarks.table import publish

RESULTS = Path(__file__).with_name("results") / "faults.md"


class LostError(RuntimeError):
    """A seed without a result, or with two."""


@dataclass
class Trial:
    """One injected fault: how long its processes lived, and what went wrong on our side."""

    fault: Fault
    gone_s: float | None = None
    fault_of_ours: str = ""


def hit(scene: Scene, fault: Fault, whole: set[int], resume: Callable[[], None]) -> Trial:
    """Inject one fault into the running attempt of the first seed without one; go on until its state is known.

    The end of a node may take along a seed that was not meant. That seed comes again after the seeds on the other nodes,
    so no seed can be waited for by number.
    """

    def training() -> int | None:
        for seed in sorted(whole):
            attempts = (scene.sweep / "candidate" / f"seed-{seed}").glob("attempt-*")
            scene.attempt = max(attempts, key=lambda path: path.name, default=scene.sweep)
            log = scene.attempt / "train.log"
            if scene.manifest.get("state") == "running" and log.is_file() and b"step:3/" in log.read_bytes():
                return seed
        return None

    seed = wait_for(training, f"{fault.name}: the training of one of seeds {sorted(whole)}")
    whole.remove(seed)
    Path(f"{scene.place.folder}/ledger.{seed}").touch()
    trial = Trial(fault)
    fault.inject(scene)
    since = time.monotonic()
    try:
        wait_for(lambda: not processes(scene.mark), "the end", fault.within_s)
        trial.gone_s = time.monotonic() - since
    except TimeoutError:
        trial.fault_of_ours = f"left behind: {list(processes(scene.mark).values())}"
        kill(*processes(scene.mark))
    (scene.sweep.parent / "filler").unlink(missing_ok=True)

    def over() -> bool:
        return scene.manifest.get("state") not in ("running", None) or scene.driver.poll() is not None

    wait_for(over, "the attempt's end")
    with contextlib.suppress(subprocess.TimeoutExpired):
        scene.driver.wait(2 if fault.place is not Jobs and "stopped" not in fault.states else 30)
    if isinstance(scene.place, Nodes):
        scene.place.heal()
    if scene.driver.poll() is not None:
        resume()
    wait_for(lambda: scene.manifest.get("state") != "running", "the attempt's end")
    found = scene.manifest
    if found["state"] not in fault.states or fault.word not in str(found["reason"]):
        trial.fault_of_ours = f"{found['state']}: {found['reason']}"
    return trial


def sweep(place: Any, folder: Path, faults: list[Fault]) -> Iterator[Trial]:
    """Run one sweep with a seed for every fault. Raises LostError where a seed was lost or run twice."""
    script, ledger = place.folder / "train.py", place.folder / "ledger"
    script.write_text(SCRIPT)
    ledger.touch()
    scene = Scene(place, folder)
    seeds = list(range(1, len(faults) + 1))
    care = ["--stall-timeout", str(STALL_S)]
    run = ["run", "--script", str(script), "--sota", "1.3", "--seeds", ",".join(map(str, seeds)) + ","]
    run += ["--cpus-per-run", "2", "--env", f"LEDGER={ledger}", "--output", str(folder)]
    with open(place.folder / "driver.log", "ab") as log:
        scene.driver = place.start([*run, *care], log)

        def resume() -> None:
            scene.driver = place.start(["resume", str(folder), *care], log)

        try:
            whole = set(seeds)
            for fault in faults:
                yield hit(scene, fault, whole, resume)
            code = scene.driver.wait(180)
        except BaseException:
            said = (place.folder / "driver.log").read_text().splitlines()
            print(*[line for line in said if "state-dump" not in line][-60:], sep="\n", file=sys.stderr)
            raise
    done = sorted(map(int, ledger.read_text().split()))
    manifests = [json.loads(path.read_text()) for path in folder.glob("candidate/seed-*/attempt-*/run.json")]
    succeeded = sorted(manifest["seed"] for manifest in manifests if manifest["state"] == "succeeded")
    if not set(done) == set(seeds) or succeeded != seeds:  # a fault may hit an attempt after its last line
        raise LostError(f"seeds {seeds}; ran to their end: {done}; have a result: {succeeded}")
    cannot_tell = 1 if isinstance(place, Jobs) else 3  # Ray says only whether a job failed
    if code != (0 if len(seeds) > 1 else cannot_tell):
        raise LostError(f"the sweep exited with {code}; see {place.folder / 'driver.log'}")


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """Mount a tmpfs with room for two runs."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m", "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def experiment(kinds: list[str], rounds: int) -> list[Trial]:
    """Run all trials: one sweep for every place that the kinds need."""
    trials: list[Trial] = []
    for name in ("disk", "Local", "Nodes", "Jobs"):
        chosen = [FAULTS[kind] for kind in kinds if (kind == "disk") == (name == "disk")]
        chosen = [fault for fault in chosen if name in ("disk", fault.place.__name__)]
        faults = [fault for turn in range(rounds) for fault in chosen if turn < max(1, fault.rounds * rounds)]
        if not faults:
            continue
        with contextlib.ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))  # short, because Ray puts its sockets there
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            place = faults[0].place(folder)
            stack.callback(place.stop)
            room = stack.enter_context(small_disk(folder / "disk")) if name == "disk" else folder
            for trial in sweep(place, room / "sweep", faults):
                gone = f"gone after {trial.gone_s:.1f} s" if trial.gone_s is not None else ""
                print(f"{len(trials) + 1:>4} {name:<6} {trial.fault.name:<28} {gone} {trial.fault_of_ours}", flush=True)
                trials.append(trial)
    return trials


def table(trials: list[Trial], minutes: float) -> list[str]:
    lines = [
        f"## {date.today()}, {platform.machine()}, {os.cpu_count()} cores: {len(trials)} faults in {minutes:.0f} minutes",
        "",
    ]
    lines += ["| fault | Ray | times | state named rightly | all processes gone, longest | left behind |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    names = {Local: "local", Nodes: "3 nodes", Jobs: "job"}
    for fault in dict.fromkeys(trial.fault for trial in trials):
        own = [trial for trial in trials if trial.fault is fault]
        right = sum(not trial.fault_of_ours or trial.fault_of_ours.startswith("left") for trial in own)
        gone = [trial.gone_s for trial in own if trial.gone_s is not None]
        longest = f"{max(gone):.1f} s" if gone else "-"
        lines.append(
            f"| {fault.name} | {names[fault.place]} | {len(own)} | {right} | {longest} | {len(own) - len(gone)} |"
        )
    return [*lines, "", f"Every one of the {len(trials)} seeds ended with exactly one result: 0 lost, 0 run twice."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each kind is tried (default 7)")
    parser.add_argument("--kinds", default=",".join(FAULTS), help=f"of: {','.join(FAULTS)}")
    parser.add_argument("--no-results", action="store_true", help="append nothing to the file of results")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(FAULTS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; known: {', '.join(FAULTS)}")
    began = time.monotonic()
    trials = experiment(kinds, options.rounds)
    lines = table(trials, (time.monotonic() - began) / 60)
    print("\n".join(lines)) if options.no_results else publish(lines, RESULTS)
    sys.exit(any(trial.fault_of_ours for trial in trials))


if __name__ == "__main__":
    main()
