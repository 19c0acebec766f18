"""Sends photos and waits for their scores: bounded uploads, patience where the server asks for it, and a journal."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.task import deferLater

from merlind.cli.client import Client, Status
from merlind.cli.http import Refused, TryLater, Unreachable
from merlind.cli.jobs import Job, shown
from merlind.cli.journal import Journal
from merlind.cli.record import Record, Stage

T = TypeVar("T")

WAIT = 25
"""How long a long poll lasts, in seconds: shorter than what proxies allow."""

MAX_LONG_POLLS = 250
"""How many long polls there are at once."""

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""The pauses between tries at a server that was there and is gone, in seconds: it may just be starting anew."""

STAGES = {"received": Stage.WAITING, "wait": Stage.WAITING, "ready": Stage.READY, "failed": Stage.FAILED}


class Sender:
    """Takes jobs to their end. ``uploads`` is how many photos are sent at once.

    ``report`` gets each record that changed. Nothing begins after ``deadline`` (of the reactor's clock; None is never).
    """

    def __init__(
        self,
        reactor: Any,
        client: Client,
        journal: Journal,
        uploads: int,
        wait: bool,
        deadline: float | None,
        report: Callable[[Record], None],
    ) -> None:
        self._reactor = reactor
        self._client = client
        self._journal = journal
        self._wait = wait
        self._deadline = deadline
        self._report = report
        self._uploads = DeferredSemaphore(uploads)
        self._long_polls = DeferredSemaphore(MAX_LONG_POLLS)
        self._reached = False

    def run(self, jobs: Sequence[Job]) -> "Deferred[list[Record]]":
        """Fire with the records of all jobs, in their order.

        Fails with FirstError around Unreachable, CommandError or OSError.
        """
        return gatherResults([Deferred.fromCoroutine(self._run(job)) for job in jobs], consumeErrors=True)

    async def _run(self, job: Job) -> Record:
        record = await self._take(job, use_journal=True)
        if record.stage is Stage.GONE and not self._late:
            # The server has forgotten it since the last run.
            record = await self._take(job, use_journal=False)
        return record

    async def _take(self, job: Job, use_journal: bool) -> Record:
        record = await self._uploads.run(lambda: Deferred.fromCoroutine(self._begin(job, use_journal)))
        if self._wait and record.stage is Stage.WAITING:
            record = await self._long_polls.run(lambda: Deferred.fromCoroutine(self._follow(record)))
        return record

    async def _begin(self, job: Job, use_journal: bool) -> Record:
        """Send a photo, unless the journal knows its task."""
        record = Record(shown(job.photo), job.name, sha256_of(job.photo))
        known = self._journal.find(record.key) if use_journal else None
        if known is not None and known.task is not None and known.stage is not Stage.FAILED:
            self._report(known)
            return known
        return await self._send(job, record)

    async def _send(self, job: Job, record: Record) -> Record:
        try:
            status = await self._patiently(lambda: self._client.submit(job.photo, job.name))
        except Refused as error:
            return self._note(replace(record, stage=Stage.REFUSED, error=str(error)))
        return record if status is None else self._note(_updated(record, status))

    async def _follow(self, record: Record) -> Record:
        task = record.task
        assert task is not None, "a record that waits has a task"
        while record.stage is Stage.WAITING and not self._late:
            status = await self._patiently(lambda: self._client.status(task, self._wait_now()))
            if status is not None:
                updated = _updated(record, status)
                record = self._note(updated) if updated.stage is not Stage.WAITING else updated
        return record

    async def _patiently(self, ask: Callable[[], Awaitable[Status]]) -> Status | None:
        """Ask until there is a response; None if time is up before."""
        failures = 0
        while not self._late:
            try:
                status = await ask()
            except TryLater as error:
                self._reached = True
                await self._sleep(error.after)
            except Unreachable:
                if not self._reached or failures == len(PAUSES):
                    raise
                await self._sleep(PAUSES[failures])
                failures += 1
            else:
                self._reached = True
                return status
        return None

    def _wait_now(self) -> int:
        if self._deadline is None:
            return WAIT
        left = self._deadline - float(self._reactor.seconds())
        return max(1, min(WAIT, round(left)))

    @property
    def _late(self) -> bool:
        return self._deadline is not None and self._reactor.seconds() >= self._deadline

    def _sleep(self, seconds: float) -> "Deferred[None]":
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - self._reactor.seconds()))
        return deferLater(self._reactor, seconds, lambda: None)

    def _note(self, record: Record) -> Record:
        self._journal.note(record)
        self._report(record)
        return record


def _updated(record: Record, status: Status) -> Record:
    return replace(
        record,
        task=status.task or record.task,
        stage=STAGES.get(status.word, Stage.GONE),
        result=status.result,
        error=status.error,
    )


def sha256_of(photo: Path) -> str:
    """Return the digest of a file, in hexadecimal. Raises OSError."""
    with photo.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
