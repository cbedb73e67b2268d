"""What the page says beside the numbers: the gate, the logs' own lines, caps, curves, where it was run."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from analysis.report.opened import Curve, curves, opened_logs, provenance
from analysis.report.page import page
from analysis.report.plots import caps_plot
from analysis.verdict.judge import judge

Record = Callable[..., Path]
SEEDS = {1: 1.2, 2: 1.201, 3: 1.202}


def test_numbers_that_the_gate_does_not_pass_are_marked(record: Record) -> None:
    good, folder = record(SEEDS, "good"), record(SEEDS, "refused", claim=1.1)
    assert "The gate does not pass it" not in page(judge((good,), sota=1.3), good, "")
    shown = page(judge((folder,), sota=1.3), folder, "")
    assert "The gate does not pass it:</strong> refused for 1 error-level finding" in shown
    assert 'id="findings"' in shown


def test_each_runs_line_is_quoted_and_linked(record: Record) -> None:
    folder = record(SEEDS)
    verdict = judge((folder,), sota=1.3)
    shown = page(verdict, folder, "")
    for run in verdict.runs:
        line = (folder / run.log).read_text().splitlines()[(run.line or 0) - 1]
        number = re.search(rf'<a href="#line-(\d)">{run.log}:{run.line}</a>', shown)
        assert number is not None
        assert (
            f'<dt id="line-{number[1]}">{run.log}:{run.line}</dt><dd class="break"><code>{html.escape(line)}</code>'
            in shown
        )


def test_the_caps_are_those_of_the_rules(record: Record) -> None:
    folder = record(SEEDS)
    verdict = judge((folder,), sota=1.3)
    assert verdict.caps == {"artifact_bytes": 16_000_000, "train_time_s": 600}
    assert verdict.to_json()["caps"] == verdict.caps
    bars = caps_plot(verdict) or ""
    assert [name in bars for name in ("cap 600", "cap 16", "training, s", "a step, ms", "artifact, MB")] == [True] * 5
    assert "cap " not in (caps_plot(replace(verdict, caps={})) or "")
    unknown = [replace(run, train_time_ms=None, artifact_bytes=None) for run in verdict.runs]
    assert caps_plot(replace(verdict, runs=unknown)) is None


def test_the_curves_are_validations_where_every_run_has_them(record: Record) -> None:
    folder = record(SEEDS)
    verdict = judge((folder,), sota=1.3)
    trained = curves(opened_logs(verdict, folder), "val_bpb")
    assert {curve.measure for curve in trained} == {"train_loss"}
    for log in folder.glob("*.log"):
        steps = "".join(
            f"step:{n}/100 val_loss:2.{n} val_bpb:1.{n} train_time:{n}ms step_avg:1ms\n" for n in (91, 92, 93)
        )
        before, last = log.read_text().rstrip("\n").rsplit("\n", 1)
        log.write_text(f"{before}\n{steps}{last}\n")
    found = curves(opened_logs(judge((folder,), sota=1.3), folder), "val_bpb")
    assert found == [Curve("candidate", "val_bpb", [91, 92, 93], [1.91, 1.92, 1.93])] * 3


def test_where_it_was_run_is_one_line_where_all_agree(sweep: Callable[..., Path]) -> None:
    folder = sweep(SEEDS)
    for number, manifest in enumerate(sorted(folder.glob("candidate/*/*/run.json"))):
        table = json.loads(manifest.read_text()) | {
            "git": {"commit": "abc", "dirty": number == 1}, "machine": {"host": "<b>"}, "container": None,
        }  # fmt: skip
        manifest.write_text(json.dumps(table))
    verdict = judge((folder,), rules="parameter-golf")
    said = dict(provenance(opened_logs(verdict, folder), verdict.runs))
    assert (said["world size"], said["git commit"], said["machine host"]) == ("8", "abc", "<b>")
    assert said["git dirty"].count(": True") == 1
    assert said["git dirty"].count(": False") == 2
    assert "container image" not in said
    assert "<b>" not in page(verdict, folder, "")


def test_no_other_file_is_quoted_than_the_one_that_counted(record: Record, tmp_path: Path) -> None:
    """A control's log is named from the working directory; the folder may hold a file of that name, or a link."""
    folder, control = record(SEEDS), record({1: 1.3, 2: 1.301, 3: 1.302}, "standing")
    verdict = judge((folder,), control=control)
    secret = tmp_path / "secret"
    secret.write_text("SECRET\n" * 99)
    for number, run in enumerate(verdict.control):
        decoy = Path(f"{folder}/{run.log}") if not run.log.startswith("/") else folder / Path(run.log).name
        decoy.parent.mkdir(parents=True, exist_ok=True)
        if number == 0:
            decoy.unlink(missing_ok=True)
            decoy.symlink_to(secret)
        else:
            decoy.write_text((control / Path(run.log).name).read_text().replace("val_bpb:1.3", "val_bpb:1.9"))
    shown = page(replace(verdict, runs=[]), folder, "")
    assert "SECRET" not in shown
    assert "1.9" not in "".join(one.quote or "" for one in opened_logs(verdict, folder))


def test_a_loss_that_is_no_number_is_no_point(record: Record) -> None:
    folder = record(SEEDS)
    for log in folder.glob("*.log"):
        log.write_text(re.sub(r"train_loss:2\.5\b", "train_loss:inf", log.read_text()))
    verdict = judge((folder,), sota=1.3)
    found = curves(opened_logs(verdict, folder), "val_bpb")
    assert found
    assert all(math.isfinite(value) for curve in found for value in curve.values)
    assert "Training" in page(verdict, folder, "")
