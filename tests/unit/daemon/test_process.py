"""The process: its limits, its log, and how it ends."""

import gc
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.logger import LogLevel

from merlind.daemon import process
from merlind.daemon.log import LineLog
from tests.unit.daemon.support import ProcessCase

EVENT = {"log_level": LogLevel.warn, "log_namespace": "merlind.x", "log_format": "task {task}: done", "task": 7}


class LimitsTests(ProcessCase):
    """What the process may use."""

    def test_open_files(self) -> None:
        """The limit is raised as far as the process may; an endless one is left alone."""
        self.limit = (1024, 4096)
        self.assertEqual((process.raise_open_files(), self.limit), (4096, (4096, 4096)))
        self.limit = (1024, resource.RLIM_INFINITY)
        self.assertEqual((process.raise_open_files(), self.limit), (1024, (1024, resource.RLIM_INFINITY)))

    def test_pauses(self) -> None:
        """Threads switch soon, and the garbage collector runs seldom and skips what is imported."""
        process.shorten_pauses()
        self.assertAlmostEqual(sys.getswitchinterval(), 0.0005)
        self.assertEqual((gc.get_threshold(), self.frozen), ((5_000, 20, 100), [True]))
        self.assertTrue(gc.isenabled())


class LogTests(ProcessCase):
    """Where the log goes."""

    def log(self, log_json: bool = False, **twistd: Any) -> LineLog:
        """A log of ours."""
        log = process.make_log(self.reactor, log_json, twistd)
        assert log is not None, "it is left to twistd"
        return log

    def test_standard_output(self) -> None:
        """In the foreground it goes to the standard output, as text or as JSON."""
        for twistd in ({"nodaemon": True}, {"nodaemon": True, "logfile": "-"}, {"nodaemon": True, "logfile": ""}):
            self.log(**twistd)(EVENT)
            self.assertTrue(self.stdout.getvalue().endswith("[merlind.x#warn] task 7: done\n"))
        self.log(log_json=True)(EVENT)
        line = json.loads(self.stdout.getvalue().splitlines()[-1])
        self.assertEqual((line["message"], line["task"], line["level"]), ("task 7: done", 7, "warn"))

    def test_left_to_twistd(self) -> None:
        """An operator who told twistd where to log, or with which logger, gets just that."""
        places: tuple[dict[str, Any], ...] = (
            {"syslog": True},
            {"logger": "x.y"},
            {"nodaemon": True, "logfile": "x.log"},
            {"nodaemon": False, "logfile": None},
        )
        for twistd in places:
            self.assertIsNone(process.make_log(self.reactor, False, twistd), twistd)
        for twistd in places[:2]:
            self.assertIsNone(process.make_log(self.reactor, True, twistd), twistd)

    def test_json_into_a_file(self) -> None:
        """twistd can't write JSON to a file, so we write it ourselves."""
        file = Path(self.mktemp())
        for nodaemon in (True, False):
            log = self.log(log_json=True, nodaemon=nodaemon, logfile=str(file))
            log(EVENT)
            log._stream.close()
        self.assertEqual([json.loads(line)["task"] for line in file.read_text().splitlines()], [7, 7])
        self.assertEqual(self.stdout.getvalue(), "")


class StopTests(ProcessCase):
    """How the process ends."""

    def setUp(self) -> None:
        super().setUp()
        process.limit_stop(self.reactor)

    def test_nothing_before(self) -> None:
        """Until the start is done, signals do what they always do."""
        self.assertEqual((self.signals[signal.SIGTERM], self.alarms), (f"default {signal.SIGTERM}", []))

    def test_limited(self) -> None:
        """Once a stop has begun, a signal ends the process, and so does the deadline."""
        self.fire("before", "shutdown")
        self.assertEqual(self.alarms, [process.STOP_DEADLINE])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            self.signals[number](number, None)
        self.assertEqual(self.exits, [128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGALRM])
        self.assertEqual(self.signals[signal.SIGHUP], f"default {signal.SIGHUP}")

    def test_signal(self) -> None:
        """The first signal starts the deadline and is then the reactor's; an ignored signal stays ignored."""
        seen: list[tuple[int, list[int]]] = []
        self.signals[signal.SIGTERM] = lambda number, frame: seen.append((number, list(self.alarms)))
        self.fire("after", "startup")
        self.assertEqual(self.signals[signal.SIGINT], f"default {signal.SIGINT}")
        self.signals[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual(seen, [(signal.SIGTERM, [process.STOP_DEADLINE])])
        self.signals[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual((self.exits, len(seen)), ([128 + signal.SIGTERM], 1))

    def test_die(self) -> None:
        """A failed disk ends the process as a failure, with a line, when the last responses had a moment."""
        process.die(self.reactor, "the database failed")
        self.assertEqual((self.exits, self.stderr.getvalue()), ([], ""))
        self.reactor.run_for(process.LAST_MOMENT)
        self.assertEqual((self.exits, self.stderr.getvalue()), ([1], "merlind: the database failed\n"))
