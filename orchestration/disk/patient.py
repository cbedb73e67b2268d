"""Write the files of a sweep: wait while the disk is full or read-only, and never recreate a deleted sweep."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from analysis.sweepdir.layout import PLAN
from analysis.untrusted.refusal import SeedproofError

RETRY_S = 0.5
# errors that may pass: full, over its quota, read-only, broken or away for a while
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT}
Done = TypeVar("Done")


class DiskError(SeedproofError):
    """A sweep whose files cannot be written, as one sentence with the path."""

    exit_code = 4


class GoneError(DiskError):
    """A sweep directory that was deleted or moved while its driver ran."""


def passing(error: OSError) -> bool:
    """Return whether the error may pass."""
    return error.errno in PASSING


class Disk:
    """Write files of one sweep; wait at most `wait_s` while the disk does not take them.

    say: reports when a wait begins and when it is over. A signal ends the wait.
    """

    def __init__(self, directory: Path, wait_s: float, say: Callable[[str], None]) -> None:
        self._directory, self._wait_s, self._say = directory, wait_s, say

    def hurry(self) -> None:
        """Stop waiting: the sweep ends."""
        self._wait_s = 0.0

    def check(self) -> None:
        """Raise GoneError if the sweep's plan is not there any more."""
        try:
            os.stat(self._directory / PLAN)
        except (FileNotFoundError, NotADirectoryError):
            raise GoneError(f"{self._directory} is gone: it was deleted or moved while the sweep ran.") from None
        except OSError:
            pass  # the disk may be away for a while; the next write shows it

    def write(self, path: Path, write: Callable[[], Done]) -> Done:
        """Call write() until the disk takes it; return its result. Raises DiskError, and GoneError at once."""
        since, told = time.monotonic(), False
        while True:
            self.check()
            try:
                done = write()
                break
            except OSError as error:
                if not passing(error):
                    raise
                why = error.strerror
            waited = time.monotonic() - since
            if waited >= self._wait_s:
                raise DiskError(f"{path} could not be written{f' for {waited:.0f} s' if told else ''}: {why}.")
            if not told:
                self._say(f"{path.name} cannot be written: {why}; waiting")
                told = True
            time.sleep(RETRY_S)
        if told:
            self._say(f"{path.name} could be written after {time.monotonic() - since:.0f} s.")
        return done
