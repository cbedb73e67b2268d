"""The shape of the project: import directions, load times by module, the README's commands, the Makefile."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from analysis.reading.reader import read_log
from analysis.report.text import WORDS
from analysis.rules import ruleset
from analysis.rules.findings import DEFAULTS, ERROR, INFO, WARNING
from analysis.verdict.verdict import EXIT_CODES
from tests.conftest import ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]

FORBIDDEN = {
    "trainer": {"analysis", "orchestration", "ray"},
    "analysis": {"trainer", "orchestration", "torch", "ray"},
    "orchestration": {"trainer", "torch"},
}
STANDALONE = {"torch", "numpy", "sentencepiece"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_in_one_direction(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        assert not imported(path) & FORBIDDEN[package], path


def test_the_trainer_is_one_standalone_file() -> None:
    assert imported(ROOT / "trainer" / "train_gpt.py") - set(sys.stdlib_module_names) == STANDALONE


def test_only_the_engine_imports_ray() -> None:
    users = [path.name for path in (ROOT / "orchestration").rglob("*.py") if "ray" in imported(path)]
    assert users == ["engine.py"]


def test_the_supervisor_needs_the_standard_library_alone() -> None:
    assert imported(ROOT / "orchestration" / "worker" / "supervisor.py") <= set(sys.stdlib_module_names)


def modules_after(code: str) -> set[str]:
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.split(".")[0] for name in found.stderr.split()}


@pytest.mark.parametrize("module", ["significance", "audit", "leaderboard", "logs"])
def test_help_loads_nothing_heavy(module: str) -> None:
    loaded = modules_after(f"from analysis.{module} import main; main(['--help'])")
    assert not loaded & {"scipy", "pandas", "numpy", "torch", "ray"}


def test_check_loads_neither_torch_nor_ray_nor_pandas(record: Callable[..., Path]) -> None:
    folder = record({1: 1.2, 2: 1.201, 3: 1.202})
    loaded = modules_after(f"from analysis.significance import main; main(['check', {str(folder)!r}, '--sota', '1.3'])")
    assert "scipy" in loaded
    assert not loaded & {"torch", "ray", "pandas", "matplotlib"}


def test_readme_names_every_make_target_and_only_commands_that_exist(python: Run, command: Run) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", readme)) == targets
    commands = set(re.findall(r"python -m ((?:analysis|orchestration|trainer|benchmarks)\.\w+(?: [a-z]+)?)", readme))
    assert len(commands) >= 6
    for line in commands:
        module, *verb = line.split()
        if module.startswith("benchmarks."):
            found = python("-m", module, "--help")
        else:
            verbs = getattr(import_module(module).main, "commands", ())
            found = command(module, *(word for word in verb if word in verbs), "--help")
        assert found.returncode == 0, f"{line}: {found.stderr}"


def test_readme_options_exist(command: Run) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    helps = "".join(
        command(*words, "--help").stdout
        for words in (
            ("analysis.significance", "report"), ("analysis.significance", "check"), ("analysis.significance", "plan"),
            ("analysis.logs",),
            ("analysis.audit",), ("analysis.leaderboard",),
            ("orchestration.sweep", "run"), ("orchestration.sweep", "status"), ("orchestration.sweep", "collect"), ("trainer.dataset", "demo"), ("trainer.dataset", "fetch"), ("trainer.dataset", "build"),
            ("orchestration.record",), ("trainer.evaluate",),
        )
    )  # fmt: skip
    foreign = {"--standalone", "--nproc_per_node", "--address", "--working-dir", "--head", "--metric-name", "--nodes"}
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", readme)) - foreign:
        assert option in helps, option


COMMANDS = (
    "analysis.significance report", "analysis.significance check", "analysis.significance plan", "analysis.audit",
    "analysis.leaderboard", "analysis.logs", "orchestration.sweep run", "orchestration.sweep resume",
    "orchestration.sweep status", "orchestration.sweep collect", "orchestration.record", "trainer.dataset demo",
    "trainer.dataset fetch", "trainer.dataset build", "trainer.dataset verify", "trainer.evaluate",
)  # fmt: skip
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "deploy" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_flag_is_documented(command: Run, line: str) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = command(*line.split(), "--help").stdout
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown)) - {"--help"}
    assert sorted(flag for flag in flags if flag not in text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_exit_codes_are_documented() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d) \|", readme, re.MULTILINE) == ["0", "1", "2", "3", "4"]


def test_the_page_on_rulesets_names_every_key_and_its_example_loads(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "rulesets.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| "))
    keys = {field.name for field in fields(ruleset.Ruleset)} - {"name"}
    assert {key for key in keys if f"`{key}`" not in rows and f"`[{key}]`" not in rows} == set()
    assert {name for name in ruleset.known() if f"`{name}`" not in rows} == set()
    example = tmp_path / "ours.toml"
    example.write_text(text.split("```toml\n")[1].split("```")[0])
    assert ruleset.load(str(example)).caps == {"artifact_bytes": 8_000_000, "train_time_s": 1200}


def test_the_page_on_logs_shows_lines_that_are_read(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text((ROOT / "docs" / "logs.md").read_text(encoding="utf-8").split("```\n")[1])
    (run,) = read_log(log)
    assert run.seed == 1337
    assert run.finals[-1].val_bpb == 1.20143417
    assert run.steps[-1].val_bpb == 1.3583


def test_readme_tree_names_files_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme.split("<!-- tree -->")[1]
    names = re.findall(r"^ *((?:trainer|orchestration|analysis)/[\w./-]+)", tree, re.MULTILINE)
    assert len(names) > 15
    for name in names:
        assert (ROOT / name).exists(), name
    for package in ("trainer", "orchestration", "analysis"):
        for path in (ROOT / package).glob("*.py"):
            if path.name != "__init__.py":
                assert f"{package}/{path.name}" in names


def test_the_page_on_statistics_computes_what_it_says() -> None:
    result = doctest.testfile(str(ROOT / "docs" / "statistics.md"), module_relative=False)
    assert result.failed == 0
    assert result.attempted > 15


def test_every_finding_is_documented_with_an_example() -> None:
    text = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## .*$", text, flags=re.MULTILINE)
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "analysis").rglob("*.py")]
    printed = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    told = {}
    for severity, part in zip((ERROR, WARNING, INFO), parts, strict=True):
        for section in re.split(r"^### ", part, flags=re.MULTILINE)[1:]:
            found = re.fullmatch(
                r"`([a-z-]+)`\n\n.+?\n\n    (\w+): ([a-z-]+): \S+:\d+: (.+)\n\n\*\*Why\.\*\* .+?\n\*\*Do\.\*\* .+?\n+",
                section,
                re.DOTALL,
            )
            assert found, section
            code, word, again, message = found.groups()
            assert again == code
            assert word == severity
            assert any(isinstance(one, str) and len(one) > 14 and one in message for one in printed), message
            told[code] = severity
    assert told == DEFAULTS


def test_audit_and_logs_load_neither_scipy_nor_pandas(record: Callable[..., Path]) -> None:
    folder = record({1: 1.2, 2: 1.201, 3: 1.202})
    for module in ("audit", "logs"):
        loaded = modules_after(f"from analysis.{module} import main; main([{str(folder)!r}])")
        assert not loaded & {"scipy", "numpy", "pandas", "torch", "ray"}


def test_every_verdict_has_an_exit_code_and_a_word() -> None:
    assert set(EXIT_CODES) == set(WORDS)


def test_constraints_pin_every_requirement() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    names = {name.lower().replace("_", "-") for name in pinned}
    assert pinned["torch"] == "2.13.0"
    for name in re.findall(r'^\s+"([a-z-]+)(?:\[\w+\])?(?:>=|")', (ROOT / "pyproject.toml").read_text(), re.MULTILINE):
        assert name in names | {"seedproof"}, name
