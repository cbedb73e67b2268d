"""What the page shows besides the numbers: the gate, source lines, caps, curves, where the runs ran."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.evidence.options import Options
from analysis.report.html.page import page, provenance, quotes
from analysis.report.html.plots import Curve, caps_plot, curves
from analysis.verdict.judge import judge

Record = Callable[..., Path]
SEEDS = {1: 1.2, 2: 1.201, 3: 1.202}


def test_a_claim_that_the_gate_refuses_is_marked(record: Record) -> None:
    good, folder = record(SEEDS, "good"), record(SEEDS, "refused", claim=1.1)
    assert 'class="overruled"' not in page(judge((good,), Options(sota=1.3)), "")
    shown = page(judge((folder,), Options(sota=1.3)), "")
    assert 'class="overruled"' in shown
    assert "refused for 1 error-level finding" in shown
    assert 'id="findings"' in shown


def test_each_runs_line_is_quoted_and_linked(record: Record) -> None:
    folder = record(SEEDS)
    verdict = judge((folder,), Options(sota=1.3))
    shown = page(verdict, "")
    for run in verdict.runs:
        line = (folder / run.log).read_text().splitlines()[(run.line or 0) - 1]
        number = re.search(rf'<a href="#line-(\d)">{run.log}:{run.line}</a>', shown)
        assert number is not None
        quote = f'<dt id="line-{number[1]}">{run.log}:{run.line}</dt><dd><code>{html.escape(line)}</code>'
        assert quote in shown


def test_the_caps_are_those_of_the_rules(record: Record) -> None:
    verdict = judge((record(SEEDS),), Options(sota=1.3))
    assert verdict.caps == {"artifact_bytes": 16_000_000, "train_time_s": 600}
    assert verdict.to_json()["caps"] == verdict.caps
    bars = caps_plot(verdict) or ""
    for label in ("cap 600", "cap 16", "training, s", "ms per step", "artifact, MB"):
        assert label in bars
    assert "cap " not in (caps_plot(replace(verdict, caps={})) or "")
    unknown = tuple(replace(run, run=replace(run.run, train_time_ms=None, artifact_bytes=None)) for run in verdict.runs)
    assert caps_plot(replace(verdict, runs=unknown)) is None


def test_the_curves_are_validations_where_every_run_has_them(record: Record) -> None:
    folder = record(SEEDS)
    trained = curves(judge((folder,), Options(sota=1.3)))
    assert {curve.measure for curve in trained} == {"train_loss"}
    for log in folder.glob("*.log"):
        steps = "".join(
            f"step:{n}/100 val_loss:2.{n} val_bpb:1.{n} train_time:{n}ms step_avg:1ms\n" for n in (91, 92, 93)
        )
        before, last = log.read_text().rstrip("\n").rsplit("\n", 1)
        log.write_text(f"{before}\n{steps}{last}\n")
    found = curves(judge((folder,), Options(sota=1.3)))
    assert found == [Curve(arm="candidate", measure="val_bpb", points={91: 1.91, 92: 1.92, 93: 1.93})] * 3


def test_every_log_has_its_own_curve(tmp_path: Path) -> None:
    for number, loss in enumerate((3.275, 3.2752)):
        lines = ("step:0/9 val_loss:10.8 train_time:0ms", f"step:9/9 val_loss:{loss} train_time:{99 + number}ms")
        (tmp_path / f"{number}.txt").write_text("\n".join(lines) + "\n")
    verdict = judge(sorted(tmp_path.glob("*.txt")), Options(rules="nanogpt-track-1"))
    assert [list(curve.points.values())[-1] for curve in curves(verdict)] == [3.275, 3.2752]


def test_where_it_ran_is_one_line_where_all_agree(sweep: Callable[..., Path]) -> None:
    folder = sweep(SEEDS)
    for number, manifest in enumerate(sorted(folder.glob("candidate/*/*/run.json"))):
        said = {"git": {"commit": "abc", "dirty": number == 1}, "machine": {"host": "<b>"}, "container": None}
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | said))
    verdict = judge((folder,), Options(rules="parameter-golf"))
    said = dict(provenance(verdict.runs))
    assert said["world size"] == "8"
    assert said["git commit"] == "abc"
    assert said["machine host"] == "<b>"
    assert said["git dirty"].count(": True") == 1
    assert said["git dirty"].count(": False") == 2
    assert "container image" not in said
    assert "<b>" not in page(verdict, "")


def test_no_other_file_is_quoted_than_the_one_that_counted(record: Record, tmp_path: Path) -> None:
    """A control's log is named from the working directory; the folder may hold a file of that name, or a link."""
    folder, control = record(SEEDS), record({1: 1.3, 2: 1.301, 3: 1.302}, "standing")
    verdict = judge((folder,), Options(control=control))
    secret = tmp_path / "secret"
    secret.write_text("SECRET\n" * 99)
    for number, run in enumerate(verdict.control):
        decoy = folder / Path(run.log).name
        decoy.unlink()
        if number == 0:
            decoy.symlink_to(secret)
        else:
            decoy.write_text((control / Path(run.log).name).read_text().replace("val_bpb:1.3", "val_bpb:1.9"))
    quoted = quotes(verdict.control)
    assert [line[-10:] for line in quoted.values()] == ["1.30000000", "1.30100000", "1.30200000"]
    assert "SECRET" not in page(replace(verdict, runs=()), "")


def test_a_frame_opens_no_file(record: Record, command: Callable[..., Any], tmp_path: Path) -> None:
    """It names logs, but whoever wrote it may have named any file."""
    frame = tmp_path / "runs.csv"
    assert command("analysis.logs", record(SEEDS), "--output", frame).returncode == 0
    verdict = judge((frame,), Options(sota=1.3))
    assert len(verdict.runs) == 3
    assert quotes(verdict.runs) == {}
    assert curves(verdict) == []


def test_a_loss_that_is_no_number_is_no_point(record: Record) -> None:
    folder = record(SEEDS)
    for log in folder.glob("*.log"):
        log.write_text(re.sub(r"train_loss:2\.5\b", "train_loss:inf", log.read_text()))
    verdict = judge((folder,), Options(sota=1.3))
    found = curves(verdict)
    assert found
    assert all(math.isfinite(value) for curve in found for value in curve.points.values())
    assert "Training" in page(verdict, "")
