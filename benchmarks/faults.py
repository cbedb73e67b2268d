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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.fault_disks import OF_THE_FILES
from benchmarks.fault_kinds import FAULTS, STALL_S, Fault, Scene, kill
from benchmarks.fault_places import SCRIPT, Jobs, Local, Nodes, Small, Stored, processes, wait_for
from benchmarks.table import publish

KINDS = FAULTS | OF_THE_FILES
PLACES = {Small: "tmpfs", Stored: "storage", Local: "local", Nodes: "3 nodes", Jobs: "job"}
RESULTS = Path(__file__).with_name("results") / "faults.md"


class LostError(RuntimeError):
    """A seed without a result, with two, or run again though it had one."""


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
        if scene.driver.poll() is not None:
            raise LostError(f"the sweep exited with {scene.driver.poll()} before its fault")
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
    trial, mark = Trial(fault), scene.mark
    trial.fault_of_ours = fault.inject(scene) or ""
    injected = time.monotonic()
    try:
        wait_for(lambda: not processes(mark), "the end", fault.within_s)
        trial.gone_s = time.monotonic() - injected
    except TimeoutError:
        trial.fault_of_ours = f"left behind: {list(processes(mark).values())}"
        kill(*processes(mark))
    fault.heal(scene)
    if fault.ends is not None:
        return ended(trial, scene)

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
    trial.fault_of_ours = trial.fault_of_ours or misnamed(scene, fault) or fault.after(scene)
    return trial


def misnamed(scene: Scene, fault: Fault) -> str:
    """Return the state and the reason of the attempt where they are not as they should be."""
    found = scene.manifest
    right = found.get("state") in fault.states and fault.word in str(found.get("reason"))
    return "" if right else f"{found.get('state')}: {found.get('reason')}"


def ended(trial: Trial, scene: Scene) -> Trial:
    """Wait for the end of a sweep that the fault ends."""
    fault, code = trial.fault, scene.driver.wait(60)
    wrong = "" if code == fault.ends else f"the sweep exited with {code}"
    trial.fault_of_ours = wrong or (misnamed(scene, fault) if fault.states else "") or fault.after(scene)
    return trial


def sweep(place: Any, folder: Path, faults: list[Fault]) -> Iterator[Trial]:
    """Run one sweep with a seed for every fault. Raises LostError where a seed was lost or run twice."""
    script, ledger = place.folder / "train.py", place.folder / "ledger"
    script.write_text(SCRIPT)
    ledger.touch()
    scene = Scene(place, folder)
    seeds = list(range(1, len(faults) + 1))
    care = ["--stall-timeout", str(STALL_S), *place.options]
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
    if faults[0].ends is None:
        account(scene, ledger, code)
        for at_end in {fault.at_end for fault in faults}:
            if trouble := at_end(scene):
                raise LostError(trouble)


def account(scene: Scene, ledger: Path, code: int) -> None:
    """Raise LostError unless every seed has one result, none was run again that had one, and the sweep ended well."""
    seeds, folder = json.loads((scene.sweep / "plan.json").read_text())["seeds"], scene.sweep
    done = sorted(map(int, ledger.read_text().split()))
    manifests = [json.loads(path.read_text()) for path in folder.glob("candidate/seed-*/attempt-*/run.json")]
    succeeded = sorted(manifest["seed"] for manifest in manifests if manifest["state"] == "succeeded")
    if not set(done) == set(seeds) or succeeded != seeds:  # a fault may hit an attempt after its last line
        raise LostError(f"seeds {seeds}; ran to their end: {done}; have a result: {succeeded}")
    for logs in (sorted(folder.glob(f"candidate/seed-{seed}/attempt-*/train.log")) for seed in seeds):
        if thrown := [log for log in logs[:-1] if b"\nfinal_score " in log.read_bytes()]:
            raise LostError(f"thrown away: the result of {thrown[0]}")
    said = json.loads((folder / "verdict.json").read_text())
    right = (
        "supported" if len(seeds) > 1 else "unusable"
    )  # attempts that were remade may refuse what the numbers support
    expected = {"supported": 0, "refused": 1}.get(said["gate"], 1 if isinstance(scene.place, Jobs) else 3)
    if said["verdict"] != right or code != expected:  # Ray says only whether a job failed
        raise LostError(f"the sweep exited with {code}; see {scene.place.folder / 'driver.log'}")


def experiment(kinds: list[str], rounds: int, trials: list[Trial]) -> None:
    """Run all trials and add them, those on a local Ray beside the others: most of a trial is waiting."""
    beside = [place for place in PLACES if place is not Local]
    with ThreadPoolExecutor(1) as pool:
        local = pool.submit(trials_at, [Local], kinds, rounds, trials)
        trials_at(beside, kinds, rounds, trials)  # Ray's test cluster wants the main thread
        local.result()


def trials_at(places: list[type[Local]], kinds: list[str], rounds: int, trials: list[Trial]) -> None:
    """Run a sweep for each place that the kinds need, and one for each fault that ends its sweep; add to the trials."""
    for place in places:
        chosen = [KINDS[kind] for kind in kinds if KINDS[kind].place is place]
        faults = [fault for turn in range(rounds) for fault in chosen if turn < max(1, fault.rounds * rounds)]
        together = [fault for fault in faults if fault.ends is None]
        for own in [*([fault] for fault in faults if fault.ends is not None), *([together] if together else [])]:
            with contextlib.ExitStack() as stack:
                folder = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))  # short, because Ray puts its sockets there
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                where = place(folder)
                stack.callback(where.stop)
                for trial in sweep(where, where.room / "sweep", own):
                    trials.append(trial)
                    tell(len(trials), trial)


def tell(number: int, trial: Trial) -> None:
    gone = f"gone after {trial.gone_s:.1f} s" if trial.gone_s is not None else ""
    place = PLACES[trial.fault.place]
    print(f"{number:>4} {place:<8} {trial.fault.name:<38} {gone} {trial.fault_of_ours}", flush=True)


def table(trials: list[Trial], minutes: float) -> list[str]:
    lines = [
        f"## {date.today()}, {platform.machine()}, {os.cpu_count()} cores: {len(trials)} faults in {minutes:.0f} minutes",
        "",
    ]
    lines += ["| fault | Ray | times | state named rightly | all processes gone, longest | left behind |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    for fault in dict.fromkeys(trial.fault for trial in trials):
        own = [trial for trial in trials if trial.fault is fault]
        right = sum(not trial.fault_of_ours or trial.fault_of_ours.startswith("left") for trial in own)
        gone = [trial.gone_s for trial in own if trial.gone_s is not None]
        longest = f"{max(gone):.1f} s" if gone else "-"
        lines.append(
            f"| {fault.name} | {PLACES[fault.place]} | {len(own)} | {right} | {longest} | {len(own) - len(gone)} |"
        )
    seeds = sum(trial.fault.ends is None for trial in trials)
    kept = f"Every one of the {seeds} seeds ended with exactly one result: 0 lost, 0 run twice, 0 results thrown away."
    return [*lines, "", kept] if seeds else lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each kind is tried (default 7)")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of: {','.join(KINDS)}")
    parser.add_argument("--no-results", action="store_true", help="append nothing to the file of results")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; known: {', '.join(KINDS)}")
    began, trials = time.monotonic(), list[Trial]()
    try:
        experiment(kinds, options.rounds, trials)
    except Exception:
        print("\n".join(table(trials, (time.monotonic() - began) / 60)[:-1]))
        raise
    lines = table(trials, (time.monotonic() - began) / 60)
    print("\n".join(lines)) if options.no_results else publish(lines, RESULTS)
    sys.exit(any(trial.fault_of_ours for trial in trials))


if __name__ == "__main__":
    main()
