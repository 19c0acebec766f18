"""Flushes to disk: one path, or a whole file system where the kernel reports every failed write.

After a flush that failed, never try again: the next one reports success, and the data is gone.
"""

import ctypes
import os
import platform
import re
from collections.abc import Callable


def fsync_path(path: str) -> None:
    """Flush the file or folder at a path. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: str, sync_all: Callable[[int], None]) -> None:
    """Flush the file system of a folder with ``sync_all``, which takes an open descriptor. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_all(descriptor)
    finally:
        os.close(descriptor)


def syncfs(descriptor: int) -> None:
    """Flush the file system that an open descriptor lies on: syncfs(2). Raises OSError."""
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc = ctypes.CDLL(None, use_errno=True)


def trusted_syncfs(release: str = platform.release()) -> Callable[[int], None] | None:
    """Return ``syncfs`` where it reports failed writes, else None (syncfs(2): since Linux 5.8)."""
    version = re.match(r"(\d+)\.(\d+)", release)
    if not hasattr(_libc, "syncfs") or version is None:
        return None
    return syncfs if (int(version[1]), int(version[2])) >= (5, 8) else None
