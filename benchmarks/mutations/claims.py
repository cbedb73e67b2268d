"""Write what a clean folder says about its runs: the submission JSON and README, or a sweep's plan and run.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from analysis.rules.ruleset import load
from analysis.stats.fixed import Sample, Test, one_sample_t
from analysis.sweepdir.plan import plan_digest

if TYPE_CHECKING:
    from benchmarks.mutations.folders import Folder, Made


def write_claims(folder: Folder) -> None:
    """Write README, script and, if the leaderboard has one, submission.json."""
    runs, is_speedrun = folder.runs, folder.dialect.is_speedrun
    values = [round(run.val_loss if is_speedrun else run.val_bpb, folder.dialect.decimals) for run in runs]
    (folder.path / "README.md").write_text(_speedrun_readme(values) if is_speedrun else _readme(runs, values, folder))
    (folder.path / "train_gpt.py").write_text(runs[0].source)
    if not is_speedrun:
        (folder.path / "submission.json").write_text(json.dumps(_claim(runs, values, folder), indent=1))


def threshold_of(folder: Folder) -> float | None:
    """Return the value that the mean must be below; None if a control sets it."""
    return folder.options.sota - 0.005 if folder.options.sota is not None else None


def _tested(values: Sequence[float], least: float | None) -> Test | None:
    """Return the t-test that a claimant reports; None for values without a spread."""
    return one_sample_t(Sample.of(values), least, 0.01) if least is not None and len(set(values)) > 1 else None


def _claim(runs: Sequence[Made], values: Sequence[float], folder: Folder) -> dict[str, Any]:
    decimals = folder.dialect.decimals
    table: dict[str, Any] = {"name": "a toy", "author": "nobody", "github_id": "nobody", "date": "2026-05-03"}
    table |= {
        "blurb": f"{len(runs)}-seed mean {fmean(values):.5f} bpb",
        "val_loss": round(fmean(round(run.val_loss, decimals) for run in runs), 8),
        "val_bpb": round(fmean(values), 8),
        "val_bpb_std": round(stdev(values), 8),
        "seeds": [run.seed for run in runs],
        "seed_results": {
            str(run.seed): {
                "val_loss": round(run.val_loss, decimals),
                "val_bpb": round(run.val_bpb, decimals),
                "artifact_bytes": run.artifact_bytes,
                "steps": run.last_step,
            }
            for run in runs
        },
        "bytes_total": max(run.artifact_bytes for run in runs),
        "hardware": "8xH100 80GB SXM",
        "pytorch_version": runs[0].torch,
        "train_time_seconds": max(run.train_time_ms for run in runs) / 1000,
    }
    if (test := _tested(values, threshold_of(folder))) is not None:
        table |= {"t_statistic": round(test.statistic, 4), "p_value": round(test.p_value, 6), "n_seeds": len(runs)}
    return table


def _readme(runs: Sequence[Made], values: Sequence[float], folder: Folder) -> str:
    rows = "".join(
        f"| {run.seed} | {run.last_step} | {run.val_loss:.5f} | {run.val_bpb:.5f} | {run.artifact_bytes:,} |\n"
        for run in runs
    )
    least = threshold_of(folder)
    test = _tested(values, least)
    tested = f"One-sample t-test against {least:.4f}: t = {test.statistic:.2f}, p = {test.p_value:.5f}" if test else ""
    return f"""# A toy

**val_bpb: {fmean(values):.5f}** ({len(runs)}-seed mean, std {stdev(values):.5f})

| Seed | Steps | val_loss | val_bpb | Artifact (bytes) |
| --- | --- | --- | --- | --- |
{rows}| **Mean** | | {fmean(run.val_loss for run in runs):.5f} | **{fmean(values):.5f}** | |

{tested}

## What is new

Wider layers, and a schedule with 3 phases of 1.5 % each. It took 12 tries to find 0.04 as the rate.

## Run it

    SEED={runs[0].seed} torchrun --standalone --nproc_per_node=8 train_gpt.py
"""


def _speedrun_readme(values: Sequence[float]) -> str:
    test = _tested(values, 3.28)
    losses = ", ".join(f"{value:.4f}" for value in values)
    return f"""# A toy

```
losses = [{losses}]
mean {fmean(values):.5f}, std {stdev(values):.5f}{f", p = {test.p_value:.6f}" if test else ""}
```

Every run takes 700 steps of 66 ms.
"""


# -- a sweep -----------------------------------------------------------------------------------------------------------


def write_sweep(folder: Folder, **changes: Any) -> None:
    """Write plan, script, and a run.json for each run. `changes` are those of the plan."""
    script = folder.runs[0].source.encode()
    plan = {
        "version": 1,
        "script": {"path": "/x/train_gpt.py", "sha256": hashlib.sha256(script).hexdigest(), "bytes": len(script)},
        "arms": {"candidate": {"env": {}}},
        "ruleset": asdict(load("parameter-golf")),
        "sota": folder.options.sota,
        "design": {"name": "fixed"},
        "seeds": [run.seed for run in folder.runs],
        "seeds_are": "given",
    } | changes
    (folder.path / "plan.json").write_text(json.dumps(plan | {"sha256": plan_digest(plan)}, indent=1))
    (folder.path / "script.py").write_bytes(script)
    for minute, run in enumerate(folder.runs):
        write_attempt(folder.path / "candidate" / f"seed-{run.seed}" / "attempt-1", run, hour=10 + minute)


def write_attempt(attempt: Path, run: Made, *, hour: int, state: str = "succeeded") -> None:
    """Write the run.json of one attempt."""
    attempt.mkdir(parents=True, exist_ok=True)
    said = {"arm": "candidate", "seed": run.seed, "attempt": int(attempt.name[-1]), "state": state, "reason": None}
    times = {"started": f"2026-05-03T{hour}:00:00+00:00", "ended": f"2026-05-03T{hour}:14:00+00:00", "wall_s": 840.0}
    script = {"sha256": hashlib.sha256(run.source.encode()).hexdigest()}
    (attempt / "run.json").write_text(json.dumps(said | times | {"script": script}, indent=1))


def seal(folder: Folder) -> None:
    """Write each log's digest into its run.json, as the worker does at the end of a run, or a careful cheat later."""
    for path in sorted(folder.path.glob("candidate/*/*/run.json")):
        table, log = json.loads(path.read_text()), path.with_name("train.log")
        if log.is_file():
            table["files"] = {"train.log": {"sha256": hashlib.sha256(log.read_bytes()).hexdigest()}}
            path.write_text(json.dumps(table, indent=1))
