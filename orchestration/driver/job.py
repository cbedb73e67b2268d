"""One seed of one arm, through all its attempts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from analysis.sweepdir.layout import DONE, RUN_MANIFEST
from analysis.sweepdir.manifest import RunManifest
from orchestration.disk.patient import Disk
from orchestration.worker.manifest import write_manifest
from orchestration.worker.order import Began, Ended, Part, RunOrder
from orchestration.worker.transfer import Inbox


@dataclass(slots=True, kw_only=True)
class Job:
    """A planned run as its driver knows it.

    order, state, reason: of the last attempt; there is no order before the first one.
    next_attempt: the number of the attempt that follows.
    refused_since: since when no node has had room for it. inbox: takes files from a node that does not share the directory.
    queued: whether this driver has given it to the pool. cause: the kind of failure that kept the last attempt from beginning.
    """

    arm: str
    seed: int
    order: RunOrder | None = None
    state: str = "pending"
    reason: str | None = None
    next_attempt: int = 1
    refused_since: float | None = None
    inbox: Inbox | None = None
    queued: bool = False
    cause: str | None = None

    @property
    def has_result(self) -> bool:
        return self.state in DONE

    def take(self, order: RunOrder, message: Began | Part, disk: Disk) -> None:
        """Take what comes over from a node that does not share the directory."""
        if isinstance(message, Began):
            self.inbox = Inbox(order, message.manifest, disk)
        elif self.inbox is not None:
            self.inbox.take(message)

    def brought_over(self, order: RunOrder, end: Ended, disk: Disk) -> RunManifest | None:
        """Return the manifest of an attempt that ended, once it and its files are here; None if it has none."""
        inbox, self.inbox = self.inbox, None
        if end.manifest is None:
            if inbox is not None:
                inbox.clear()
            return None
        if inbox is not None:
            return inbox.close(end.manifest)
        disk.write(order.folder / RUN_MANIFEST, partial(write_manifest, order.folder, end.manifest.table))
        return end.manifest
