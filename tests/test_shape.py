"""The shape of the code: which room imports which, how large files and functions are, what commands load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# A room may import those after it in its row, and itself. The commands come first.
ANALYSIS = (
    "commands", "cli", "report", "verdict", "evidence", "checks", "record", "reading", "sweepdir", "rules", "stats",
    "untrusted",
)  # fmt: skip
ORCHESTRATION = ("commands", "verification", "submission", "overview", "driver", "worker", "plan", "disk")
OUTSIDE = {
    "trainer": {"analysis", "orchestration", "ray"},
    "analysis": {"trainer", "orchestration", "seedproof", "torch", "ray"},
    "orchestration": {"trainer", "seedproof", "torch"},
}
STANDALONE = {"torch", "numpy", "sentencepiece"}
MOST_FILES, MOST_LINES, LONGEST_FUNCTION = 12, 300, 40
PACKAGES = ("analysis", "orchestration", "seedproof", "trainer")


def files(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in files(*PACKAGES)}


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def room_of(module: str) -> str:
    _, *parts = module.split(".")
    if len(parts) > 1 or (ROOT / module.replace(".", "/")).is_dir():
        return parts[0] if parts else "package"
    return "cli" if parts == ["cli"] else "commands"


@pytest.mark.parametrize(("package", "order"), [("analysis", ANALYSIS), ("orchestration", ORCHESTRATION)])
def test_rooms_import_one_way(package: str, order: tuple[str, ...]) -> None:
    for path in files(package):
        own = room_of(module_of(path))
        if own == "package":
            continue
        for module in imports_of(path):
            if module.startswith(f"{package}.") and own != "commands":
                assert order.index(room_of(module)) >= order.index(own), f"{path} imports {module}"


def test_no_module_imports_itself_by_a_detour() -> None:
    """An import inside a function is an arrow too: it could hide a circle."""
    arrows = {
        module_of(path): {name for name in imports_of(path) if name in MODULES} - {module_of(path)}
        for path in files(*PACKAGES)
    }
    done: set[str] = set()

    def follow(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for other in arrows[module]:
                follow(other, (*way, module))
            done.add(module)

    for module in arrows:
        follow(module, ())


@pytest.mark.parametrize("package", OUTSIDE)
def test_packages_import_in_one_direction(package: str) -> None:
    for path in files(package):
        found = {name.split(".")[0] for name in imports_of(path)}
        assert not found & OUTSIDE[package], path


def test_only_the_driver_imports_ray() -> None:
    users = {room_of(module_of(path)) for path in files("orchestration") if "ray" in {*top_level(path)}}
    assert users == {"driver"}


def test_the_supervisor_needs_the_standard_library_alone() -> None:
    assert top_level(ROOT / "orchestration/worker/supervisor.py") <= set(sys.stdlib_module_names)


def test_the_trainer_is_one_standalone_file() -> None:
    script = ROOT / "trainer/train_gpt.py"
    assert top_level(script) - set(sys.stdlib_module_names) == STANDALONE
    assert script.stat().st_size <= 47_759  # the published record's script: code counts in the artifact


def top_level(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def test_a_folder_can_be_overlooked_a_file_read_a_function_seen_at_once() -> None:
    for folder in {path.parent for path in files("analysis", "orchestration")}:
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MOST_FILES, folder
    for path in files("analysis", "orchestration", "seedproof"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= MOST_LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{path}: {node.name} has {length} lines"


# -- what is loaded, which is what people wait for -----------------------------------------------------------------------


def modules_after(code: str) -> set[str]:
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.split(".")[0] for name in found.stderr.split()}


@pytest.mark.parametrize("module", ["significance", "audit", "leaderboard", "logs", "explain"])
def test_help_loads_nothing_heavy(module: str) -> None:
    loaded = modules_after(f"from analysis.{module} import main; main(['--help'])")
    assert not loaded & {"scipy", "pandas", "numpy", "torch", "ray"}


@pytest.mark.parametrize("code", ["import seedproof", "from seedproof.__main__ import main; main(['--help'])"])
def test_the_face_loads_nothing_heavy_and_no_command(code: str) -> None:
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"scipy", "pandas", "numpy", "torch", "ray", "rich", "analysis.reading", "orchestration"} & {
        *found.stderr.split()
    }


def test_check_loads_neither_torch_nor_ray_nor_pandas(record: Callable[..., Path]) -> None:
    folder = record({1: 1.2, 2: 1.201, 3: 1.202})
    loaded = modules_after(f"from analysis.significance import main; main(['check', {str(folder)!r}, '--sota', '1.3'])")
    assert "scipy" in loaded
    assert not loaded & {"torch", "ray", "pandas", "pyarrow"}


def test_audit_and_logs_load_neither_scipy_nor_pandas(record: Callable[..., Path]) -> None:
    folder = record({1: 1.2, 2: 1.201, 3: 1.202})
    for module in ("audit", "logs"):
        loaded = modules_after(f"from analysis.{module} import main; main([{str(folder)!r}])")
        assert not loaded & {"scipy", "numpy", "pandas", "torch", "ray"}
