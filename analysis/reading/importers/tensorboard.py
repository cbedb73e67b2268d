"""TensorBoard's event files, without TensorFlow: records of a length, a checksum and a protobuf `Event`.

An Event holds a step (field 2) and a Summary (5): values (1) with a tag (1) and a number, as simple_value (2) or as a tensor
(8) of one element. Hyper-parameters are in the metadata (9) of a value. Checksums are not compared.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.reading.importers.made import MOST_ROWS, Row, Told, run_of, seed_in_name, whole
from analysis.reading.run import Origin, Run
from analysis.untrusted.files import FileError, read_bounded, spend

HEADER, FOOTER = 12, 4  # bytes around a record
LONGEST = 2**20  # bytes of a record that is parsed; images and graphs are longer
MOST_FIELDS = 5000  # of one message
MOST_EVENTS = 500_000
EVENT = 256  # bytes that an event counts as
FLOAT, DOUBLE = 1, 2  # types of a tensor
Value = int | bytes


def read_events(path: Path) -> list[Run]:
    """Return the run of a folder of event files, of which this is the first; none for another one of the folder."""
    files = sorted(one for one in path.parent.iterdir() if is_events(one) and not one.is_symlink() and one.is_file())
    if files and files[0].name != path.name:
        return []
    steps: dict[int, dict[str, float]] = {}
    settings: dict[str, str] = {}
    for file in files or [path]:
        for event in _events(read_bounded(file)):
            _take(event, steps, settings)
            if len(steps) > MOST_ROWS:
                raise FileError(f"holds numbers of more than {MOST_ROWS} steps")
    if not steps:
        return []
    seed = whole(settings.get("seed"))
    told = Told(log=path, origin=Origin.TRACKER, seed=seed_in_name(path) if seed is None else seed, settings=settings)
    return [run_of(told, [Row(numbers=numbers, step=step) for step, numbers in sorted(steps.items())])]


def is_events(path: Path) -> bool:
    return "tfevents" in path.name


def _events(data: bytes) -> Iterator[bytes]:
    """Yield the events of a file. One that was cut off ends with its last whole event."""
    at, count = 0, 0
    while at + HEADER <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        end = at + HEADER + length
        if end + FOOTER > len(data):
            return
        spend(EVENT)
        if length <= LONGEST:
            yield data[at + HEADER : end]
        at, count = end + FOOTER, count + 1
        if count > MOST_EVENTS:
            raise FileError(f"holds more than {MOST_EVENTS} events")


def _take(event: bytes, steps: dict[int, dict[str, float]], settings: dict[str, str]) -> None:
    step, summaries = 0, []
    for number, value in _fields(event):
        if number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for number, value in _fields(summary):
            if number == 1 and isinstance(value, bytes):
                said = _said(value)
                settings |= said.settings
                if said.number is not None and said.tag and 0 <= step < 10**12:
                    steps.setdefault(step, {})[said.tag] = said.number


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """One value of a summary: its tag and its number, or the hyper-parameters in its metadata."""

    tag: str
    number: float | None
    settings: dict[str, str]


def _said(message: bytes) -> _Said:
    tag, number, settings = "", None, {}
    for field, value in _fields(message):
        if field == 1 and isinstance(value, bytes):
            tag = value[:200].decode("utf-8", "replace")
        elif field == 2 and isinstance(value, bytes) and len(value) == 4:
            number = _shortest(value)
        elif field == 8 and isinstance(value, bytes):
            number = _of_tensor(value)
        elif field == 9 and isinstance(value, bytes):
            settings = _hyper_parameters(value)
    return _Said(tag=tag, number=number, settings=settings)


def _shortest(four: bytes) -> float:
    """Return a 32-bit number as the shortest decimal that it may have been: 2.7561, not 2.756099939346313."""
    (number,) = struct.unpack("<f", four)
    for digits in range(6, 10):
        text = f"{number:.{digits}g}"
        try:
            if struct.pack("<f", float(text)) == four:
                return float(text)
        except OverflowError:
            break
    return float(number)


def _of_tensor(message: bytes) -> float | None:
    """Return the number of a tensor of one element, as 32 or 64 bits, packed or not."""
    kind, found = 0, []
    for field, value in _fields(message):
        if field == 1 and isinstance(value, int):
            kind = value
        elif field in (4, 5, 6) and isinstance(value, bytes):
            found.append(value)
    if len(found) != 1 or (kind, len(found[0])) not in ((FLOAT, 4), (DOUBLE, 8)):
        return None
    return _shortest(found[0]) if kind == FLOAT else float(struct.unpack("<d", found[0])[0])


def _hyper_parameters(metadata: bytes) -> dict[str, str]:
    """Return the hyper-parameters of a session that begins: plugin data (1) of `hparams`, in it session_start_info (3)."""
    found: dict[str, str] = {}
    for plugin in _messages(metadata, 1):
        if b"hparams" not in [value for number, value in _fields(plugin) if number == 1]:
            continue
        for content in _messages(plugin, 2):
            for session in _messages(content, 3):
                for entry in _messages(session, 1):
                    parts = dict(_fields(entry))
                    key, value = parts.get(1), parts.get(2)
                    if isinstance(key, bytes) and isinstance(value, bytes) and len(found) < 500:
                        found[key[:200].decode("utf-8", "replace")] = _setting(value)
    return found


def _setting(message: bytes) -> str:
    """Return a google.protobuf.Value as text: a number (2), a text (3) or a truth (4)."""
    for number, value in _fields(message):
        if number == 2 and isinstance(value, bytes) and len(value) == 8:
            return repr(struct.unpack("<d", value)[0]).removesuffix(".0")
        if number == 3 and isinstance(value, bytes):
            return value[:500].decode("utf-8", "replace")
        if number == 4:
            return str(bool(value))
    return ""


def _messages(message: bytes, field: int) -> Iterator[bytes]:
    yield from (value for number, value in _fields(message) if number == field and isinstance(value, bytes))


def _fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Yield the fields of a protobuf message by number: varints as int, everything else as bytes. It ends at damage."""
    at = 0
    for _ in range(MOST_FIELDS):
        key, at = _varint(message, at)
        if at < 0:
            return
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            if at < 0:
                return
            yield key >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            length, at = _varint(message, at)
        if length is None or at < 0 or at + length > len(message):
            return
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a varint and the position behind it, which is -1 at the end or at damage."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            return 0, -1
        byte = message[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    return 0, -1
