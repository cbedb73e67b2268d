"""Trials: several runs of one log where no seed is printed, runs that stop at one step, and runs that were restarted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis.reading.reader import MOST_RUNS, read_log
from analysis.untrusted.files import FileError

LOG = Path("a.txt")
SOURCE = 'import torch\nprint("own little program")\n' + "=" * 100 + "\n"


def trial(end: float, steps: Sequence[int] = (0, 1600, 3250, 3300), total: int = 3300) -> str:
    """Return a trial's lines; its last validation is `end`."""
    lines = []
    for step in steps:
        loss = end + (steps[-1] - step) * 2e-4
        lines.append(f"step:{step}/{total} val_loss:{loss:.5f} train_time:{step * 0.14:.3f}s step_avg:144.00ms\n")
    return "".join(lines)


def ends(text: str) -> list[tuple[int | None, float | None]]:
    """Return the first line and the last validation of each run of a log."""
    return [(run.line, run.validation and run.validation.val_loss) for run in read_log(LOG, text.encode())]


@pytest.mark.parametrize(
    "between",
    [
        "",
        "\n",
        "trial 2/3\n",
        "=== trial 2 of 3 ===\n",
        "=" * 100 + "\ntrial 2\n" + "=" * 100 + "\n",
        "Running PyTorch 2.11\nlr:0.02 wd:0.1\n",
        SOURCE,
        "warmup_step:1/2\nwarmup_step:2/2\n",
    ],
)
@pytest.mark.parametrize("first", [(0,), (1,), (125,), (0, 125)])
def test_a_trial_begins_where_the_steps_fall_back_to_the_start(between: str, first: tuple[int, ...]) -> None:
    losses = [3.2771, 3.2762, 3.2783]
    trials = [trial(loss, (*(first if i == 0 else first[-1:]), 1600, 3300)) for i, loss in enumerate(losses)]
    found = ends(SOURCE + between.join(trials))
    assert [loss for _, loss in found] == losses
    assert len({line for line, _ in found}) == 3


def test_steps_that_fall_back_to_a_checkpoint_are_one_run() -> None:
    text = SOURCE + trial(3.4, (0, 1000, 2000, 2400)) + "resuming\n" + trial(3.2771, (2000, 3000, 3300)) + trial(3.2772)
    first, second = read_log(LOG, text.encode())
    assert (first.last_step, first.restarted_at, second.restarted_at) == (3300, 9, None)
    assert sorted(first.validations) == [0, 1000, 2000, 2400, 3000, 3300]


def test_a_restart_with_nothing_in_between() -> None:
    text = SOURCE + trial(3.4, (0, 1000, 2000, 2400)) + trial(3.2771, (2000, 3000, 3300)) + trial(3.2772)
    assert [(run.last_step, run.restarted_at) for run in read_log(LOG, text.encode())] == [(3300, 8), (3300, None)]


def test_thirty_trials_of_three_thousand_steps() -> None:
    def dense(number: int) -> str:
        steps = (f"step:{step}/3000 train_loss:4.{number}1 train_time:{step}ms\n" for step in range(1, 3001))
        return "".join(steps) + f"step:3000/3000 val_loss:3.27{number:02d} train_time:3000ms\n"

    found = [loss for _, loss in ends(SOURCE + "".join(map(dense, range(30))))]
    assert found == pytest.approx([3.27 + i / 10000 for i in range(30)])


def test_two_thousand_trials_are_refused_with_a_sentence() -> None:
    with pytest.raises(FileError, match=f"more than {MOST_RUNS} runs"):
        read_log(LOG, (SOURCE + trial(3.27) * 2000).encode())
