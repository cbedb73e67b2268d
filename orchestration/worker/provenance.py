"""Where a run is made, as run.json says it: the machine, its GPUs, the versions, the code's commit, the data.

Unknown values are null, and `unknown` holds the reason under the field's path. Nothing here may end a run: every fact is
read behind one guard, and no tool may take longer than its time.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import math
import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from orchestration.worker.data import data
from orchestration.worker.facts import Facts, Unknown

TOOL_S, GIT_S = 20.0, 10.0  # nvidia-smi takes seconds where no daemon keeps the driver loaded
PODMAN, DOCKER = Path("/run/.containerenv"), Path("/.dockerenv")  # files that these leave in a container's root
# our name of a GPU's property: nvidia-smi's name, and how to read its text
GPU_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "index": ("index", int),
    "name": ("name", str),
    "uuid": ("uuid", str),
    "driver": ("driver_version", str),
    "memory_bytes": ("memory.total", lambda mib: int(mib) * 2**20),
    "sm_clock_mhz": ("clocks.sm", int),
    "sm_clock_max_mhz": ("clocks.max.sm", int),
    "memory_clock_mhz": ("clocks.mem", int),
    "memory_clock_max_mhz": ("clocks.max.mem", int),
    "power_limit_w": ("power.limit", float),
}


def provenance(script: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what run.json says of where a run of `script` in `environment` is made; never raise.

    The versions are those of this Python, which is also the run's. All GPUs of the node are listed, with their clocks
    before the run; CUDA_VISIBLE_DEVICES, in the run's `env`, says which of them are its own.
    script: None for one that nobody trusts. Then no tool gets its recipe, and git does not look at its folder.
    """
    facts = Facts()
    tools = environment if script is not None else os.environ
    rows = facts.get("gpus", partial(_gpu_rows, tools))
    no_gpus = partial(_raise, facts.unknown.get("gpus", ""))
    cuda = facts.get("versions.cuda", _cuda)
    packages = {package: partial(_version, package) for package in ("torch", "numpy", "sentencepiece", "ray")}
    gpus = rows and [_gpu(facts, number, cells) for number, cells in enumerate(rows)]
    return {
        "machine": facts.table("machine", MACHINE),
        "versions": {
            "python": platform.python_version(),
            **facts.table("versions", packages),
            "cuda": cuda,
            "nccl": facts.get("versions.nccl", partial(_nccl, cuda)),
            "driver": facts.get("versions.driver", (lambda: gpus[0]["driver"]) if gpus else no_gpus),
        },
        "gpus": gpus,
        "topology": facts.get(
            "topology", partial(_output, ["nvidia-smi", "topo", "-m"], tools, TOOL_S) if gpus else no_gpus
        ),
        "container": _container(facts),
        "git": _git(facts, script, environment),
        "data": data(facts, environment),
        "unknown": facts.unknown,
    }


def _raise(reason: str) -> Any:
    raise Unknown(reason)


def _output(command: list[str], environment: Mapping[str, str], within_s: float) -> str:
    """Return what a tool prints. Raises Unknown where it does not exist, fails, or takes too long and is killed."""
    name = command[0]
    if not (tool := shutil.which(name, path=environment.get("PATH"))):
        raise Unknown(f"there is no {name} on PATH")
    process = subprocess.Popen(
        [tool, *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        start_new_session=True,  # so that killing the group ends a wrapper and what it started
    )
    try:
        out, err = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)  # a broken driver may hold it for good
        raise Unknown(f"{name} gave no answer within {within_s:g} s") from None
    text = out.decode("utf-8", "replace")
    if process.returncode:
        said = (err.decode("utf-8", "replace").strip() or text.strip()).partition("\n")[0]
        raise Unknown(f"{name} exited with {process.returncode}: {said or 'it said nothing'}")
    return text


def _gpu_rows(environment: Mapping[str, str]) -> list[list[str]]:
    query = "--query-gpu=" + ",".join(name for name, _ in GPU_FIELDS.values())
    text = _output(["nvidia-smi", query, "--format=csv,noheader,nounits"], environment, TOOL_S)
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    if not rows:
        raise Unknown("nvidia-smi lists no GPU")
    for cells in rows:
        if len(cells) != len(GPU_FIELDS):
            raise Unknown(f"nvidia-smi printed {', '.join(cells)[:80]!r} instead of {len(GPU_FIELDS)} values")
    return rows


def _gpu(facts: Facts, number: int, cells: list[str]) -> dict[str, Any]:
    texts = zip(GPU_FIELDS.items(), cells, strict=True)
    return facts.table(f"gpus.{number}", {ours: partial(_cell, cell, read) for (ours, (_, read)), cell in texts})


def _cell(cell: str, read: Callable[[str], Any]) -> Any:
    with contextlib.suppress(ValueError):
        found = read(cell)
        if not cell.startswith("[") and not (isinstance(found, float) and not math.isfinite(found)):
            return found
    raise Unknown(f"nvidia-smi says {cell!r}")  # such as [N/A]


def _cpu() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:  # only as far as needed: reading all takes long on many cores
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    raise Unknown("/proc/cpuinfo names no model")


MACHINE: dict[str, Callable[[], Any]] = {
    "cpu": _cpu,
    "cpus": os.cpu_count,
    "memory_bytes": lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    "kernel": lambda: f"{os.uname().sysname} {os.uname().release}",
    "os": lambda: platform.freedesktop_os_release()["PRETTY_NAME"],
}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise Unknown(f"{package} is not installed") from None


def _cuda() -> str:
    """Return the CUDA that torch is built for, from its source: importing torch takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        raise Unknown("torch is not installed")
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8", errors="replace")
    if found := re.search(r"^cuda\b[^=\n]*=\s*['\"]([^'\"\n]+)['\"]", text, re.MULTILINE):
        return found[1]
    raise Unknown(
        "torch is built without CUDA" if re.search(r"^cuda\b.*None", text, re.MULTILINE) else "torch does not say"
    )


def _nccl(cuda: str | None) -> str:
    if cuda is None:
        raise Unknown("torch's CUDA is unknown, and so is its NCCL")
    try:
        return _version(f"nvidia-nccl-cu{cuda.partition('.')[0]}")
    except Unknown as reason:
        raise Unknown(f"{reason}; torch may contain its own NCCL") from None


def _container(facts: Facts) -> dict[str, Any]:
    """Return kind and image of the container, by what it leaves in this process's environment and in the root folder."""
    apptainer = os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER")

    def kind() -> str:
        signs = {
            "apptainer": bool(apptainer),
            "podman": PODMAN.exists(),
            "kubernetes": "KUBERNETES_SERVICE_HOST" in os.environ,
            "docker": DOCKER.exists(),
        }
        if found := [name for name, seen in signs.items() if seen]:
            return found[0]
        raise Unknown("no sign of a container")

    def image() -> str:
        if found is None:
            raise Unknown("no sign of a container")
        if apptainer:
            return apptainer
        text = PODMAN.read_text(encoding="utf-8", errors="replace") if found == "podman" else ""
        if named := re.search(r'^image="([^"\n]+)"', text, re.MULTILINE):
            return named[1]
        raise Unknown(f"{found} does not tell a container its image")

    found = facts.get("container.kind", kind)
    return {"kind": found, "image": facts.get("container.image", image)}


def _git(facts: Facts, script: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the commit of the script's folder, and whether the script or any tracked file differs from it.

    Nothing is written, so no hook runs. Filters that the repository configures, such as Git LFS's, do run: without them a
    clean tree would seem dirty.
    """
    if script is None:
        why = "submitted code: git would run the filters that its folder configures"
        return facts.table("git", {name: partial(_raise, why) for name in ("commit", "dirty")})
    folder, name = script.resolve().parent, script.resolve().name
    kept = {name: environment[name] for name in ("PATH", "HOME", "XDG_CONFIG_HOME") if name in environment}
    quiet = kept | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    safe = ["--literal-pathspecs", "-c", "core.fsmonitor=false"]

    def git(*arguments: str) -> str:
        return _output(["git", "-C", str(folder), *safe, *arguments], quiet, GIT_S).strip()

    def dirty() -> bool:
        if commit is None:
            raise Unknown("the commit is unknown")
        changed = git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
        return bool(changed) or not git("ls-files", "--", name)

    commit = facts.get("git.commit", lambda: git("rev-parse", "--verify", "HEAD"))
    return {"commit": commit, "dirty": facts.get("git.dirty", dirty)}
