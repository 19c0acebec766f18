"""What a store needs of a database: an Engine. It decides how operations are done; the Store decides when."""

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from merlind.core.interfaces import Moment
from merlind.storage.operations import Operation


class Engine(Protocol):
    """One database, and the photos of its tasks.

    The Store waits for a batch before it runs the next one. A checkpoint or a compaction may be asked for at any time,
    and waits its turn. All fail with StoreUnavailable or StoreBroken, or with what a mistake of ours raised.
    """

    def run(self, batch: Sequence[Operation], now: Moment) -> "Deferred[list[Any]]":
        """Do a batch that was asked for at ``now``, in its order: all of its writes, or none of them.

        Fires with a result for each operation, or with a Failure in its place; operations that only read may succeed
        where those that write fail. When it fires, what was written is durable, and so are the photos. If it fails, so
        did every operation of the batch.
        """

    def checkpoint(self) -> "Deferred[None]":
        """Do what the database has to have done now and then, such as moving a write-ahead log into its place."""

    def compact(self) -> "Deferred[None]":
        """Leave nothing of what was erased in a log or a journal."""

    def close(self) -> None:
        """Close it for good, once the store is drained. Blocks until its thread ended."""
