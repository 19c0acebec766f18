"""Where the log goes: a file or a descriptor that is written to without ever waiting for whoever reads it."""

import os
import select
import socket
import stat
from collections.abc import Callable

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""How an output is opened. A pipe or a terminal is then written to without waiting."""


class LogOutput:
    """An open descriptor for the log. Opened by ``path``, it can be opened anew after the file was moved away."""

    def __init__(self, descriptor: int, path: str | None = None) -> None:
        self._path = path
        self._use(descriptor)

    @classmethod
    def to_file(cls, path: str) -> "LogOutput":
        """Append to a file. Raises OSError."""
        absolute = os.path.abspath(path)  # twistd may change the directory later
        return cls(os.open(absolute, _FLAGS, 0o666), absolute)

    @classmethod
    def to_descriptor(cls, descriptor: int) -> "LogOutput":
        """Write to a descriptor that we inherited.

        Whether writing to it waits is a mode that it shares with other processes, so leave that alone. Linux opens the
        same pipe or terminal a second time, with a mode of our own; where it doesn't, ask before each piece whether
        there is room.
        """
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            try:
                return cls(os.open(f"/proc/self/fd/{descriptor}", _FLAGS))
            except OSError:
                pass
        return cls(descriptor)

    def _use(self, descriptor: int) -> None:
        kind = os.fstat(descriptor).st_mode
        self._descriptor = descriptor
        self._write: Callable[[bytes], int] = self._write_whole
        if stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=os.dup(descriptor))
            self._write = self._send
        elif not stat.S_ISREG(kind) and os.get_blocking(descriptor):
            self._write = self._write_where_room
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)

    def write(self, data: bytes) -> int:
        """Write as much as can be written at once, and return how many bytes that was. Raises OSError."""
        try:
            return self._write(data)
        except BlockingIOError:
            return 0

    def wait(self, seconds: float) -> bool:
        """Wait until something can be written, at most so long, and return whether it can."""
        return bool(self._room.poll(seconds * 1000))

    def reopen(self) -> None:
        """Open the file anew: it is made if it was moved away. Raises OSError, and then the old one stays in use."""
        if self._path is None:
            return
        old, new = self._descriptor, os.open(self._path, _FLAGS, 0o666)
        self._use(new)
        os.close(old)

    def _write_whole(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def _send(self, data: bytes) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def _write_where_room(self, data: bytes) -> int:
        # POSIX: a pipe that has room takes PIPE_BUF bytes without waiting.
        written = 0
        while written < len(data) and self.wait(0):
            written += os.write(self._descriptor, data[written : written + select.PIPE_BUF])
        return written
