"""Tells systemd that merlind is ready, alive or stopping (sd_notify(3)). Without systemd it does nothing."""

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.interfaces import StoreBroken, StoreUnavailable


class Systemd:
    """The service manager that started this process, if ``environment`` names one in NOTIFY_SOCKET."""

    _log = Logger()

    def __init__(self, environment: Mapping[str, str], pid: Callable[[], int] = os.getpid) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # An abstract socket's name begins with a NUL, which the variable has as an @. Virtual machines have vsock:.
        self._address = address.replace("@", "\0", 1) if address.startswith("@") else address
        self._listens = address.startswith(("/", "@"))
        self._environment = environment
        self._pid = pid

    def watchdog(self) -> float | None:
        """Return how many seconds may lie between two signs of life; None if it asks this process for none."""
        microseconds = self._environment.get("WATCHDOG_USEC", "")
        asked = self._environment.get("WATCHDOG_PID", "") in ("", str(self._pid()))
        if not self._listens or not asked or not microseconds.isdecimal() or len(microseconds) > 18:
            return None
        return int(microseconds) / 1e6 or None

    def ready(self) -> None:
        """Say that merlind serves."""
        self._send("READY=1", "STATUS=serving")

    def stopping(self, why: str) -> None:
        """Say that merlind ends."""
        self._send("STOPPING=1", f"STATUS={why}")

    def alive(self) -> None:
        """Give the sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._listens:
            return
        message = "\n".join(" ".join(line.splitlines()) for line in lines)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as s:
                s.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError as error:
            # No reason to end: without a sign of life systemd does that itself.
            self._log.warn("systemd could not be told {line}: {why}", line=lines[0], why=error.strerror)


class Heartbeat:
    """Gives systemd's watchdog its signs of life, each after the store has answered.

    So they end when the reactor no longer turns, when the store has failed for good, and when it no longer answers.
    ``ask`` is a read of the store.
    """

    def __init__(self, reactor: IReactorTime, systemd: Systemd, ask: "Callable[[], Deferred[Any]]") -> None:
        self._reactor = reactor
        self._systemd = systemd
        self._ask = ask
        self._next: IDelayedCall | None = None
        self._interval: float | None = None

    def start(self) -> None:
        """Give the first sign of life, and more at half of the time that the watchdog allows."""
        watchdog = self._systemd.watchdog()
        if watchdog is not None:
            self._interval = watchdog / 2
            self._beat()

    def stop(self) -> None:
        """Give no more of them."""
        self._interval = None
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _beat(self) -> None:
        self._next = None
        self._ask().addCallbacks(self._answered, self._failed)

    def _answered(self, _: object) -> None:
        self._systemd.alive()
        if self._interval is not None:
            self._next = self._reactor.callLater(self._interval, self._beat)

    def _failed(self, failure: Failure) -> None:
        # A full disk passes; a broken one doesn't, and ends the process.
        if failure.check(StoreUnavailable):
            self._answered(None)
        else:
            failure.trap(StoreBroken)
