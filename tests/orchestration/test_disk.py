"""A disk that does not take what the driver writes: it is waited for, for a time, and nothing is lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.sweepdir.journal import Attempt, read_journal
from orchestration.disk import digests as digests_module
from orchestration.disk import patient
from orchestration.disk.digests import LARGE_BYTES, Digests, files_of
from orchestration.disk.files import write_json
from orchestration.disk.journal import Journal
from orchestration.disk.patient import Disk, DiskError, GoneError


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(patient, "RETRY_S", 0.01)
    (tmp_path / "plan.json").write_text("{}")
    return tmp_path


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Make fsync fail so many times with an error number; what was written before it is on the disk, or a part of it."""

    def breaks(number: int, times: int) -> None:
        sync, left = os.fsync, [times]

        def fsync(handle: int) -> None:
            left[0] -= 1
            if left[0] >= 0:
                raise OSError(number, os.strerror(number))
            sync(handle)

        monkeypatch.setattr(os, "fsync", fsync)

    return breaks


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE])
def test_a_disk_that_comes_back_is_waited_for_and_said_once(
    sweep: Path, broken: Callable[[int, int], None], number: int
) -> None:
    said: list[str] = []
    disk = Disk(sweep, 60.0, said.append)
    journal = Journal(sweep, disk)
    journal.write(Attempt("candidate", 7, 1), "running")
    broken(number, 3)
    journal.write(Attempt("candidate", 7, 1), "lost", "why")
    journal.check_content()
    assert said == [
        f"events.jsonl cannot be written: {os.strerror(number)}; waiting",
        "events.jsonl could be written after 0 s.",
    ]
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [line["state"] for line in lines] == ["running", "lost"]


def test_a_disk_that_stays_full_ends_the_sweep_and_leaves_no_half_line(
    sweep: Path, broken: Callable[[int, int], None]
) -> None:
    journal = Journal(sweep, Disk(sweep, 0.05, lambda text: None))
    journal.write(Attempt("candidate", 7, 1), "running")
    before = journal.path.read_bytes()
    broken(errno.ENOSPC, 10**6)
    with pytest.raises(
        DiskError, match=r"events\.jsonl could not be written for 0 s: No space left on device\."
    ) as error:
        journal.write(Attempt("candidate", 7, 1), "lost")
    assert error.value.exit_code == 4
    assert journal.path.read_bytes() == before


def test_a_part_of_a_line_that_a_disk_took_is_written_over(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(sweep, Disk(sweep, 60.0, lambda text: None))
    whole, tries = journal._put, []

    def half(line: bytes) -> None:
        tries.append(line)
        if len(tries) == 1:  # and it cannot be taken back
            with open(journal.path, "ab") as file:
                file.write(line[:20])
            raise OSError(errno.EIO, "Input/output error")
        whole(line)

    monkeypatch.setattr(journal, "_put", half)
    journal.write(Attempt("candidate", 7, 1), "running")
    assert read_journal(sweep).skipped == 0
    assert len(tries) == 2


def test_a_signal_ends_the_wait_and_what_ends_the_sweep_does_not_wait_again(
    sweep: Path, broken: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    disk = Disk(sweep, 60.0, lambda text: None)
    broken(errno.ENOSPC, 10**6)
    monkeypatch.setattr(patient.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        disk.write(sweep / "run.json", lambda: write_json(sweep / "run.json", {}))
    disk.hurry()
    with pytest.raises(DiskError, match=r"run\.json could not be written: No space left on device\."):
        disk.write(sweep / "run.json", lambda: write_json(sweep / "run.json", {}))
    assert sorted(path.name for path in sweep.iterdir()) == ["plan.json"]  # nothing half-written


def test_a_deleted_sweep_is_one_sentence_and_is_not_made_anew(sweep: Path) -> None:
    journal = Journal(sweep, Disk(sweep, 60.0, print))
    journal.write(Attempt("candidate", 7, 1), "running")
    shutil.rmtree(sweep)
    for write in (journal.check, lambda: journal.write(Attempt("candidate", 7, 1), "lost")):
        with pytest.raises(GoneError, match=" is gone: it was deleted or moved while the sweep ran"):
            write()
    assert not sweep.exists()


def test_another_error_is_not_waited_for(sweep: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Disk(sweep, 60.0, print).write(sweep, lambda: sweep.write_bytes(b""))


def ended_run(folder: Path, size: int, **unknown: str) -> Path:
    """An attempt's folder with a file and what its worker told of it."""
    run = folder / "candidate" / "seed-7" / "attempt-1"
    run.mkdir(parents=True)
    (run / "deep").mkdir()
    with open(run / "deep" / "model.pt", "wb") as file:
        file.truncate(size)
    (run / "train.log").write_text("a\n")
    table = {"state": "succeeded", **files_of(run)}
    write_json(run / "run.json", {**table, "unknown": table["unknown"] | unknown})
    return run


def test_a_large_file_is_hashed_after_the_result_is_told(sweep: Path) -> None:
    run = ended_run(sweep, LARGE_BYTES + 1, gpus="no nvidia-smi")
    before = json.loads((run / "run.json").read_text())
    assert before["files"]["deep/model.pt"] == {"bytes": LARGE_BYTES + 1, "sha256": None}
    assert before["files"]["train.log"]["sha256"] == hashlib.sha256(b"a\n").hexdigest()
    assert set(before["unknown"]) == {"gpus", "files.deep/model.pt.sha256"}
    copied: list[Path] = []
    digests = Digests(Disk(sweep, 0.0, print), print, copied.append)
    digests.add(run, before)
    digests.wait()
    after = json.loads((run / "run.json").read_text())
    assert after["files"]["deep/model.pt"]["sha256"] == hashlib.sha256(bytes(LARGE_BYTES + 1)).hexdigest()
    assert after["unknown"] == {"gpus": "no nvidia-smi"}
    assert copied == [run / "run.json"]


def test_many_small_files_together_are_large(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests_module, "LARGE_BYTES", 10)
    for name in ("a", "b", "train.log"):
        (sweep / name).write_bytes(bytes(6))
    (sweep / "link").symlink_to(sweep / "a")
    found = files_of(sweep)["files"]
    assert [name for name, entry in found.items() if entry["sha256"] is None] == ["b"]
    assert sorted(found) == ["a", "b", "plan.json", "train.log"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda path: path.write_bytes(b"x"), "it was changed after the run's end"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "it was changed after the run's end"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "it leads out of the run's folder"),
        (lambda path: os.truncate(path, 2**38 + 1), "it has more than 256 GiB"),
    ],
    ids=["changed", "gone", "pipe", "link", "without end"],
)
def test_a_digest_that_cannot_be_had_is_unknown_and_says_why(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], why: str
) -> None:
    monkeypatch.setattr(digests_module, "LARGE_BYTES", 10)
    run = ended_run(sweep, 11)
    change(run / "deep" / "model.pt")
    table = json.loads((run / "run.json").read_text())
    if "GiB" in why:
        table["files"]["deep/model.pt"]["bytes"] = 2**38 + 1
        write_json(run / "run.json", table)
    digests = Digests(Disk(sweep, 0.0, print), print, lambda path: None)
    digests.add(run, table)
    digests.wait()
    after = json.loads((run / "run.json").read_text())
    assert after["files"]["deep/model.pt"]["sha256"] is None
    assert why in after["unknown"]["files.deep/model.pt.sha256"]
