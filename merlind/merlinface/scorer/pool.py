"""The workers: how many there are, what waits for them, and what becomes of a request whose worker ended."""

import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.merlinface.scorer.frames import Answer, Request
from merlind.merlinface.scorer.process import WorkerEnded, WorkerProcess

TRIES = 2
"""How often a request is tried, each time after the first in a fresh worker."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before workers are started again after one ended without any work: doubled each time, up to the longest."""

_log = Logger()


class PoolFull(Exception):
    """Too many requests wait."""


class PoolDown(Exception):
    """There is no answer to this request now; the message says why, in words for a person."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How many workers there are, and what each may use: seconds for a photo, and bytes of address space."""

    workers: int
    photo_seconds: float = 10.0
    worker_memory: int = 3 * 2**29
    """1.5 GiB. A worker takes 0.3 GB, with a picture of 40 million pixels up to 1.2 GB (WebP with transparency), with a
    JPEG of 600 million coefficients 1.4 GB."""
    max_waiting: int = 1000
    """How many requests of a kind may wait for a worker."""
    names: tuple[str, ...] = ()
    """Files of national name statistics, which each worker reads at its start."""


def default_workers() -> int:
    """Return one less than the cores that this process may use, but at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def worker_command(settings: PoolSettings) -> list[str]:
    """Return the command line of a worker."""
    limits = [f"--photo-seconds={settings.photo_seconds}", f"--memory={settings.worker_memory}"]
    names = [f"--names={path}" for path in settings.names]
    return [sys.executable, "-m", "merlind.merlinface.scorer.worker", *names, *limits]


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a worker needs of the environment, and no more: it may hold secrets. One thread to each worker."""
    needed = ("PATH", "LANG", "LC_", "LD_", "PYTHON", "COVERAGE", "VIRTUAL_ENV")
    kept = {name: value for name, value in environment.items() if name.startswith(needed)}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def pause_before_start(failures: int) -> float:
    """Return the seconds to wait before workers are started, after so many failures in a row."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 10)))


@dataclass(slots=True, eq=False)
class _Job:
    request: Request
    done: Deferred[Answer] = field(default_factory=Deferred)
    tries: int = 0


class Pool:
    """Gives each request to a worker, and keeps ``settings.workers`` of them running.

    ``reactor`` is an IReactorProcess and an IReactorTime; ``command`` and ``environment`` are those of each worker.
    """

    def __init__(
        self, reactor: Any, settings: PoolSettings, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._command = list(command)
        self._environment = dict(environment)
        self._workers: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []
        self._urgent: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._again: deque[_Job] = deque()
        self._failures = 0
        self._restart: IDelayedCall | None = None
        self._down: str | None = None
        self._stopped: Deferred[None] | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait for a worker."""
        return len(self._urgent) + len(self._waiting) + len(self._again)

    def start(self) -> None:
        """Start the workers. Requests may come before they are ready."""
        self._fill()

    def ask(self, request: Request, urgent: bool = False) -> Deferred[Answer]:
        """Have a worker answer a request; urgent ones go first, and should be quick.

        The Deferred fails with PoolFull, or with PoolDown if no worker could answer.
        """
        queue = self._urgent if urgent else self._waiting
        if self._stopped is not None:
            return fail(PoolDown("the scorer is stopping"))
        if self._down is not None:
            return fail(PoolDown(self._down))
        if len(queue) >= self._settings.max_waiting:
            return fail(PoolFull())
        job = _Job(request)
        queue.append(job)
        if self._idle:
            self._give(self._idle.pop())
        return job.done

    def stop(self) -> Deferred[None]:
        """End all workers; fires when they have ended. Requests that have no answer yet fail."""
        if self._stopped is None:
            self._stopped = Deferred()
            if self._restart is not None:
                self._restart.cancel()
                self._restart = None
            self._fail_all("the scorer is stopping")
            for worker in list(self._workers):
                worker.stop()
            self._check_stopped()
        return self._stopped

    # Work.

    def _on_idle(self, worker: WorkerProcess) -> None:
        if self._down is not None:
            _log.info("workers of the face scorer start again")
            self._down = None
        if worker.requests:
            self._failures = 0
        self._give(worker)

    def _give(self, worker: WorkerProcess) -> None:
        """Give an idle worker its next request. A fresh one first gets those that need one."""
        queues = (self._again, self._urgent, self._waiting) if not worker.requests else (self._urgent, self._waiting)
        queue = next((queue for queue in queues if queue), None)
        if queue is None:
            self._idle.append(worker)
            return
        job = queue.popleft()
        job.tries += 1
        worker.ask(job.request).addCallbacks(job.done.callback, self._unanswered, errbackArgs=(job,))

    def _unanswered(self, failure: Failure, job: _Job) -> None:
        """A crash or a hang costs one try of this job, and nothing of any other."""
        failure.trap(WorkerEnded)
        if self._stopped is not None:
            job.done.errback(PoolDown("the scorer is stopping"))
        elif job.tries < TRIES:
            self._again.append(job)
        else:
            job.done.errback(PoolDown("the photo makes the scorer fail"))

    def _fail_all(self, why: str) -> None:
        for queue in (self._again, self._urgent, self._waiting):
            while queue:
                queue.popleft().done.errback(PoolDown(why))

    # Workers.

    def _fill(self) -> None:
        self._restart = None
        while len(self._workers) < self._settings.workers and self._restart is None:
            worker = WorkerProcess(
                self._reactor, self._settings.photo_seconds, on_idle=self._on_idle, on_ended=self._on_ended
            )
            self._workers.add(worker)
            try:
                self._reactor.spawnProcess(worker, self._command[0], self._command, self._environment)
            except OSError as error:
                worker.processEnded(Failure(error))

    def _on_ended(self, worker: WorkerProcess, why: str) -> None:
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if self._stopped is not None:
            self._check_stopped()
        elif worker.requests:
            _log.warn("a worker of the face scorer ended and is replaced: {why}", why=why)
            if self._restart is None:
                self._fill()
        elif self._restart is None:
            self._failed_to_start(why)

    def _failed_to_start(self, why: str) -> None:
        """Wait before the next start: something is wrong with the machine or the installation, and may stay so."""
        self._failures += 1
        pause = pause_before_start(self._failures)
        _log.error("a worker of the face scorer ended without any work: {why}; the next start is in {pause:g} s",
                   why=why, pause=pause)  # fmt: skip
        self._restart = self._reactor.callLater(pause, self._fill)
        if not any(other.serves for other in self._workers):
            self._down = "the scorer does not start"
            self._fail_all(self._down)

    def _check_stopped(self) -> None:
        if not self._workers and self._stopped is not None and not self._stopped.called:
            self._stopped.callback(None)
