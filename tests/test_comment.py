"""deploy/github: a workflow that may write never runs, checks out or believes what a pull request holds."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, clean_environment

FOLDER = ROOT / "deploy" / "github"
JUDGE, COMMENT = (yaml.safe_load((FOLDER / name).read_text()) for name in ("seedproof.yml", "seedproof-comment.yml"))
STEP = COMMENT["jobs"]["comment"]["steps"][0]
MARKER = "<!-- seedproof -->"
GH = """\
#!/usr/bin/env python3
import json, os, sys
from pathlib import Path
here = Path(os.environ["STUB"])
words = sys.argv[1:]
with open(here / "calls", "a") as file:
    file.write(json.dumps(words) + "\\n")
path = next(word for word in words if word.startswith("repos/"))
if "--input" in words:
    (here / "posted").write_text(Path(words[words.index("--input") + 1]).read_text())
elif path.endswith("/zip"):
    sys.stdout.buffer.write((here / "zip").read_bytes())
else:
    kind = "pulls" if path.endswith("/pulls") else "artifacts" if "/artifacts" in path else "comments"
    sys.stdout.write((here / kind).read_text())
"""


@dataclass
class GitHub:
    """What the second workflow's step asks of GitHub, and what it is told."""

    folder: Path
    pulls: list[dict[str, Any]] = field(default_factory=lambda: [{"number": 7, "head": {"sha": "abc"}}])
    comments: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 1000

    def run(self, report: str, name: str = "seedproof.md") -> list[list[str]]:
        """Run the step, and return the calls that change something."""
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, report)
        (self.folder / "zip").write_bytes(held.getvalue())
        artifacts = {"artifacts": [{"id": 3, "size_in_bytes": self.bytes}]}
        for kind, told in (("pulls", self.pulls), ("artifacts", artifacts), ("comments", self.comments)):
            (self.folder / kind).write_text(json.dumps(told))
        (self.folder / "gh").write_text(GH)
        (self.folder / "gh").chmod(0o755)
        environment = clean_environment() | {
            "PATH": f"{self.folder}:/usr/bin:/bin", "STUB": str(self.folder), "RUNNER_TEMP": str(self.folder),
            "REPOSITORY": "them/board", "RUN": "5", "RUN_URL": "https://github.com/them/board/actions/runs/5",
            "CONCLUSION": "failure", "HEAD": "abc", "BRANCH_OWNER": "somebody", "BRANCH": "$(touch executed)`id`",
        }  # fmt: skip
        bash = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", STEP["run"]]
        found = subprocess.run(bash, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        assert not (self.folder / "executed").exists()
        calls = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        return [call for call in calls if "--input" in call]

    @property
    def posted(self) -> str:
        body = json.loads((self.folder / "posted").read_text())["body"]
        assert isinstance(body, str)
        return body


@pytest.fixture
def github(tmp_path: Path) -> GitHub:
    if not (shutil.which("jq") and shutil.which("unzip")):
        pytest.skip("needs jq and unzip, which GitHub's runners have")
    return GitHub(tmp_path)


def test_the_workflow_that_runs_on_pull_requests_may_write_nothing() -> None:
    assert JUDGE[True] == "pull_request"
    assert JUDGE["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in JUDGE["jobs"].values())
    assert "secrets." not in (FOLDER / "seedproof.yml").read_text()


def test_the_workflow_that_may_write_takes_nothing_of_the_pull_request() -> None:
    assert COMMENT[True] == {"workflow_run": {"workflows": [JUDGE["name"]], "types": ["completed"]}}
    assert COMMENT["permissions"] == {}
    (job,) = COMMENT["jobs"].values()
    assert job["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert job["if"] == "${{ github.event.workflow_run.event == 'pull_request' }}"
    (step,) = job["steps"]
    assert "uses" not in step
    assert "${{" not in step["run"]  # what somebody else wrote is never part of a script


def test_both_agree_on_the_artifact() -> None:
    upload = JUDGE["jobs"]["seedproof"]["steps"][-1]["with"]
    assert f"artifacts?name={upload['name']}" in STEP["run"]
    assert upload["path"] == "${{ steps.seedproof.outputs.markdown }}"
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert "markdown" in action["outputs"]
    judge = JUDGE["jobs"]["seedproof"]["steps"][1]
    assert judge["id"] == "seedproof"
    assert set(judge["with"]) <= set(action["inputs"])


def test_every_example_takes_the_same_checkout() -> None:
    """By major version where people copy it; the project's own workflow pins the commit of that version."""
    pages = [ROOT / "README.md", ROOT / "docs" / "pull-request.md", FOLDER / "seedproof.yml"]
    majors = {major for page in pages for major in re.findall(r"actions/checkout@(\S+?)[,\s]", page.read_text())}
    pinned = re.findall(r"actions/checkout@[0-9a-f]{40} # (v\d+)", (ROOT / ".github/workflows/ci.yml").read_text())
    assert majors == {*pinned}
    assert len(majors) == 1


def test_a_first_report_is_posted_and_later_ones_replace_it(github: GitHub) -> None:
    ((*_, path, _, _),) = github.run("## seedproof: supported, records/mine\n")
    assert path == "repos/them/board/issues/7/comments"
    assert github.posted.startswith(
        f"{MARKER}\n[This run](https://github.com/them/board/actions/runs/5) ended with **failure**"
    )
    assert "## seedproof: supported, records/mine\n" in github.posted
    somebody = {"id": 1, "user": {"login": "somebody"}, "body": f"{MARKER} mine"}
    ours = {"id": 2, "user": {"login": "github-actions[bot]"}, "body": github.posted}
    github.comments = [somebody, ours]
    last = github.run("## seedproof: refused\n")[-1]
    assert "repos/them/board/issues/comments/2" in last
    assert "PATCH" in last


@pytest.mark.parametrize("pulls", [[], [{"number": 7, "head": {"sha": "a newer one"}}]])
def test_without_a_pull_request_of_that_head_nothing_is_said(github: GitHub, pulls: list[dict[str, Any]]) -> None:
    github.pulls = pulls
    assert github.run("text") == []


def test_a_large_or_missing_report_is_not_posted(github: GitHub) -> None:
    github.bytes = 1_000_001
    assert github.run("text") == []
    github.bytes = 1000
    assert github.run("text", name="../seedproof.md") == []
    assert github.run("") == []


def test_a_report_is_cut_to_what_a_comment_holds(github: GitHub) -> None:
    assert len(github.run("@" * 10_000_000)) == 1
    assert len(github.posted) < 65_536


def test_what_the_author_of_a_pull_request_wrote_is_text(github: GitHub) -> None:
    hostile = (
        "@everyone [a](https://evil.example) ![i](//evil.example/x.png) <img src=x> <!-- x --> www.evil.example #12 GH-12\n"
        "[b]: https://evil.example\n<details><summary>more</summary>\n\\#12 a \\[b\\] &#64;&#8203;ours\n</details>\n"
    )
    github.run(hostile)
    _, _, body = github.posted.partition("Below is what it wrote.\n\n")
    assert not re.search(r"@|\]|://|www\.|(?<!&)#\d|GH-\d|<(?!/?(?:details|summary)>)", body, re.IGNORECASE)
    assert "<details><summary>more</summary>" in body
    assert "&#64;&#8203;ours" in body
