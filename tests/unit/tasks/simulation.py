"""An upstream under load, simulated: the real queue, limiter and rules of a task, without reactor, store or network.

A world says when tasks come and how the upstream responds. Events happen in the order of their times; nothing waits.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from merlind.core.limiter import Limiter
from merlind.core.outcome import Outcome
from merlind.core.task import Policy, State, Task, advance, miss_deadline
from merlind.tasks.queue import WINDOW, TaskQueue
from tests.unit.support import make_task


@dataclass(frozen=True)
class Request:
    """A request as it ends: the task that it was for, when it began and ends, and how many others were in flight."""

    task: Task
    began: float
    now: float
    others: int


@dataclass
class World:
    """``respond`` returns how the upstream responds to a request; ``latency`` is how long it takes, in seconds.

    ``come`` makes tasks come, each under a name that ``respond`` may tell them by. ``run`` lets time pass.
    """

    respond: Callable[[Request], Outcome]
    latency: float | Callable[[Task], float] = 0.05
    concurrency: int = 32
    poll_interval: float = 2.0
    give_up_after: float = 86_400.0
    max_attempts: int = 100
    seed: int = 1
    finished: dict[int, Task] = field(default_factory=dict)
    ended: list[Request] = field(default_factory=list)
    begun: Counter[int] = field(default_factory=Counter)
    """How many requests began in each second."""
    most_in_flight: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.policy = Policy(self.poll_interval, self.give_up_after, self.random.random, self.max_attempts)
        self.limiter = Limiter(self.concurrency, self.random.random)
        self.queue = TaskQueue(self.policy, WINDOW)
        self.in_flight = 0
        self.now = 0.0
        self._numbers = itertools.count(1)
        self._events: list[tuple[float, int, Callable[[], None] | None]] = []
        self._woken_at = 0.0

    def come(self, name: str, times: Iterable[float]) -> None:
        """Let a task of this name come at each of these times."""
        for at in times:
            task = make_task(next(self._numbers), name=name, since=at, due=at)
            self._at(at, lambda task=task: self._come(task))  # type: ignore[misc]

    def _come(self, task: Task) -> None:
        self.queue.add(task)
        self.limiter.arrived(self.now)

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            if event is not None:
                event()
            self._look()
        self.now = until

    def _at(self, when: float, event: Callable[[], None] | None) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), event))

    def _look(self) -> None:
        for late in self.queue.collect(self.now):
            self._finish(miss_deadline(late, self.now, self.limiter.misconfigured))
        while (task := self.queue.take_allowed(self.limiter, self.now)) is not None:
            self._begin(task)
        times = [self.queue.next_time()]
        if self.limiter.outage is not None and not self.in_flight and self.queue.ready:
            times.append(self.limiter.outage.probe_at)
        wake = max(min(times), self.now)
        if wake < float("inf") and not self.now < self._woken_at <= wake:
            self._woken_at = wake
            self._at(wake + 1e-6, None)

    def _begin(self, task: Task) -> None:
        self.limiter.start(task, self.now)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.begun[int(self.now)] += 1
        latency = self.latency(task) if callable(self.latency) else self.latency
        began = self.now
        self._at(began + latency * self.random.uniform(0.7, 1.5), lambda: self._end(task, began))

    def _end(self, task: Task, began: float) -> None:
        request = Request(task, began, self.now, self.in_flight - 1)
        self.in_flight -= 1
        self.limiter.end(task.id)
        self.ended.append(request)
        outcome = self.respond(request)
        last_success = self.limiter.last_success(task.state)
        after = advance(task, outcome, self.now, self.now, self.policy, last_success)
        self.limiter.learn(task, after, outcome, began, self.now)
        if after.finished:
            self._finish(after)
        else:
            self.queue.schedule(after)

    def _finish(self, task: Task) -> None:
        self.finished[task.id] = task
        self.queue.remove(task.id)

    # What became of it.

    def took(self, name: str) -> list[float]:
        """Return the seconds from coming to score of the tasks of this name that have one, the shortest first."""
        scored = (task for task in self.finished.values() if task.name == name and task.state is State.READY)
        return sorted(task.finished_at - task.since for task in scored if task.finished_at is not None)

    def codes(self, name: str) -> Counter[str]:
        """Return the error codes of the tasks of this name that failed for good."""
        return Counter(t.error.code for t in self.finished.values() if t.name == name and t.error is not None)
