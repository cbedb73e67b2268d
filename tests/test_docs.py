"""The documents: commands, options and files that they name exist, examples are real, and tables hold every key."""

from __future__ import annotations

import ast
import doctest
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from analysis.reading.reader import read_log
from analysis.rules import ruleset
from analysis.rules.findings import DEFAULTS, SEVERITIES
from analysis.sweepdir.plan import read_plan
from analysis.sweepdir.registry import Entry
from tests import cli_page, examples, notebook
from tests.analysis.test_criteria import trials
from tests.conftest import ROOT, make_log

Run = Callable[..., subprocess.CompletedProcess[str]]
Folder = Callable[..., Path]

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "deploy" / "README.md", *sorted(DOCS.glob("*.md"))]
WRITTEN = [page for page in PAGES if page != cli_page.PAGE]
PACKAGES = ("trainer", "orchestration", "analysis", "seedproof")
FOREIGN = {  # options of pytest, pip, ray, sbatch and others
    "--dist", "--nodes", "--address", "--working-dir", "--standalone", "--nproc_per_node", "--device", "--generate",
    "--secret", "--rm", "--network",
}  # fmt: skip

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
each_command = pytest.mark.parametrize("words", list(cli_page.commands()), ids=" ".join)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


# -- commands, options, links ------------------------------------------------------------------------------------------


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert text_of(README).count("\n") <= 150


def test_the_page_of_commands_is_what_they_say_for_help() -> None:
    # in a process of its own: click keeps the help option of the first way in which a command was called
    words = [sys.executable, "-c", "from tests import cli_page; print(cli_page.page(), end='')"]
    page = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert text_of(cli_page.PAGE) == page, "run: .venv/bin/python -m tests.cli_page"


def test_make_targets_that_documents_name_exist_and_the_readme_names_all() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z]+)\b", text_of(page))) <= targets, page
    assert set(re.findall(r"`make ([a-z]+)`", text_of(README))) == targets


@each_page
def test_commands_that_a_document_names_exist(page: Path) -> None:
    for line in re.findall(
        r"python -m ((?:analysis|orchestration|trainer|benchmarks|tests)(?:\.\w+)+(?: [a-z]+)?)", text_of(page)
    ):
        module, *verb = line.split()
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), line
        if module in cli_page.MODULES and (verbs := getattr(import_module(module).main, "commands", None)):
            assert {*verb} <= {*verbs}, line


@each_page
def test_commands_of_seedproof_that_a_document_names_exist(page: Path) -> None:
    known = {words[1] for words in cli_page.commands() if len(words) > 1} | {"PATH", "FOLDER"}
    assert {*re.findall(r"(?:`|\$ )seedproof (\w+)", text_of(page))} <= known


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_that_a_document_names_exist(page: Path) -> None:
    helps = text_of(cli_page.PAGE)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", text_of(page))) - FOREIGN:
        assert option in helps, option


@each_command
def test_every_option_is_explained_somewhere(words: tuple[str, ...]) -> None:
    written = "".join(map(text_of, WRITTEN))
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", cli_page.help_of(*words))) - {"--help"}
    assert sorted(flag for flag in flags if flag not in written) == []


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page))):
        if target.startswith("https://"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors_of(file), f"{page.name}: {target}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [README, DOCS / "check.md"], ids=lambda page: page.name)
def test_the_exit_codes_are_documented(page: Path) -> None:
    assert re.findall(r"^\| (\d) \|", text_of(page), re.MULTILINE) == ["0", "1", "2", "3", "4"]


@each_page
def test_files_that_a_document_names_exist(page: Path) -> None:
    for name in re.findall(
        r"\b((?:trainer|orchestration|analysis|tests|benchmarks|deploy)/[\w./-]+\b/?)", text_of(page)
    ):
        assert (ROOT / name).exists() or "NAME" in name, name


def test_the_tree_has_every_room_and_every_command() -> None:
    tree = text_of(DOCS / "architecture.md").split("<!-- tree -->")[1]
    for package in PACKAGES:
        for path in (ROOT / package).iterdir():
            if path.is_dir() and path.name != "__pycache__":
                assert f"{package}/{path.name}/" in tree
            elif path.suffix == ".py" and path.name != "__init__.py":
                assert f"{package}/{path.name} " in tree


@pytest.mark.parametrize("page", [README, DOCS / "pull-request.md"], ids=lambda page: page.name)
def test_the_workflow_gives_the_action_inputs_that_it_has(page: Path) -> None:
    workflow = yaml.safe_load(text_of(page).split("```yaml\n")[1].split("```")[0])
    *_, step = workflow["jobs"]["seedproof"]["steps"]
    assert set(step["with"]) <= set(yaml.safe_load(text_of(ROOT / "action.yml"))["inputs"])


# -- transcripts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def example_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the folders that transcripts name the working directory's."""
    monkeypatch.chdir(tmp_path)
    examples.write(Path())


def complete_mine(claim: str) -> None:
    """Add to `mine` what a submission needs."""
    Path("mine/submission.json").write_text(claim)
    Path("mine/README.md").write_text("# Mine\n")
    Path("mine/train_gpt.py").write_text(examples.SOURCE)


@pytest.mark.usefixtures("example_folders")
@pytest.mark.parametrize(
    "page", [README, *(DOCS / f"{name}.md" for name in ("check", "cluster", "tutorial"))], ids=lambda page: page.name
)
def test_transcripts_are_what_the_commands_print(page: Path, command: Run) -> None:
    blocks = re.findall(r"^```\n(.+?)^```$", text_of(page), re.MULTILINE | re.DOTALL)
    known = ("records/20", "mine", "plan --sd")
    for block in blocks:
        if block.startswith("{"):
            complete_mine(block)
        for module, words, shown in re.findall(
            r"^\$ (seedproof|python -m analysis\.\w+) (.+)\n((?:(?!\$).*\n)+)", block, re.MULTILINE
        ):
            if any(name in words for name in known):
                main = "seedproof.__main__" if module == "seedproof" else module.removeprefix("python -m ")
                found = command(main, *shlex.split(words)).stdout
                assert re.fullmatch(re.escape(shown).replace(r"\.\.\.", r".*?"), found, re.DOTALL), f"{words}\n{found}"


# -- reference pages ---------------------------------------------------------------------------------------------------


def test_the_page_on_rulesets_names_every_key_and_its_example_loads(tmp_path: Path) -> None:
    text = text_of(DOCS / "rulesets.md")
    rows = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| "))
    keys = {field.name for field in fields(ruleset.Ruleset)} - {"name"}
    assert {key for key in keys if f"`{key}`" not in rows and f"`[{key}]`" not in rows} == set()
    assert {name for name in ruleset.known() if f"`{name}`" not in rows} == set()
    example = tmp_path / "ours.toml"
    example.write_text(text.split("```toml\n")[1].split("```")[0])
    assert ruleset.load(str(example)).caps == {"artifact_bytes": 8_000_000, "train_time_s": 1200}


def test_the_page_on_logs_shows_lines_that_are_read(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(text_of(DOCS / "logs.md").split("```\n")[1])
    (run,) = read_log(log)
    assert run.seed == 1337
    assert run.finals[-1].val_bpb == 1.20143417
    assert run.steps[-1].val_bpb == 1.3583


def test_the_page_on_statistics_computes_what_it_says() -> None:
    result = doctest.testfile(str(DOCS / "statistics.md"), module_relative=False)
    assert result.failed == 0
    assert result.attempted > 15


@pytest.mark.usefixtures("example_folders")
def test_the_page_on_python_is_what_it_says() -> None:
    text = re.sub("^```.*$", "", text_of(DOCS / "python.md"), flags=re.MULTILINE)
    page = doctest.DocTestParser().get_doctest(text, {}, "python.md", "docs/python.md", 0)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(page)
    assert result.failed == 0
    assert result.attempted > 20


@pytest.mark.usefixtures("example_folders")
def test_the_notebook_holds_what_its_cells_give() -> None:
    stored = text_of(notebook.PAGE)
    content = json.loads(stored)
    notebook.run(content)
    day = re.compile(r"\d{4}-\d\d-\d\d(?=<)")  # the card says when it was made
    assert day.sub("", notebook.text_of(content)) == day.sub("", stored), "run: .venv/bin/python -m tests.notebook"


def test_every_finding_is_documented_with_an_example() -> None:
    _, *parts = re.split(r"^## .*$", text_of(DOCS / "findings.md"), flags=re.MULTILINE)
    printed, told = printed_words(), {}
    for severity, part in zip(SEVERITIES, parts, strict=True):
        for section in re.split(r"^### ", part, flags=re.MULTILINE)[1:]:
            found = re.fullmatch(
                r"`([a-z-]+)`\n\n.+?\n\n    (\w+): ([a-z-]+): (?:\S+:\d+: )?(.+)\n\n\*\*Why\.\*\* .+?\n\*\*Do\.\*\* .+?\n+",
                section,
                re.DOTALL,
            )
            assert found, section
            code, word, again, message = found.groups()
            assert again == code
            assert word == severity
            assert any(one in message for one in printed), message
            told[code] = severity
    assert told == DEFAULTS


def printed_words() -> list[str]:
    """Return the longer texts in the code of `analysis`: an example of a message holds one of them."""
    trees = [ast.parse(text_of(path)) for path in (ROOT / "analysis").rglob("*.py")]
    texts = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return [one for one in texts if isinstance(one, str) and len(one) > 14]


# -- JSON --------------------------------------------------------------------------------------------------------------


def documented(chapter: str) -> set[str]:
    """Return the keys in one chapter of docs/json.md: those below the heading `test` are `test.name` and so on."""
    (text,) = [
        one
        for one in re.split(r"^## ", text_of(DOCS / "json.md"), flags=re.MULTILINE)
        if one.startswith(f"{chapter}\n")
    ]
    keys = set()
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        rows = re.findall(r"^\| (`[^|]+) \|", body, re.MULTILINE)
        names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
        paths = re.findall(r"`([^`]+)`", title)
        keys |= {f"{path}.{name}" for path in paths for name in names} if paths else {*names}
    return keys


def below(path: str, keys: set[str]) -> set[str]:
    """Return the keys below one path, without it."""
    return {key.removeprefix(f"{path}.") for key in keys if key.startswith(f"{path}.")}


def keys_of(value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every key in a JSON value: `runs[].seed`. Keys that a log or an option chooses are KEY."""
    if isinstance(value, list):
        for item in value:
            yield from keys_of(item, f"{path}[]" if path else "")
    elif isinstance(value, dict):
        for key, item in value.items():
            free = path in ("rules_changed", "hyperparameters") or path.rpartition(".")[2] in ("values", "others")
            own = f"{path}.{'KEY' if free else key}" if path else key
            if not free:
                yield own
            yield from keys_of(item, own)


@pytest.fixture
def json_of(command: Run) -> Callable[..., Any]:
    """Return what a command prints with `--format json`."""

    def run(*words: str | Path) -> Any:
        return json.loads(command(*map(str, words), "--format", "json").stdout)

    return run


def silence(log: Path) -> None:
    """Take a fact out of a log, so that a check cannot be made."""
    log.write_text(re.sub("^.*PyTorch.*\n", "", log.read_text(), flags=re.MULTILINE))


def registry_of(sweep: Path) -> str:
    """Make a registry that knows the plan of a sweep and one of its attempts."""
    plan, url = read_plan(sweep).sha256, sweep.parent / "registry"
    entry = Entry(plan=plan, sweep="aa" * 8, driver="bb" * 8, arm="candidate", seed=1, attempt=1)
    (url / entry.name).parent.mkdir(parents=True)
    (url / entry.name).write_bytes(entry.content())
    return f"file://{url}"


def test_every_key_of_a_verdict_is_documented(json_of: Callable[..., Any], record: Folder, sweep: Folder) -> None:
    values = {1: 1.2, 2: 1.201, 3: 1.202}
    first, theirs = record(values), record({7: 1.2005, 8: 1.2015}, name="theirs")
    looks = sweep(values | {4: 1.203}, sota=None, looks=[3, 4, 5], seeds=[1, 2, 3, 4, 5], control=values)
    beside = record(values, name="beside")
    (beside / "old").mkdir()
    (beside / "old/train_seed9.log").write_text(make_log(9, 1.26))
    silence(beside / "train_seed1.log")
    report = ("analysis.significance", "report")
    verdicts = [
        json_of(*report, first, "--sota", "1.3", "--alpha", "0.02", "--verify", theirs),
        json_of(*report, looks),
        json_of(*report, looks, "--registry", registry_of(looks)),
        json_of(*report, record(values, name="other"), "--sota", "1.3", "--metric", "no such"),
        json_of(*report, record({1: 1.2, 2: 1.21}, name="two"), "--control", first),
        json_of(*report, beside, "--sota", "1.3"),
        json_of(*report, trials(beside.parent / "speedrun", 3.27), "--rules", "nanogpt-track-1"),
    ]
    found = {key for verdict in verdicts for key in keys_of(verdict)}
    assert found == documented("A verdict")
    schema = json.loads((ROOT / "analysis" / "report" / "verdict.schema.json").read_text())
    check = jsonschema.Draft202012Validator(schema)
    for verdict in verdicts:
        check.validate(verdict)  # it allows no key that is not named
        for key in verdict:
            assert not check.is_valid({name: value for name, value in verdict.items() if name != key}), key


def test_every_key_of_an_audit_is_documented(json_of: Callable[..., Any], record: Folder) -> None:
    folder = record({1: 1.2, 2: 1.21})
    silence(folder / "train_seed1.log")
    found = set(keys_of(json_of("analysis.audit", folder)))
    verdict = documented("A verdict")
    findings = {
        f"{path}.{key}" for path in ("findings[]", "records[].findings[]") for key in below("findings[]", verdict)
    }
    lists = {f"records[].{name}[].{key}" for name in ("claims", "not_checked") for key in below(f"{name}[]", verdict)}
    assert found == documented("An audit") | findings | lists


def test_every_key_of_a_leaderboard_is_documented(json_of: Callable[..., Any], record: Folder) -> None:
    folder = record({1: 1.2, 2: 1.201, 3: 1.202})
    assert set(keys_of(json_of("analysis.leaderboard", folder.parent))) == documented("A leaderboard")


def test_every_key_of_the_list_of_sweeps_is_documented(json_of: Callable[..., Any], sweep: Folder) -> None:
    folder = sweep({1: 1.2, 2: 1.201})
    assert set(keys_of(json_of("orchestration.sweep", "list", folder.parent))) == documented("Sweeps")


def test_every_key_of_runs_and_curves_is_documented(json_of: Callable[..., Any], record: Folder) -> None:
    folder = record({1: 1.2})
    runs = {key for key in below("runs[]", documented("A verdict")) if not key.startswith("attempts[]")}
    assert set(keys_of(json_of("analysis.logs", folder))) == runs | documented("Runs")
    assert set(keys_of(json_of("analysis.logs", folder, "--curves"))) == documented("Curves")


def test_every_key_of_a_plan_is_documented(json_of: Callable[..., Any]) -> None:
    plan = json_of("analysis.significance", "plan", "--sd", "0.001", "--gain", "0.002", "--max-seeds", "3")
    spread = {f"spread.{key}" for key in below("verification.spread", documented("A verdict"))}
    assert set(keys_of(plan)) == documented("A plan") | spread
