"""Orders of runs and plans of sweeps for tests."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from analysis.rules.ruleset import load
from analysis.sweepdir.layout import attempt_folder
from analysis.sweepdir.plan import Plan
from orchestration.plan.asked import Asked
from orchestration.plan.freeze import make_plan
from orchestration.worker.order import RunOrder


def make_order(sweep: Path, **changes: Any) -> RunOrder:
    """An order of the first attempt of candidate seed 7, or of the arm and seed among the changes."""
    known = {"arm": "candidate", "seed": 7, "attempt": 1} | changes
    usual: dict[str, Any] = {
        "folder": attempt_folder(sweep, known["arm"], known["seed"], known["attempt"]),
        "script": sweep / "s.py",
        "code": {"script.py": b""},
        "env": {},
        "ranks": 1,
        "rules": load("parameter-golf"),
        # a run ends what is left of earlier ones of its seed: another test's must not be among them
        "sweep": uuid.uuid4().hex,
        "driver": "D",
        "stall_timeout_s": 60.0,
        "deadline_s": None,
    }
    return RunOrder(**usual | known)


def plan_of(script: Path, seeds: str = "3", **options: Any) -> Plan:
    """What `sweep run` would freeze, against a SOTA of 1.2 where the options do not say otherwise."""
    return make_plan(Asked(script=script, seeds=seeds, **{"sota": 1.2} | options))
