"""`python -m` refuses a trainer module that is not a command, and every other import passes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import trainer
from tests.conftest import ROOT
from tests.trainer.conftest import TinyData

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("arguments", "use"),
    [
        (["-m", "trainer.corpus"], "trainer.dataset build"),
        (["-m", "trainer.fetch", "--shards", "1"], "trainer.dataset fetch"),
        (["-Pm", "trainer.shards", "-m", "trainer.dataset"], "trainer.dataset verify"),
        (["-mtrainer.corpus", "notes"], "trainer.dataset build"),
        (["-m", "trainer.datset"], "trainer.dataset"),
    ],
)
def test_a_module_that_is_not_a_command_exits_with_2(python: Run, arguments: list[str], use: str) -> None:
    found = python(*arguments, env={"PYTHONPATH": str(ROOT)})
    assert found.returncode == 2
    assert found.stdout == ""
    (sentence,) = found.stderr.splitlines()
    assert f"`python -m {use}`" in sentence


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import trainer.corpus, trainer.fetch, trainer.shards"],
        ["-c", "import trainer.corpus", "-m", "trainer.corpus"],
        ["-m", "timeit", "-n1", "import trainer.corpus", "trainer.corpus"],
        ["-m", "trainer.dataset", "--help"],
        ["-m", "trainer.dataset", "verify", "--help", "trainer.corpus"],
        ["-m", "trainer.evaluate", "--help"],
    ],
)
def test_every_other_import_passes(python: Run, arguments: list[str]) -> None:
    found = python(*arguments)
    assert found.returncode == 0, found.stderr


def test_another_package_with_a_similar_name_may_import_it(python: Run, tmp_path: Path) -> None:
    (tmp_path / "my_trainer").mkdir()
    (tmp_path / "my_trainer" / "__init__.py").write_text("import trainer.corpus\n")
    (tmp_path / "my_trainer" / "corpus.py").write_text("print('ran')\n")
    found = python("-m", "my_trainer.corpus", env={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    assert found.returncode == 0, found.stderr
    assert found.stdout == "ran\n"


def test_every_module_is_a_command_or_has_a_nearest_one() -> None:
    modules = {path.stem for path in (ROOT / "trainer").glob("*.py")} - {"__init__", "extra"}  # all commands use extra
    assert modules == {*trainer.COMMANDS, *trainer.NEAREST}


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "trainer.train_gpt"],
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1", "-m", "trainer.train_gpt"],
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1", ROOT / "trainer" / "train_gpt.py"],
    ],
)
def test_the_trainer_starts_in_every_way(python: Run, tiny_data: TinyData, arguments: list[str | Path]) -> None:
    found = python(*arguments, env=tiny_data.env | {"SEED": "x"})
    assert found.returncode in (1, 2)
    assert "train_gpt.py: SEED must be a whole number, not 'x'." in found.stderr
