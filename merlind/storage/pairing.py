"""Whether a database and a spool belong together and nothing is missing: neither is worth anything without the other.

Each database has an id, and the spool holds a copy of it in the file ``database-id``. A database that is missing, is
another one or lacks commits is no fresh start, and neither is a spool without the photos that are to be uploaded:
somebody lost one of them, or a disk isn't mounted. Then merlind doesn't start, and touches neither.
"""

from dataclasses import dataclass
from pathlib import Path

from merlind.storage.photos.flush import fsync_path
from merlind.storage.photos.spool import Spool
from merlind.storage.sqlite import database
from merlind.storage.sqlite.last_commit import read_last_commit

MARK = "database-id"
"""The file in the spool that names the database whose photos are there."""


class WrongPair(Exception):
    """The database and the spool don't belong together. The message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What is found of a database and a spool: the database's id, the one that the spool names, if any, whether there
    are photos, and how many tasks need theirs; the service times of the database's last commit, and of the last one
    that was noted, if any."""

    id: str
    marked: str | None
    photos: bool
    needed: int
    committed: float = 0.0
    noted: float | None = None


def prepare(file: Path, folder: Path, last_commit: Path) -> None:
    """Make or upgrade the database, and see that the photos in the spool's folder are its own, and that it is whole.

    ``last_commit`` is the file in which commits are noted. Raises WrongPair, DatabaseUnusable or OSError.
    """
    photos, mark = _has_photos(folder), folder / MARK
    why = database.why_empty(file)
    if why is not None and (lost := _what_is_lost(file, folder, photos)):
        raise WrongPair(
            f"{file} is {why}, but {lost}: restore it from a backup, or, to start anew without those tasks, "
            f"move {folder} and {file}-wal out of the way"
        )
    database.prepare(file)
    marked, needed = _read(mark), database.count_needed_photos(file)
    noted = read_last_commit(last_commit) if why is None else None
    pair = Pair(database.identity(file), marked, photos, needed, database.service_time(file), noted)
    if reason := mismatch(pair, file, folder, last_commit):
        raise WrongPair(reason)
    if pair.marked != pair.id:
        last_commit.unlink(missing_ok=True)  # another database's
        _write(mark, pair.id)


def mismatch(pair: Pair, file: Path, folder: Path, last_commit: Path) -> str | None:
    """Return why the two can't be used together, in a line that says what to do; None if they can."""
    if pair.marked not in (None, pair.id) and (pair.photos or pair.needed):
        return (
            f"{folder} holds the photos of another database than {file}: put the two that belong together in their "
            f"places, or, to go on with both as they are, delete {folder / MARK}"
        )
    if pair.marked == pair.id and pair.noted is not None and pair.noted > pair.committed:
        return (
            f"{file} lacks what was committed last: its log was deleted or emptied, or it is an older copy. Restore "
            f"the right one, or, to go on without later tasks (their photos are moved to lost), delete {last_commit}"
        )
    if pair.marked is None and pair.needed and not pair.photos:
        return (
            f"{folder} has none of the photos that {pair.needed} tasks in {file} need: is its disk mounted? To go on "
            f"and let those tasks fail, write {pair.id} into {folder / MARK}"
        )
    return None


def _what_is_lost(file: Path, folder: Path, photos: bool) -> str | None:
    if photos:
        return f"{folder} holds photos of tasks that only it knows"
    log = file.with_name(f"{file.name}-wal")
    # SQLite would delete the log of a file of 0 bytes. It makes its logs later, so no crash leaves one beside that.
    alone = (not file.exists() or file.stat().st_size == 0) and log.exists() and log.stat().st_size > 0
    return f"{log} holds tasks" if alone else None


def _has_photos(folder: Path) -> bool:
    return folder.exists() and any(True for _ in Spool(folder).stored())


def _read(mark: Path) -> str | None:
    return (mark.read_text("ascii", "replace").strip() or None) if mark.exists() else None


def _write(mark: Path, text: str) -> None:
    """Write the mark durably, as a whole or not at all. Raises OSError."""
    mark.parent.mkdir(mode=0o700, exist_ok=True)
    part = mark.with_name(f"{MARK}.part")
    part.write_text(f"{text}\n", "ascii")
    fsync_path(str(part))
    part.rename(mark)
    fsync_path(str(mark.parent))
    fsync_path(str(mark.parent.parent))
