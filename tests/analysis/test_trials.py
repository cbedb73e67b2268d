"""Trials: several runs of one log where no seed is printed, runs that stop at one step, and runs that were restarted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis.evidence.case import Case
from analysis.evidence.make import make_case
from analysis.evidence.options import Options, resolve
from analysis.reading.reader import MOST_RUNS, read_log
from analysis.record.metrics import common_steps
from analysis.record.selection import Why
from analysis.untrusted.files import FileError
from analysis.verdict.judge import judge

LOG = Path("a.txt")
TRACK_3 = Options(rules="nanogpt-track-3")
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


@pytest.mark.parametrize(("last", "runs"), [(2000, 1), (3300, 2)])
def test_a_fall_to_the_first_step_that_was_logged(last: int, runs: int) -> None:
    """It is a checkpoint where the run had not ended, else a trial that leaves out step 0."""
    text = SOURCE + trial(3.27, (0, 1000, last)) + "x\n" + trial(3.271, (1000, 2000, 3300))
    assert len(read_log(LOG, text.encode())) == runs


def test_thirty_trials_of_json_lines_are_read_to_the_end() -> None:
    def lines(number: int) -> str:
        steps = (f'{{"step": {step}, "total_steps": 2500, "train_loss": 4.1}}\n' for step in range(1, 2500))
        return "".join(steps) + f'{{"step": 2500, "total_steps": 2500, "val_loss": 3.27{number:02d}}}\n'

    found = [loss for _, loss in ends("".join(map(lines, range(30))))]
    assert found == pytest.approx([3.27 + i / 10000 for i in range(30)])


def test_thirty_trials_of_three_thousand_steps() -> None:
    def dense(number: int) -> str:
        steps = (f"step:{step}/3000 train_loss:4.{number}1 train_time:{step}ms\n" for step in range(1, 3001))
        return "".join(steps) + f"step:3000/3000 val_loss:3.27{number:02d} train_time:3000ms\n"

    found = [loss for _, loss in ends(SOURCE + "".join(map(dense, range(30))))]
    assert found == pytest.approx([3.27 + i / 10000 for i in range(30)])


def test_two_thousand_trials_are_refused_with_a_sentence() -> None:
    with pytest.raises(FileError, match=f"more than {MOST_RUNS} runs"):
        read_log(LOG, (SOURCE + trial(3.27) * 2000).encode())


# -- which of them are complete ----------------------------------------------------------------------------------------


def case_of(folder: Path, *trials: str, rules: str = "nanogpt-track-3", at_step: int | None = None) -> Case:
    """Return the Case of a folder with one log for each of these texts."""
    folder.mkdir(exist_ok=True)
    for i, text in enumerate(trials):
        (folder / f"r{i}.txt").write_text(SOURCE + text)
    return make_case(resolve([folder], Options(rules=rules, at_step=at_step)))


def several(count: int, *steps: int, total: int = 3300) -> list[str]:
    return [trial(3.2771 + i / 1e4, (0, *steps), total) for i in range(count)]


def test_trials_of_one_log_are_told_apart_by_log_and_line(tmp_path: Path) -> None:
    case = case_of(tmp_path, "".join(several(8, 1600, 3300)))
    assert len(case.runs) == 8
    assert len({(run.log, run.line) for run in case.runs}) == 8
    assert "several-runs-in-log" not in [one.code for one in case.findings]


def test_what_is_said_of_two_trials_tells_them_apart(tmp_path: Path) -> None:
    twice = case_of(tmp_path / "a", "".join(several(3, 1600, 3300)) + several(1, 1600, 3300)[0])
    assert twice.fault is not None
    assert "r0.txt:6 and r0.txt:15" in twice.fault
    lost = "".join(f"step:{step}/3300 train_loss:3.5 train_time:{step}ms\n" for step in (1, 900, 1700))
    verdict = judge(
        [Path(case_of(tmp_path / "b", "".join([*several(2, 3300), lost, lost, trial(3.27)])).where)], TRACK_3
    )
    (message,) = [one.message for one in verdict.findings if one.code == "runs-left-out"]
    assert "r0.txt:8 (no result), r0.txt:11 (no result)" in message
    assert [one["line"] for one in verdict.to_json()["left_out"]] == [8, 11]


def test_trials_with_one_printed_seed_count_and_are_refused(tmp_path: Path) -> None:
    """Where the rules ask for no seed, one that a script prints for all its trials leaves none of them out."""
    for i, trials in enumerate((["".join(several(3, 1600, 3300))], several(3, 1600, 3300))):
        folder = case_of(tmp_path / str(i), *(f"seed:7\n{text}" for text in trials)).where
        verdict = judge([Path(folder)], TRACK_3)
        assert [(run.seed, run.val_loss) for run in verdict.runs] == [(7, 3.2771), (7, 3.2772), (7, 3.2773)]
        assert (verdict.n, verdict.gate) == (3, "refused")
        assert "duplicate-seed" in [one.code for one in verdict.findings]


@pytest.mark.parametrize(
    ("name", "trials", "complete", "common"),
    [
        ("all reach the total", several(4, 1600, 3250, 3300), 4, [1600, 3250, 3300]),
        ("all stop before it", several(4, 1600, 3250), 4, [1600, 3250]),
        ("one goes on", [*several(7, 1600, 3250), trial(3.276, (0, 1600, 3250, 3300))], 8, [1600, 3250]),
        ("different totals", [*several(3, 3200, 3300), *several(3, 3200, total=3200)[::-1]], 6, [3200]),
        ("a validation every 125 and at the end", several(3, *range(125, 3250, 125), 3225), 3, [*range(125, 3250, 125), 3225]),
        ("no total that is the others'", several(4, 1600, 3250, total=9999), 4, [1600, 3250]),
        ("the last one printed twice", [one + one.splitlines()[-1] + "\n" for one in several(3, 1600, 3300)], 3, [1600, 3300]),
        ("one run", several(1, 1600, 3250), 1, [1600, 3250]),
    ],
)  # fmt: skip
def test_complete_trials_and_their_common_steps(
    tmp_path: Path, name: str, trials: list[str], complete: int, common: list[int]
) -> None:
    text = [
        one.replace("3.27", f"3.2{i % 3 + 5}") if name == "different totals" else one for i, one in enumerate(trials)
    ]
    case = case_of(tmp_path, *text)
    assert (len(case.runs), case.fault) == (complete, None)
    assert common_steps(case.runs) == common


@pytest.mark.parametrize(
    "short",
    [
        trial(3.4, (0, 1600)),
        trial(3.4, (0, 1600)) + "step:1650/3300 train_loss:3.5 train_time:231.000s\n",
        trial(3.4, (0,)) + "step:1/3300 train_loss:10.8 train_time:0.140s\n",
    ],
)
@pytest.mark.parametrize("stop", [3250, 3300])
def test_a_trial_that_ended_before_the_others_has_no_result(tmp_path: Path, short: str, stop: int) -> None:
    in_a_log_of_its_own = case_of(tmp_path / "a", *several(5, 1600, stop), short)
    assert len(in_a_log_of_its_own.runs) == 5
    assert in_a_log_of_its_own.fault is not None
    assert "r5.txt" in in_a_log_of_its_own.fault
    among_others = case_of(tmp_path / "b", "".join([*several(3, 1600, stop), short, *several(6, 1600, stop)[3:]]))
    assert (len(among_others.runs), among_others.fault) == (6, None)
    assert [one.why for one in among_others.left_out] == [Why.NO_RESULT]


def test_runs_that_stop_each_at_its_own_step_have_no_result(tmp_path: Path) -> None:
    trials = [trial(3.27, (0, *range(400, stop + 1, 400))) for stop in (1600, 2000, 2400, 2800)]
    assert case_of(tmp_path, *trials).runs == ()


def test_a_printed_total_counts_where_the_rules_take_the_last_validation(tmp_path: Path) -> None:
    assert case_of(tmp_path, *several(4, 1600, 3250), rules="nanogpt-track-1").runs == ()


def test_a_step_that_is_asked_for_counts_wherever_a_run_went(tmp_path: Path) -> None:
    trials = [*several(2, 1600, 3250), *several(5, 1600, 3250, 3300)[2:], trial(3.4, (0, 1600))]
    case = case_of(tmp_path, *trials, at_step=1600)
    assert len(case.runs) == 6
    assert {run.line for run in case.runs} == {5}
