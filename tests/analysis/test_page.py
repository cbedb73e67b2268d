"""What the page shows besides the numbers: the gate, source lines, caps, curves, where the runs ran."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.evidence.options import Options
from analysis.report.html import svg
from analysis.report.html.improvement import improvement_plot
from analysis.report.html.page import page, provenance
from analysis.report.html.plots import Curve, caps_plot, curves
from analysis.report.said.quotes import quotes
from analysis.report.said.tables import run_tables
from analysis.rules.ruleset import load
from analysis.verdict.judge import judge
from tests.analysis.verdicts import decided, runs

Record = Callable[..., Path]
SEEDS = {1: 1.2, 2: 1.201, 3: 1.202}


def test_the_first_thing_said_is_the_gates_word(record: Record) -> None:
    good, folder = record(SEEDS, "good"), record(SEEDS, "refused", claim=1.1)
    for path, sota, word in ((good, 1.3, "Supported"), (folder, 1.3, "Refused"), (good, 1.203, "Not supported")):
        shown = page(judge((path,), Options(sota=sota)), "", path.name)
        assert f"<title>{word}: {path.name} (seedproof)</title>" in shown
        assert re.search(r'<h1 class="sp-title"><span class="sp-\w+">(.*?)</span>', shown)[1] == word  # type: ignore[index]
    shown = page(judge((folder,), Options(sota=1.3)), "")
    assert "Supported" not in shown.split("<details>")[0]
    row = re.search(r'<td class="prose"><a href="([^"]+)">headline-unsupported</a>', shown)
    assert row is not None
    assert row[1].endswith("docs/findings.md#headline-unsupported")


def test_the_improvement_comes_before_the_metric(record: Record) -> None:
    shown = page(judge((record(SEEDS),), Options(sota=1.3)), "")
    big = re.findall(r"<b>(.*?)</b>", shown)
    assert big == ["0.0990 bpb better", "p &lt; 1e-4", "1.2010"]


def test_what_was_found_in_a_counted_log_is_quoted(record: Record) -> None:
    folder = record(SEEDS)
    for log in folder.glob("*.log"):
        log.write_text(re.sub(r"train_time:\d+", "train_time:700000", log.read_text()))
    verdict = judge((folder,), Options(sota=1.3))
    (late, *_) = [one for one in verdict.findings if one.code == "time-over-cap"]
    quoted = quotes(verdict.runs, verdict.findings)
    assert quoted[f"{late.file}:{late.line}"] == (folder / late.file).read_text().splitlines()[late.line - 1]


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
    for label in ("training, s, cap 600", "artifact, MB, cap 16", "ms per step"):
        assert f">{label}</text>" in bars
    assert ", cap " not in (caps_plot(replace(verdict, caps={})) or "")
    unknown = tuple(replace(run, run=replace(run.run, train_time_ms=None, artifact_bytes=None)) for run in verdict.runs)
    assert caps_plot(replace(verdict, runs=unknown)) is None


def test_a_breach_of_a_cap_is_named_and_an_unknown_time_is_no_bar(record: Record) -> None:
    verdict = judge((record(SEEDS),), Options(sota=1.3))
    late, unknown, other = verdict.runs
    late = replace(late, run=replace(late.run, train_time_ms=660_000.0))
    unknown = replace(unknown, run=replace(unknown.run, train_time_ms=None))
    bars = caps_plot(replace(verdict, runs=(late, unknown, other))) or ""
    assert ">660.0, over by 10%</text>" in bars
    assert bars.count(">unknown</text>") == 2  # the time, and so the time per step
    assert bars.count(svg.BAD) == 1 + 2  # what lies beyond, and the lines of two caps


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
    tokens = 393_216  # of a step, as these logs print it
    points = {91.0 * tokens: 1.91, 92.0 * tokens: 1.92, 93.0 * tokens: 1.93}
    assert found == [Curve(arm="candidate", measure="val_bpb", along="tokens", points=points)] * 3


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
    assert "&lt;b&gt;" in page(verdict, "")


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
    assert f'aria-label="{found[0].measure} of every run' in page(verdict, "")


def test_curves_go_by_tokens_so_that_runs_of_unlike_steps_can_be_compared(record: Record) -> None:
    folder, control = record(SEEDS), record({1: 1.3, 2: 1.301, 3: 1.302}, "standing")
    for log in control.glob("*.log"):
        log.write_text(log.read_text().replace("train_batch_tokens:393216", "train_batch_tokens:196608"))
    found = curves(judge((folder,), Options(control=control)))
    assert {curve.along for curve in found} == {"tokens"}
    by_arm = {curve.arm: max(curve.points) for curve in found}
    assert by_arm["candidate"] == 2 * by_arm["control"]
    (log, *_) = control.glob("*.log")  # of one run nobody knows how many tokens a step takes
    log.write_text(log.read_text().replace("train_batch_tokens:196608", ""))
    assert {curve.along for curve in curves(judge((folder,), Options(control=control)))} == {"training time, s"}


# -- the plot of improvement ------------------------------------------------------------------------------------------------


def test_every_run_is_a_named_point(record: Record) -> None:
    verdict = judge((record(SEEDS),), Options(control=record({7: 1.3, 8: 1.301, 9: 1.302}, "standing")))
    drawn = improvement_plot(verdict) or ""
    for run in (*verdict.runs, *verdict.control):
        gain = (verdict.sota or 0.0) - (run.val_bpb or 0.0)
        assert f"<title>{run.seed}: {gain:.6f}</title>" in drawn
        assert f">{run.seed}</text>" in drawn
    for label in ("control&#x27;s mean 1.3010", "needed 0.0050", "mean 0.1000", "candidate", "control"):
        assert f">{label}</text>" in drawn


def test_runs_without_a_seed_have_their_number(tmp_path: Path) -> None:
    for number, loss in enumerate((3.275, 3.2752)):
        lines = ("step:0/9 val_loss:10.8 train_time:0ms", f"step:9/9 val_loss:{loss} train_time:{99 + number}ms")
        (tmp_path / f"{number}.txt").write_text("\n".join(lines) + "\n")
    verdict = judge(sorted(tmp_path.glob("*.txt")), Options(rules="nanogpt-track-1"))
    drawn = improvement_plot(verdict) or ""
    assert [name for name in ("#1", "#2", "#3") if f">{name}</text>" in drawn] == ["#1", "#2"]
    assert [row["seed"] for row in run_tables(verdict)["runs"]] == ["#1", "#2"]


def test_better_is_right_where_higher_is_better(record: Record) -> None:
    lower = judge((record(SEEDS),), Options(sota=1.3))
    turned = replace(lower, direction="higher", sota=1.1, threshold=1.105, upper_bound=1.19)
    assert turned.gain is not None
    assert turned.gain.mean == pytest.approx(0.101)
    assert turned.gain.low == pytest.approx(0.09)
    assert turned.gain.needed == pytest.approx(0.005)
    places = [
        [float(x) for x in re.findall(r'<circle cx="([\d.]+)%', improvement_plot(one) or "")] for one in (lower, turned)
    ]
    assert places[0] == sorted(places[0], reverse=True)  # seeds 1, 2, 3 are worse and worse where lower is better
    assert places[1] == sorted(places[1])


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12),
    st.floats(-1e6, 1e6),
    st.floats(-1e3, 1e3),
)
def test_all_points_are_inside_the_drawing(values: list[float], sota: float, margin: float) -> None:
    found = decided(replace(load("parameter-golf"), margin=0.0), runs(*values), sota, [])
    one = replace(found, sota=sota, threshold=sota - margin)
    drawn = improvement_plot(one) or ""
    assert drawn.startswith("<svg ")
    for place in re.findall(r'(?:cx|x|x1|x2)="(-?[\d.e+-]+)%"', drawn):
        assert -0.001 <= float(place) <= 100.001


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 30)), max_size=20))
def test_no_two_labels_of_a_row_touch(places: list[tuple[float, int]]) -> None:
    labels = [(x, "n" * letters) for x, letters in places]
    rows = svg.rows_of_labels(labels)
    for row in set(rows):
        rooms = sorted(svg.room(*label) for label, own in zip(labels, rows, strict=True) if own == row)
        assert all(left.end <= right.start for left, right in pairwise(rooms))
