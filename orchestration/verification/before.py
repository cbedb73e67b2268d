"""Check, before training is bought, what the nodes lack and what a shipped artifact scores."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.sweepdir.layout import CANDIDATE
from analysis.untrusted.files import FileError, read_small
from orchestration.driver.dealing import Size
from orchestration.verification.planning import Asked, Entry
from orchestration.worker import sandbox
from orchestration.worker.order import Sandbox
from orchestration.worker.run import INHERITED, tied

if TYPE_CHECKING:
    from orchestration.driver.nodes import Answered

LARGEST_ARTIFACT = 2**26  # bytes
EVALUATION_S = 3600.0
TOLERANCE = 0.001  # in the metric's unit: other kernels and machines round from about the fifth decimal on
ROOT = Path(__file__).resolve().parents[2]
DATA, TOKENIZER = "DATA_PATH", "TOKENIZER_PATH"
RESULT = re.compile(r"^evaluated val_loss:(?P<val_loss>[\d.]+) val_bpb:(?P<val_bpb>[\d.]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a node sees: why it can make no sandbox, and which of the paths are not there."""

    no_sandbox: str | None
    missing: frozenset[str]


def look(paths: Sequence[str], *, try_sandbox: bool) -> Seen:
    """Look around on a node."""
    fault = sandbox.fault() if try_sandbox else None
    return Seen(no_sandbox=fault, missing=frozenset(path for path in paths if not os.path.exists(path)))


def inspection(entries: Sequence[Entry], asked: Asked) -> partial[Seen]:
    """Return the question for every node. From outside an image nobody can see what it holds."""
    paths = sorted({path for entry in entries for path in entry.paths.values()})
    return partial(
        look, [] if asked.image else paths, try_sandbox=asked.sandbox is not Sandbox.NONE and not asked.image
    )


def size_of(entry: Entry) -> Size:
    plan = entry.plan
    assert plan is not None and plan.gpus_per_run is not None and plan.cpus_per_run is not None, "it can be run"  # noqa: PT018
    return Size(gpus=plan.gpus_per_run, cpus=plan.cpus_per_run, accelerator_type=plan.accelerator_type)


def slots(entry: Entry, nodes: Sequence[Answered]) -> int:
    """Return how many runs of a record fit on the cluster at once."""
    return sum(one.node.holds(size_of(entry)) for one in nodes if one.fault is None)


def lacking(entry: Entry, nodes: Sequence[Answered], asked: Asked) -> str | None:
    """Return what a record needs but the cluster lacks, as a sentence; None if it can be run."""
    size = size_of(entry)
    fit = [one for one in nodes if one.fault is None and one.node.holds(size)]
    if not fit:
        silent = "".join(f" Node {one.node.name}: {one.fault}." for one in nodes if one.fault)
        return size.missing([one.node.resources for one in nodes]) + silent
    for one in fit:
        for variable, path in entry.paths.items():
            if path in one.said.missing:
                return f"{variable} is {path}, which is not on node {one.node.name}: put it there, or give --env {variable}=..."
    if asked.sandbox is Sandbox.REQUIRE and all(one.said.no_sandbox for one in fit):
        return f"No node can make a sandbox: {fit[0].said.no_sandbox}."
    return None


def sandbox_notes(nodes: Sequence[Answered], asked: Asked) -> list[str]:
    """Return how submitted code is confined, for the organiser."""
    if asked.sandbox is Sandbox.NONE:
        return ["Sandbox: none. Submitted code runs with all rights of your user, and with the network."]
    if asked.image:
        return ["Sandbox: each node tries to make one inside the image."]
    unable = [one for one in nodes if one.fault is None and one.said.no_sandbox]
    if not unable:
        return ["Sandbox: on every node, an unprivileged user without network; only a run's own folder is writable."]
    then = "it gets no run" if asked.sandbox is Sandbox.REQUIRE else "there submitted code runs with your user's rights"
    return [f"Sandbox: none on node {one.node.name}, {then}: {one.said.no_sandbox}" for one in unable]


# -- the cheapest evidence -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What an artifact scores in the claim's metric, or why it was not evaluated."""

    value: float | None = None
    fault: str | None = None

    def __str__(self) -> str:
        return f"not evaluated ({self.fault})" if self.value is None else f"scores {self.value:.6f}"


def evaluation(entry: Entry, mode: Sandbox) -> partial[Evaluated] | Evaluated | None:
    """Return a node's task; an Evaluated with the reason if there can be none, None if there is no artifact."""
    assert entry.recorded is not None, "a record that can be rerun"
    artifact = entry.recorded.artifact
    if artifact is None or entry.plan is None:
        return None
    env = entry.plan.envs[CANDIDATE]
    if not (env.get(DATA) and env.get(TOKENIZER)):
        return Evaluated(fault=f"{artifact.name} needs --env {DATA}=... and --env {TOKENIZER}=...")
    try:
        content = read_small(artifact, LARGEST_ARTIFACT)
    except FileError as error:
        return Evaluated(fault=f"{artifact.name} {error}")
    return partial(evaluate, content, env, entry.recorded.claim.metric, mode)


def evaluate(artifact: bytes, env: Mapping[str, str], metric: str, mode: Sandbox) -> Evaluated:
    """Evaluate an artifact on this node. It is data: nothing in it is executed; the sandbox guards against our own bugs."""
    fault = sandbox.fault() if mode is not Sandbox.NONE else None
    if fault and mode is Sandbox.REQUIRE:
        return Evaluated(fault=f"this node can make no sandbox: {fault}")
    with tempfile.TemporaryDirectory(prefix="seedproof-evaluate-") as folder:
        (Path(folder) / "artifact").write_bytes(artifact)
        words = [
            sys.executable,
            "-m",
            "trainer.evaluate",
            "artifact",
            "--data",
            env[DATA],
            "--tokenizer",
            env[TOKENIZER],
        ]
        if mode is not Sandbox.NONE and not fault:
            words = sandbox.wrapped(words, folder, [str(ROOT / "trainer"), env[DATA], env[TOKENIZER]])
        kept = {name: value for name, value in os.environ.items() if INHERITED.match(name)}
        kept |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        try:
            found = subprocess.run(
                [*tied(), *words],
                cwd=folder,
                env=kept,
                capture_output=True,
                text=True,
                timeout=EVALUATION_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Evaluated(fault=str(error))
    if match := RESULT.search(found.stdout):
        return Evaluated(value=float(match[metric]))
    said = [line for line in found.stderr.splitlines() if line.strip()]
    return Evaluated(fault=(said or [f"it ended with exit code {found.returncode}"])[-1])


def contradiction(entry: Entry, found: Evaluated) -> str | None:
    """Return how an artifact contradicts the claim, as a sentence: it scores worse than every run that is claimed."""
    assert entry.recorded is not None, "a record that can be rerun"
    worst = max(entry.recorded.claim.values)
    if found.value is None or found.value <= worst + TOLERANCE:
        return None
    return f"The shipped artifact scores {found.value:.6f}; the worst claimed run scores {worst:.6f}. Training was not bought."
