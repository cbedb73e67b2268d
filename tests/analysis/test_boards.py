"""Other boards' rules as TOML: every block of docs/rulesets.md judges runs that pass its board's rule, and runs that fail it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from analysis.evidence.options import Options
from analysis.rules.findings import Code
from analysis.rules.ruleset import from_table, load
from analysis.verdict.answer import REFUSED
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "rulesets.md").read_text(encoding="utf-8")
BOARDS = dict(re.findall(r"^### ([^\n]+)\n(?:(?!^#).)*?^```toml\n(.+?)^```", PAGE, re.DOTALL | re.MULTILINE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What one run says. printed: a metric that its log prints by a name of its own."""

    printed: str = ""
    loss: float = 3.4
    bpb: float = 1.1
    time_s: float = 3000.0
    steps: int = 2000

    def log(self, seed: int) -> str:
        line = "step:{}/{} val_loss:{:.4f} train_time:{:.0f}ms step_avg:{:.2f}ms"
        each = 1000 * self.time_s / self.steps
        half = self.steps // 2
        return "\n".join([
            f"import torch\n\nprint('final_exact')\n{'=' * 100}\nRunning PyTorch 2.9.0\n|   0  NVIDIA H100 80GB HBM3  |\n{'=' * 100}",
            f"world_size:8\nseed:{seed}",
            line.format(0, self.steps, 10.8, 0, 0),
            line.format(half, self.steps, self.loss + 0.4 + seed / 1e4, half * each, each),
            line.format(self.steps, self.steps, self.loss, self.steps * each, each),
            f"final_exact val_loss:{self.bpb / 0.387:.8f} val_bpb:{self.bpb:.8f}",
            *([self.printed] if self.printed else []),
        ]) + "\n"  # fmt: skip


RUN = Ran()


def core(*values: float, time_s: float) -> list[Ran]:
    return [Ran(printed=f"CORE metric: {value:.4f}", time_s=time_s) for value in values]


def losses(*values: float) -> list[Ran]:
    return [replace(RUN, loss=value) for value in values]


def times(*values: float, accuracy: float = 0.7595, steps: int = 1900) -> list[Ran]:
    """Return runs of these times. Their steps differ a little."""
    printed = f"eval_accuracy: {accuracy:.4f}"
    return [Ran(printed=printed, time_s=value, steps=steps + n) for n, value in enumerate(values)]


def matches(*values: float, time_s: float = 900) -> list[Ran]:
    return [Ran(printed=f"exact match: {value:.3f}", time_s=time_s + n) for n, value in enumerate(values)]


def bpbs(*values: float) -> list[Ran]:
    return [replace(RUN, bpb=value, time_s=590) for value in values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Runs of a claim and of the standing record."""

    runs: Sequence[Ran]
    standing: Sequence[Ran]
    passes: bool


def asked(runs: Sequence[Ran], standing: Sequence[Ran], *, passes: bool) -> Asked:
    return Asked(runs=runs, standing=standing, passes=passes)


SLOW = times(1000, 1010, 1020, 1030, 1040)
CASES = {
    "nanochat": {
        "above GPT-2 and faster": asked(core(0.2626, time_s=5940), core(0.2690, time_s=6480), passes=True),
        "faster, but not above GPT-2": asked(core(0.2560, time_s=5940), core(0.2690, time_s=6480), passes=False),
        "better, but slower": asked(core(0.2700, time_s=6500), core(0.2690, time_s=6480), passes=False),
        "one draw above, the mean not": asked(core(0.258, 0.254, time_s=5940), core(0.269, time_s=6480), passes=False),
    },
    "NanoGPT slowrun": {
        "a lower loss": asked(losses(3.390), losses(3.402), passes=True),
        "a higher loss": asked(losses(3.410), losses(3.402), passes=False),
    },
    "MLPerf: time to a target": {
        "one slow run is dropped": asked(times(900, 910, 920, 930, 5000), SLOW, passes=True),
        "slower": asked(times(1100, 1110, 1120, 1130, 10), SLOW, passes=False),
        "a target not reached": asked(
            [*times(900, 910, 920, 930), *times(940, accuracy=0.758, steps=1950)], SLOW, passes=False
        ),
        "faster than the reference": asked(times(900, 910, 920, 930, 940, steps=1700), SLOW, passes=False),
    },
    "Median of N": {
        "two slow studies of five": asked(times(900, 910, 920, 5000, 6000), SLOW, passes=True),
        "three slow studies of five": asked(times(900, 910, 5000, 6000, 7000), SLOW, passes=False),
    },
    "Each run at least": {
        "all three": asked(matches(0.571, 0.58, 0.60), matches(0.59, 0.59, 0.59, time_s=950), passes=True),
        "one of three below": asked(matches(0.569, 0.70, 0.70), matches(0.59, 0.59, 0.59, time_s=950), passes=False),
        "all three, but slower": asked(matches(0.58, 0.58, 0.6), matches(0.59, 0.59, 0.59, time_s=850), passes=False),
    },
    "Parameter Golf's frontier": {
        "p below 0.25": asked(bpbs(1.0830, 1.0836, 1.0840), bpbs(1.0834, 1.0840, 1.0847), passes=True),
        "p above 0.25": asked(bpbs(1.0830, 1.0836, 1.0840), bpbs(1.0830, 1.0837, 1.0841), passes=False),
    },
}  # fmt: skip


def judged(board: str, case: Asked, folder: Path) -> Verdict:
    rules = folder / "board.toml"
    rules.write_text(BOARDS[board])
    for name, runs in (("claim", case.runs), ("standing", case.standing)):
        (folder / name).mkdir()
        for n, run in enumerate(runs):
            seed = 10 * len(name) + n
            (folder / name / f"{seed}.txt").write_text(run.log(seed))
    return judge([folder / "claim"], Options(rules=str(rules), control=folder / "standing"))


def test_every_board_is_judged() -> None:
    assert BOARDS.keys() == CASES.keys()
    assert all({case.passes for case in cases.values()} == {True, False} for cases in CASES.values())


@pytest.mark.parametrize(
    ("board", "case"),
    [
        pytest.param(board, case, id=f"{board}: {name}")
        for board, cases in CASES.items()
        for name, case in cases.items()
    ],
)
def test_a_block_judges_as_its_board_does(board: str, case: Asked, tmp_path: Path) -> None:
    verdict = judged(board, case, tmp_path)
    assert verdict.exit_code == (0 if case.passes else 1), verdict.reason


def test_the_blocks_of_shipped_boards_are_the_shipped_rules() -> None:
    block = from_table("nanochat", tomllib.loads(BOARDS["nanochat"]), "rulesets.md")
    assert block == load("nanochat")
    frontier = load("parameter-golf-frontier")
    block = from_table(frontier.name, tomllib.loads(BOARDS["Parameter Golf's frontier"]), "rulesets.md")
    assert block == replace(frontier, bpb_per_nat={}, data={})


def test_a_slowrun_of_more_than_an_hour_is_refused(tmp_path: Path) -> None:
    slow = asked([replace(RUN, loss=3.390, time_s=3700)], losses(3.402), passes=True)
    verdict = judged("NanoGPT slowrun", slow, tmp_path)
    assert Code.TIME_OVER_CAP in {finding.code for finding in verdict.findings}
    assert verdict.gate == REFUSED
