"""Findings that must not be raised: programs of several files, packed ones, unlike runs, numbers that are near by chance."""

from __future__ import annotations

import base64
import lzma
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.analysis.test_audit import (
    OTHER_LABEL,
    VALUES,
    Change,
    all_with,
    both,
    claim,
    codes,
    everywhere,
    findings,
    log,
    swap,
    write,
)
from tests.conftest import RATIO, SOURCE

Record = Callable[..., Path]

KERNELS = '"""Kernels."""\n\nimport os\n\nKERNELS = os.sep\n'
BLOCK = f"{SOURCE}\n{'-' * 40}\n# kernels.py\n{'-' * 40}\n\n{KERNELS}"
LONG = SOURCE + "".join(f"def f{n}(x):\n    return x * {n * 7919 % 1009} + {n}\n\n\n" for n in range(300))


def printed(size: int) -> Change:
    """Logs that print another code size, in a total that goes with it."""

    def change(folder: Path) -> None:
        for seed in VALUES:
            text = re.sub(r"Code size: \d+", f"Code size: {size}", log(folder, seed).read_text())
            log(folder, seed).write_text(
                re.sub(r"(zlib|size): \d+ bytes\nfinal", rf"\1: {15820 + size} bytes\nfinal", text)
            )
        claim(bytes_total=15820 + size)(folder)

    return change


def packed(program: str) -> int:
    """Return the size of a script that unpacks a program."""
    return len(base64.b85encode(lzma.compress(program.encode()))) + 120


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(all_with(BLOCK), id="two files in one block"),
        pytest.param(both(all_with(BLOCK), write("train_gpt.py", SOURCE), write("kernels.py", KERNELS)), id="shipped as two files"),
        pytest.param(both(all_with(BLOCK), printed(len(SOURCE))), id="the size of the first file"),
        pytest.param(both(all_with(BLOCK), printed(len(SOURCE + KERNELS))), id="the size of both files"),
        pytest.param(both(all_with(LONG), printed(packed(LONG))), id="the size of the packed script"),
        pytest.param(
            both(*(swap("Code size", f"Code size (uncompressed): {len(SOURCE)} bytes\nPacked code size", seed) for seed in VALUES)),
            id="both sizes",
        ),
    ],
)  # fmt: skip
def test_programs_of_several_files_and_packed_ones(record: Record, change: Change) -> None:
    folder = record(VALUES)
    change(folder)
    assert codes(folder) == set()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (all_with(BLOCK + "def broken(:\n"), "source-does-not-compile"),
        (both(all_with(BLOCK), printed(len(SOURCE) - 9)), "source-size-mismatch"),
        (both(all_with(BLOCK), write("train_gpt.py", SOURCE)), "source-not-shipped"),
        (both(all_with(LONG), printed(packed(LONG) // 2)), "source-size-mismatch"),
        (both(all_with(LONG), printed(len(LONG) - 3)), "source-size-mismatch"),
        (both(OTHER_LABEL, all_with(BLOCK), OTHER_LABEL), "label-not-in-source"),
    ],
)
def test_programs_that_do_not_fit(record: Record, change: Change, code: str) -> None:
    folder = record(VALUES)
    change(folder)
    found = [finding for finding in findings(folder) if finding.code == code]
    assert len(found) == 1, "one program in three logs is one fact"


def test_a_program_of_every_log_is_one_finding(record: Record) -> None:
    folder = record(VALUES)
    write("train_gpt.py", SOURCE + "# another\n")(folder)
    found = {finding.code: finding for finding in findings(folder)}
    assert len(found) == len(findings(folder)) == 2
    assert found.keys() == {"source-not-shipped", "code-size-unmatched"}
    for finding in found.values():
        assert finding.file == "train_seed1337.log"
        assert "2 more logs (train_seed42.log, train_seed7.log)" in finding.message


def test_a_step_after_the_cap_is_said_once_with_the_worst(record: Record) -> None:
    folder = record(VALUES)
    for seed, ms in ((1337, 600_100), (42, 600_400)):
        text = re.sub(r"train_time:60\d\dms", f"train_time:{ms}ms", log(folder, seed).read_text())
        log(folder, seed).write_text(text)
    (found,) = findings(folder)
    assert (found.code, found.file) == ("time-over-cap-by-one-step", "train_seed42.log")
    assert "2 of 3 runs" in found.message
    assert "400 ms" in found.message


OTHER_TOKENIZER = 0.387132 / RATIO


def of_two_tokenizers(**claimed: float) -> Change:
    """Seed 42 has another tokenizer, and so another ratio of val_bpb to val_loss."""

    def change(folder: Path) -> None:
        for loss in (f"{1.1994 / RATIO:.8f}", f"{1.1994 / RATIO:.4f}"):
            swap(f"val_loss:{loss}", f"val_loss:{float(loss) / OTHER_TOKENIZER:.8f}")(folder)
        claim(**claimed)(folder)

    return change


@pytest.mark.parametrize(
    ("claimed", "is_found"),
    [
        ({"val_bpb": 1.1994, "val_loss": 1.1994 / RATIO / OTHER_TOKENIZER}, False),
        ({"val_bpb": 1.2014, "val_loss": 1.2014 / RATIO}, False),
        ({"val_bpb": 1.2013, "val_loss": (1.2014 + 1.2031 + 1.1994 / OTHER_TOKENIZER) / RATIO / 3}, False),
        ({"val_bpb": 1.2013, "val_loss": 1.2013}, True),
        ({"val_bpb": 1.2013, "val_loss": 2.3}, True),
    ],
)
def test_a_ratio_of_unlike_runs_is_that_of_one_or_of_their_means(
    record: Record, claimed: dict[str, float], *, is_found: bool
) -> None:
    folder = record(VALUES)
    of_two_tokenizers(**claimed)(folder)
    assert ("submission-unit" in codes(folder)) is is_found


@pytest.mark.parametrize(
    ("headline", "code"),
    [
        (1.25, "headline-not-final"),  # the last validation of seed 1337
        (1.2501, "headline-unsupported"),
        (1.3, "headline-unsupported"),  # some step in the middle
        (1.9, "headline-unsupported"),
    ],
)
def test_a_headline_near_a_logged_number_is_not_of_training(record: Record, headline: float, code: str) -> None:
    folder = record(VALUES)
    steps = "".join(
        f"step:{n}/100 val_loss:2.2 val_bpb:{1.2996 + n / 10000:.4f} train_time:{60 * n}ms\n" for n in range(5, 50)
    )
    everywhere("step:50/100", steps + "step:50/100")(folder)
    claim(val_bpb=headline, val_loss=None)(folder)
    assert {one for one in codes(folder) if one.startswith("headline")} == {code}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(swap("val_bpb:1.1994 ", "val_bpb:1.199 "), id="a rounded metric with fewer decimals than its loss"),
        pytest.param(
            swap("Serialized model int8", "Serialized model int9+x: 99000 bytes\nTotal submission size int9+x: 99900 bytes\nSerialized model int8"),
            id="a codec before the one that counts",
        ),
        pytest.param(
            swap("final_int8_zlib_roundtrip val", "Serialized model int9+x: 99000 bytes\nTotal submission size int9+x: 99900 bytes\nfinal_int8_zlib_roundtrip val"),
            id="a codec after the one that counts",
        ),
    ],
)  # fmt: skip
def test_lines_that_do_not_contradict_each_other(record: Record, change: Change) -> None:
    folder = record(VALUES)
    change(folder)
    assert codes(folder) == set()
