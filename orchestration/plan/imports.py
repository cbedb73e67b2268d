"""Find the modules that a script imports from its own folder, directly or not. They are packed with the plan."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, BuiltinImporter, FrozenImporter
from pathlib import Path

from analysis.sweepdir.code import LARGEST_SCRIPT, MOST_MODULES
from orchestration.plan.asked import PlanError, refuse_secrets

PACKAGE = "__init__.py"


def local_modules(script: Path, source: bytes) -> dict[str, bytes]:
    """Return the .py files that a script imports from its own folder, directly or not, by their paths there.

    As in Python, a local file or package goes before an installed one, and an installed one before a local folder without
    __init__.py. Raises PlanError.
    """
    found: dict[str, bytes] = {}
    waiting, size = [("", source)], len(source)
    while waiting:
        name, content = waiting.pop()
        for path in _imported(script, name, content):
            module = path.relative_to(script.parent).as_posix()
            if module in found:
                continue
            found[module] = _read(path)
            size += len(found[module])
            if len(found) > MOST_MODULES or size > LARGEST_SCRIPT:
                raise PlanError(
                    f"--script {script} imports more from its own folder than is kept with a plan ({MOST_MODULES} files, "
                    f"{LARGEST_SCRIPT} bytes), {module} among them: install such packages in the environment instead."
                )
            waiting.append((module, found[module]))
    return dict(sorted(found.items()))


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path}, which the script imports, cannot be read: {error.strerror}.") from None
    refuse_secrets(content.decode("utf-8", "replace"), path, "the script and what it imports from its folder are")
    return content


def _imported(script: Path, name: str, source: bytes) -> Iterator[Path]:
    """Yield the files below the script's folder that one file's import statements load."""
    try:
        nodes = [*ast.walk(ast.parse(source))]
    except (SyntaxError, ValueError, RecursionError):
        return
    package = name.split("/")[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _loaded(script, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom) and node.level <= len(package) + (node.level == 0):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                yield from _loaded(script, [*base, alias.name])


def _loaded(script: Path, parts: list[str]) -> Iterator[Path]:
    """Yield the files that an import of a dotted name loads: every package on the way and, if it is one, the last module.

    The last part may be a name in a module. `*` may be any module of a package.
    """
    if any(finder.find_spec(parts[0]) for finder in (BuiltinImporter, FrozenImporter)):
        return  # Python has these before it looks into folders
    folder = script.parent
    for part in parts:
        if part == "*":
            yield from sorted(folder.glob("*.py")) if (folder / PACKAGE).is_file() else ()
            return
        extension = next((path for end in EXTENSION_SUFFIXES if (path := folder / f"{part}{end}").is_file()), None)
        if (folder / part / PACKAGE).is_file():
            yield folder / part / PACKAGE
        elif extension is not None:
            raise PlanError(
                f"--script {script} imports {extension} from its own folder; only .py files are kept with a plan. Install it "
                f"in the environment instead."
            )
        elif (folder / f"{part}.py").is_file():
            yield folder / f"{part}.py"
            return
        folder = folder / part
