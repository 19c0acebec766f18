"""What one transaction does to photos, for any engine.

The order is what keeps them safe: a photo is durable before the commit that refers to it, and is deleted only after the
commit that no longer does.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

from twisted.logger import Logger

from merlind.core.interfaces import StagedPhoto
from merlind.storage.photos.spool import Spool

_log = Logger()


@dataclass(slots=True)
class PhotoChanges:
    """Collects them while the transaction runs, and makes them around its end."""

    spool: Spool
    _to_commit: list[tuple[StagedPhoto, int]] = field(default_factory=list)
    _to_discard: list[StagedPhoto] = field(default_factory=list)
    _to_remove: set[int] = field(default_factory=set)

    def keep(self, photo: StagedPhoto, task_id: int) -> None:
        """Note a staged photo as the one of a task, whatever was noted for that task before."""
        self._to_commit.append((photo, task_id))
        self._to_remove.discard(task_id)

    def drop(self, photo: StagedPhoto) -> None:
        """Note a staged photo as not needed."""
        self._to_discard.append(photo)

    def remove(self, task_ids: Collection[int]) -> None:
        """Note tasks whose photos have to go."""
        self._to_remove.update(task_ids)

    def before_commit(self) -> None:
        """Put the staged photos in their places, durably. Raises OSError; then roll back."""
        self.spool.commit(self._to_commit)

    def after_commit(self) -> None:
        """Delete what is no longer needed. An error is logged: the commit stands, and the next start sweeps."""
        for photo in self._to_discard:
            _try(photo.discard)
        self._remove(self._to_remove)

    def after_rollback(self, with_photo: Callable[[list[int]], Collection[int]]) -> None:
        """Delete what ``before_commit`` put in place, but for tasks that ``with_photo`` says have a photo as before."""
        placed = [task_id for _, task_id in self._to_commit]
        if placed:
            self._remove(set(placed).difference(with_photo(placed)))

    def _remove(self, task_ids: Collection[int]) -> None:
        for task_id in task_ids:
            _try(partial(self.spool.remove, task_id))


def _try(step: Callable[[], None]) -> None:
    try:
        step()
    except OSError as error:
        _log.warn("a photo could not be removed: {error}", error=error.strerror)
