"""The journal of a sweep: what was begun and ended, also after a full disk."""

from __future__ import annotations

import json
from pathlib import Path

from orchestration.disk.journal import Attempt, Journal


def test_the_journal_knows_what_was_begun_and_ended(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for attempt, states in ((1, ["running", "lost"]), (2, ["running"]), (3, ["running", "pending"])):
        for state in states:
            journal.write(Attempt("candidate", 7, attempt), state)
    with open(journal.path, "ab") as file:
        file.write(b'{"arm": "candidate", "seed": 7, "att')  # a full disk
    again = Journal(tmp_path)
    assert again.begun == journal.begun
    assert again.ended == {("candidate", 7, 1)}
    assert again.begun == {("candidate", 7, 1), ("candidate", 7, 2)}
    again.write(Attempt("candidate", 7, 2), "lost", "why", "node")  # on a line of its own
    assert ("candidate", 7, 2) in Journal(tmp_path).ended
    last = json.loads(journal.path.read_text().splitlines()[-1])
    assert {name: last[name] for name in ("state", "reason", "node")} == {
        "state": "lost",
        "reason": "why",
        "node": "node",
    }
