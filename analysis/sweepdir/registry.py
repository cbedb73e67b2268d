"""The entries of a registry: what orchestration enters before it starts, and analysis compares with the evidence.

PLAN/SWEEP/plan.DRIVER.json                          the plan, before anything of it runs
PLAN/SWEEP/{candidate,control}-seed-N-attempt-M.DRIVER.json   an attempt, before it starts

PLAN is the plan's SHA-256, SWEEP the identity of a sweep of it, DRIVER the process that entered it. Nothing is ever
written over: the same plan run in another place has another SWEEP.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from analysis.sweepdir.json_files import of_type
from analysis.sweepdir.layout import ARMS, SweepError
from analysis.sweepdir.plan import Plan
from analysis.untrusted.secrets import redacted

LARGEST_ENTRY = 2**18  # bytes; a plan has at most 1000 seeds
MOST_ENTRIES = 10_000  # of one plan
GIT_S = 120.0
_NAME = re.compile(
    rf"(?P<sweep>[0-9a-f]{{8,64}})/(?:plan|(?P<arm>{'|'.join(ARMS)})-seed-(?P<seed>\d{{1,18}})-attempt-(?P<attempt>\d{{1,9}}))"
    r"\.(?P<driver>[0-9a-f]{8,64})\.json"
)
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")


class RegistryError(SweepError):
    """A registry that cannot be used, as one sentence with its URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry. arm, seed and attempt are None for that of the plan.

    time: when its driver says that it was entered. by: a digest of who says so. stored: what the store's own clock says.
    """

    plan: str
    sweep: str
    driver: str
    arm: str | None = None
    seed: int | None = None
    attempt: int | None = None
    time: str | None = None
    by: str | None = None
    stored: str | None = None

    @property
    def name(self) -> str:
        """Return the entry's path below the registry."""
        what = "plan" if self.arm is None else f"{self.arm}-seed-{self.seed}-attempt-{self.attempt}"
        return f"{self.plan}/{identity(self.sweep)}/{what}.{identity(self.driver)}.json"

    @property
    def when(self) -> str | None:
        """Return when it was entered: by the store's clock where it has one, else as its driver says."""
        return self.stored or self.time

    def content(self, plan: Plan | None = None) -> bytes:
        """Return the content to write; the plan's entry also holds what identifies the plan."""
        table: dict[str, Any] = {"plan": self.plan, "sweep": self.sweep, "driver": self.driver}
        table |= {"arm": self.arm, "seed": self.seed, "attempt": self.attempt} if self.arm is not None else {}
        table |= {"time": self.time, "by": self.by}
        if plan is not None:
            table |= {
                "rules": plan.rules().name,
                "design": plan.design.kind,
                "arms": list(plan.arms),
                "seeds": list(plan.seeds),
                "script_sha256": plan.script.sha256,
            }
        return (json.dumps(table, indent=1) + "\n").encode()

    @classmethod
    def of(cls, plan: str, below: str, content: bytes, stored: str | None = None) -> Self | None:
        """Read an entry from its path below the plan's folder and its content; None for what is no entry.

        The path decides, because nobody can write over it; the content only adds the time and who.
        """
        match = _NAME.fullmatch(below)
        if match is None:
            return None
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        table = found if isinstance(found, dict) else {}
        return cls(
            plan=plan,
            sweep=match["sweep"],
            driver=match["driver"],
            arm=match["arm"],
            seed=None if match["seed"] is None else int(match["seed"]),
            attempt=None if match["attempt"] is None else int(match["attempt"]),
            time=_short(table.get("time")),
            by=_short(table.get("by")),
            stored=stored,
        )


def _short(value: Any) -> str | None:
    text = of_type(value, str)
    return None if text is None else redacted(text)[:100]


def identity(text: str) -> str:
    """Return an identity as a file name: itself, or its digest if it does not have our form."""
    return text if re.fullmatch(r"[0-9a-f]{8,64}", text) else hashlib.sha256(text.encode()).hexdigest()[:16]


# -- a registry that is a git branch -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A branch of a repository, from git+URL#BRANCH."""

    remote: str
    name: str

    @property
    def reference(self) -> str:
        return f"refs/heads/{self.name}"


def branch_of(url: str) -> Branch | None:
    """Return the branch that a URL names, None for one that is not git's. Raises RegistryError."""
    if not url.startswith("git+"):
        if "://" in url:
            return None
        raise RegistryError(
            f"--registry {redacted(url)} is no URL: write file:///FOLDER, s3://, gs:// or git+https://...#BRANCH."
        )
    remote, _, name = url.removeprefix("git+").partition("#")
    if not re.match(r"(?:file|https|ssh)://[^-]", remote) or not _BRANCH.fullmatch(name) or ".." in name:
        raise RegistryError(
            f"--registry {redacted(url)} is no branch: write git+https://HOST/REPOSITORY#BRANCH, with file, https or ssh."
        )
    return Branch(remote=remote, name=name)


def git(folder: Path, *arguments: str, given: bytes = b"", index: Path | None = None) -> bytes:
    """Run git in a bare repository; return what it prints. Raises OSError with what git says.

    It asks for no password, and the caller's own repository and index have no part in it.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {name: os.environ[name] for name in ("GIT_SSH_COMMAND", "GIT_ASKPASS") if name in os.environ}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:https:ssh"}
    environment |= {f"GIT_{who}_{what}": "seedproof" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment |= {} if index is None else {"GIT_INDEX_FILE": str(index)}
    words = ["git", "--no-pager", "--git-dir", str(folder), *arguments]
    try:
        done = subprocess.run(words, input=given, capture_output=True, timeout=GIT_S, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise OSError(f"git {arguments[0]} did not end within {GIT_S:g} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        said = next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[-1])
        raise OSError(f"git {arguments[0]}: {redacted(said)[:300]}")
    return done.stdout
