"""`python -m` of a module that is not a command: exit code 2 and the commands, never 0 in silence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.conftest import ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = {
    "analysis": ("significance", "audit", "leaderboard", "logs", "explain", "action", "hook"),
    "orchestration": ("sweep", "record", "verify"),
}
# what `python -m` does: it sets argv[0] to "-m" while it looks for the module; each module in a process that has loaded nothing
TRY = """
import os, runpy, sys
for module in sys.argv[1:]:
    if os.fork() == 0:
        sys.orig_argv, sys.argv = [sys.executable, "-m", module, "x"], ["-m", "x"]
        sys.stderr = open(os.devnull, "w")
        runpy._get_module_details(module)
        os._exit(0)
    print(module, os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def modules_of(package: str) -> list[str]:
    paths = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / package).rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


@pytest.mark.parametrize("package", COMMANDS)
def test_every_module_but_the_commands_exits_with_2(package: str) -> None:
    commands = {f"{package}.{name}" for name in COMMANDS[package]}
    modules = modules_of(package)
    assert commands < set(modules)
    tried = subprocess.run([sys.executable, "-c", TRY, *modules], capture_output=True, text=True, check=True, cwd=ROOT)
    codes = {name: int(code) for name, code in map(str.split, tried.stdout.splitlines())}
    assert codes == {name: 0 if name in commands else 2 for name in modules}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("analysis.report.text", ["analysis.report.text is not a command", "analysis.significance", "analysis.logs"]),
        ("analysis.significanse", ["Did you mean 'significance'?"]),
        ("orchestration.driver", ["orchestration.sweep, orchestration.record"]),
    ],
)
def test_the_commands_are_named(python: Run, module: str, words: list[str]) -> None:
    found = python("-m", module)
    assert found.returncode == 2
    for word in words:
        assert word in found.stderr


def test_it_loads_nothing_heavy_and_lets_imports_pass(python: Run) -> None:
    found = python(
        "-c", "import sys, orchestration.disk.files, analysis.stats; print(*sys.modules)", "-m", "analysis.stats"
    )
    assert found.returncode == 0
    assert not {"click", "scipy", "numpy", "ray"} & set(found.stdout.split())
