"""The journal of a sweep: what was begun and ended, also after a full disk."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from analysis.sweepdir.journal import read_journal
from analysis.sweepdir.layout import SweepError
from orchestration.disk.journal import Attempt, Journal
from orchestration.disk.patient import Disk, DiskError


def opened(directory: Path) -> Journal:
    (directory / "plan.json").touch()
    return Journal(directory, Disk(directory, 0.0, print))


def test_the_journal_knows_what_was_begun_and_ended(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for attempt, states in ((1, ["running", "lost"]), (2, ["running"]), (3, ["running", "pending"])):
        for state in states:
            journal.write(Attempt("candidate", 7, attempt), state)
    with open(journal.path, "ab") as file:
        file.write(b'{"arm": "candidate", "seed": 7, "att')  # a full disk
    again = opened(tmp_path)
    assert again.of("candidate", 7) == journal.of("candidate", 7)
    assert [(number, one.state) for number, one in again.of("candidate", 7).items()] == [(1, "lost"), (2, "running")]
    again.write(Attempt("candidate", 7, 2), "lost", "why", "node")  # on a line of its own
    assert opened(tmp_path).has_ended(Attempt("candidate", 7, 2))
    last = json.loads(journal.path.read_text().splitlines()[-1])
    assert {name: last[name] for name in ("state", "reason", "node")} == {
        "state": "lost",
        "reason": "why",
        "node": "node",
    }


def test_a_line_that_a_full_disk_took_only_a_part_of_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    journal.write(Attempt("candidate", 7, 1), "running")
    before, sync = journal.path.read_bytes(), os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="No space left"):
        journal.write(Attempt("candidate", 7, 1), "lost")
    assert journal.path.read_bytes() == before
    monkeypatch.setattr(os, "fsync", sync)
    journal.write(Attempt("candidate", 7, 1), "lost")
    journal.check_content()


def test_bad_lines_are_skipped_and_counted_and_the_first_end_stands(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    good = {"arm": "candidate", "seed": 7, "attempt": 1, "time": "2026-04-05T10:00:00+00:00"}
    bad = ["[]", "x", '{"arm": "x"}', json.dumps(good | {"state": "won"}), "[" * 100_000, '{"a": NaN}', "\xff"]
    lines = [good | {"state": "running"}, good | {"state": "lost", "last": 1e999}, good | {"state": "succeeded"}]
    path.write_text("\n".join([*bad, *map(json.dumps, lines), ""]))
    found = read_journal(tmp_path)
    entry = found.of("candidate", 7)[1]
    assert (found.skipped, entry.state, entry.last) == (len(bad), "lost", None)
    assert read_journal(tmp_path / "none").runs == {}


def test_a_file_without_any_event_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b"\x00\xff garbage\n" * 3)
    for read in (read_journal, opened):
        with pytest.raises(SweepError, match=r"events\.jsonl is not a journal: none of its 3 lines is an event"):
            read(tmp_path)
    (tmp_path / "events.jsonl").write_bytes(b"")
    assert read_journal(tmp_path).runs == opened(tmp_path).of("candidate", 1) == {}


def test_a_journal_that_is_a_link_out_of_the_sweep_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "else").write_text("")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "events.jsonl").symlink_to(tmp_path / "else")
    with pytest.raises(SweepError, match="is a link that leads out"):
        read_journal(tmp_path / "a")
    (tmp_path / "b" / "events.jsonl").mkdir(parents=True)
    with pytest.raises(SweepError, match="is not a regular file"):
        read_journal(tmp_path / "b")
