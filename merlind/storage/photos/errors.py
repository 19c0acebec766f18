"""What an error of the spool means for the store."""

import errno

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.storage.photos.staging import NotWritten

PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
"""The errors of a disk that is full, or can't be written to for now."""


def judge_os_error(error: OSError) -> StoreUnavailable | StoreBroken:
    """Return StoreBroken for an I/O error that may have lost data, StoreUnavailable for all else."""
    reason = error.strerror or str(error)
    if error.errno == errno.EIO and not isinstance(error, NotWritten):
        return StoreBroken(f"the photo spool failed: {reason}")
    return StoreUnavailable(reason)
