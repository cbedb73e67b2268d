"""A run that ended early is read alike in a folder of logs and in a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from analysis.evidence.options import Options
from analysis.reading.result import Tried, was_early
from analysis.rules.ruleset import load
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict

Folder = Callable[..., Path]
TRACK = "nanogpt-track-3"


def log(n: int, last: int, total: str) -> str:
    steps = "".join(
        f"step:{step}{total} val_loss:{3.4 - step / 2000 + n / 1e4:.5f} train_time:{step}ms\n"
        for step in range(0, last + 1, 50)
    )
    return f"{'=' * 100}\nRunning Python 3.11.3\n{'=' * 100}\n" + steps


def both(sweep: Folder, folder: Path, lasts: Sequence[int], total: str) -> list[Verdict]:
    """Judge the same logs as a folder, and as the runs of a sweep that calls them complete."""
    folder.mkdir()
    rules = asdict(load(TRACK))
    planned = sweep(dict.fromkeys(range(1, len(lasts) + 1), 1.2), sota=None, ruleset=rules)
    for n, last in enumerate(lasts, start=1):
        text = log(n, last, total)
        (folder / f"{n}.log").write_text(text)
        (planned / "candidate" / f"seed-{n}" / "attempt-1" / "train.log").write_text(text)
    return [judge([path], Options(rules=TRACK)) for path in (folder, planned)]


@pytest.mark.parametrize(
    ("lasts", "total", "step"),
    [
        ((300, 300, 300, 300), "/300", 300),
        ((250, 250, 250, 250), "/300", 250),  # a planned stop before the printed total
        ((300, 300, 300, 300), "", 300),
        ((300, 300, 300, 200), "", None),  # one that was cut, where no total says so
        ((250, 250, 250, 200), "/300", None),
    ],
)
def test_a_cut_run_is_read_alike(
    sweep: Folder, tmp_path: Path, lasts: Sequence[int], total: str, step: int | None
) -> None:
    folder, planned = both(sweep, tmp_path / "logs", lasts, total)
    assert folder.verdict == planned.verdict == ("supported" if step else "unusable")
    assert (folder.mean, folder.test, folder.at_step) == (planned.mean, planned.test, planned.at_step)


def test_what_is_too_early_to_tell_is_a_twentieth_in_both(record: Folder) -> None:
    whole = Tried(arm="candidate", seed=1, attempt=2, state="succeeded", wall_s=1000.0)
    cuts = [Tried(arm="candidate", seed=1, attempt=1, state="lost", wall_s=wall) for wall in (49.0, 51.0)]
    assert [was_early(cut, [cut, whole]) for cut in cuts] == [True, False]
    folder = record({1: 1.2051, 2: 1.2062, 3: 1.2049})
    text = (folder / "train_seed3.log").read_text()
    begun = text[: text.index("step:50/")]
    for line, gate in (("step:4/100", "supported"), ("step:6/100", "refused")):
        (folder / "died.log").write_text(f"{begun}{line} train_loss:6.4 train_time:300ms step_avg:60.00ms\n")
        assert judge([folder], Options(sota=1.215)).gate == gate
