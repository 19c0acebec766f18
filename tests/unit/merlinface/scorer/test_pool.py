"""The pool of workers: what it gives to whom, and what becomes of requests whose worker ends."""

import errno
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.frames import Answer, look_request
from merlind.merlinface.scorer.pool import (
    LONGEST_PAUSE,
    Pool,
    PoolDown,
    PoolFull,
    PoolSettings,
    default_workers,
    pause_before_start,
    worker_command,
    worker_environment,
)
from merlind.merlinface.scorer.process import MAX_LINE, START_SECONDS, STOP_SECONDS
from tests.unit.merlinface.scorer.processes import FakeWorker, ProcessReactor


class PoolCase(SynchronousTestCase):
    """A started pool, by default of one worker that isn't ready yet."""

    def setUp(self) -> None:
        self.start()

    def start(self, workers: int = 1, spawn_error: OSError | None = None, **limits: Any) -> None:
        self.reactor = ProcessReactor()
        self.reactor.spawn_error = spawn_error
        self.pool = Pool(self.reactor, PoolSettings(workers, **limits), ["worker", "-x"], {"A": "b"})
        self.pool.start()

    @property
    def last(self) -> FakeWorker:
        return self.reactor.spawned[-1]

    def ask(self, photo: bytes = b"photo", urgent: bool = False) -> Deferred[Answer]:
        return self.pool.ask(look_request(photo), urgent)


class WorkTests(PoolCase):
    """Who gets which request."""

    def test_answers_in_order(self) -> None:
        """Requests wait until the worker is ready, then each has its turn, and its own answer."""
        answers = [self.ask(b"first"), self.ask(b"second")]
        self.assertEqual(self.pool.waiting, 2)
        worker = self.last.ready()
        self.assertEqual(worker.photos(), [b"first"])

        worker.answer(n=1)
        self.assertEqual(worker.photos(), [b"first", b"second"])
        worker.say(b'{"n":')
        worker.say(b"2}\n")

        self.assertEqual([self.successResultOf(answer) for answer in answers], [{"n": 1}, {"n": 2}])
        self.assertEqual(self.pool.waiting, 0)

    def test_all_workers_work(self) -> None:
        """As many requests as there are workers are worked on at once."""
        self.start(workers=3)
        for worker in self.reactor.spawned:
            worker.ready()
        for photo in (b"a", b"b", b"c", b"d"):
            self.ask(photo)
        self.assertEqual([len(worker.photos()) for worker in self.reactor.spawned], [1, 1, 1])
        self.assertEqual(self.pool.waiting, 1)

    def test_urgent_first(self) -> None:
        """An urgent request goes before all photos that wait."""
        worker = self.last.ready()
        for photo, urgent in ((b"now", False), (b"later", False), (b"soon", True)):
            self.ask(photo, urgent)
        worker.answer()
        worker.answer()
        self.assertEqual(worker.photos(), [b"now", b"soon", b"later"])

    def test_full(self) -> None:
        """Past the most that may wait a request is refused; urgent ones are counted by themselves."""
        self.start(max_waiting=2)
        for urgent in (False, True):
            self.ask(urgent=urgent)
            self.ask(urgent=urgent)
            self.failureResultOf(self.ask(urgent=urgent), PoolFull)
        self.last.ready().answer()
        self.assertNoResult(self.ask(urgent=True))

    def test_asked_in_an_answer(self) -> None:
        """Whoever has an answer may ask again at once: the worker that is free takes it."""
        again: list[Deferred[Answer]] = []
        self.ask(b"one").addCallback(lambda _: again.append(self.ask(b"two")))
        worker = self.last.ready()
        worker.answer()
        self.assertEqual(worker.photos(), [b"one", b"two"])
        worker.answer(n=2)
        self.assertEqual(self.successResultOf(again[0]), {"n": 2})


class CrashTests(PoolCase):
    """Workers that end, hang or talk nonsense."""

    def test_crash_is_tried_once_more_in_a_fresh_worker(self) -> None:
        """A crash costs a photo one try; the second is in a worker that has seen no other photo."""
        self.start(workers=2)
        first, other = self.reactor.spawned
        other.ready()
        self.ask(b"before")
        other.answer()
        first.ready()
        answer = self.ask(b"crash")
        with capturedLogs() as logs:
            first.complain(b"words\nSegmentation fault\n")
            first.die(signal=11)
        self.assertEqual([log["why"] for log in logs], ["signal 11: Segmentation fault"])
        self.assertEqual(other.photos(), [b"before"])

        fresh = self.last.ready()
        self.assertEqual(fresh.photos(), [b"crash"])
        fresh.answer(n=1)
        self.assertEqual(self.successResultOf(answer), {"n": 1})

    def test_second_crash_is_trouble(self) -> None:
        """A photo that ends two workers is given up; others come to their turn."""
        answer, other = self.ask(b"crash"), self.ask(b"other")
        self.last.ready().die(status=3)
        self.last.ready().die(signal=9)
        self.assertEqual(str(self.failureResultOf(answer, PoolDown).value), "the photo makes the scorer fail")
        worker = self.last.ready()
        self.assertEqual(worker.photos(), [b"other"])
        worker.answer()
        self.successResultOf(other)

    def test_others_do_not_notice(self) -> None:
        """While one worker hangs and is killed, another goes on."""
        self.start(workers=2, photo_seconds=10)
        stuck, other = (worker.ready() for worker in self.reactor.spawned)
        self.ask(b"x")
        self.ask(b"y")
        other, stuck = (other, stuck) if other.photos() == [b"x"] else (stuck, other)
        done = self.ask(b"z")
        other.answer()
        self.reactor.advance(9)
        other.answer(n=3)
        self.assertEqual(self.successResultOf(done), {"n": 3})
        self.reactor.advance(1)
        self.assertEqual((stuck.signals, other.signals), (["KILL"], []))

    def test_hang_is_killed_at_the_limit(self) -> None:
        """A photo that takes longer than it may ends with its worker, and is tried once more."""
        self.start(photo_seconds=7)
        answer = self.ask()
        for _ in range(2):
            worker = self.last.ready()
            self.reactor.advance(6.9)
            self.assertEqual(worker.signals, [])
            with capturedLogs() as logs:
                self.reactor.advance(0.1)
            self.assertEqual(worker.signals, ["KILL"])
            self.assertEqual([log["why"] for log in logs], ["no answer after 7 s"])
        self.failureResultOf(answer, PoolDown)

    def test_no_timer_while_idle(self) -> None:
        """An answer in time ends the limit; an idle worker has none."""
        self.ask()
        self.last.ready().answer()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nonsense(self) -> None:
        """A worker that says anything but one answer to each request is killed."""
        for said in (b"not json\n", b"[1]\n", b"{}\n{}\n", b"x" * (MAX_LINE + 1)):
            with self.subTest(said=said[:10]):
                self.start()
                self.ask()
                worker = self.last.ready()
                worker.say(said)
                self.assertEqual(worker.signals, ["KILL"])
                self.assertEqual(len(self.reactor.spawned), 2)

    def test_idle_worker_ends(self) -> None:
        """An idle worker that was killed is replaced at once, and gets nothing more."""
        self.ask()
        worker = self.last.ready()
        worker.answer()
        worker.die(signal=9)
        self.assertEqual(len(self.reactor.spawned), 2)
        self.ask(b"next")
        self.assertEqual(self.last.ready().photos(), [b"next"])


class StartTests(PoolCase):
    """Workers that don't start."""

    def test_command(self) -> None:
        """Workers are started by the command and environment that were given."""
        self.assertEqual(self.reactor.commands, [("worker", ["worker", "-x"], {"A": "b"})])

    def test_broken_installation(self) -> None:
        """Workers that can't start are told once a round, with the reason, and started again after growing pauses."""
        self.start(workers=2)
        waiting = self.ask()
        pauses = []
        for _ in range(8):
            workers = self.reactor.spawned[-2:]
            with capturedLogs() as logs:
                for worker in workers:
                    worker.complain(b"Traceback\nModuleNotFoundError in worker.py, line 5\n")
                    worker.die(status=1)
            ((why, pause),) = [(log["why"], log["pause"]) for log in logs]
            self.assertEqual(why, "status 1: ModuleNotFoundError in worker.py, line 5")
            pauses.append(pause)
            spawned = len(self.reactor.spawned)
            self.reactor.advance(pause - 0.5)
            self.assertEqual(len(self.reactor.spawned), spawned)
            self.reactor.advance(0.5)
            self.assertEqual(len(self.reactor.spawned), spawned + 2)
        self.assertEqual(pauses, [1, 2, 4, 8, 16, 32, 60, 60])
        self.assertEqual(str(self.failureResultOf(waiting, PoolDown).value), "the scorer does not start")
        self.failureResultOf(self.ask(), PoolDown)

    def test_works_again(self) -> None:
        """Once a worker is ready again, requests are taken; once one has worked, the pauses are short again."""
        self.last.die()
        self.reactor.advance(1)
        self.last.die()
        self.reactor.advance(2)
        worker = self.last.ready()
        answer = self.ask()
        worker.answer()
        self.successResultOf(answer)
        worker.die(signal=9)
        with capturedLogs() as logs:
            self.last.die()
        self.assertEqual([log["pause"] for log in logs], [1])

    def test_cannot_be_spawned(self) -> None:
        """That no process can be made is a failure to start too."""
        with capturedLogs() as logs:
            self.start(workers=2, spawn_error=OSError(errno.EAGAIN, "Resource temporarily unavailable"))
        self.assertEqual([log["why"] for log in logs], ["Resource temporarily unavailable"])
        self.failureResultOf(self.ask(), PoolDown)
        self.reactor.spawn_error = None
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.spawned), 2)

    def test_one_of_two_does_not_start(self) -> None:
        """As long as one worker serves, requests are taken."""
        self.start(workers=2)
        one, two = self.reactor.spawned
        one.ready()
        two.die()
        answer = self.ask()
        one.answer(n=1)
        self.assertEqual(self.successResultOf(answer), {"n": 1})

    def test_never_ready(self) -> None:
        """A worker that doesn't become ready is killed."""
        worker = self.last
        self.reactor.advance(START_SECONDS)
        self.assertEqual(worker.signals, ["KILL"])

    def test_ends_without_an_error(self) -> None:
        """A worker that ends by itself before it has worked is a failure to start."""
        with capturedLogs() as logs:
            self.last.die(status=0)
        self.assertEqual([log["why"] for log in logs], ["status 0"])


class StopTests(PoolCase):
    """Stopping."""

    def test_stops_all(self) -> None:
        """All workers are told to end, requests fail, and the stop is finished with the last of them."""
        self.start(workers=3)
        busy, idle, starting = self.reactor.spawned
        busy.ready()
        running = self.ask(b"a")
        idle.ready()
        stopped = self.pool.stop()
        self.assertIs(self.pool.stop(), stopped)
        for worker in (busy, idle, starting):
            self.assertEqual((worker.signals, worker.stdin_closed), (["TERM"], True))
            self.assertNoResult(stopped)
            worker.die(signal=15)
        self.successResultOf(stopped)
        self.failureResultOf(running, PoolDown)
        self.failureResultOf(self.ask(), PoolDown)
        self.assertEqual((len(self.reactor.spawned), self.reactor.getDelayedCalls()), (3, []))

    def test_waiting_requests_fail(self) -> None:
        """What waits for a worker fails as soon as the stop begins."""
        waiting = self.ask()
        self.pool.stop()
        self.failureResultOf(waiting, PoolDown)

    def test_kills_who_does_not_end(self) -> None:
        """A worker that ignores it is killed after STOP_SECONDS; what it says meanwhile is ignored."""
        worker = self.last.ready()
        answer = self.ask()
        stopped = self.pool.stop()
        worker.answer(n=1)
        self.assertNoResult(answer)
        self.reactor.advance(STOP_SECONDS)
        self.assertEqual(worker.signals, ["TERM", "KILL"])
        self.successResultOf(stopped)
        self.failureResultOf(answer, PoolDown)

    def test_while_a_start_is_due(self) -> None:
        """A start that was put off doesn't come any more."""
        self.last.die()
        self.successResultOf(self.pool.stop())
        self.reactor.advance(LONGEST_PAUSE)
        self.assertEqual(len(self.reactor.spawned), 1)

    def test_in_an_answer(self) -> None:
        """A stop from within an answer's callback ends the worker, which gets nothing more."""
        stopped: list[Deferred[None]] = []
        self.ask().addCallback(lambda _: stopped.append(self.pool.stop()))
        worker = self.last.ready()
        worker.answer()
        self.assertEqual(worker.signals, ["TERM"])

    def test_after_trouble(self) -> None:
        """A stop from within the failure of a request leaves no timer behind."""
        stopped: list[Deferred[None]] = []
        self.ask().addErrback(lambda _: stopped.append(self.pool.stop()))
        self.last.ready().die()
        self.last.ready().die()
        self.successResultOf(stopped[0])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_already_ended(self) -> None:
        """A worker that has ended, though nobody knows yet, can be told to end."""
        self.last.ended = True
        self.pool.stop()
        self.assertEqual(self.last.signals, [])


class SettingsTests(SynchronousTestCase):
    """What a worker is started with."""

    def test_command(self) -> None:
        """The limits are on the command line."""
        _, *rest = worker_command(PoolSettings(1, photo_seconds=2.5, worker_memory=2**29))
        self.assertEqual(rest, ["-m", "merlind.merlinface.scorer.worker", "--photo-seconds=2.5", "--memory=536870912"])

    def test_environment(self) -> None:
        """A worker gets what Python and the loader need, and none of merlind's options or secrets."""
        given = {"PATH": "/bin", "PYTHONPATH": "/x", "LC_ALL": "C", "MERLIND_LISTEN": "x", "TOKEN": "secret"}
        found = worker_environment(given)
        self.assertEqual({name for name in found if name in given}, {"PATH", "PYTHONPATH", "LC_ALL"})
        self.assertEqual(found["OMP_NUM_THREADS"], "1")

    def test_pauses(self) -> None:
        """Pauses double up to the longest, however many failures there were."""
        self.assertEqual([pause_before_start(n) for n in (1, 2, 3, 7, 10_000)], [1, 2, 4, 60, 60])

    def test_workers(self) -> None:
        """One core is left to others, if there is more than one."""
        for cores, workers in ((1, 1), (2, 1), (8, 7)):
            self.patch(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
            self.assertEqual(default_workers(), workers)
