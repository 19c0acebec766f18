"""Jobs: uploads that aren't scored at once. They live in memory only, and know no HTTP."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

MAX_JOBS = 200_000
"""How many jobs are kept. Past it the oldest is dropped, and its retry_id is unknown from then on."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class JobDone(Generic[ResultT]):
    """The job is finished, with its result."""

    result: ResultT


@dataclass(frozen=True, slots=True)
class JobWaiting:
    """The job isn't finished: poll with ``retry_id``."""

    retry_id: str


class _Job(Generic[ResultT]):
    def __init__(self, result: Deferred[ResultT], ready_at: float, waits_left: int) -> None:
        self.done: JobDone[ResultT] | None = None
        self.ready_at = ready_at
        self.waits_left = waits_left
        result.addCallback(self._finish)

    def _finish(self, result: ResultT) -> ResultT:
        self.done = JobDone(result)
        return result


class Jobs(Generic[ResultT]):
    """Jobs by retry_id.

    A job is finished when its result is there, ``delay`` seconds have passed since it was started, and it was reported
    as waiting ``waits`` times. ``new_id`` makes retry_ids.
    """

    def __init__(
        self, clock: IReactorTime, delay: float, waits: int, new_id: Callable[[], UUID], max_jobs: int = MAX_JOBS
    ) -> None:
        self._clock = clock
        self._delay = delay
        self._waits = waits
        self._new_id = new_id
        self._max_jobs = max_jobs
        self._jobs: OrderedDict[str, _Job[ResultT]] = OrderedDict()

    def start(self, result: Deferred[ResultT]) -> JobDone[ResultT] | JobWaiting:
        """Start a job that ends with this result, which must not fail. One that is finished at once is not kept."""
        job = _Job(result, self._clock.seconds() + self._delay, self._waits)
        retry_id = str(self._new_id())
        report = self._report(retry_id, job)
        if isinstance(report, JobWaiting):
            if len(self._jobs) >= self._max_jobs:
                self._jobs.popitem(last=False)
            self._jobs[retry_id] = job
        return report

    def poll(self, retry_id: str) -> JobDone[ResultT] | JobWaiting | None:
        """Report how a job stands; None if there is none. A finished job stays: the response may get lost."""
        job = self._jobs.get(retry_id)
        return None if job is None else self._report(retry_id, job)

    def forget(self, retry_id: str) -> None:
        """Drop a job."""
        self._jobs.pop(retry_id, None)

    def _report(self, retry_id: str, job: _Job[ResultT]) -> JobDone[ResultT] | JobWaiting:
        if job.done is not None and job.waits_left <= 0 and self._clock.seconds() >= job.ready_at:
            return job.done
        job.waits_left -= 1
        return JobWaiting(retry_id)
