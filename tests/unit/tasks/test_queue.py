"""Which tasks are due, ready, past their deadline or in memory: the queue alone, with times passed in."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.limiter import Lane, Limiter, Pick
from merlind.core.task import Policy, State, Task
from merlind.tasks.queue import TICK, TaskQueue
from tests.unit.support import make_task

POLICY = Policy(poll_interval=2.0, give_up_after=100.0, jitter=lambda: 1.0)


def task_at(due: float, task_id: int = 1, **changes: Any) -> Task:
    return make_task(task_id, due=due, **changes)


class DueTests(SynchronousTestCase):
    """From scheduled to ready to taken."""

    def setUp(self) -> None:
        self.queue = TaskQueue(POLICY)

    def taken(self) -> list[int]:
        """The ids of all ready tasks, in the order in which they are taken."""
        found = []
        while task := self.queue.take(Lane.MAIN, Pick.FIRST):
            found.append(task.id)
        return found

    def test_due_order(self) -> None:
        """Tasks become ready when they are due, in that order."""
        for due, task_id in ((3.0, 1), (1.0, 2), (2.0, 3)):
            self.queue.schedule(task_at(due, task_id))
        self.assertEqual(self.queue.next_time(), 1.0)
        self.assertEqual(self.queue.collect(2.0), [])
        self.assertEqual((self.queue.ready, self.taken()), (2, [2, 3]))
        self.assertEqual(self.queue.next_time(), 3.0)

    def test_nothing_to_do(self) -> None:
        """An empty queue has no next time and no tasks."""
        self.assertEqual((self.queue.next_time(), self.queue.collect(9.0), self.taken()), (math.inf, [], []))

    def test_together(self) -> None:
        """Tasks due within the same tick become ready together."""
        self.queue.schedule(task_at(1.0, 1))
        self.queue.schedule(task_at(1.0 + TICK / 2, 2))
        self.queue.collect(1.0)
        self.assertEqual(self.queue.ready, 2)

    def test_alternate(self) -> None:
        """Uploads and polls alternate, so that neither starves."""
        for task_id in (1, 2, 3):
            self.queue.schedule(task_at(0.0, task_id))
        for task_id in (11, 12):
            self.queue.schedule(task_at(0.0, task_id, state=State.POLL, retry_id="a"))
        self.queue.collect(0.0)
        self.assertEqual(self.taken(), [11, 1, 12, 2, 3])

    def test_stale(self) -> None:
        """A task that was rescheduled, held or removed isn't taken at its old time."""
        for task_id in (1, 2, 3, 4):
            self.queue.schedule(task_at(1.0, task_id))
        self.queue.schedule(task_at(5.0, 1))
        self.queue.remove(2)
        self.queue.hold(task_at(1.0, 3, state=State.READY, result=0.5, finished_at=1.0))
        self.queue.collect(1.0)
        self.assertEqual(self.taken(), [4])
        self.assertEqual(self.queue.next_time(), 5.0)

    def test_removed_while_ready(self) -> None:
        """A ready task that was removed isn't taken."""
        for task_id in (1, 2):
            self.queue.schedule(task_at(1.0, task_id))
        self.queue.collect(1.0)
        self.assertTrue(self.queue.remove(1))
        self.assertFalse(self.queue.remove(1))
        self.assertEqual(self.taken(), [2])

    def test_current(self) -> None:
        """A task is current until another state of it comes, or it is removed."""
        first, second = task_at(1.0), task_at(2.0)
        self.queue.schedule(first)
        self.assertTrue(self.queue.is_current(first))
        self.queue.hold(second)
        self.assertEqual((self.queue.is_current(first), self.queue.get(1)), (False, second))


class PickTests(SynchronousTestCase):
    """Which of the ready tasks is taken."""

    def ready(self, *tasks: Task) -> TaskQueue:
        queue = TaskQueue(POLICY)
        for task in tasks:
            queue.schedule(task)
        queue.collect(50.0)
        return queue

    def take(self, queue: TaskQueue, pick: Pick, count: int, lane: Lane = Lane.MAIN) -> list[int | None]:
        found = (queue.take(lane, pick) for _ in range(count))
        return [None if task is None else task.id for task in found]

    def test_first(self) -> None:
        """The first that was ready is the first taken, however often it was tried."""
        queue = self.ready(*(task_at(float(n), n, attempts=tries) for n, tries in ((1, 3), (2, 0), (3, 40), (4, 1))))
        self.assertEqual(self.take(queue, Pick.FIRST, 5), [1, 2, 3, 4, None])

    def test_fair(self) -> None:
        """The newest and the oldest of the least tried take turns; then come those that were tried more often."""
        queue = self.ready(*(task_at(float(n), n, attempts=n > 5) for n in range(1, 9)))
        self.assertEqual(self.take(queue, Pick.FAIR, 9), [5, 1, 4, 2, 3, 6, 8, 7, None])

    def test_fair_to_uploads_and_polls(self) -> None:
        """Of both kinds the newest and the oldest take turns, and the kinds alternate."""
        polls = [task_at(float(n), 10 + n, state=State.POLL, retry_id="a") for n in range(1, 5)]
        queue = self.ready(*(task_at(float(n), n) for n in range(1, 5)), *polls)
        self.assertEqual(self.take(queue, Pick.FAIR, 8), [14, 4, 11, 1, 13, 3, 12, 2])

    def test_probe(self) -> None:
        """A probe is the least tried of both kinds, and not the last one again while there is another."""
        polls = [task_at(1.0, 11, state=State.POLL, retry_id="a", attempts=1)]
        queue = self.ready(task_at(1.0, 1, attempts=2), task_at(1.0, 2, attempts=2), *polls)
        for last, probe in ((None, 11), (11, 2), (1, 1), (1, None)):
            task = queue.take(Lane.MAIN, Pick.PROBE, last)
            self.assertEqual(task and task.id, probe)

    def test_not_the_same_probe_twice(self) -> None:
        """The last probe is passed over for one that was tried more often; its place stays its own."""
        for others in ({"attempts": 1}, {"attempts": 9}, {"state": State.POLL, "retry_id": "a", "attempts": 9}):
            queue = self.ready(task_at(1.0, 1, attempts=1), task_at(2.0, 2, **others))
            found = [queue.take(Lane.MAIN, Pick.PROBE, 1) for _ in range(2)]
            self.assertEqual([task and task.id for task in found], [2, 1], others)

    def test_newcomer(self) -> None:
        """A newcomer is the newest of the least tried."""
        queue = self.ready(*(task_at(float(n), n, attempts=n > 3) for n in range(1, 6)))
        self.assertEqual(self.take(queue, Pick.NEWCOMER, 3), [3, 2, 1])

    def test_lanes(self) -> None:
        """Suspects are taken from a lane of their own, the least tried first."""
        queue = self.ready(
            *(task_at(float(n), n, attempts=9 - n, blamed=1) for n in range(1, 4)), task_at(9.0, 4), task_at(9.0, 5)
        )
        self.assertEqual([queue.ready_in(lane) for lane in (Lane.MAIN, Lane.SUSPECTS)], [2, 3])
        self.assertEqual(self.take(queue, Pick.FIRST, 4, Lane.SUSPECTS), [3, 2, 1, None])
        self.assertEqual(self.take(queue, Pick.FIRST, 3), [4, 5, None])

    def test_only_what_is_current(self) -> None:
        """A task that was removed or replaced while it was ready is never taken, from whichever end."""
        for pick in Pick:
            queue = self.ready(*(task_at(float(n), n) for n in range(1, 7)))
            for gone in (1, 6, 3):
                queue.remove(gone)
            queue.schedule(task_at(60.0, 5))
            self.assertEqual(sorted(t for t in self.take(queue, pick, 6) if t is not None), [2, 4], pick)
            self.assertEqual(queue.ready, 0)

    def test_nothing_piles_up(self) -> None:
        """Tasks that come and are erased in an outage, when none is taken, leave nothing behind."""
        queue = self.ready(task_at(1.0, 1), task_at(1.0, 2))
        for number in range(3, 5000):
            queue.schedule(task_at(50.0, number))
            queue.collect(50.0)
            queue.remove(number)
        last = task_at(50.0, 5000)
        queue.schedule(last)
        queue.collect(50.0)
        self.assertLess(queue.ready, 200)
        self.assertEqual(self.take(queue, Pick.FIRST, 4), [1, 2, 5000, None])
        self.assertEqual((queue.ready, queue._tasks.keys()), (0, {1, 2, 5000}))

    def test_tallies(self) -> None:
        """It knows how many suspects and tasks uploaded anew are in memory, whatever becomes of them."""
        queue = self.ready(task_at(1.0, 1, blamed=1), task_at(1.0, 2, blamed=2, reuploads=1), task_at(1.0, 3))
        seen = [(queue.suspects, queue.reuploads)]
        queue.hold(task_at(1.0, 1))
        seen.append((queue.suspects, queue.reuploads))
        queue.remove(2)
        queue.remove(2)
        seen.append((queue.suspects, queue.reuploads))
        self.assertEqual(seen, [(2, 1), (1, 1), (0, 0)])

    def test_no_scan(self) -> None:
        """To take a task looks at a few of those that are ready, however many there are."""
        for pick in Pick:
            queue = self.ready(*(task_at(float(n % 50), n, attempts=n % 30) for n in range(1, 5001)))
            looked = 0

            def is_current(task: Task, queue: TaskQueue = queue) -> bool:
                nonlocal looked
                looked += 1
                return queue.is_current(task)

            for lane in queue._ready.values():
                for tasks in lane.values():
                    tasks._is_current = is_current
            self.take(queue, pick, 100)
            self.assertLess(looked / 100, 200, pick)

    def test_what_the_limiter_allows(self) -> None:
        """As many are taken as the limiter allows, and stale entries don't end it."""
        queue = self.ready(*(task_at(float(n), n) for n in range(1, 7)))
        queue.remove(1)
        limiter, taken = Limiter(3, lambda: 1.0), []
        while task := queue.take_allowed(limiter, 50.0):
            limiter.start(task, 50.0)
            taken.append(task.id)
        self.assertEqual(taken, [2, 3, 4])


class DeadlineTests(SynchronousTestCase):
    """Tasks past their deadline."""

    def test_when_due(self) -> None:
        """A task that is due at its deadline is collected as late, and isn't ready."""
        queue = TaskQueue(POLICY)
        queue.schedule(task_at(100.0))
        self.assertEqual([task.id for task in queue.collect(100.0)], [1])
        self.assertEqual(queue.ready, 0)

    def test_while_ready(self) -> None:
        """A ready task is collected as late at its deadline, and next_time() reports that deadline."""
        queue = TaskQueue(POLICY)
        queue.schedule(task_at(1.0, 1))
        queue.schedule(task_at(1.0, 2, since=50.0))
        self.assertEqual(queue.collect(1.0), [])
        self.assertEqual(queue.next_time(), 100.0)
        self.assertEqual([task.id for task in queue.collect(100.0)], [1])
        self.assertEqual(queue.next_time(), 150.0)


class WindowTests(SynchronousTestCase):
    """Which tasks are in memory, and which only in the store."""

    def loaded(self, *dues: float, window: int = 4, is_last: bool = False) -> TaskQueue:
        queue = TaskQueue(POLICY, window)
        queue.load([task_at(due, n) for n, due in enumerate(dues, 1)], is_last)
        return queue

    def test_room(self) -> None:
        """There is room until memory is half full, and none to fill once the store has no more."""
        self.assertEqual(TaskQueue(POLICY, 4).room(), 4)
        self.assertEqual([self.loaded(*range(n)).room() for n in (1, 2, 3, 4)], [3, 2, 0, 0])
        self.assertEqual(self.loaded(1.0, is_last=True).room(), 0)

    def test_horizon(self) -> None:
        """The next page begins after the last task of this one; tasks in memory are not loaded twice."""
        queue = self.loaded(1.0, 2.0)
        self.assertEqual(queue.horizon, (2.0, 2))
        newer = task_at(9.0, 2)
        queue.hold(newer)
        queue.load([task_at(2.0, 2), task_at(3.0, 3)], is_last=False)
        self.assertEqual((queue.get(2), queue.horizon), (newer, (3.0, 3)))

    def test_new_when_full(self) -> None:
        """With memory full, a new task due before the horizon is kept in memory, any other only in the store."""
        queue = self.loaded(1.0, 2.0, 3.0, 4.0)
        queue.add(task_at(9.0, 8))
        queue.add(task_at(2.5, 9))
        self.assertIsNone(queue.get(8))
        self.assertIsNotNone(queue.get(9))

    def test_new_when_all_was_loaded(self) -> None:
        """With memory full and all tasks in it, a new task moves the horizon back to just before itself."""
        queue = self.loaded(1.0, 2.0, 3.0, 4.0, is_last=True)
        queue.add(task_at(9.0, 8))
        self.assertEqual((queue.get(8), queue.horizon), (None, (9.0, 7)))

    def test_evict(self) -> None:
        """With more tasks than the window has room for, one due beyond the horizon is evicted, one due before isn't."""
        queue = self.loaded(1.0, 2.0, window=2)
        queue.add(task_at(1.5, 3))
        self.assertEqual([queue.must_evict(task_at(due, 3)) for due in (1.9, 2.1)], [False, True])
        queue.remove(1)
        self.assertFalse(queue.must_evict(task_at(2.1, 3)))

    @given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=40), st.integers(1, 6))
    def test_none_lost(self, steps: list[tuple[int, bool]], window: int) -> None:
        """Whatever is added and loaded, every task is in memory or beyond the horizon."""
        queue, stored = TaskQueue(POLICY, window), {}
        for task_id, (due, load) in enumerate(steps, 1):
            task = stored[task_id] = task_at(float(due), task_id)
            queue.add(task)
            if load and (room := queue.room()):
                behind = sorted((t for t in stored.values() if queue.is_behind_horizon(t)), key=lambda t: (t.due, t.id))
                queue.load(behind[:room], is_last=len(behind) < room)
            for task in stored.values():
                self.assertTrue(queue.get(task.id) is not None or queue.is_behind_horizon(task))
