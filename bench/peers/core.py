"""What both peers share: tasks in aiosqlite, durable photos, and an asyncio task for each unfinished task.

Written as a good engineer would with these libraries, and with merlind's promises: a 202 is durable, one task for one
(user, name, photo), a restart loses nothing, transient errors of the upstream are retried with a back-off.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import re
import secrets
import sqlite3
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import aiosqlite

SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    id INTEGER PRIMARY KEY,
    user TEXT NOT NULL,
    name TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    state TEXT NOT NULL,
    retry_id TEXT,
    result REAL,
    error TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS task_same ON task (sha256, user, name);
CREATE INDEX IF NOT EXISTS task_unfinished ON task (id) WHERE state IN ('upload', 'poll');
"""
PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536", "busy_timeout = 5000")
MAX_PHOTO = 10 * 1024 * 1024
MAX_CONCURRENCY = 32
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
AGAIN = {**HEADERS, "Retry-After": "2"}
USER = ""

_IMAGE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|....ftyp(?:hei|avi|mif)", re.DOTALL)
_WAIT = re.compile(r"\s*wait\s*=\s*([0-9]{1,9})\s*")


class BadForm(Exception):
    """The form can't be accepted; the message says why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Found:
    """A task as the database has it."""

    id: int
    state: str
    result: float | None


Response = tuple[int, dict[str, Any], dict[str, str]]  # code, body and headers


def preferred_wait(header: str | None) -> int | None:
    """How long the client prefers to wait, in seconds (RFC 7240)."""
    found = _WAIT.fullmatch(header) if header else None
    return min(int(found[1]), 60) if found else None


class Tasks:
    """All tasks: the database, the photos, and the tasks that run."""

    def __init__(self, data: Path, upstream: str, poll: float) -> None:
        self._data, self._url, self._poll = data, upstream, poll
        self._photos = data / "photos"
        self._running: set[asyncio.Task[None]] = set()
        self._waiters: dict[int, set[asyncio.Event]] = {}
        self._slots = asyncio.Semaphore(MAX_CONCURRENCY)
        self._write_lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open everything, resume what is unfinished, and close everything at the end."""
        self._photos.mkdir(parents=True, exist_ok=True)
        self._folder = os.open(self._photos, os.O_RDONLY | os.O_DIRECTORY)
        timeout, limit = aiohttp.ClientTimeout(total=30), aiohttp.TCPConnector(limit=MAX_CONCURRENCY)
        path = self._data / "tasks.sqlite"
        async with (
            aiosqlite.connect(path, isolation_level=None) as self._writer,
            aiosqlite.connect(path, isolation_level=None) as self._reader,
            aiohttp.ClientSession(timeout=timeout, connector=limit) as self._client,
        ):
            for connection in (self._writer, self._reader):
                for pragma in PRAGMAS:
                    await connection.execute_fetchall(f"PRAGMA {pragma}")
            await self._writer.executescript(SCHEMA)
            rows = await self._reader.execute_fetchall(
                "SELECT id, name, retry_id FROM task WHERE state IN ('upload', 'poll')"
            )
            for task_id, name, retry_id in rows:
                self._begin(task_id, name, retry_id)
            yield
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
        os.close(self._folder)

    async def post(self, name: str, photo: bytes, prefer: str | None) -> Response:
        """Respond to a POST. Raises BadForm."""
        task = await self._submit(name, photo)
        if task.state != "ready" and (wait := preferred_wait(prefer)) is not None:
            task = await self._wait(task.id, wait) or task
        if task.state == "ready":
            return 200, {"status": "ready", "task": task.id, "result": task.result}, HEADERS
        body = {"status": "received", "task": task.id, "result": None}
        return 202, body, {**AGAIN, "Location": f"?task_id={task.id}"}

    async def get(self, task_id: int, prefer: str | None) -> Response:
        """Respond to a GET."""
        wait = preferred_wait(prefer)
        task = await (self._find("id = ?", task_id) if wait is None else self._wait(task_id, wait))
        if task is None:
            return 404, {"status": "not_found", "result": None}, HEADERS
        if task.state in ("ready", "failed"):
            return 200, {"status": task.state, "result": task.result}, HEADERS
        return 202, {"status": "wait", "result": None}, AGAIN

    async def _submit(self, name: str, photo: bytes) -> Found:
        """Find or make the task of a name and a photo; when this returns, both are durable. Raises BadForm."""
        name = unicodedata.normalize("NFC", name).strip()
        if not 1 <= len(name) <= 200:
            raise BadForm(422, "the name is empty or too long")
        if len(photo) > MAX_PHOTO:
            raise BadForm(413, "the photo is too large")
        if not _IMAGE.match(photo):
            raise BadForm(422, "the photo is not an image")
        task_id = secrets.randbelow(2**53 - 1) + 1
        digest = await asyncio.to_thread(self._store_photo, task_id, photo)
        # One statement, and so one transaction and one hop to the database's thread.
        made = await self._write(
            "INSERT INTO task (id, user, name, sha256, state) VALUES (?, ?, ?, ?, 'upload') "
            "ON CONFLICT (sha256, user, name) DO NOTHING RETURNING id",
            (task_id, USER, name, digest),
        )
        if made:
            self._begin(task_id, name, None)
            return Found(task_id, "upload", None)
        await asyncio.to_thread(self._remove_photo, task_id)
        found = await self._find("sha256 = ? AND user = ? AND name = ?", digest, USER, name)
        assert found is not None
        return found

    async def _find(self, where: str, *values: Any) -> Found | None:
        rows = await self._reader.execute_fetchall(f"SELECT id, state, result FROM task WHERE {where}", values)
        return next((Found(*row) for row in rows), None)

    async def _wait(self, task_id: int, seconds: int) -> Found | None:
        """Find a task when it is finished, or after so many seconds."""
        finished = asyncio.Event()
        self._waiters.setdefault(task_id, set()).add(finished)
        try:
            found = await self._find("id = ?", task_id)
            if found is None or found.state in ("ready", "failed"):
                return found
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(finished.wait(), seconds)
        finally:
            waiters = self._waiters.get(task_id, set())
            waiters.discard(finished)
            if not waiters:
                self._waiters.pop(task_id, None)
        return await self._find("id = ?", task_id)

    def _store_photo(self, task_id: int, photo: bytes) -> bytes:
        """Write a photo, flush it and its folder; returns its digest. Runs in a thread."""
        digest = hashlib.sha256(photo).digest()
        path, staged = self._photos / str(task_id), self._photos / f".{task_id}"
        with staged.open("xb", buffering=0) as file:
            file.write(photo)
            os.fsync(file.fileno())
        staged.rename(path)
        os.fsync(self._folder)
        return digest

    def _remove_photo(self, task_id: int) -> None:
        (self._photos / str(task_id)).unlink(missing_ok=True)

    async def _write(self, sql: str, values: tuple[Any, ...]) -> list[sqlite3.Row]:
        async with self._write_lock:
            return list(await self._writer.execute_fetchall(sql, values))

    def _begin(self, task_id: int, name: str, retry_id: str | None) -> None:
        task = asyncio.create_task(self._run(task_id, name, retry_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, task_id: int, name: str, retry_id: str | None) -> None:
        """Run a task to completion."""
        failures = 0
        while True:
            try:
                async with self._slots:
                    response = await self._ask_upstream(task_id, name, retry_id)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                failures += 1
                await asyncio.sleep(random.random() * min(300.0, self._poll * 2**failures))
                continue
            failures = 0
            match response:
                case {"status": "ready" | "success", "result": float() | int() as result}:
                    await self._finish(task_id, "ready", float(result), None)
                    return
                case {"status": "wait", "retry_id": str() | int() as given}:
                    if str(given) != retry_id:
                        retry_id = str(given)
                        await self._write(
                            "UPDATE task SET state = 'poll', retry_id = ? WHERE id = ?", (retry_id, task_id)
                        )
                    await asyncio.sleep(self._poll)
                case _:
                    await self._finish(task_id, "failed", None, "rejected")
                    return

    async def _ask_upstream(self, task_id: int, name: str, retry_id: str | None) -> Any:
        form = aiohttp.FormData(default_to_multipart=True)
        if retry_id is not None:
            form.add_field("retry_id", retry_id)
        else:
            photo = await asyncio.to_thread((self._photos / str(task_id)).read_bytes)
            form.add_field("name", name)
            form.add_field("photo", photo, filename="photo.jpg", content_type="image/jpeg")
        async with self._client.post(self._url, data=form, allow_redirects=False) as response:
            response.raise_for_status()
            return await response.json(content_type=None)

    async def _finish(self, task_id: int, state: str, result: float | None, error: str | None) -> None:
        await self._write(
            "UPDATE task SET state = ?, result = ?, error = ?, retry_id = NULL WHERE id = ?",
            (state, result, error, task_id),
        )
        await asyncio.to_thread(self._remove_photo, task_id)
        for waiter in self._waiters.pop(task_id, ()):
            waiter.set()
