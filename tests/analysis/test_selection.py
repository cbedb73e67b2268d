"""Every run of a folder either counts or is left out with a reason, and choosing does not change the claim."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from analysis.reading.metric import Metric
from analysis.reading.result import Result
from analysis.reading.run import Run
from analysis.record.fit import Fit
from analysis.record.folder import Record, read_record
from analysis.record.selection import Claimed, Selection, Why, select, with_training
from analysis.record.sweep import in_planned_order, read_sweep, sweep_results
from analysis.rules.ruleset import load
from analysis.sweepdir.plan import read_plan
from tests.conftest import RATIO, make_log

Folder = Callable[..., Path]
RULES = load("parameter-golf")
DIED = make_log(9, 1.2).split("peak")[0]


def read(folder: Path, label: str | None = None) -> tuple[Record, Selection]:
    record = read_record([folder])
    return record, select(record, RULES, label)


def reasons(selection: Selection) -> list[tuple[str, float | None, Why]]:
    return [(one.result.log, one.result.val_bpb, one.why) for one in selection.left_out]


def claim(folder: Path, **values: object) -> None:
    (folder / "submission.json").write_text(json.dumps(values))


def older_log(folder: Path) -> None:
    (folder / "train.log").write_text(make_log(42, 1.23))
    claim(folder, val_bpb=1.2013)


def seed_not_claimed(folder: Path) -> None:
    claim(folder, seed_results={"1337": 1.2014, "42": 1.1994})


def other_metric_without_a_label(folder: Path) -> None:
    (folder / "x.log").write_text("seed:9\nfinal_x val_loss:2 val_bpb:1.19\n")


def two_runs_in_a_log(folder: Path) -> None:
    log = folder / "train_seed42.log"
    log.write_text(make_log(42, 1.3) + log.read_text())


def run_that_died(folder: Path) -> None:
    (folder / "train_seed9.log").write_text(DIED)
    (folder / "empty.log").write_text("")


def died_before_the_run(folder: Path) -> None:
    log = folder / "train_seed42.log"
    log.write_text(make_log(42, 1.3).split("peak")[0] + log.read_text())


def folder_below(folder: Path) -> None:
    (folder / "old").mkdir()
    (folder / "old" / "train_seed9.log").write_text(make_log(9, 1.25))


def copy(folder: Path) -> None:
    (folder / "train.log").write_text("[rank0]: hello\n" + (folder / "train_seed42.log").read_text())


def evaluation_alone(folder: Path) -> None:
    """The seed's training log has no final metric; another log evaluates it."""
    log = folder / "train_seed42.log"
    training, final = log.read_text().split("peak")
    log.write_text(training)
    (folder / "eval_seed42.log").write_text(f"seed:42\n{final[final.index('final_int8') :]}")


FOLDERS: dict[str, tuple[Callable[[Path], None], list[tuple[str, float | None, Why]]]] = {
    "nothing else": (lambda folder: None, []),
    "an older log": (older_log, [("train.log", 1.23, Why.NOT_NAMED)]),
    "a seed that the JSON does not name": (seed_not_claimed, [("train_seed7.log", 1.2031, Why.NOT_NAMED)]),
    "a log with another metric": (other_metric_without_a_label, [("x.log", 1.19, Why.NOT_NAMED)]),
    "two runs in a log": (two_runs_in_a_log, [("train_seed42.log", 1.3, Why.OTHER_RUN_OF_LOG)]),
    "a run that died and an empty log": (
        run_that_died,
        [("train_seed9.log", None, Why.NO_RESULT), ("empty.log", None, Why.NO_RESULT)],
    ),
    "a run that died before another in its log": (
        died_before_the_run,
        [("train_seed42.log", None, Why.NO_RESULT)],
    ),
    "a folder below": (folder_below, [("old/train_seed9.log", 1.25, Why.DEEPER)]),
    "a log under two names": (copy, [("train.log", 1.1994, Why.COPY)]),
    "an evaluation alone": (evaluation_alone, [("train_seed42.log", None, Why.TRAINING)]),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_every_run_is_claimed_or_left_out_with_the_reason(record: Folder, name: str) -> None:
    change, expected = FOLDERS[name]
    folder = record({1337: 1.2014, 42: 1.1994, 7: 1.2031})
    change(folder)
    found, selection = read(folder)
    assert reasons(selection) == expected
    runs = [*found.runs, *(run for copied in found.copies.values() for run in copied.runs)]
    assert len(selection.claimed) + len(selection.left_out) == len(runs) + len(found.empty)


def test_runs_without_the_metric_that_was_asked_for(record: Folder) -> None:
    folder = record({1: 1.2, 2: 1.21}, bare=True)
    with (folder / "train_seed2.log").open("a") as log:
        log.write("final_x val_loss:2 val_bpb:1.1\n")
    (folder / "below").mkdir()
    (folder / "below" / "train_seed3.log").write_text(make_log(3, 1.25))
    _, selection = read(folder, "final_x")
    assert [one.metric.val_bpb for one in selection.claimed] == [1.1]
    assert reasons(selection) == [
        ("train_seed1.log", 1.2, Why.NO_SUCH_METRIC),
        ("below/train_seed3.log", 1.25, Why.DEEPER),
    ]


def test_a_left_out_run_is_shown_by_the_claimed_metric(record: Folder) -> None:
    folder = record({1: 1.20, 2: 1.21})
    (folder / "older.log").write_text(make_log(3, 1.25) + "final_x val_loss:2 val_bpb:1.1\n")
    _, selection = read(folder)
    assert [(one.result.label, one.result.val_bpb) for one in selection.left_out] == [
        ("final_int8_zlib_roundtrip_exact", 1.25)
    ]


def test_choosing_does_not_change_the_claim(record: Folder) -> None:
    """The JSON has two bpbs of equal rank, and the runs end in the second one."""
    folder = record({1: 1.20, 2: 1.21}, bare=True)
    text = '{"sliding_bpb": 1.1,\n "other": {"final_bpb": 1.205}, "val_loss": 2.03}'
    (folder / "submission.json").write_text(text)
    found = read_record([folder])
    assert found.claim is not None
    before = deepcopy(found.claim)
    selection = select(found, RULES)
    assert found.claim == before
    assert selection.headline is not None
    assert str(selection.headline.value) == "1.205"
    assert found.claim.line_of_key(selection.headline.key) == 2
    assert selection.fit is Fit.MEAN


def test_a_claim_and_a_record_are_frozen(record: Folder) -> None:
    found = read_record([record({1: 1.20, 2: 1.21})])
    for one, name in ((found, "claim"), (found.claim, "val_bpb")):
        with pytest.raises(AttributeError):
            setattr(one, name, None)


def test_a_zero_of_the_evaluation_is_not_replaced_by_the_training_log() -> None:
    log = Path("a.log")
    training = Run(log=log, line=1, train_time_ms=600.0, code_bytes=5, totals=(("zlib", 3),), world_size=8)
    run = Run(log=log, line=9, train_time_ms=0.0, code_bytes=0)
    metric = Metric(label="final", val_loss=2.0, val_bpb=1.2, decimals=1, line=9)
    whole = with_training(Claimed(log="a.log", run=run, metric=metric, training=training))
    assert whole.train_time_ms == 0.0
    assert whole.code_bytes == 0
    assert whole.totals == (("zlib", 3),)
    assert whole.world_size == 8


# -- sweeps ------------------------------------------------------------------------------------------------------------


def result(seed: int, state: str = "succeeded") -> Result:
    return Result(log=f"{seed}-{state}.log", run=Run(log=Path("x"), line=1, seed=seed), state=state)


def test_planned_runs_count_up_to_the_first_without_a_result() -> None:
    results = [result(3), result(1), result(2, "failed"), result(5), result(9), result(4, "lost"), result(6, "pending")]
    ordered = in_planned_order([*results, result(1)], [1, 2, 3, 4, 5, 6])
    assert [one.seed for one in ordered.kept] == [1, 2, 3]
    assert ordered.kept[0] is not results[1]
    assert [(one.result.log, one.why) for one in ordered.left_out] == [
        ("1-succeeded.log", Why.SAME_SEED),
        ("5-succeeded.log", Why.BEYOND_GAP),
        ("9-succeeded.log", Why.NOT_PLANNED),
        ("4-lost.log", Why.LOST),
    ]


def test_a_sweep_has_one_result_for_each_planned_run(sweep: Folder) -> None:
    folder = sweep({1: 1.20, 2: None, 3: 1.202}, seeds=[3, 2, 1, 4])
    plan = read_plan(folder)
    read = read_sweep(folder, plan, plan.rules())
    assert [(one.seed, one.state, one.val_bpb) for one in read.results] == [
        (3, "succeeded", 1.202),
        (2, "failed", None),
        (1, "succeeded", 1.20),
        (4, "pending", None),
    ]
    assert [one.run.seed for one in read.claimed["candidate"]] == [3, 1]
    assert len(read.logs) == 2
    assert [one.row() for one in sweep_results(folder, plan)] == [one.row() for one in read.results]


def test_the_loss_of_the_headlines_line_is_the_claimed_one(record: Folder) -> None:
    folder = record({1: 1.20, 2: 1.21}, bare=True)
    claim(folder, mean_val_bpb=1.205, mean_val_loss=1.205 / RATIO, val_loss=3.0)
    found = read_record([folder]).claim
    assert found is not None
    assert found.val_loss is not None
    assert float(found.val_loss) == pytest.approx(1.205 / RATIO)


def test_evaluations_in_logs_of_their_own_belong_to_the_training_of_their_names_seed(record: Folder) -> None:
    folder = record({1: 1.2, 2: 1.201})
    for seed in (1, 2):
        log = folder / f"train_seed{seed}.log"
        training, label, final = log.read_text().rpartition("final_int8_zlib_roundtrip_exact")
        log.write_text(training.replace("final_int8_zlib_roundtrip val_loss", "eval val_loss"))
        (folder / f"eval_seed{seed}.log").write_text(label + final)
    _, selection = read(folder)
    assert [one.log for one in selection.claimed] == ["eval_seed1.log", "eval_seed2.log"]
    assert [one.training.log.name for one in selection.claimed] == ["train_seed1.log", "train_seed2.log"]
    assert {one.why for one in selection.left_out} == {Why.TRAINING}
