"""Unpack files that somebody else packed, in bounded time and memory."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from analysis.untrusted.files import FileError, spend

PART = 2**12  # the least bytes that each part of a packed file counts as
LARGEST_WINDOW = 2**27  # bytes of memory that unpacking may take
UNPACKERS: dict[bytes, Callable[[], Any]] = {  # by what such a file begins with
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(memlimit=LARGEST_WINDOW),
}


def unpacker_of(content: bytes) -> Callable[[], Any] | None:
    """Return the unpacker for a content, chosen by its first bytes; None if it is not packed."""
    return next((new for magic, new in UNPACKERS.items() if content.startswith(magic)), None)


def unpacked(content: bytes, most: int) -> bytes:
    """Return the unpacked content with all its parts, or the content itself if it is not packed.

    Raises FileError if it is damaged or holds more than `most` bytes.
    """
    new = unpacker_of(content)
    if new is None:
        return content
    parts: list[bytes] = []
    while content:
        reader = new()
        try:
            part = reader.decompress(content, most + 1)
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            if parts:
                break  # like gunzip, ignore what follows the last part
            raise FileError(f"cannot be unpacked: {error}") from None
        content = reader.unused_data
        spend(len(part) + PART + len(content) // 16)
        most -= len(part)
        if most < 0:
            raise FileError("unpacks to more than is read of a file")
        parts.append(part)
    return b"".join(parts)
