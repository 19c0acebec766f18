"""The process: its limits, its log, and how it ends."""

import gc
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from merlind.daemon import process
from merlind.daemon.log import LineLog
from merlind.daemon.log_output import LogOutput
from tests.unit.daemon.support import ProcessCase
from tests.unit.support import raising

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
        self.assertEqual((gc.get_threshold(), self.frozen), ((50_000, 20, 100), [True]))
        self.assertTrue(gc.isenabled())


class LogTests(ProcessCase):
    """Where the log goes."""

    def log(self, log_json: bool = False, **twistd: Any) -> LineLog:
        """A log of ours."""
        log = process.make_log(self.reactor, log_json, twistd)
        assert log is not None, "it is left to twistd"
        self.addCleanup(self.close, log._output)
        return log

    def close(self, output: LogOutput) -> None:
        """Close what isn't the standard output."""
        if output._descriptor != self.stdout.fileno():
            os.close(output._descriptor)

    def test_standard_output(self) -> None:
        """In the foreground it goes to the standard output, as text or as JSON."""
        for twistd in ({"nodaemon": True}, {"nodaemon": True, "logfile": "-"}, {"nodaemon": True, "logfile": ""}):
            self.log(**twistd)(EVENT)
            self.assertTrue(self.stdout.getvalue().endswith("[merlind.x#warn] task 7: done\n"))
        self.log(log_json=True)(EVENT)
        line = json.loads(self.stdout.getvalue().splitlines()[-1])
        self.assertEqual((line["message"], line["task"], line["level"]), ("task 7: done", 7, "warn"))

    def test_left_to_twistd(self) -> None:
        """An operator who told twistd to log elsewhere gets just that."""
        for twistd in ({"syslog": True}, {"logger": "x.y"}, {"syslog": True, "nodaemon": True, "logfile": "x.log"}):
            for log_json in (False, True):
                self.assertIsNone(process.make_log(self.reactor, log_json, twistd), twistd)

    def test_file(self) -> None:
        """A file that is named is appended to, as text or as JSON; it is twistd's option, and twistd.log by default."""
        file = Path(self.mktemp()).absolute()
        for nodaemon in (True, False):
            self.log(log_json=True, nodaemon=nodaemon, logfile=str(file))(EVENT)
            self.log(nodaemon=nodaemon, logfile=str(file))(EVENT)
        lines = file.read_text().splitlines()
        self.assertEqual([json.loads(line)["task"] for line in lines[::2]], [7, 7])
        self.assertTrue(all(line.endswith("] task 7: done") for line in lines[1::2]), lines)
        self.assertEqual(self.stdout.getvalue(), "")
        self.addCleanup(os.chdir, os.getcwd())
        folder = Path(self.mktemp())
        folder.mkdir()
        os.chdir(folder)
        self.log(nodaemon=False, logfile=None)(EVENT)
        self.assertEqual(os.listdir("."), ["twistd.log"])

    def test_no_standard_output(self) -> None:
        """Without a standard output the log goes nowhere, not into the next file that is opened; a daemon has none."""
        self.patch(sys, "stdout", None)
        self.log()(EVENT)
        error = self.assertRaises(SystemExit, self.log, nodaemon=False, logfile="-")
        self.assertIn("merlind: a daemon has no standard output", str(error))

    def test_file_that_cannot_be_written(self) -> None:
        """It ends the start with one line."""
        error = self.assertRaises(SystemExit, self.log, logfile="/proc/no/log")
        self.assertEqual(error.code, "merlind: the log /proc/no/log can't be written: No such file or directory")

    def test_signal(self) -> None:
        """SIGUSR1 opens a file anew that was moved away; with any other log it does nothing (D15)."""
        file = Path(self.mktemp()).absolute()
        log = self.log(logfile=str(file))
        log(EVENT)
        file.rename(file.with_suffix(".1"))
        self.signals[signal.SIGUSR1](signal.SIGUSR1, None)
        log(EVENT)
        self.assertEqual([path.read_text().count("\n") for path in (file, file.with_suffix(".1"))], [1, 1])
        for twistd in ({}, {"syslog": True}, {"logger": "x.y"}):
            self.signals[signal.SIGUSR1] = signal.SIG_DFL
            process.make_log(self.reactor, True, twistd)
            self.signals[signal.SIGUSR1](signal.SIGUSR1, None)


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

    def test_end_soon(self) -> None:
        """A failed disk ends the process as a failure, with a line, when the last responses had a moment."""
        process.end_soon(self.reactor, None, "the database failed")
        self.assertEqual((self.exits, self.stderr.getvalue()), ([], ""))
        self.reactor.run_for(process.LAST_MOMENT)
        self.assertEqual((self.exits, self.stderr.getvalue()), ([1], "merlind: the database failed\n"))

    def test_end(self) -> None:
        """What waits for the log is written before; the process ends also if nothing can be written any more."""
        log = process.make_log(self.reactor, False, {})
        assert log is not None
        log({**EVENT, "log_level": LogLevel.info})
        self.patch(self.stderr, "write", raising(MemoryError()))
        self.assertRaises(MemoryError, process.end, log, "out of memory")
        self.assertIn("task 7: done", self.stdout.getvalue())
        self.patch(log, "end", raising(MemoryError()))
        self.assertRaises(MemoryError, process.end, log, "out of memory")
        self.assertEqual(self.exits, [1, 1])


class FatalTests(ProcessCase):
    """Errors after which the process can't go on end it (D14)."""

    def test_logged(self) -> None:
        """One that is logged does, and is in the log before."""
        log = process.make_log(self.reactor, False, {})
        process.end_at_fatal_errors(self.reactor, log)
        Logger("merlind.x", observer=self.publisher).failure("oops", Failure(MemoryError()))
        self.assertEqual((self.exits, self.stderr.getvalue()), ([1], "merlind: out of memory\n"))
        self.assertIn("[merlind.x#critical] oops\nTraceback", self.stdout.getvalue())

    def test_out_of_the_loop(self) -> None:
        """So does one that comes out of the reactor's main loop, whoever writes the log."""
        reactor: Any = self.reactor
        reactor.runUntilCurrent = raising(RuntimeError("x"))
        process.end_at_fatal_errors(reactor, None)
        self.assertRaises(RuntimeError, reactor.runUntilCurrent)
        self.assertEqual((self.exits, self.stderr.getvalue()), ([1], "merlind: the main loop failed\n"))
