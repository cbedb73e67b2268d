"""Run commands in a Python that lacks packages: one process for many commands, given as JSON on stdin.

    echo '[["analysis.audit", "records/a"]]' | python -m tests.lacking pandas,pyarrow

The answer is a JSON list with the exit code, stdout and stderr of each. `os.NAME` takes an attribute of `os` away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from click.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
FRAMES = ("pandas", "pyarrow")
EXTRAS = (*FRAMES, "jinja2", "markupsafe", "ray", "rich", "torch", "sentencepiece", "huggingface_hub")
NOT_ON_WINDOWS = (
    "fcntl", "resource", "pwd", "grp", "os.O_NONBLOCK", "os.O_CLOEXEC", "os.O_NOFOLLOW", "os.getuid", "os.geteuid",
    "os.getpgid", "os.killpg", "os.setsid", "os.fork", "os.fchmod", "os.chown",
)  # fmt: skip
STRICT = {"NO_COLOR": "1", "PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "error::EncodingWarning"}
Done = subprocess.CompletedProcess[str]


def lacking(names: Sequence[str], *commands: Sequence[str | Path]) -> list[Done]:
    """Run each command, a module and its arguments, in one process that lacks these names."""
    asked = [[*map(str, command)] for command in commands]
    found = subprocess.run(
        [sys.executable, "-m", "tests.lacking", ",".join(names)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")} | STRICT,
    )
    assert found.returncode == 0, found.stderr
    return [Done(words, *answer) for words, answer in zip(asked, json.loads(found.stdout), strict=True)]


def main(names: str, asked: list[list[str]]) -> list[tuple[int, str, str]]:
    for name in filter(None, names.split(",")):
        if name.startswith("os."):
            delattr(os, name.removeprefix("os."))
        else:
            sys.modules[name] = None  # type: ignore[assignment]
    found = []
    for module, *words in asked:
        done = CliRunner().invoke(import_module(module).main, words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        found.append((done.exit_code, done.stdout, done.stderr))
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.load(sys.stdin))))
