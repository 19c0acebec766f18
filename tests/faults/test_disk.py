"""A hostile disk: power loss (D2), failing flushes (D3), full (D4), read-only (D5), files that went bad (D10)."""

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.client import Load, form, png, post, request
from tests.faults.support import ROUNDS, LoopCase, MountCase, Strace, library, need, spread
from tests.processes import HOST, Merlind, ProcessCase, free_port, until
from tests.upstream import Exchange, Upstream


class PowerLossTest(LoopCase):
    """The power goes: what was not flushed is gone (D2)."""

    def lose_power_under_load(self, merlind: Merlind) -> tuple[list[str], int, int]:
        """What is lost then, how much was acknowledged, and how many requests were tried."""
        self.make()
        ledger = self.ledger()
        ledger.promises.clear()
        merlind.start()
        # What was there before the load is no part of the question.
        subprocess.run(["sync", "-f", str(self.mountpoint)], check=True)
        with Load(merlind.port, ledger, clients=8, largest=200) as load:
            until(lambda: len(ledger.promises) > 150, "tasks to be acknowledged")
            self.lose_power()
            time.sleep(0.3)
        self.assertEqual(load.broken, [])
        merlind.kill()
        self.unmount()
        self.mount_image()
        merlind.spawn()
        until(lambda: not merlind.running or self.serves(merlind), "the start")
        if not merlind.running:
            losses = ["everything"]
        else:
            losses = ledger.losses(merlind.port)
            if not losses:
                self.drain(merlind, ledger)
        merlind.kill()
        self.unmount()
        return losses, len(ledger.promises), load.tried

    def serves(self, merlind: Merlind) -> bool:
        with suppress(OSError):
            return request(merlind.port, "OPTIONS").code == 204
        return False

    def test_power_loss(self) -> None:
        """Nothing that was acknowledged is lost, and the photos are whole."""
        face = self.merlinface("--delay=0.5", "--waits=1").start()
        acknowledged = tried = 0
        rounds = max(1, ROUNDS // 12)
        for _ in range(rounds):
            data = self.mountpoint / "data"
            merlind = self.merlind("--min-free-bytes=0", upstream=face.url, data=data)
            losses, more, requests = self.lose_power_under_load(merlind)
            self.assertEqual(losses, [])
            acknowledged += more
            tried += requests
        self.figures(power_losses=rounds, requests_tried=tried, acknowledged=acknowledged, losses=0)

    def test_control(self) -> None:
        """The same where flushes do nothing has to lose: it shows that the test above could fail."""
        preload = {"LD_PRELOAD": library("libeatmydata.so*")}
        face = self.merlinface("--delay=0.5", "--waits=1").start()
        data = self.mountpoint / "data"
        merlind = self.merlind("--min-free-bytes=0", upstream=face.url, data=data, env=preload)
        losses, acknowledged, tried = self.lose_power_under_load(merlind)
        self.assertNotEqual(losses, [])
        lost = acknowledged if losses == ["everything"] else len(losses)
        self.figures(power_losses=1, requests_tried=tried, acknowledged=acknowledged, losses_without_flushes=lost)


class FailingFlushTest(ProcessCase):
    """A flush fails (D3)."""

    def test_failed_flush(self) -> None:
        """It answers 503, flushes nothing more, and ends with a failure and a last line; the next start is sound."""
        face = self.merlinface("--delay=0.1", "--waits=1").start()
        merlind = self.merlind(upstream=face.url)
        ledger = self.ledger()
        faults = tried = refused = 0
        for calls in ("fsync", "fdatasync", "syncfs"):
            for when in spread(max(2, ROUNDS // 8), 6):
                merlind.start()
                # Each call of the three is traced, the one alone fails.
                strace = Strace(self, merlind, f"{calls}:error=EIO:when={when}")
                with Load(merlind.port, ledger, clients=8, largest=100) as load:
                    if calls == "fdatasync" and "fdatasync" not in " ".join(self.flushes(merlind, strace)):
                        break
                    until(lambda: not merlind.running, f"the end after {calls} number {when} failed")
                self.assertEqual(merlind.wait(), 1)
                last = merlind.log().splitlines()[-1]
                self.assertRegex(last, r"^merlind: the (database|photo spool) failed: ")
                self.assertNotIn("Traceback", merlind.log())
                self.assertEqual(load.broken, [])
                faults += 1
                tried += load.tried
                refused += load.refused
        merlind.start()
        self.drain(merlind, ledger)
        self.figures(faults=faults, requests_tried=tried, answered_503=refused, acknowledged=len(ledger.promises), losses=0)
