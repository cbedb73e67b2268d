"""What a finished sweep leaves: reports that name the command which makes them again, exactly."""

from __future__ import annotations

import html
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from analysis.rules.ruleset import load
from analysis.sweepdir.plan import read_plan
from orchestration.disk.patient import Disk
from orchestration.driver.conclude import write_reports
from tests.conftest import SOURCE


@pytest.mark.parametrize("name", ["parameter-golf", "ours"])
def test_the_page_names_the_command_that_makes_it_again(
    sweep: Callable[..., Path], python: Callable[..., subprocess.CompletedProcess[str]], name: str
) -> None:
    own = {"ruleset": asdict(load("parameter-golf")) | {"name": name}, "gpus_per_run": 0, "cpus_per_run": 1}
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202}, "a sweep", **own)
    (folder / "script.py").write_text(SOURCE)
    write_reports(folder, read_plan(folder), Disk(folder, 0.0, print))
    page = (folder / "report.html").read_text()
    (line,) = re.findall(r"python -m ([^<]+)", html.unescape(page))
    module, verb, where, *more = shlex.split(line)
    found = python("-m", module, verb, where, *more)
    assert found.returncode == 0, found.stderr
    assert (found.stdout if more else (folder / "report.html").read_text()) == page
    assert "The gate does not pass it" not in page
