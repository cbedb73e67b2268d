"""Enter the plan and every attempt in a registry before they start (`--registry`)."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from analysis.sweepdir.journal import Attempt
from analysis.sweepdir.plan import Plan
from analysis.sweepdir.registry import Entry, RegistryError
from analysis.untrusted.secrets import redacted
from orchestration.disk.files import now
from orchestration.disk.lock import Lock
from orchestration.disk.registry import Registry, open_registry

SOON_S = 2.0  # usually an entry is there by then
RETRY_S = 10.0


class Registrar:
    """Write entries in a background thread, so a registry that does not answer holds up no running run.

    say(text) hears of each trouble once.
    """

    def __init__(self, url: str | None, plan: Plan, lock: Lock, say: Callable[[str], None]) -> None:
        self._url, self._plan, self._lock, self._say = url, plan, lock, say
        self._registry: Registry | None = None
        self._asked: dict[Attempt, float] = {}  # not there yet, and since when
        self._entered: set[Attempt] = set()
        self._waiting: queue.Queue[Attempt] = queue.Queue()
        self._changed = threading.Condition()
        self._trouble: str | None = None
        self._told: str | None = None

    def open(self) -> None:
        """Enter the plan. Raises RegistryError if that fails."""
        if self._url is None:
            return
        self._registry, entry = open_registry(self._url), self._entry()
        try:
            self._registry.write(entry.name, entry.content(self._plan))
        except Exception as error:  # pyarrow raises many kinds
            raise RegistryError(f"--registry {redacted(self._url)} cannot be written: {_said(error)}") from None
        self._say(f"Plan {self._plan.sha256[:12]} is entered in {redacted(self._url)}.")
        threading.Thread(target=self._enter_all, daemon=True).start()

    def has(self, attempt: Attempt) -> bool:
        """Return whether an attempt is entered, so that it may start; ask for it if not."""
        if self._registry is None:
            return True
        with self._changed:
            if attempt not in self._entered and attempt not in self._asked:
                self._asked[attempt] = time.monotonic()
                self._waiting.put(attempt)
                if self._trouble is None:
                    self._changed.wait_for(lambda: attempt in self._entered or self._trouble is not None, SOON_S)
            trouble, entered = self._trouble, attempt in self._entered
        if trouble is not None and trouble != self._told:
            self._told = trouble
            self._say(f"{attempt.arm} seed {attempt.seed}: waits: {trouble}")
        return entered

    def given_up(self, within_s: float) -> str | None:
        """Return why no attempt can be entered, once one has waited for so long; None before."""
        with self._changed:
            if not self._asked or time.monotonic() - min(self._asked.values()) < within_s:
                return None
            why = self._trouble or f"{redacted(self._url or '')} does not answer"
            return f"no run starts that is not registered, and for {within_s:.0f} s {why}."

    def _entry(self) -> Entry:
        return Entry(plan=self._plan.sha256, sweep=self._lock.sweep, driver=self._lock.driver, time=now(), by=_who())

    def _enter_all(self) -> None:
        while True:
            attempt = self._waiting.get()
            while not self._enter(attempt):
                time.sleep(RETRY_S)

    def _enter(self, attempt: Attempt) -> bool:
        assert self._registry is not None, "opened"
        entry, trouble = replace(self._entry(), **attempt._asdict()), None
        try:
            self._registry.write(entry.name, entry.content())
        except Exception as error:  # pyarrow raises many kinds
            trouble = f"the registry {redacted(self._url or '')} cannot be written: {_said(error)}"
        with self._changed:
            self._trouble = trouble
            if trouble is None:
                del self._asked[attempt]
                self._entered.add(attempt)
            self._changed.notify_all()
        return trouble is None


def _said(error: Exception) -> str:
    return redacted(str(error).strip().partition("\n")[0])[:300]


def _who() -> str:
    """Return a digest of user and host: equal for the same place, without naming it."""
    user = str(os.getuid())
    with contextlib.suppress(KeyError, OSError):  # a container without an entry for its user
        user = getpass.getuser()
    return hashlib.sha256(f"{user}@{socket.gethostname()}".encode()).hexdigest()[:12]
