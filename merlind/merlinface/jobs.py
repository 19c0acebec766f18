"""The stand-in's jobs: uploads that aren't scored at once. They live in memory only, and know no HTTP."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from twisted.internet.interfaces import IReactorTime

MAX_JOBS = 200_000
"""How many jobs are kept. Past it the oldest is dropped, and its retry_id is unknown from then on."""


@dataclass(frozen=True, slots=True)
class JobDone:
    """The job is finished, with a score from 0 to 1."""

    score: float


@dataclass(frozen=True, slots=True)
class JobWaiting:
    """The job isn't finished: poll with ``retry_id``."""

    retry_id: str


@dataclass(slots=True)
class _Job:
    score: float
    ready_at: float
    waits_left: int


class Jobs:
    """Jobs by retry_id.

    A job is finished ``delay`` seconds after it was started, and not before it was reported as waiting ``waits`` times.
    ``new_id`` makes retry_ids.
    """

    def __init__(
        self, clock: IReactorTime, delay: float, waits: int, new_id: Callable[[], UUID], max_jobs: int = MAX_JOBS
    ) -> None:
        self._clock = clock
        self._delay = delay
        self._waits = waits
        self._new_id = new_id
        self._max_jobs = max_jobs
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def start(self, score: float) -> JobDone | JobWaiting:
        """Start a job that ends with this score. One that is finished at once is not kept."""
        job = _Job(score, self._clock.seconds() + self._delay, self._waits)
        retry_id = str(self._new_id())
        report = self._report(retry_id, job)
        if isinstance(report, JobWaiting):
            if len(self._jobs) >= self._max_jobs:
                self._jobs.popitem(last=False)
            self._jobs[retry_id] = job
        return report

    def poll(self, retry_id: str) -> JobDone | JobWaiting | None:
        """Report how a job stands; None if there is none. A finished job stays: the response may get lost."""
        job = self._jobs.get(retry_id)
        return None if job is None else self._report(retry_id, job)

    def _report(self, retry_id: str, job: _Job) -> JobDone | JobWaiting:
        if job.waits_left <= 0 and self._clock.seconds() >= job.ready_at:
            return JobDone(job.score)
        job.waits_left -= 1
        return JobWaiting(retry_id)
