"""What is said when a path or a name is not there."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from analysis.cli import ExistingPath
from analysis.rules.ruleset import RulesError, load
from analysis.untrusted.refusal import nearest, nearest_path


def test_the_nearest_word() -> None:
    assert nearest("parameter_golf", ["nanogpt-track-1", "parameter-golf"]) == " Did you mean 'parameter-golf'?"
    assert nearest("x", ["nanogpt-track-1", "parameter-golf"]) == ""
    with pytest.raises(RulesError, match="Did you mean 'nanogpt-track-3'"):
        load("nanogpt-track3")


def test_the_nearest_path(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "mine").mkdir()
    for asked, said in (
        ("record", f" Did you mean '{tmp_path}/records'?"),
        ("records/mina", f" Did you mean '{tmp_path}/records/mine'?"),
        ("records/entirely-else", f" Only '{tmp_path}/records' of it exists."),
        ("recods/mine", f" Only '{tmp_path}' of it exists."),
    ):
        assert nearest_path(tmp_path / asked) == said
    assert nearest_path(Path("/nowhere/at/all")) == ""
    assert nearest_path(tmp_path / "records") == " It is a folder; name the file."
    assert nearest_path(Path("quite-unlike-anything-here")) == ""


def test_an_argument_that_does_not_exist(tmp_path: Path) -> None:
    @click.command()
    @click.argument("path", type=ExistingPath(file_okay=False))
    def command(path: Path) -> None:
        click.echo(type(path).__name__)

    (tmp_path / "sweep").mkdir()
    (tmp_path / "file").touch()
    found = CliRunner().invoke(command, [str(tmp_path / "sweeps")])
    assert found.exit_code == 2
    assert f"Did you mean '{tmp_path}/sweep'?" in found.stderr
    assert "is a file" in CliRunner().invoke(command, [str(tmp_path / "file")]).stderr
    assert CliRunner().invoke(command, [str(tmp_path / "sweep")]).stdout == "PosixPath\n"
