"""SARIF 2.1.0: what the standard requires and GitHub reads, and where it says that a finding is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from analysis.report.sarif import MOST, Judged, sarif
from analysis.rules.findings import ERROR, INFO, Code, Finding
from tests.conftest import Done

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
LEVEL = {"enum": ["error", "warning", "note"]}
LOCATION = {
    "type": "object",
    "required": ["physicalLocation"],
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation", "region"],
            "properties": {
                "artifactLocation": {
                    "required": ["uri"],
                    "properties": {"uri": {"type": "string", "pattern": r"^[A-Za-z0-9._~/%:-]+$"}},
                },
                "region": {"required": ["startLine"], "properties": {"startLine": {"type": "integer", "minimum": 1}}},
            },
        }
    },
}
SCHEMA = {  # the parts of the standard's schema that a log of ours uses
    "type": "object",
    "required": ["$schema", "version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"const": "https://json.schemastore.org/sarif-2.1.0.json"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name", "rules"],
                                "properties": {
                                    "name": {"const": "seedproof"},
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "required": ["id", "shortDescription", "help", "defaultConfiguration"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "id": {"type": "string"},
                                                "shortDescription": TEXT,
                                                "help": TEXT,
                                                "defaultConfiguration": {"properties": {"level": LEVEL}},
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "columnKind": {"const": "unicodeCodePoints"},
                    "invocations": {
                        "type": "array",
                        "items": {
                            "required": ["executionSuccessful"],
                            "additionalProperties": False,
                            "properties": {
                                "executionSuccessful": {"type": "boolean"},
                                "toolExecutionNotifications": {
                                    "type": "array",
                                    "items": {"required": ["message"], "properties": {"message": TEXT, "level": LEVEL}},
                                },
                            },
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "required": ["ruleId", "ruleIndex", "level", "message", "locations"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": LEVEL,
                                "message": TEXT,
                                "locations": {"type": "array", "minItems": 1, "maxItems": 1, "items": LOCATION},
                            },
                        },
                    },
                },
            },
        },
    },
}


def check_sarif(text: str) -> Any:
    """Check a SARIF log and return its run."""
    table = json.loads(text)
    jsonschema.validate(table, SCHEMA)
    (run,) = table["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == [code.value for code in Code]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
    return run


def finding(code: Code, file: str, line: int = 1) -> Finding:
    return Finding(code=code, severity=code.severity, file=file, line=line, message="Found it. Mend it.")


@pytest.mark.parametrize(
    "words",
    [
        ("analysis.significance", "check", "--sota", "1.3"),
        ("analysis.significance", "report", "--sota", "1.3"),
        ("analysis.audit",),
    ],
    ids=lambda words: words[-3] if len(words) > 1 else words[0],
)
def test_every_command_writes_it(
    command: Callable[..., Done], record: Callable[..., Path], words: tuple[str, ...]
) -> None:
    folder = record({1: 1.2, 2: 1.201, 3: 1.202}, claim=1.1)
    done = command(*words, folder, "--format", "sarif", env={"GITHUB_ACTIONS": "true"})
    assert done.returncode == (0 if "report" in words else 1)
    run = check_sarif(done.stdout)
    (result,) = [one for one in run["results"] if one["level"] == "error"]
    assert result["ruleId"] == "headline-unsupported"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("/record/submission.json")
    line = (folder / "submission.json").read_text().splitlines()[place["region"]["startLine"] - 1]
    assert "1.1" in line
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert str(folder) in note["message"]["text"]


def test_a_rule_is_explained_by_its_section_of_the_page() -> None:
    run = check_sarif(sarif([]))
    help_of = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    one = help_of["evidence-removed"]
    assert one["help"]["markdown"].startswith("A pull request removes an earlier record")
    assert "**Do.**" in one["help"]["markdown"]
    assert "`" not in one["shortDescription"]["text"]
    assert "Warnings" not in help_of["evidence-removed"]["help"]["text"]


def test_a_file_of_any_name_is_a_uri() -> None:
    names = ["a b#c?d%e.log", "c:d/é\n.log", "../x.log", "\\udcff.log"]
    run = check_sarif(sarif([Judged(folder="", said="x", findings=[finding(Code.NO_LOGS, name) for name in names])]))
    uris = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]]
    assert uris[0] == "a%20b%23c%3Fd%25e.log"
    assert uris[1] == "c%3Ad/%C3%A9%0A.log"


def test_errors_come_first_and_the_rest_is_counted() -> None:
    many = [finding(Code.DUPLICATE_LOG, "a.log", number) for number in range(1, MOST + 1)]
    found = sarif([Judged(folder="", said="x", findings=[*many, finding(Code.NO_LOGS, "b.log")])])
    (run,) = json.loads(found)["runs"]  # to check all of it by the schema takes ten seconds
    assert len(run["results"]) == MOST
    assert run["results"][0]["ruleId"] == "no-logs"
    assert run["invocations"][0]["toolExecutionNotifications"][-1]["message"]["text"] == "1 more findings are left out."
    assert (Code.NO_LOGS.severity, Code.DUPLICATE_LOG.severity) == (ERROR, INFO)
