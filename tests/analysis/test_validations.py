"""Validations by step: what each run reads at a step, and at which steps all of them have one."""

from __future__ import annotations

from pathlib import Path

from analysis.reading.reader import read_log
from analysis.reading.result import Result
from analysis.reading.run import Run
from analysis.record.metrics import at_step, common_steps


def result(text: str) -> Result:
    (run,) = read_log(Path("a.txt"), text.encode())
    return Result.of(run, run.validation, log="a.txt")


def curve(*steps: int, total: int = 300) -> str:
    return "".join(f"step:{step}/{total} val_loss:{4 - step / 1000:.5f} train_time:{step}ms\n" for step in steps)


def test_each_validation_has_its_step_its_line_and_its_decimals() -> None:
    text = (
        "seed:7\nstep:0/20 val_loss:10.8 train_time:0ms\nstep:1/20 train_loss:9.0 train_time:5ms\n\n"
        "step:10/20 train_loss:4.1 val_loss:3.51 best_val_loss:3.51 train_time:50ms\nsaving\n"
        "step:20/20 val_loss:3.27610 train_time:100ms\n"
    )
    found = result(text).run.validations
    assert {step: (metric.val_loss, metric.line, metric.decimals) for step, metric in found.items()} == {
        0: (10.8, 2, 1),
        10: (3.51, 5, 2),
        20: (3.2761, 7, 5),
    }


def test_the_last_validation_is_the_runs_own() -> None:
    run = result(curve(0, 100, 200)).run
    assert run.validations[200] == run.validation


def test_of_a_step_validated_twice_the_last_counts() -> None:
    text = "step:10/20 val_loss:3.5 train_time:1ms\nstep:20/20 val_loss:3.4\nstep:20/20 val_loss:3.3\n"
    run = result(text).run
    assert run.validations[20].val_loss == 3.3
    assert run.validations[20] == run.validation


def test_common_steps_are_those_of_every_run_without_the_start() -> None:
    runs = [result(curve(0, 125, 250, 300)), result(curve(0, 125, 200, 250, 300)), result(curve(0, 125, 250))]
    assert common_steps(runs[:2]) == [125, 250, 300]
    assert common_steps(runs) == [125, 250]
    assert common_steps([]) == []


def test_a_failed_run_and_a_row_of_a_frame() -> None:
    """A failed run says nothing of steps. A row has no curve, so nothing is common with it."""
    one, path = result(curve(0, 125, 300)), Path("b.txt")
    failed = Result.of(Run(log=path, line=1), None, log="b.txt", state="failed")
    assert common_steps([one, failed]) == [125, 300]
    assert common_steps([one, Result.of(Run(log=path, line=1), one.metric, log="b.txt")]) == []


def test_a_result_at_a_step() -> None:
    one = result(curve(0, 125, 300))
    there = at_step(one, 125)
    assert there is not None
    assert (there.val_loss, there.line, there.log) == (3.875, 2, "a.txt")
    assert there.run is one.run
    assert at_step(one, 200) is None
