"""What systemd is told, over a real socket of its kind."""

import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.daemon.systemd import Heartbeat, Systemd
from tests.unit.web.support import LogLines

PID = 4711


class SystemdCase(SynchronousTestCase):
    """A service manager."""

    def setUp(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(self.socket.close)
        self.path = str(Path(self.mktemp()).absolute())
        if len(self.path) > 100:  # the address of a socket is short
            self.path = f"/tmp/merlind-test-{id(self)}"
            self.addCleanup(Path(self.path).unlink)
        self.socket.bind(self.path)

    def systemd(self, **environment: str) -> Systemd:
        """What a process of this pid sees of it."""
        return Systemd({"NOTIFY_SOCKET": self.path, **environment}, lambda: PID)

    def told(self) -> list[str]:
        """What it was told since the last time."""
        messages = []
        try:
            while True:
                messages.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            return messages


class SystemdTests(SystemdCase):
    """The messages."""

    def test_messages(self) -> None:
        """It is told that merlind is ready, alive and stopping, in the words of sd_notify."""
        systemd = self.systemd()
        systemd.ready()
        systemd.alive()
        systemd.stopping("the disk\nfailed")
        self.assertEqual(self.told(), ["READY=1\nSTATUS=serving", "WATCHDOG=1", "STOPPING=1\nSTATUS=the disk failed"])

    def test_abstract_socket(self) -> None:
        """A socket may have a name that is no path, and that an @ begins."""
        name = f"merlind-test-{id(self)}@x"
        abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(abstract.close)
        abstract.bind(f"\0{name}")
        self.systemd(NOTIFY_SOCKET=f"@{name}").alive()
        self.assertEqual(abstract.recv(4096), b"WATCHDOG=1")

    def test_without_systemd(self) -> None:
        """Without a socket, or with an address of another kind, nobody is told, and nothing is logged."""
        lines = LogLines.of(self).lines
        for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
            systemd = Systemd({**environment, "WATCHDOG_USEC": "1000000"})
            systemd.ready()
            systemd.alive()
            self.assertIsNone(systemd.watchdog())
        self.assertEqual((self.told(), lines), ([], []))

    def test_nobody_listens(self) -> None:
        """A socket that is gone, or full, is reported, and merlind goes on."""
        lines = LogLines.of(self).lines
        self.systemd(NOTIFY_SOCKET=f"{self.path}.gone").alive()
        self.assertEqual(lines, ["systemd could not be told WATCHDOG=1: No such file or directory"])
        while len(lines) < 2:
            self.systemd().alive()
        self.assertIn("WATCHDOG=1: Resource temporarily unavailable", lines[1])

    def test_watchdog(self) -> None:
        """The time of the watchdog counts for the process that it names, if it names one."""
        for environment, seconds in (
            ({"WATCHDOG_USEC": "30000000"}, 30.0),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}, 30.0),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID + 1)}, None),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "x"}, None),
            ({"WATCHDOG_USEC": "0"}, None),
            ({"WATCHDOG_USEC": "-1"}, None),
            ({"WATCHDOG_USEC": "9" * 5000}, None),
            ({}, None),
        ):
            self.assertEqual(self.systemd(**environment).watchdog(), seconds, environment)


class HeartbeatTests(SystemdCase):
    """The signs of life."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.answer: Deferred[Any] = succeed(None)
        self.heartbeat = Heartbeat(self.clock, self.systemd(WATCHDOG_USEC="10000000"), lambda: self.answer)

    def test_at_half_of_the_time(self) -> None:
        """They come at once and then at half of the time that the watchdog allows, until merlind stops."""
        self.heartbeat.start()
        self.assertEqual(self.told(), ["WATCHDOG=1"])
        self.clock.advance(4.9)
        self.assertEqual(self.told(), [])
        self.clock.pump([0.1, 5.0, 5.0])
        self.assertEqual(self.told(), ["WATCHDOG=1"] * 3)
        self.heartbeat.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_watchdog(self) -> None:
        """A service manager that has no watchdog gets none."""
        heartbeat = Heartbeat(self.clock, self.systemd(), lambda: self.answer)
        heartbeat.start()
        heartbeat.stop()
        self.assertEqual((self.told(), self.clock.getDelayedCalls()), ([], []))

    def test_store_that_does_not_answer(self) -> None:
        """While the store doesn't answer there is none; they go on when it does, and never pile up."""
        self.answer = Deferred()
        self.heartbeat.start()
        self.clock.pump([5.0] * 4)
        self.assertEqual(self.told(), [])
        answer, self.answer = self.answer, succeed(None)
        answer.callback(None)
        self.assertEqual(self.told(), ["WATCHDOG=1"])
        self.clock.advance(5.0)
        self.assertEqual(self.told(), ["WATCHDOG=1"])

    def test_stopped_meanwhile(self) -> None:
        """An answer that comes after the stop sets no timer."""
        self.answer = Deferred()
        self.heartbeat.start()
        self.heartbeat.stop()
        self.answer.callback(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_full_disk(self) -> None:
        """A disk that is full is no reason to start anew."""
        self.answer = fail(StoreUnavailable("the disk is full"))
        self.heartbeat.start()
        self.assertEqual(self.told(), ["WATCHDOG=1"])

    def test_broken_disk(self) -> None:
        """A store that has failed for good is one: there are no more signs."""
        self.heartbeat.start()
        self.told()
        self.answer = fail(StoreBroken("a flush failed"))
        self.clock.pump([5.0] * 4)
        self.assertEqual((self.told(), self.clock.getDelayedCalls()), ([], []))
