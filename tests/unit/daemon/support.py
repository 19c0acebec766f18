"""What the tests of the process share."""

import gc
import io
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import twisted.internet.reactor  # so that there is one that can be replaced
from twisted.logger import LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from merlind.daemon import process
from tests.unit.support import Reactor


class StandardOutput(io.FileIO):
    """A standard output that is a file; the log writes to its descriptor."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w")
        self._path = path

    def getvalue(self) -> str:
        """What was written."""
        return self._path.read_text("utf-8")


class ProcessCase(SynchronousTestCase):
    """A process whose reactor, signals, limits, output and end the test plays; other settings are restored."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.triggers: list[tuple[str, str, Callable[[], None]]] = []
        self.patch(self.reactor, "addSystemEventTrigger", lambda *trigger: self.triggers.append(trigger))
        self.patch(twisted.internet, "reactor", self.reactor)
        self.addCleanup(os.umask, os.umask(0o022))
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.frozen: list[bool] = []
        self.patch(gc, "freeze", lambda: self.frozen.append(True))
        self.limit = (1024, 1024)
        self.patch(resource, "getrlimit", lambda kind: self.limit)
        self.patch(resource, "setrlimit", self.set_limit)
        self.signals: dict[int, Any] = {number: f"default {number}" for number in range(1, 65)}
        self.alarms: list[int] = []
        self.patch(signal, "signal", self.signals.__setitem__)
        self.patch(signal, "getsignal", self.signals.__getitem__)
        self.patch(signal, "alarm", self.alarms.append)
        self.exits: list[int] = []
        self.patch(os, "_exit", self.exits.append)
        self.stdout, self.stderr = StandardOutput(Path(self.mktemp())), io.StringIO()
        self.addCleanup(self.stdout.close)
        self.publisher = LogPublisher()
        self.patch(process, "globalLogPublisher", self.publisher)
        self.patch(sys, "stdout", self.stdout)
        self.patch(sys, "stderr", self.stderr)

    def set_limit(self, kind: int, limit: tuple[int, int]) -> None:
        """What setrlimit does."""
        self.limit = limit

    def fire(self, phase: str, event: str) -> None:
        """Call what waits for an event of the reactor."""
        for trigger in self.triggers:
            if trigger[:2] == (phase, event):
                trigger[2]()
