"""The Python functions: what evidence they take, what they raise, and what their results show."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import seedproof
from analysis import significance
from analysis.api import in_python
from analysis.evidence.options import Options
from analysis.evidence.question import PlanOptions
from analysis.report.html.page import page
from analysis.report.notebook import frames
from analysis.report.notebook import verdict as shown
from analysis.report.text import text
from analysis.untrusted.refusal import UsageError
from analysis.verdict import judge as core
from tests.conftest import ROOT, make_log

Folder = Callable[..., Path]
VALUES = {1337: 1.2, 1338: 1.201, 1339: 1.203}


def table() -> pd.DataFrame:
    return pd.DataFrame({"seed": [*VALUES], "val_bpb": [*VALUES.values()]})


# -- evidence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evidence",
    [
        VALUES,
        [*VALUES.values()],
        tuple(VALUES.values()),
        np.array([*VALUES.values()]),
        {np.int64(seed): np.float64(value) for seed, value in VALUES.items()},
        table(),
        table().rename(columns={"seed": "Seed", "val_bpb": "val/bpb"}),
        pd.Series([*VALUES.values()]),
    ],
    ids=["dict", "list", "tuple", "array", "numpy", "frame", "other names", "series"],
)
def test_numbers_in_memory_are_those_of_a_csv(evidence: Any, tmp_path: Path) -> None:
    table().to_csv(tmp_path / "values.csv", index=False)
    own, of_csv = seedproof.judge(evidence, sota=1.3), seedproof.judge(str(tmp_path / "values.csv"), sota=1.3)
    assert (own.test, own.gate, own.verdict) == (of_csv.test, "refused", "supported")
    assert [run.value("val_bpb") for run in own.runs] == [*VALUES.values()]


def test_paths_are_text_or_paths_and_judged_as_the_command_does(record: Folder) -> None:
    folder = record(VALUES)
    logs = sorted(folder.glob("*.log"))
    expected = core.judge((folder,), Options(sota=1.3))
    assert seedproof.judge(str(folder), sota=1.3) == seedproof.Verdict.of(expected)
    assert seedproof.judge(folder, sota=1.3).gate == "supported"
    assert seedproof.judge([str(log) for log in logs], sota=1.3).test == expected.test


def test_a_control_may_be_anything_that_evidence_may_be(record: Folder) -> None:
    theirs = {1: 1.25, 2: 1.251, 3: 1.253}
    ours = record(VALUES)
    tests = [
        seedproof.judge(ours, control=control).test
        for control in (
            record(theirs, "theirs"),
            theirs,
            [*theirs.values()],
            pd.DataFrame({"val_bpb": theirs.values()}),
        )
    ]
    assert tests[0] is not None
    assert tests == tests[:1] * 4
    both = seedproof.judge(VALUES, control=theirs)
    assert both.test == tests[0]
    assert [run.log for run in both.control] == ["<control>"] * 3


def test_the_rules_and_the_metric_apply_to_numbers_in_memory() -> None:
    frame = pd.DataFrame({"seed": [1, 2, 3], "accuracy": [0.61, 0.612, 0.613]})
    assert seedproof.judge(frame, sota=0.5, metric="accuracy").verdict == "supported"
    assert "it has accuracy" in seedproof.judge(frame, sota=1.3).reason
    loss = seedproof.judge([3.27, 3.271, 3.272], rules="nanogpt-track-2")
    assert (loss.metric, loss.value) == ("val_loss", pytest.approx(3.271))


def test_a_frame_of_ours_keeps_arms_and_what_does_not_count(sweep: Folder) -> None:
    judged = seedproof.judge(sweep(VALUES, control=dict(zip(VALUES, (1.25, 1.251, 1.253), strict=True)), sota=None))
    again = seedproof.judge(judged.to_frame())
    assert judged.test is not None
    assert again.test == judged.test
    partly = judged.to_frame().assign(counts=[True, True, False] * 2)
    assert seedproof.judge(partly).n == 2
    assert seedproof.judge(partly.assign(counts=partly["counts"].astype(str))).n == 2  # as a CSV may have it
    with pytest.raises(UsageError, match="column counts"):
        seedproof.judge(partly.assign(counts=[True, True, "no"] * 2))


# -- errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda f: seedproof.judge(f), "sota=X"),
        (lambda f: seedproof.judge(f, sota=-1), "sota is -1"),
        (lambda f: seedproof.judge(f, sota="much"), "sota is 'much'"),
        (lambda f: seedproof.judge(f, sota=1.3, alpha=2), "alpha is 2"),
        (lambda f: seedproof.judge(f, sota=1.3, unit="bits"), "bpb, nats"),
        (lambda f: seedproof.judge(f, sota=1.3, design="sequentiel"), "'sequential'"),
        (lambda f: seedproof.judge(f, sota=1.3, rules="parameter-gold"), "'parameter-golf'"),
        (lambda f: seedproof.judge(f, sota=1.3, at_step=5), "at_step=5"),
        (lambda f: seedproof.judge(f, control=f), "control="),
        (lambda f: seedproof.judge(f, control=[f, f]), "2 paths"),
        (lambda f: seedproof.judge(f, sota=1.3, history=f / "no.csv"), "does not exist"),
        (lambda f: seedproof.judge(f.with_name("recrod"), sota=1.3), "Did you mean"),
        (lambda f: seedproof.judge([], sota=1.3), "no run"),
        (lambda f: seedproof.judge(7, sota=1.3), "of type int"),
        (lambda f: seedproof.judge([1.2, "x"], sota=1.3), "not a number"),
        (lambda f: seedproof.judge([1.2, float("nan")], sota=1.3), "not a number"),
        (lambda f: seedproof.judge({"one": 1.2}, sota=1.3), "seeds"),
        (lambda f: seedproof.judge(pd.DataFrame({"arm": ["x"], "state": [""], "log": [""]}), sota=1), "missing"),
        (lambda f: seedproof.audit(f / "no"), "does not exist"),
        (lambda f: seedproof.audit([f, f]), "one at a time"),
        (lambda f: seedproof.audit(3), "must be a path"),
        (lambda f: seedproof.read_logs(f / "README.md"), "No training log"),
        (lambda f: seedproof.board(f / "no"), "does not exist"),
        (lambda f: seedproof.plan(gain=0.1), "sd=S"),
        (lambda f: seedproof.plan(gain=0.1, sd=1, max_seeds=1), "max_seeds is 1"),
        (lambda f: seedproof.plan(gain=0.1, sd=1, boundary="square"), "flat"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_a_value_error_in_terms_of_python(
    wrong: Callable[[Path], Any], said: str, record: Folder
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as found:
        wrong(record(VALUES))
    assert isinstance(found.value, seedproof.SeedproofError)
    assert "--" not in str(found.value)


HUGE = 10**400  # no float holds it
ANYHOW: Any = seedproof  # whose types do not matter
judge, plan, audit, board = ANYHOW.judge, ANYHOW.plan, ANYHOW.audit, ANYHOW.board


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: judge(VALUES, sota=HUGE), "sota is 1000"),
        (lambda: judge(VALUES, sota=True), "sota is True"),
        (lambda: judge({1: HUGE, 2: 1.2}, sota=1.3), "not a number"),
        (lambda: judge({2**63: 1.2, 2: 1.2}, sota=1.3), "64 bits"),
        (lambda: judge(b"records", sota=1.3), "of type bytes"),
        (lambda: judge({1.2, 1.201}, sota=1.3), "of type set"),
        (lambda: judge(np.array(1.2), sota=1.3), "of type ndarray"),
        (lambda: judge("", sota=1.3), "evidence is empty"),
        (lambda: judge(VALUES, sota=1.3, verify=""), "verify is empty"),
        (lambda: judge("no\x1b[31mrecord", sota=1.3), r"no\x1b[31mrecord does not exist"),
        (lambda: judge(VALUES, sota=1.3, rules=b"parameter-golf"), "rules is a bytes"),
        (lambda: judge(VALUES, sota=1.3, metric=5), "metric is a int"),
        (lambda: judge(VALUES, sota=1.3, registry=Path.cwd), "registry is a "),
        (lambda: judge(VALUES, sota=1.3, at_step=-1, rules="nanogpt-track-3"), "at_step is -1"),
        (lambda: judge(VALUES, sota=1.3, waive=None), "waive is None"),
        (lambda: judge(table().set_axis(["val_bpb"] * 2, axis=1), sota=1.3), "two columns val_bpb"),
        (lambda: judge(table().set_axis(["Val/BPB", "val_bpb"], axis=1), sota=1.3), "two columns Val/BPB"),
        (lambda: audit([]), "path is empty"),
        (lambda: board(__file__), "is a file"),
        (lambda: plan(gain="much", sd=0.1), "gain is 'much'"),
        (lambda: plan(gain=None, sd=0.1), "gain is None"),
        (lambda: plan(gain=0.1, sd=0.1, max_seeds=5.5), "max_seeds is 5.5"),
        (lambda: plan(gain=0.1, sd=0.1, control_seeds=-5), "control_seeds is -5"),
        (lambda: plan(gain=0.1, sd=0.1, gpus=-5), "gpus is -5"),
        (lambda: plan(gain=0.1, sd=0.1, control="theirs"), "control is 'theirs'"),
        (lambda: plan(gain=0.1, sd=0.1, control=True, share=1), "share is 1"),
        (lambda: plan(gain=0.1, sd=0.1, power=2), "between alpha (0.01) and 0.999"),
    ],
)
def test_nothing_that_is_no_argument_is_a_traceback_or_an_answer(call: Callable[[], object], said: str) -> None:
    with pytest.raises(seedproof.SeedproofError, match=re.escape(said)):
        call()


def test_unusable_evidence_is_a_verdict_in_terms_of_python(record: Folder) -> None:
    one = seedproof.judge(record({1: 1.2}), sota=1.3)
    assert (one.gate, bool(one)) == ("unusable", False)
    other = seedproof.judge(record(VALUES, "r2"), sota=1.3, metric="no such")
    assert other.gate == "unusable"
    assert "--" not in other.reason


def test_options_become_arguments() -> None:
    assert in_python("--at-step 5: no. Use --sota X or --rules.") == "at_step=5: no. Use sota=X or rules."
    assert in_python("--alpha is 2; it must be less.") == "alpha is 2; it must be less."


# -- results -------------------------------------------------------------------------------------------------------------


def test_a_verdict_is_true_where_check_exits_with_0(record: Folder) -> None:
    folder = record(VALUES)
    refused = record(VALUES, "refused", claim=1.1)
    for place, sota in ((folder, 1.3), (folder, 1.2), (refused, 1.3)):
        code = CliRunner().invoke(significance.main, ["check", str(place), "--sota", str(sota)]).exit_code
        assert bool(seedproof.judge(place, sota=sota)) is (code == 0)


def test_a_verdict_shows_itself(record: Folder) -> None:
    verdict = seedproof.judge(record(VALUES), sota=1.3)
    assert repr(verdict).startswith("<Verdict SUPPORTED: ")
    assert len(repr(verdict)) < 120
    assert str(verdict) == text(verdict)
    html = verdict._repr_html_()
    assert "Supported" in html
    assert "<script" not in html


def test_without_the_extra_the_card_is_a_line(record: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "find_spec", lambda name: None)
    assert seedproof.judge(record(VALUES), sota=1.3)._repr_html_().startswith("<pre>SUPPORTED: ")


def test_the_frame_has_every_run_and_says_which_count(record: Folder) -> None:
    folder = record(VALUES)
    (folder / "old").mkdir()
    (folder / "old/train_seed9.log").write_text(make_log(9, 1.26))
    frame = seedproof.judge(folder, control=[1.3, 1.31, 1.32]).to_frame()
    assert frame["arm"].tolist() == ["candidate"] * 3 + ["control"] * 3 + ["candidate"]
    assert frame["counts"].tolist() == [True] * 6 + [False]
    assert "folder below" in frame["why"].iloc[-1]
    assert frame["seed"].dropna().tolist() == [*VALUES, 9]


def test_curves_have_a_row_for_each_step_that_a_log_prints(record: Folder) -> None:
    folder = record(VALUES)
    curves = seedproof.judge(folder, sota=1.3).curves()
    assert list(curves.columns) == [*frames.CURVE_COLUMNS]
    one = curves[curves["seed"] == 1337]
    assert one["step"].tolist() == [0, 1, 2, 3, 4, 50, 100]
    assert one["tokens"].iloc[-1] == 100 * 393216
    assert one["time_s"].iloc[1] == pytest.approx(0.06)
    assert one["val_bpb"].iloc[-1] == pytest.approx(1.2486)
    assert seedproof.read_logs(folder).curves()["step"].tolist() == curves["step"].tolist()
    assert seedproof.judge(VALUES, sota=1.3).curves().empty


@pytest.mark.parametrize("digits", [12, 400])
def test_tokens_that_no_training_has_are_unknown(record: Folder, digits: int) -> None:
    folder = record(VALUES)
    for log in folder.glob("*.log"):
        told = log.read_text().replace("step:100/100", "step:9000000000/9000000000")
        log.write_text(re.sub(r"train_batch_tokens:\d+", f"train_batch_tokens:{'9' * digits}", told))
    verdict = seedproof.judge(folder, sota=1.3)
    assert verdict.curves()["tokens"].isna().any()
    assert "<svg" in page(verdict, "")


def test_a_plot_is_an_svg_that_can_be_saved(record: Folder, tmp_path: Path) -> None:
    plot = seedproof.judge(record(VALUES), sota=1.3).plot()
    plot.save(str(tmp_path / "plot.svg"))
    assert (tmp_path / "plot.svg").read_text() == plot._repr_svg_()
    drawn = ElementTree.fromstring(plot._repr_svg_())  # noqa: S314 - our own
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert drawn.get("width") == "900"
    assert "1337" in plot._repr_html_()
    with pytest.raises(ValueError, match="nothing to draw"):
        seedproof.judge([1.2], sota=1.3).plot()


def test_audit_board_logs_and_plan_are_what_the_commands_say(record: Folder, tmp_path: Path) -> None:
    folder = record(VALUES)
    audit = seedproof.audit(str(folder))
    assert (bool(audit), audit.runs, repr(audit).startswith("Audit of ")) == (True, 3, True)
    wrong = seedproof.audit(record(VALUES, "wrong", claim=1.1))
    assert not wrong
    assert "headline-unsupported" in wrong.to_frame()["code"].tolist()
    runs = seedproof.read_logs(folder)
    assert [run.seed for run in runs] == [*VALUES]
    assert runs.to_frame()["val_bpb"].tolist() == [*VALUES.values()]
    assert "<table" in (runs._repr_html_() or "")
    board = seedproof.board(str(tmp_path))
    assert board.to_frame()["record"].tolist() == [row.record for row in board.rows]
    assert len(board) == 2
    assert str(board).split()[:2] == ["rank", "record"]  # the command's table, not Markdown
    plan = seedproof.plan(gain=0.004, sd=0.0014)
    assert plan.recommendation in repr(plan)
    assert len(plan.to_frame()) == len(plan.designs)
    paired = seedproof.plan(gain=0.004, sd=0.0014, control=True, share=0.5)
    assert {row.arms for row in paired.designs} == {"pairs", "unpaired"}
    assert paired.commands[0] in repr(paired)


def test_without_pandas_a_frame_is_refused_with_the_command_that_installs_it(
    record: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict, runs = seedproof.judge(VALUES, sota=1.3), seedproof.read_logs(record(VALUES))
    monkeypatch.setitem(sys.modules, "pandas", None)
    for ask in (verdict.to_frame, verdict.curves, runs.to_frame):
        with pytest.raises(UsageError, match=r"pip install 'seedproof\[frames\]'"):
            ask()


# -- the package ---------------------------------------------------------------------------------------------------------


def test_a_package_that_lacks_is_one_sentence_in_python_too(
    record: Folder, tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    table().to_parquet(tmp_path / "values.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"seedproof\[frames\]"):
        seedproof.judge(tmp_path / "values.parquet", sota=1.3)
    with pytest.raises(UsageError, match=r"seedproof\[frames\]"):
        seedproof.plan(gain=0.1, pilot=tmp_path / "values.parquet")
    logs = command("analysis.logs", record(VALUES), "--format", "parquet", "--output", tmp_path / "runs.parquet")
    assert (logs.returncode, "seedproof[frames]" in logs.stderr) == (2, True)


def test_runs_are_shown_and_not_obeyed(record: Folder) -> None:
    folder = record(VALUES)
    (folder / "train_seed1337.log").rename(folder / "a\x1b[31m.log")
    shown = repr(seedproof.read_logs(folder))
    assert "\x1b" not in shown
    assert r"a\x1b[31m.log" in shown


def test_the_arguments_are_the_options_of_the_commands() -> None:
    judge = {*inspect.signature(seedproof.judge).parameters} - {"evidence"}
    assert judge == {key.name for key in fields(Options)} - {"values", "control_values", "own_sweep"}
    assert {*inspect.signature(seedproof.plan).parameters} == {key.name for key in fields(PlanOptions)}


def test_the_package_names_what_it_offers_and_nothing_else() -> None:
    assert dir(seedproof) == seedproof.__all__
    for name in seedproof.__all__:
        assert getattr(seedproof, name).__doc__
    with pytest.raises(AttributeError):
        seedproof.judgement  # noqa: B018


def test_the_functions_load_no_pandas(record: Folder) -> None:
    program = (
        f"import seedproof, sys; seedproof.judge({str(record(VALUES))!r}, sota=1.3); print('pandas' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
