"""The GitHub action, its steps run as a runner would: in bash, with inputs and event as it would fill them in."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from analysis import action
from analysis.record.change import evidence, folders
from analysis.report import gate
from tests.analysis.test_sarif import check_sarif
from tests.conftest import ROOT, clean_environment

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
Record = Callable[..., Path]
GOOD, POOR = {1: 1.2, 2: 1.201, 3: 1.202}, {1: 1.2, 2: 1.25, 3: 1.28}


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str
    outputs: dict[str, str]
    summary: str

    @property
    def commands(self) -> list[str]:
        """What the runner would obey: lines that begin with :: or hold ##[, wherever they came from."""
        lines = (self.stdout + self.stderr).splitlines()
        return [line for line in lines if line.lstrip().startswith("::") or "##[" in line]


class Repository:
    """A checkout of a pull request: git's history, and the runner's files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runner = folder / "checkout", folder / "runner"
        self.runner.mkdir()
        self.git("init", "--quiet", "--initial-branch=main", str(self.folder), where=folder)
        (self.folder / "records").mkdir()
        (self.folder / "records" / "README.md").write_text("# Records\n")
        self.base = self.commit("base")

    def git(self, *arguments: str, where: Path | None = None) -> str:
        who = [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "commit.gpgsign=false",
            "-c",
            "protocol.file.allow=always",
        ]
        found = subprocess.run(["git", *who, *arguments], cwd=where or self.folder, capture_output=True, text=True, check=False)  # fmt: skip
        assert found.returncode == 0, found.stderr
        return found.stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def pull_request(self) -> str:
        """Commit what is there to a branch, and check out its merge into main, as actions/checkout does."""
        self.git("checkout", "--quiet", "-b", "change", self.base)
        self.commit("change")
        self.git("checkout", "--quiet", "--detach", "main")
        self.git("merge", "--quiet", "--no-ff", "-m", "merge", "change")
        return self.git("rev-parse", "HEAD")

    def run(
        self, sha: str | None = None, event: bool = True, install: bool = False, here: bool = True, **inputs: str
    ) -> Ended:
        """The action's steps; without `install` the environment of these tests stands in for the first.

        `here`: call the module in this process, because a new one takes a second to start.
        """
        given = {name: str(spec.get("default", "")) for name, spec in ACTION["inputs"].items()} | inputs
        output, summary = self.runner / "output", self.runner / "summary"
        output.write_text("")
        summary.write_text("")
        environment = {
            **clean_environment(), "GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary),
            "RUNNER_TEMP": str(self.runner), "GITHUB_SHA": sha or self.git("rev-parse", "HEAD"),
        }  # fmt: skip
        del environment["PYTHONPATH"]
        values = {f"inputs.{name}": value for name, value in given.items()}
        values |= {"github.action_path": str(ROOT), "github.event.pull_request.base.sha": self.base if event else ""}

        def expanded(text: str) -> str:
            return re.sub(r"\$\{\{ *([\w.]+) *\}\}", lambda match: values[match[1]], text)

        if not install and not (self.runner / "seedproof").exists():
            (self.runner / "seedproof").symlink_to(Path(sys.executable).parent.parent)
        said, code = ["", ""], 0
        for step in ACTION["runs"]["steps"]:
            if step["name"] == "Install" and not install:
                continue
            assert "${{" not in step["run"]  # what somebody else wrote is never part of a script
            where = expanded(step.get("working-directory", str(self.folder)))
            own = {name: expanded(value) for name, value in step.get("env", {}).items()}
            if here and not install and step["run"].endswith(" -I -m analysis.action"):
                found = called(where, environment | own)
            else:
                bash = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
                found = subprocess.run(bash, cwd=where, env=environment | own, capture_output=True, text=True, check=False)  # fmt: skip
            said = [said[0] + found.stdout, said[1] + found.stderr]
            code = found.returncode
            if code:
                break
        outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return Ended(code, *said, outputs, summary.read_text())


def called(where: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Call what `python -I -m analysis.action` calls, with its folder, environment and streams."""
    for module in (evidence, folders):  # they remember what is in the folders of one checkout
        for one in vars(module).values():
            if hasattr(one, "cache_clear"):
                one.cache_clear()
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with (
        contextlib.chdir(where),
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
    ):
        for name in set(os.environ) - set(environment):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            action.main()
    said = [cast("io.BytesIO", stream.buffer).getvalue().decode() for stream in streams]
    return subprocess.CompletedProcess([], int(ended.value.code or 0), *said)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def add(repository: Repository, record: Record) -> Callable[..., Path]:
    """Put a record folder below records/ of the checkout."""

    def put(values: dict[int, float], name: str = "mine", below: str = "records", **changes: Any) -> Path:
        target = repository.folder / below / name
        shutil.move(record(values, name="made", **changes), target)
        return target

    return put


def test_the_definition_is_sound() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert set(ACTION["inputs"]) == {"path", "rules", "rules_by_path", "sota", "control", "margin", "unit", "alpha"}
    assert set(ACTION["outputs"]) == {"verdict", "p_value", "sarif", "markdown"}
    environment = ACTION["runs"]["steps"][1]["env"]
    assert {name.removeprefix("SEEDPROOF_").lower() for name in environment} == set(ACTION["inputs"]) | {"base"}
    text = (ROOT / "action.yml").read_text()
    assert "pull_request_target" not in text
    assert "secrets." not in text
    for line in text.splitlines():
        assert "python" not in line or "python3 as" in line or " -I " in line or "#" in line or "Python" in line, line


def test_a_good_record_passes(repository: Repository, add: Callable[..., Path]) -> None:
    add(GOOD)
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 0
    assert ended.stderr == ""
    assert ended.outputs["verdict"] == "supported"
    assert 0 < float(ended.outputs["p_value"]) < 0.01
    assert [line.split("::")[1] for line in ended.commands] == ["notice title=seedproof"]
    assert ended.stdout.startswith("Record records/mine:\nSUPPORTED: ")
    assert ended.summary.startswith("## seedproof: supported, records/mine\n")


def test_a_record_that_does_not_reach_it_fails(repository: Repository, add: Callable[..., Path]) -> None:
    add(POOR)
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 1
    assert ended.outputs["verdict"] == "not_supported"
    assert float(ended.outputs["p_value"]) > 0.01
    assert ended.commands[0].startswith("::error title=seedproof::NOT SUPPORTED")


def test_findings_are_at_their_file_and_line(repository: Repository, add: Callable[..., Path]) -> None:
    folder = add(GOOD, claim=1.1)
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 1
    assert ended.outputs["verdict"] == "refused"
    assert ended.summary.startswith("## seedproof: refused, records/mine\n")
    (place,) = re.findall(r"^::error file=([^,]+),line=(\d+),title=headline-unsupported::", ended.stdout, re.M)
    line = (repository.folder / place[0]).read_text().splitlines()[int(place[1]) - 1]
    assert repository.folder / place[0] == folder / "submission.json"
    assert "1.1" in line


def test_the_worst_of_several_records_decides(repository: Repository, add: Callable[..., Path]) -> None:
    add(GOOD, "a")
    add(POOR, "b", below="records")
    add({1: 1.2}, "c")
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 3
    assert ended.outputs["verdict"] == "unusable"
    assert ended.outputs["p_value"] == ""
    assert [line for line in ended.stdout.splitlines() if line.startswith("Record ")] == ["Record records/a:", "Record records/b:", "Record records/c:"]  # fmt: skip


def test_only_what_the_change_touches_is_judged(repository: Repository, add: Callable[..., Path]) -> None:
    old = add(POOR, "old")
    repository.base = repository.commit("an old record")
    add(GOOD, "new")
    sha = repository.pull_request()
    assert repository.run(sha, sota="1.3").code == 0
    (old / "train_seed3.log").unlink()  # somebody's evidence gets better by leaving some out
    repository.commit("remove a log")
    ended = repository.run(sota="1.3")
    assert ended.code == 1
    assert "records/old:" in ended.stdout


def test_a_change_without_records_passes_and_says_so(repository: Repository) -> None:
    (repository.folder / "records" / "README.md").write_text("# All records\n")
    (repository.folder / "code.py").write_text("x = 1\n")
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 0
    assert (ended.outputs["verdict"], ended.outputs["p_value"]) == ("none", "")
    assert ended.commands == [
        "::notice title=seedproof::This change adds or changes no record: there is nothing to check."
    ]


def test_a_folder_without_any_evidence_is_judged_too(repository: Repository) -> None:
    folder = repository.folder / "records" / "track" / "mine"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# The best record ever\n")
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 3
    assert ended.outputs["verdict"] == "unusable"
    assert "records/track/mine:" in ended.stdout


def test_without_a_pull_request_every_record_is_judged(repository: Repository, add: Callable[..., Path]) -> None:
    add(GOOD, "a")
    add(GOOD, "b")
    repository.commit("two records")
    ended = repository.run(event=False, sota="1.3")
    assert ended.code == 0
    assert ended.stdout.count("SUPPORTED: ") == 4  # each as a line and as an annotation


def test_a_path_may_be_one_record(repository: Repository, add: Callable[..., Path]) -> None:
    add(GOOD, "a")
    add(POOR, "b")
    repository.commit("two records")
    assert repository.run(path="records/a", sota="1.3", event=False).code == 0
    assert repository.run(path="records/b", sota="1.3", event=False).code == 1


def test_an_authors_own_merge_hides_nothing(repository: Repository, add: Callable[..., Path]) -> None:
    """A workflow that checks out the head of the branch sees the author's merges, whose first parent is the author's too."""
    repository.git("checkout", "--quiet", "-b", "change")
    add(POOR)
    repository.commit("a record")
    repository.git("checkout", "--quiet", "-b", "side", "HEAD~1")
    (repository.folder / "x").write_text("x")
    repository.commit("something else")
    repository.git("checkout", "--quiet", "change")
    repository.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    ended = repository.run("0" * 40, sota="1.3")
    assert ended.code == 1
    assert "records/mine:" in ended.stdout


def test_a_shallow_checkout_fetches_the_base(repository: Repository, add: Callable[..., Path], tmp_path: Path) -> None:
    add(GOOD)
    sha = repository.pull_request()
    repository.git("branch", "merge")
    repository.git("config", "uploadpack.allowAnySHA1InWant", "true")
    origin = repository.folder
    repository.folder = tmp_path / "shallow"
    url = f"file://{origin}"
    repository.git("clone", "--quiet", "--depth=1", "--branch=merge", url, str(repository.folder), where=tmp_path)
    ended = repository.run(sha, sota="1.3")
    assert ended.code == 0
    assert ended.outputs["verdict"] == "supported"
    repository.git("remote", "set-url", "origin", "file:///nowhere")
    repository.base = "1" * 40
    ended = repository.run(sha, sota="1.3")
    assert ended.code == 2
    assert "fetch-depth: 2" in ended.commands[0]


@pytest.mark.parametrize("name", ["control", "rules"])
def test_a_change_may_not_touch_what_it_is_judged_by(
    repository: Repository, add: Callable[..., Path], name: str
) -> None:
    add({1: 1.3, 2: 1.301, 3: 1.302}, "standing", below=".")
    (repository.folder / "rules.toml").write_text((ROOT / "analysis/rules/rulesets/parameter-golf.toml").read_text())
    repository.base = repository.commit("the standing record and rules")
    add(GOOD)
    inputs = {"control": "standing", "rules": "rules.toml"}
    assert repository.run(repository.pull_request(), **inputs).code == 0
    measure = repository.folder / {"control": "standing/train_seed1.log", "rules": "rules.toml"}[name]
    measure.write_text(measure.read_text() + "\n")
    repository.commit("worse")
    ended = repository.run(**inputs)
    assert ended.code == 2
    assert ended.outputs["verdict"] == "usage"
    assert f"{name}: this change touches" in ended.commands[0]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "What is to be beaten?"),
        ({"sota": "1,3"}, "'1,3' is not a number"),
        ({"sota": "1.3", "unit": "bits"}, "'bits' is not one of 'bpb', 'nats'"),
        ({"sota": "1.3", "rules": "golf"}, "'golf' is neither a ruleset"),
        ({"sota": "1.3", "control": "nowhere"}, "'nowhere' does not exist"),
        ({"sota": "1.3", "path": "nowhere"}, "path: nowhere is not a folder in this checkout"),
        ({"sota": "1.3", "path": "../x"}, "must be inside the repository"),
        ({"sota": "1.3", "path": "/etc"}, "must be inside the repository"),
    ],
)
def test_wrong_inputs_are_said(
    repository: Repository, add: Callable[..., Path], inputs: dict[str, str], words: str
) -> None:
    add(GOOD)
    repository.commit("a record")
    ended = repository.run(event=False, **inputs)
    assert ended.code == 2
    assert ended.outputs["verdict"] == "usage"
    assert words in ended.commands[-1]


def link(repository: Repository, place: str, target: str) -> None:
    """A link of the checkout, whose target is another record, out of what is judged."""
    shutil.rmtree(repository.folder / place, ignore_errors=True)
    (repository.folder / place).parent.mkdir(parents=True, exist_ok=True)
    (repository.folder / place).symlink_to(target)


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("records/mine", "../hidden/mine"),
        ("records/track/mine", "../../hidden/mine"),
        ("records", "hidden"),
        ("records/old", "../hidden/mine"),
    ],
)
def test_evidence_behind_a_link_is_refused(
    repository: Repository, add: Callable[..., Path], place: str, target: str
) -> None:
    add(GOOD, "old")
    (repository.folder / "hidden").mkdir()
    repository.base = repository.commit("an old record")
    add(POOR, below="hidden")
    link(repository, place, target)
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 2
    assert ended.outputs["verdict"] == "usage"
    assert f"{place} is a link" in ended.commands[0]


def test_a_submodule_is_refused(repository: Repository, add: Callable[..., Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.move(add(POOR), other)
    repository.git("init", "--quiet", str(other), where=tmp_path)
    repository.git("add", "--all", where=other)
    repository.git("commit", "--quiet", "-m", "evidence", where=other)
    repository.git("submodule", "--quiet", "add", str(other), "records/mine")
    with open(repository.folder / ".gitmodules", "a") as file:
        file.write("\tignore = all\n")
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 2
    assert ended.outputs["verdict"] == "usage"
    assert "records/mine is a submodule" in ended.commands[0]


def test_what_is_judged_by_is_one_file_under_every_name(repository: Repository, add: Callable[..., Path]) -> None:
    add({1: 1.3, 2: 1.301, 3: 1.302}, "standing", below=".")
    (repository.folder / "archive").symlink_to("standing")
    (repository.folder / "rules.toml").symlink_to("nowhere")
    add(GOOD)
    sha = repository.pull_request()
    for inputs, words in (
        ({"control": "archive"}, "control: archive is a link"),
        ({"control": str(repository.folder / "standing")}, "must be inside the repository"),
        ({"control": "../checkout/standing"}, "must be inside the repository"),
        ({"rules": "rules.toml"}, "rules: rules.toml is a link"),
    ):
        ended = repository.run(sha, **inputs)
        assert ended.code == 2
        assert words in ended.commands[0]


@pytest.mark.parametrize("rules", ["nanogpt-track-1", "nanogpt-track-3", "parameter-golf"])
@pytest.mark.parametrize("own_control", [False, True])
def test_a_sweep_does_not_say_what_it_must_beat(
    repository: Repository, sweep: Callable[..., Path], rules: str, own_control: bool
) -> None:
    """Its plan is the author's: neither its SOTA nor its own control stands in for the workflow's yardstick."""
    control = {1: 5.5, 2: 5.501, 3: 5.502} if own_control else None
    made = sweep({1: 4.5, 2: 4.501, 3: 4.502}, sota=None if own_control else 100.0, control=control)
    for log in made.rglob("train.log"):
        value = float(re.findall(r"val_bpb:(\d\S+)", log.read_text())[-1])
        log.write_text(f"{log.read_text()}step:100/100 val_loss:{value} train_time:9000ms step_avg:90ms\n")
    shutil.move(made, repository.folder / "records" / "mine")
    ended = repository.run(repository.pull_request(), rules=rules)
    assert ended.code in (1, 2, 3)
    assert ended.outputs["verdict"] in ("not_supported", "unusable", "usage")
    if rules == "parameter-golf":
        assert "What is to be beaten?" in ended.commands[0]


def test_records_do_not_lie_in_each_other(repository: Repository, add: Callable[..., Path]) -> None:
    wrap = add(GOOD, "wrap")
    add(POOR, below="records/wrap")
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 2
    assert f"{wrap.relative_to(repository.folder)} is a record folder and holds" in ended.commands[0]
    for log in wrap.iterdir():  # the folder of all records as one
        shutil.move(log, repository.folder / "records" / log.name)
    repository.commit("logs beside the records")
    ended = repository.run(sota="1.3")
    assert ended.code == 2
    assert "records is a record folder and holds another one, records/mine" in ended.commands[0]


@pytest.mark.parametrize(
    ("name", "code"), [("mine_seed1.LOG", 2), ("submission.json", 2), ("notes.md", 0), ("index.csv", 0)]
)
def test_files_beside_the_records(repository: Repository, add: Callable[..., Path], name: str, code: int) -> None:
    add(GOOD, "old", below="records")
    repository.base = repository.commit("an old record")
    (repository.folder / "records" / name).write_text("seed:1\n")
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == code
    assert ended.outputs["verdict"] == ("usage" if code else "none")


def test_a_script_above_its_logs_is_judged_with_them(repository: Repository, add: Callable[..., Path]) -> None:
    folder = add(POOR, "old", bare=True)
    logs = folder / "logs"
    logs.mkdir()
    for log in folder.glob("*.log"):
        log.rename(logs / log.name)
    repository.base = repository.commit("an old record")
    (folder / "train_gpt.py").write_text("print(1)\n")
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 1
    assert "Record records/old/logs:" in ended.stdout


def test_many_files_and_records_end_in_time(repository: Repository, add: Callable[..., Path]) -> None:
    folder = add(GOOD)
    for number in range(400):
        (folder / f"a{number}.txt").write_text("hello\n")
    began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert repository.run(repository.pull_request(), here=False, sota="1.3").code == 0
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began
    assert spent < 10  # 400 files took 15 s where each of them read all others
    for number in range(500):
        other = repository.folder / "records" / f"r{number}"
        other.mkdir()
        (other / "train.log").write_text("step:1/2 train_loss:6.9\n")
    repository.commit("many")
    ended = repository.run(sota="1.3")
    assert ended.code == 2
    assert "touches 501 record folders; at most 500" in ended.commands[0]


def test_a_path_that_never_was_is_said(repository: Repository, add: Callable[..., Path]) -> None:
    add(GOOD)
    ended = repository.run(repository.pull_request(), path="record", sota="1.3")
    assert ended.code == 2
    assert "path: record is not a folder in this checkout" in ended.commands[0]


def test_the_name_of_a_folder_starts_no_line(repository: Repository, add: Callable[..., Path]) -> None:
    add(GOOD, "::stop-commands::x", below=".")
    ended = repository.run(repository.pull_request(), path=".", sota="1.3")
    assert ended.stdout.startswith("Record ::stop-commands::x:")


HOSTILE = (
    "x\n::set-output name=verdict::supported\n::error::gone##[command]`id`<b>![a](b)|%0A@everyone$(touch executed)"
)


def test_a_hostile_folder_is_shown_and_not_obeyed(repository: Repository, add: Callable[..., Path]) -> None:
    folder = add(GOOD)
    hostile = folder.rename(folder.with_name(HOSTILE))
    for log in list(hostile.glob("*.log")):
        log.rename(hostile / f"{log.stem} {HOSTILE.replace('/', '')}.log")
        # a second run in the log, and lines that look like commands to a runner, a terminal or a browser
        with open(hostile / f"{log.stem} {HOSTILE.replace('/', '')}.log", "a") as file:
            file.write(
                "::set-output name=verdict::supported\n\x1b[2J<script>alert(1)</script>\nwarmup_step:1/20\nseed:9\n"
            )
    claim = json.loads((hostile / "submission.json").read_text())
    (hostile / "submission.json").write_text(json.dumps(claim | {"name": HOSTILE, "author": HOSTILE, "val_bpb": 1.1}))
    for module in ("json.py", "click.py", "analysis.py", "sitecustomize.py", "pip.py", "venv.py"):
        (repository.folder / module).write_text("open('executed', 'w')\n")
    ended = repository.run(repository.pull_request(), here=False, sota="1.3")
    assert ended.code in (1, 3)
    assert ended.outputs["verdict"] in ("refused", "unusable")
    assert not list(repository.folder.rglob("executed"))
    allowed = re.compile(r"::(error|warning|notice) (file=[^:,]*,line=\d+,)?title=[a-z-]+::")
    assert ended.commands
    assert [line for line in ended.commands if not allowed.match(line)] == []
    assert "\x1b" not in ended.stdout + ended.stderr
    assert not re.search(r"<script|<b>|(?<!\\)!\[|(?<!\\)`id|@everyone", ended.summary)


# -- what changed in evidence ------------------------------------------------------------------------------------------

NOT_BEATEN = "1.1"  # by no record of these tests: whatever is tested against it fails


def stood(repository: Repository, add: Callable[..., Path], values: dict[int, float] = POOR) -> Path:
    """Return a record that stood at the base."""
    old = add(values, "old")
    repository.base = repository.commit("an old record")
    return old


def edit_json(folder: Path, **changes: Any) -> None:
    file = folder / "submission.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes, indent=1))


@pytest.mark.parametrize(
    "change",
    [
        lambda old: (old / "README.md").write_text("# A record, without a typo\n"),
        lambda old: (old / "loss.png").write_bytes(b"a picture"),
        lambda old: (old / "train_seed1.log").chmod(0o755),
        lambda old: old.rename(old.with_name("moved")),
        lambda old: shutil.move(old, old.parent / "track" / "old"),
    ],
    ids=["typo", "picture", "mode", "renamed", "moved"],
)
def test_what_changes_no_evidence_is_not_judged(
    repository: Repository, add: Callable[..., Path], change: Callable[[Path], None]
) -> None:
    old = stood(repository, add)
    (old.parent / "track").mkdir()
    change(old)
    ended = repository.run(repository.pull_request(), sota=NOT_BEATEN)
    assert (ended.code, ended.outputs["verdict"]) == (0, "none"), ended.stdout
    assert "Not judged, because the evidence is as before: records/" in ended.commands[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda old: edit_json(old, author="Somebody Else"),
        lambda old: (old / "README.md").write_text("# A record of 1.2433\n"),
        lambda old: edit_json(old, val_bpb=1.25, val_loss=None),  # it claims less
        lambda old: shutil.copy(old / "train_gpt.py", old / "helper.py"),
    ],
    ids=["json", "readme", "headline", "script"],
)
def test_a_touched_record_that_stood_is_audited_and_not_tested(
    repository: Repository, add: Callable[..., Path], change: Callable[[Path], None]
) -> None:
    change(stood(repository, add))
    ended = repository.run(repository.pull_request(), sota=NOT_BEATEN)
    assert (ended.code, ended.outputs["verdict"], ended.outputs["p_value"]) == (0, "audited", ""), ended.stdout
    assert "Audit of records/old: " in ended.stdout
    assert ended.summary.startswith("## seedproof: audited, records/old\n")


def test_a_touched_record_with_errors_is_refused(repository: Repository, add: Callable[..., Path]) -> None:
    old = stood(repository, add)
    (old / "train_gpt.py").unlink()
    ended = repository.run(repository.pull_request(), sota=NOT_BEATEN)
    assert (ended.code, ended.outputs["verdict"]) == (1, "refused")
    assert "title=missing-file" in ended.commands[0]


def test_a_moved_record_that_is_touched_too_is_audited(repository: Repository, add: Callable[..., Path]) -> None:
    old = stood(repository, add)
    edit_json(old, author="Somebody Else")
    old.rename(old.with_name("moved"))
    ended = repository.run(repository.pull_request(), sota=NOT_BEATEN)
    assert (ended.code, ended.outputs["verdict"]) == (0, "audited"), ended.stdout
    assert "Record records/moved: an earlier record" in ended.stdout


def test_a_copy_of_a_record_is_a_new_one(repository: Repository, add: Callable[..., Path]) -> None:
    old = stood(repository, add)
    shutil.copytree(old, old.with_name("copy"))
    ended = repository.run(repository.pull_request(), sota=NOT_BEATEN)
    assert (ended.code, ended.outputs["verdict"]) == (1, "not_supported")
    assert "Record records/copy:\n" in ended.stdout


@pytest.mark.parametrize("bare", [False, True])
def test_an_old_record_that_claims_more_is_tested(
    repository: Repository, add: Callable[..., Path], record: Record, bare: bool
) -> None:
    old = add(POOR, "old", bare=bare)
    repository.base = repository.commit("an old record")
    for file in record({4: 1.2, 5: 1.201, 6: 1.202}, "better", bare=bare).iterdir():
        shutil.copy(file, old)
    ended = repository.run(repository.pull_request(), sota=NOT_BEATEN)
    assert ended.code == 1
    assert ended.outputs["verdict"] == "not_supported"
    assert "Record records/old: an earlier record that claims more now" in ended.stdout


def test_an_old_record_without_a_headline_is_tested_when_it_has_other_runs(
    repository: Repository, add: Callable[..., Path], record: Record
) -> None:
    old = stood(repository, add)
    edit_json(old, val_bpb=None, val_loss=None)
    shutil.copy(record({4: 1.2}, "better") / "train_seed4.log", old)
    ended = repository.run(repository.pull_request(), sota=NOT_BEATEN)
    assert ended.code == 1
    assert "claims more now" in ended.stdout


def test_a_folder_of_words_alone_does_not_make_its_record_an_old_one(
    repository: Repository, add: Callable[..., Path]
) -> None:
    words = repository.folder / "records" / "mine"
    words.mkdir()
    (words / "README.md").write_text("# To come\n")
    repository.base = repository.commit("words")
    (words / "README.md").write_text("# Nearly there\n")
    assert repository.run(repository.pull_request(), sota=NOT_BEATEN).outputs["verdict"] == "none"
    shutil.rmtree(words)
    add(GOOD)
    repository.commit("a record")
    ended = repository.run(sota=NOT_BEATEN)
    assert ended.outputs["verdict"] == "not_supported"
    assert "Record records/mine:\n" in ended.stdout


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda log: log.unlink(), "removed"),
        (lambda log: log.write_text(log.read_text() + "\n"), "rewritten"),
        (lambda log: log.write_bytes(log.read_bytes().replace(b"\n", b"\r\n")), "rewritten"),
        (lambda log: log.rename(log.parents[1] / "other" / log.name), "removed"),
        (lambda log: log.rename(log.with_suffix(".json")), "removed"),
        (lambda log: log.rename(log.with_name(f".{log.name}")), "removed"),
        (lambda log: [(log.parent / "control").mkdir(), log.rename(log.parent / "control" / log.name)], "removed"),
    ],
    ids=["removed", "appended", "line ends", "to another record", "no log any more", "hidden", "to the control"],
)
def test_a_log_of_a_record_that_stood_may_not_go(
    repository: Repository, add: Callable[..., Path], change: Callable[[Path], Any], word: str
) -> None:
    add({8: 1.2, 9: 1.21}, "other")
    old = stood(repository, add)
    change(old / "train_seed2.log")
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 1
    place = "::error file=records/old/train_seed2.log,line=1,title=evidence-removed::"
    assert [line for line in ended.commands if line.startswith(f"{place}Found that this log is {word}")]
    assert "`evidence-removed`" in ended.summary


def test_a_log_may_move_within_its_record_and_notes_may_go(repository: Repository, add: Callable[..., Path]) -> None:
    old = add(POOR, "old")
    (old / "notes.txt").write_text("hello\n")
    repository.base = repository.commit("an old record")
    (old / "logs").mkdir()
    (old / "train_seed2.log").rename(old / "logs" / "train_seed2.log")
    (old / "notes.txt").unlink()
    ended = repository.run(repository.pull_request(), sota=NOT_BEATEN)
    assert "evidence-removed" not in ended.stdout


def test_a_record_that_stood_may_not_go(repository: Repository, add: Callable[..., Path]) -> None:
    shutil.rmtree(stood(repository, add))
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert (ended.code, ended.outputs["verdict"]) == (1, "refused")
    assert "::error file=records/old,line=1,title=evidence-removed::" in ended.commands[0]
    assert "3 logs" in ended.commands[0]


def test_what_main_gained_since_is_not_removed_by_a_branch(repository: Repository, add: Callable[..., Path]) -> None:
    """A workflow that checks out the head of the branch lacks what was merged into main after the branch began."""
    repository.git("checkout", "--quiet", "-b", "change")
    add(GOOD)
    repository.commit("a record")
    repository.git("checkout", "--quiet", "main")
    stood(repository, add)
    repository.git("checkout", "--quiet", "change")
    ended = repository.run("0" * 40, sota="1.3")
    assert ended.code == 0, ended.stdout


# -- .gitattributes, and the bytes of the commit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "line", "refused"),
    [
        (".", "*.log filter=x", True),
        (".", "*.log -text", True),
        (".", "* text=auto", True),
        (".", "records/** eol=crlf", True),
        ("records", "*.log ident", True),
        ("records/mine", "train_* working-tree-encoding=ISO-8859-1", True),
        (".", "*.log export-ignore", True),
        (".", "*.log filter=lfs diff=lfs merge=lfs -text", True),
        (".", '"records/mine/train_seed1.log" binary', True),
        (".", "[attr]mine filter=x", True),
        (".", "*.png filter=lfs", False),
        (".", "*.log diff=x linguist-generated", False),
        (".", "# *.log filter=x", False),
        ("other", "*.log filter=x", False),
    ],
)
def test_attributes_that_change_what_is_checked_out(
    repository: Repository, add: Callable[..., Path], place: str, line: str, refused: bool
) -> None:
    add(GOOD)
    where = repository.folder / place
    where.mkdir(exist_ok=True)
    (where / ".gitattributes").write_text(f"# ours\n{line}\n")
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == (2 if refused else 0), ended.stdout
    if refused:
        assert f"{Path(place, '.gitattributes')}, line 2: this change adds `{line}`" in ended.commands[0]


def test_attributes_that_stood_are_not_the_changes(repository: Repository, add: Callable[..., Path]) -> None:
    (repository.folder / ".gitattributes").write_text("*.log -text\n[attr]big filter=x\n")
    repository.base = repository.commit("attributes")
    add(GOOD)
    sha = repository.pull_request()
    assert repository.run(sha, sota="1.3").code == 0
    for text, words in (
        ("[attr]big filter=x\n", "line 1: this change removes `*.log -text`"),
        ("[attr]big filter=x\n*.log -text\n", "line 1: this change adds `[attr]big"),
        ("*.log -text\n[attr]big filter=x\n*.log big\n", "line 3: this change adds `*.log big`"),
    ):
        (repository.folder / ".gitattributes").write_text(text)
        repository.commit("other attributes")
        ended = repository.run(sota="1.3")
        assert ended.code == 2
        assert words in ended.commands[0]


def test_a_gitattributes_that_is_too_large_is_refused(repository: Repository, add: Callable[..., Path]) -> None:
    add(GOOD)
    (repository.folder / ".gitattributes").write_text("*.png diff\n" * 6000)
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert ended.code == 2
    assert "at most 65536 are read" in ended.commands[0]


def test_the_checkout_must_be_what_the_commit_holds(repository: Repository, add: Callable[..., Path]) -> None:
    folder = add(GOOD)
    sha = repository.pull_request()
    log = folder / "train_seed1.log"
    text = log.read_text()
    for change, words in (
        (lambda: log.write_bytes(text.replace("\n", "\r\n").encode()), "train_seed1.log differs from the commit"),
        (log.unlink, "train_seed1.log is not in the checkout"),
        (lambda: (log.write_text(text), (folder / "more.log").write_text(text)), "more.log is not in the commit"),
    ):
        change()
        ended = repository.run(sha, sota="1.3")
        assert ended.code == 2
        assert words in ended.commands[0]


def test_a_file_of_lfs_is_what_its_pointer_says(repository: Repository, add: Callable[..., Path]) -> None:
    folder = add(GOOD)
    log = folder / "train_seed1.log"
    real = log.read_bytes()
    digest = hashlib.sha256(real).hexdigest()
    log.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(real)}\n")
    sha = repository.pull_request()
    log.write_bytes(real)
    assert repository.run(sha, sota="1.3").code == 0
    log.write_bytes(real + b"\n")
    assert repository.run(sha, sota="1.3").code == 2


# -- rules by path, and what must be beaten --------------------------------------------------------------------------------

BY_PATH = "# other tracks\nrecords/track_3*: nanogpt-track-3\n\nrecords/**/old: nanogpt-track-1\n"


def test_rules_go_by_path_and_the_first_line_that_fits(repository: Repository, add: Callable[..., Path]) -> None:
    (repository.folder / "records" / "track_3_old").mkdir()
    add(GOOD, "a")
    add(GOOD, "old")
    add(GOOD, "old", below="records/track_3_old")
    ended = repository.run(repository.pull_request(), sota="1.3", rules_by_path=BY_PATH)
    parts = dict(zip(*[iter(re.split(r"^Record (.+):$", ended.stdout, flags=re.MULTILINE)[1:])] * 2, strict=True))
    named = {
        record: re.findall(r"rules: ([\w-]+)|by the rules of ([\w-]+)", said)[0][0] for record, said in parts.items()
    }
    assert named == {
        "records/a": "parameter-golf", "records/old": "nanogpt-track-1", "records/track_3_old/old": "nanogpt-track-3",
    }  # fmt: skip


def test_a_submission_of_a_track_without_a_test_has_nothing_to_beat(
    repository: Repository, add: Callable[..., Path]
) -> None:
    (repository.folder / "records" / "track_non_record_16mb").mkdir()
    add({1: 1.2}, "study", below="records/track_non_record_16mb")
    by_path = "records/track_non_record*: parameter-golf-non-record"
    ended = repository.run(repository.pull_request(), sota="auto", rules_by_path=by_path)
    assert (ended.code, ended.outputs["verdict"]) == (0, "evidence_fits"), ended.stdout


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("\nrecords/x*: golf", "rules_by_path, line 2: 'golf' is neither a ruleset"),
        ("records/x", "rules_by_path, line 1: 'records/x' is not GLOB: RULESET"),
        ("records/*: nowhere.toml", "rules_by_path, line 1: 'nowhere.toml' is neither"),
    ],
)
def test_a_wrong_line_of_rules_by_path_is_named(
    repository: Repository, add: Callable[..., Path], lines: str, words: str
) -> None:
    add(GOOD)
    ended = repository.run(repository.pull_request(), sota="1.3", rules_by_path=lines)
    assert (ended.code, ended.outputs["verdict"]) == (2, "usage")
    assert words in ended.commands[0]


def test_rules_of_a_path_are_not_the_changes_to_make(repository: Repository, add: Callable[..., Path]) -> None:
    rules = repository.folder / "rules.toml"
    rules.write_text((ROOT / "analysis/rules/rulesets/parameter-golf.toml").read_text())
    add(GOOD)
    ended = repository.run(repository.pull_request(), sota="1.3", rules_by_path="records/mine: rules.toml")
    assert ended.code == 2
    assert "this change touches rules.toml" in ended.commands[0]


def test_a_record_that_moves_to_other_rules_is_new_there(repository: Repository, add: Callable[..., Path]) -> None:
    old = stood(repository, add)
    old.rename(old.with_name("track_3"))
    ended = repository.run(repository.pull_request(), sota="1.3", rules_by_path=BY_PATH)
    assert ended.code in (1, 3)
    assert "Record records/track_3:\n" in ended.stdout


def test_sota_auto_is_the_best_record_at_the_base(repository: Repository, add: Callable[..., Path]) -> None:
    (repository.folder / "records" / "track_3").mkdir()
    add({1: 1.21, 2: 1.211, 3: 1.212}, "a")
    add({1: 1.3, 2: 1.301, 3: 1.302}, "b")
    add({1: 1.0, 2: 1.001, 3: 1.002}, "z", below="records/track_3")  # on another board
    base = repository.base = repository.commit("a board")
    add(GOOD)
    ended = repository.run(repository.pull_request(), sota="auto", rules_by_path=BY_PATH)
    assert ended.code == 0, ended.stdout
    note = ended.commands[0]
    assert (
        "To beat by parameter-golf: 1.21100000 val_bpb, the mean of 3 runs of records/a, the best of 2 records" in note
    )
    assert f"base commit {base[:7]}" in note
    assert "records/a" in ended.summary


@pytest.mark.parametrize(("touched", "code"), [(False, 0), (True, 2)])
def test_sota_auto_gives_the_standing_runs_where_the_rules_compare_with_runs(
    repository: Repository, add: Callable[..., Path], touched: bool, code: int
) -> None:
    add({1: 1.3, 2: 1.301, 3: 1.302}, "a")
    best = add({1: 1.2005, 2: 1.2015, 3: 1.2025}, "b")
    repository.base = repository.commit("a board")
    add({1: 1.1999, 2: 1.2, 3: 1.2002}, "mine")
    if touched:
        (best / "notes.json").write_text("{}")
    ended = repository.run(repository.pull_request(), sota="auto", rules="parameter-golf-frontier")
    assert ended.code == code, ended.stdout
    assert "records/b" in ended.commands[0]
    assert ("against 3 control runs" in ended.stdout) == (not touched)
    assert ("does not hold them as the base commit" in ended.commands[0]) == touched


@pytest.mark.parametrize(("faster", "code"), [(True, 0), (False, 1)])
def test_sota_auto_gives_the_standing_runs_where_a_further_criterion_asks_for_them(
    repository: Repository, faster: bool, code: int
) -> None:
    """A slow baseline in the claim's own folder is not what its time is compared with."""

    def put(name: str, program: str, first_s: float) -> None:
        folder = repository.folder / "records" / name
        folder.mkdir(parents=True)
        for i, end in enumerate((3.2781, 3.2768, 3.2777, 3.2795, 3.2779)):
            ms = 1000 * first_s + 37 * i + 10 * (i % 2)
            lines = [f"step:{step}/1750 val_loss:{end + (1750 - step) / 5e3:.4f} train_time:{ms * step / 1750:.0f}ms" for step in (0, 1000, 1750)]  # fmt: skip
            (folder / f"r{i}.txt").write_text("\n".join(["import torch", program, "=" * 100, *lines]) + "\n")

    put("2026-01-01_a", "x = 1", 184)
    repository.base = repository.commit("a board")
    put("2026-02-01_b", "x = 2", 180 if faster else 188)
    put("2026-02-01_b/baseline", "x = 3", 200)
    ended = repository.run(repository.pull_request(), sota="auto", rules="nanogpt-track-1")
    assert ended.code == code, ended.stdout
    assert "those of records/2026-01-01_a" in ended.commands[0]


def test_the_gain_of_a_metric_that_should_be_high_is_not_below_zero(repository: Repository) -> None:
    for name, core in (("a", 0.2612), ("b", 0.2625)):
        (repository.folder / "records" / name).mkdir(parents=True)
        text = f"step:0/9 train_loss:9.0\nstep:9/9 train_loss:3.0\nCORE metric: {core}\n"
        (repository.folder / "records" / name / "run.log").write_text(text)
    ended = repository.run(repository.pull_request(), rules="nanochat")
    assert (ended.code, "0.004675" in ended.stdout, "-0.00" in ended.stdout) == (0, True, False), ended.stdout


def test_sota_auto_needs_a_board(repository: Repository, add: Callable[..., Path]) -> None:
    add(GOOD)
    sha = repository.pull_request()
    ended = repository.run(sha, sota="auto")
    assert (ended.code, ended.outputs["verdict"]) == (2, "usage")
    assert "sota: auto found no record" in ended.commands[0]
    assert "Give the number to beat as sota" in ended.commands[0]
    assert "found no record" in ended.summary
    ended = repository.run(sota="auto", event=False)
    assert ended.code == 2
    assert "sota: auto needs a pull request" in ended.commands[0]


def test_an_old_record_needs_nothing_to_beat(repository: Repository, add: Callable[..., Path]) -> None:
    edit_json(stood(repository, add), author="Somebody Else")
    assert repository.run(repository.pull_request()).outputs["verdict"] == "audited"


# -- many records ----------------------------------------------------------------------------------------------------------


def test_many_records_share_a_table_with_the_worst_first(repository: Repository, add: Callable[..., Path]) -> None:
    add(GOOD, "a")
    add(POOR, "b")
    add(GOOD, "c", claim=1.1)
    for number in range(30):
        folder = repository.folder / "records" / f"r{number}"
        folder.mkdir()
        (folder / "train.log").write_text("step:1/2 train_loss:6.9\n")
    ended = repository.run(repository.pull_request(), sota="1.3")
    assert (ended.code, ended.outputs["verdict"]) == (3, "unusable")
    *_, table = ended.stdout.partition("33 records, the worst first:\n")
    head, *rows = [line.split() for line in table.splitlines()]
    assert head == ["record", "verdict", "gain", "p", "errors", "warnings"]
    assert len(rows) == 33
    assert rows[0][:3] == ["records/r0", "cannot", "tell"]
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["records/a"][:2] == ["supported", "0.099000"]
    assert by_name["records/c"][0] == "refused"
    assert by_name["records/c"][-2] == "1"
    assert by_name["records/b"][0] == "not"
    assert rows[-1][0] == "records/a"
    assert ended.summary.startswith("## seedproof: 33 records\n\n| record |")
    places = [ended.summary.index(f"## seedproof: {said}") for said in ("refused, records/c", "supported, records/a")]
    assert places == sorted(places)


def test_a_page_of_many_records_is_bounded() -> None:
    lines = [gate.Line(record=f"records/{'x' * 500}{number}", verdict="supported") for number in range(500)]
    page = gate.document(lines, ["report " * 1000] * 500, ["a note"], most=50_000)
    assert len(page) < 60_000
    assert "and 400 more records" in page
    assert re.search(r"\d+ more reports do not fit", page)
    assert "- a note" in page


def test_the_action_writes_sarif_and_a_page_for_a_comment(repository: Repository, add: Callable[..., Path]) -> None:
    add(GOOD, "a", claim=1.1)
    add(GOOD, "b")
    ended = repository.run(repository.pull_request(), sota="1.3")
    run = check_sarif(Path(ended.outputs["sarif"]).read_text())
    (result,) = [one for one in run["results"] if one["level"] == "error"]
    assert result["ruleId"] == "headline-unsupported"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "records/a/submission.json"
    notes = [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]]
    assert notes == ["records/a: refused", "records/b: supported"]
    assert Path(ended.outputs["markdown"]).read_text() == ended.summary


@pytest.mark.slow
def test_the_light_base_is_enough(repository: Repository, add: Callable[..., Path]) -> None:
    """Both steps, in an environment of their own: what it installs holds neither torch nor ray nor pandas."""
    add(GOOD)
    ended = repository.run(repository.pull_request(), install=True, sota="1.3")
    assert ended.code == 0, ended.stderr
    assert ended.outputs["verdict"] == "supported", ended.stderr
    packages = {path.name.lower() for path in (repository.runner / "seedproof").glob("lib/python*/site-packages/*")}
    assert "scipy" in packages
    assert not packages & {"torch", "ray", "sentencepiece", "pandas", "pyarrow"}
    assert os.path.realpath(repository.runner / "seedproof") == str(repository.runner / "seedproof")
