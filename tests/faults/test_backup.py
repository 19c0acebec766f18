"""Backups of a merlind that works at full speed, and that is killed meanwhile (D20)."""

import random
import time
import zlib
from collections.abc import Iterable, Mapping

from tests.client import Ledger, Load
from tests.faults.support import ROUNDS
from tests.merlinctl import MerlinctlCase
from tests.processes import Merlind, until
from tests.upstream import Upstream, UpstreamRequest


def at_its_own_pace(request: UpstreamRequest) -> object:
    """Score three photos of four at once, so that they are deleted all the time, and let the fourth wait for ever."""
    if request.kind == "poll" or zlib.crc32(request.name.encode()) % 4 == 0:
        return request.wait(request.key)
    return request.score()


def anew(request: UpstreamRequest) -> object:
    """Score all; what the other upstream had is unknown here, and so has to be uploaded again."""
    return request.score() if request.kind == "upload" else request.respond(404, b'{"detail": "unknown"}')


class BackupTest(MerlinctlCase):
    """``merlinctl backup`` under load, then ``merlinctl restore``, and a merlind on what it made."""

    def setUp(self) -> None:
        super().setUp()
        self.upstream = Upstream(self.addCleanup, at_its_own_pace)
        self.other = Upstream(self.addCleanup, anew)
        self.source = self.merlind("--poll-interval=5", upstream=self.upstream.url).start()
        self.figures_of: list[Mapping[str, int]] = []

    def back_up(self, number: int) -> None:
        status, (told,), errors = self.run_to_end(
            self.source, "backup", str(self.folder / f"{number}.tar"), self.data_dir(self.source)
        )
        self.assertEqual((status, errors, told["without_photo"]), (0, "", []))
        self.figures_of.append(told)

    def losses(self, merlind: Merlind, ledger: Ledger, before: Iterable[int]) -> list[str]:
        """Start a merlind on a backup, let it finish all, and return what is wrong with what was promised before."""
        merlind.start()
        until(lambda: merlind.unfinished() == 0, "all tasks to finish")
        return [fault for task in before if (fault := ledger.fault(merlind.port, task, True))]

    def test_nothing_acknowledged_is_lost(self) -> None:
        """Every task acknowledged before a backup began is in it, and every unfinished one is scored from its photo."""
        rounds = max(3, ROUNDS // 6)
        ledger, promised = self.ledger(), []
        with Load(self.source.port, ledger, clients=6, largest=400) as load:
            until(lambda: len(ledger.promises) > 100, "some tasks")
            for number in range(rounds):
                promised.append(dict(ledger.promises))
                self.back_up(number)
        self.assertEqual(load.broken, [])

        for number, before in enumerate(promised):
            merlind = self.restored(self.folder / f"{number}.tar", upstream=self.other.url)
            self.assertEqual(self.losses(merlind, ledger, before), [])
            self.assertEqual(merlind.metric('merlind_tasks{state="failed"}'), 0)
            self.assertFalse((merlind.data / "lost").exists())
            self.assert_no_traceback(merlind)
            merlind.stop()
        self.assertGreater(max(told["photos"] for told in self.figures_of), 10)
        self.figures(
            backups=rounds, acknowledged_before_the_last=len(promised[-1]), requests_tried=load.tried,
            photos_in_the_last=self.figures_of[-1]["photos"], losses=0,
        )  # fmt: skip

    def test_killed_meanwhile(self) -> None:
        """A merlind that is killed and started anew while it is backed up: the backup is as good, and so is merlind."""
        ledger = self.ledger()
        with Load(self.source.port, ledger, clients=6, largest=400) as load:
            until(lambda: len(ledger.promises) > 100, "some tasks")
            before = dict(ledger.promises)
            process = self.start(self.source, "backup", str(self.folder / "0.tar"), self.data_dir(self.source))
            kills = 0
            while process.poll() is None:
                time.sleep(random.uniform(0.05, 0.8))
                self.source.kill()
                self.source.spawn()
                kills += 1
            self.source.kill()
            self.source.start()
            output, errors = process.communicate()
            self.assertEqual((process.returncode, errors), (0, ""), output)
        self.assertEqual(load.broken, [])
        self.assertEqual(ledger.losses(self.source.port), [])
        self.assert_no_traceback(self.source)
        self.assertEqual(self.losses(self.restored(self.folder / "0.tar", upstream=self.other.url), ledger, before), [])
        self.figures(kills=kills, acknowledged_before=len(before), losses=0)
