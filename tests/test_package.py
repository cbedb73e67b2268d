"""What is released: the wheel, the action's pinned requirements, the changelog and the CI workflow."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import small_record
from tests.conftest import ROOT, clean_environment

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_RELEASED = {"tests", "benchmarks"}
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


def packages() -> list[str]:
    """Return the top-level packages that are released."""
    return sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - NOT_RELEASED)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy: a build folder left in the tree would add its old files."""
    copy, built = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for package in packages():
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD, str(built)], cwd=copy, check=True, capture_output=True)
    (path,) = built.iterdir()
    return path


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_every_package(wheel: Path) -> None:
    files = {path for package in packages() for path in (ROOT / package).rglob("*") if path.is_file()}
    expected = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected


@pytest.mark.slow
def test_the_wheel_checks_a_record_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    folder = small_record.write(tmp_path / "record")
    program = "import analysis, runpy; print(analysis.__file__); runpy.run_module('analysis.significance', run_name='__main__')"
    found = subprocess.run(
        [sys.executable, "-c", program, "check", str(folder), "--sota", "1.25"],
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(str(site))


def test_the_packages_are_those_that_are_released_and_typed() -> None:
    assert {"analysis", "orchestration", "trainer"} <= {*packages()}
    for package in packages():
        assert (ROOT / package / "py.typed").exists(), package


# -- pinned requirements -----------------------------------------------------------------------------------------------


def pins(text: str) -> dict[str, str]:
    return {canonicalize_name(name): pin for name, pin in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def needed() -> set[str]:
    """Return the names of what the base install needs here, and of what builds it."""
    names: set[str] = set()
    open_ends = [*PROJECT["dependencies"], "setuptools"]
    while open_ends:
        requirement = Requirement(open_ends.pop())
        name = canonicalize_name(requirement.name)
        if name not in names and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            names.add(name)
            open_ends += requires(name) or []
    return names


def test_the_action_installs_what_the_base_needs_with_the_versions_of_the_tests() -> None:
    pinned = pins((ROOT / "requirements-action.txt").read_text())
    versions = pins((ROOT / "constraints.txt").read_text())
    assert {*pinned} == needed(), "run .ci/hashes"
    assert pinned == {name: versions[name] for name in pinned}, "run .ci/hashes"


def test_every_requirement_of_the_action_has_hashes() -> None:
    text = re.sub(r"^#.*\n", "", (ROOT / "requirements-action.txt").read_text(), flags=re.MULTILINE)
    for entry in text.strip().replace("\\\n", "").split("\n"):
        assert not entry or re.fullmatch(r"[\w.-]+==\S+(\s+--hash=sha256:[0-9a-f]{64})+", entry), entry


def test_the_action_installs_nothing_without_a_hash() -> None:
    install = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"][0]["run"]
    for option in ("--no-deps", "--require-hashes", "--only-binary :all:", "--no-build-isolation"):
        assert option in install, option


# -- changelog and workflow --------------------------------------------------------------------------------------------


def test_the_version_is_the_changelogs_newest_and_every_version_has_a_date() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    versions = [
        re.fullmatch(r"(\d+)\.(\d+)\.(\d+) - \d{4}-\d\d-\d\d", heading)
        for heading in headings
        if heading != "Unreleased"
    ]
    numbers = [tuple(map(int, found.groups())) for found in versions if found]
    assert len(numbers) == len(versions), headings
    assert numbers == sorted(numbers, reverse=True)
    assert ".".join(map(str, numbers[0])) == PROJECT["version"]


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github" / "workflows").iterdir()), ids=lambda path: path.name)
def test_workflows_name_actions_by_commit_and_say_the_version(workflow: Path) -> None:
    for line in re.findall(r"uses: *(.+)", workflow.read_text()):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_ci_runs_on_every_python_that_the_package_names() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    named = [line.split(" :: ")[-1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    for job in jobs.values():
        assert job["strategy"]["matrix"]["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"
