"""What is released: source and wheel, the citation, the image, the hook, the action's pinned requirements, the changelog and the CI workflow."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import small_record
from tests.conftest import ROOT, clean_environment

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_RELEASED = {"tests", "benchmarks"}
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
IGNORED = shutil.ignore_patterns(
    ".git", ".venv", ".venv-oldest", "build", "dist", "data", "sweeps", "records", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis",
)  # fmt: skip


def packages() -> list[str]:
    """Return the top-level packages that are released."""
    return sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - NOT_RELEASED)


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Built:
    """What is released: the tree that it is made of, the unpacked source distribution, and the wheel made from that."""

    tree: Path
    source: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build from a copy, because a build folder left in the tree would add its old files."""
    top = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, top / "tree", ignore=IGNORED)
    expected = files_in(top / "tree")
    shutil.unpack_archive(_build("build_sdist", top / "tree", top), top, filter="data")
    for name in files_in(top / "tree") - expected:  # what setuptools leaves there
        (top / "tree" / name).unlink()
    source = top / f"seedproof-{PROJECT['version']}"
    return Built(tree=top / "tree", source=source, wheel=_build("build_wheel", source, top))


def _build(what: str, folder: Path, output: Path) -> Path:
    words = [sys.executable, "-c", BUILD, what, str(output)]
    done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
    return output / done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_the_source_distribution_holds_all_that_the_tests_need(built: Built) -> None:
    made = {"PKG-INFO", "setup.cfg"}
    held = {name for name in files_in(built.source) if ".egg-info/" not in name and "build/" not in name[:6]}
    assert held - made == files_in(built.tree)


@pytest.mark.slow
def test_the_index_shows_a_readme_whose_links_lead_somewhere(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    source = f"{PROJECT['urls']['Source']}"
    links = re.findall(r"\]\(([^)]+)\)", metadata.partition("\n\n")[2])
    assert f"{source}/raw/v{PROJECT['version']}/docs/report.png" in links
    assert f"{source}/blob/v{PROJECT['version']}/docs/tutorial.md" in links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert "Project-URL: Documentation, " in metadata


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_every_package(built: Built) -> None:
    files = {path for package in packages() for path in (ROOT / package).rglob("*") if path.is_file()}
    expected = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    with zipfile.ZipFile(built.wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected


@pytest.mark.slow
def test_the_wheel_checks_a_record_without_the_checkout(built: Built, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(built.wheel) as archive:
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


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == PROJECT["version"]
    assert f"## {cited['version']} - {cited['date-released']}" in (ROOT / "CHANGELOG.md").read_text()
    assert cited["license"] == PROJECT["license"]
    assert cited["repository-code"] == PROJECT["urls"]["Source"]
    assert {"message", "title", "authors"} <= cited.keys()


def test_every_address_of_the_project_is_that_of_the_readme() -> None:
    (clone,) = re.findall(r"git clone (\S+)", (ROOT / "README.md").read_text())
    assert PROJECT["urls"]["Source"] == clone
    assert all(url.startswith(clone) for url in PROJECT["urls"].values())


def test_the_reviewers_image_is_light_and_has_no_rights() -> None:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    copied = [line.split()[-2] for line in lines if line.startswith("COPY") and "--from=" not in line]
    assert copied == ["."]  # .dockerignore says what of it
    (install,) = [line for line in lines if "pip install" in line]
    assert "--constraint /src/constraints.txt" in install
    assert '"/src[report]"' in install
    assert lines.index("USER seedproof") > lines.index("COPY --from=build /opt/seedproof /opt/seedproof")
    assert any(re.fullmatch(r'ENTRYPOINT \["\S*/seedproof"\]', line) for line in lines)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv", "data", "sweeps"} <= {*ignored}
    version = re.findall(r"FROM python:(3\.\d+)-slim", "\n".join(lines))
    assert len({*version}) == 1
    assert f"Programming Language :: Python :: {version[0]}" in PROJECT["classifiers"]


def test_the_hook_audits_the_records_that_a_commit_changes(
    record: Callable[..., Path], command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["language"] == "python"
    *python, module = hook["entry"].split()
    assert python == ["python", "-m"]
    values = {1: 1.2014, 2: 1.1994, 3: 1.2031}
    record(values, "good")
    record(values, "wrong", claim=1.1)
    monkeypatch.chdir(tmp_path)
    assert command(module, "good/README.md", "elsewhere.txt").returncode == 0
    found = command(module, "good/README.md", "wrong/train_seed1.log")
    assert found.returncode == 1
    assert "headline-unsupported" in found.stdout
    assert "good" not in found.stdout
    assert command(module, tmp_path / "wrong" / "README.md").returncode == 1


@pytest.mark.parametrize("name", ["--help", "--rules=lenient.toml", "-x"])
def test_no_file_of_a_commit_is_an_option_of_the_hook(
    record: Callable[..., Path], command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    module = hook["entry"].split()[-1]
    record({1: 1.2014, 2: 1.1994, 3: 1.2031}, "wrong", claim=1.1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lenient.toml").write_text("")
    (tmp_path / name).write_text("")
    assert command(module, *hook["args"], name, "wrong/README.md").returncode == 1
    assert command(module, name, "wrong/README.md").returncode == 2


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
