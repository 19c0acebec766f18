"""Data directories that older merlinds made: their databases, as those left them, and photos to go with them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Scored, TransientError
from merlind.core.task import State, Task
from merlind.storage import pairing
from merlind.storage.sqlite import database
from tests.unit.support import Core

DATABASES = Path(__file__).parent / "storage" / "sqlite" / "directories"
"""Dumps of databases. Each has five tasks, named after what became of them."""

NAMES = ("Late", "Poll", "Ready", "Rejected", "Upload")


def photo_of(name: str) -> bytes:
    """The photo of a task in those databases."""
    return b"\xff\xd8\xff\xe0 photo of " + name.encode("ascii")


class UpgradeTests(SynchronousTestCase):
    """merlind goes on where an older one was."""

    def directory(self, version: int) -> Path:
        """The data directory that an older merlind left after a stop."""
        path = Path(self.mktemp()).absolute()
        (path / "spool").mkdir(parents=True)
        with closing(sqlite3.connect(path / "tasks.sqlite")) as connection:
            connection.executescript((DATABASES / f"version-{version}.sql").read_text("utf-8"))
            for task_id, name in connection.execute("SELECT id, name FROM task WHERE finished IS NULL"):
                (path / "spool" / str(task_id)).write_bytes(photo_of(name))
            if version >= 3:
                ((identity,),) = connection.execute("SELECT id FROM identity")
                (path / "spool" / pairing.MARK).write_text(f"{identity}\n")
        return path

    def tasks(self, path: Path) -> dict[str, dict[str, Any]]:
        """The rows of the tasks, by name."""
        with closing(sqlite3.connect(path)) as connection:
            connection.row_factory = sqlite3.Row
            return {row["name"]: dict(row) for row in connection.execute("SELECT * FROM task ORDER BY name")}

    def test_goes_on(self) -> None:
        """Each task is what it was; unfinished ones go on, with their photos, and failed ones can be sent again."""
        for version in (1, 3):
            with self.subTest(version=version):
                path = self.directory(version)
                file, backup = path / "tasks.sqlite", path / f"tasks.sqlite.before-v{database.VERSION}"
                before = self.tasks(file)
                pairing.prepare(file, path / "spool", path / "last-commit")
                self.assertEqual(self.tasks(backup), before)
                after = self.tasks(file)
                self.assertEqual(tuple(after), NAMES)
                for name, row in before.items():
                    self.assertEqual({column: after[name][column] for column in row}, row)
                    self.assertEqual((after[name]["received"], after[name]["kept_until"]), (0.0, None))
                self.go_on(
                    Core(self, directory=path, keep_failed=60.0), {name: row["id"] for name, row in after.items()}
                )

    def go_on(self, core: Core, ids: dict[str, int]) -> None:
        """Let it work on what it found, until all tasks are finished."""
        core.start()
        core.reactor.run_for(5.0)
        self.assertEqual(core.counts.by_state, {"upload": 1, "poll": 1, "ready": 1, "failed": 2})
        self.assertEqual(core.counts.photo_bytes, len(photo_of("Upload") + photo_of("Poll")))
        requests = {request.task.name: request for request in core.upstream.requests}
        self.assertEqual(
            {name: request.kind for name, request in requests.items()}, {"Poll": "poll", "Upload": "upload"}
        )
        self.assertEqual(requests["Poll"].task.retry_id, "id-poll")
        with core.spool.open(requests["Upload"].task) as photo:
            self.assertEqual(photo.read(), photo_of("Upload"))

        for request in requests.values():
            request.respond(Scored(0.25))
        again: Task = core.submit("Late", photo_of("Late"))
        self.assertEqual((again.id, again.received), (ids["Late"], core.clock.wall()))
        core.upstream.script = lambda request: (0.0, TransientError("http 503"))
        core.upstream.one.respond(TransientError("http 503"))
        core.reactor.run_for(core.policy.give_up_after + 1)
        states = {name: core.stored(task_id).state for name, task_id in ids.items()}
        finished = {"Ready": State.READY, "Poll": State.READY, "Upload": State.READY}
        self.assertEqual(states, {**finished, "Late": State.FAILED, "Rejected": State.FAILED})
        self.assertEqual(core.files(), [str(ids["Late"]), pairing.MARK])
