"""Who watches over the process: the reader of its log, its service manager, and the image's health check.

Codes such as D16 are rows of docs/battery.md.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest import SkipTest

from tests.client import ask, png, post
from tests.processes import Merlind, ProcessCase, environment, until

ROOT = Path(__file__).parents[2]


class LogTest(ProcessCase):
    """The log: who reads it, and who moves it away."""

    def logging_to(self, file: Path, *options: str) -> Merlind:
        """A merlind that twistd tells to log to a file."""
        merlind = self.merlind(*options)
        merlind.command.insert(merlind.command.index("merlind"), f"--logfile={file}")
        return merlind

    def test_log_rotation(self) -> None:
        """After the log was moved away SIGUSR1 opens a new one, as text and as JSON, and merlind goes on (D15)."""
        for options in ((), ("--log-json",)):
            with self.subTest(options):
                file = self.folder / f"log{len(options)}"
                merlind = self.logging_to(file, *options).start()
                file.rename(file.with_suffix(".1"))
                merlind.signal(signal.SIGUSR1)
                until(file.exists, "the log to be opened anew")
                post(merlind.port, "Ada", png())
                self.assertEqual(merlind.stop(), -signal.SIGTERM)
                self.assertIn("stopped", file.read_text())
                self.assertNotIn("stopped", file.with_suffix(".1").read_text())

    def test_signal_without_a_file(self) -> None:
        """SIGUSR1 does nothing to a merlind that logs to its standard output (D15)."""
        merlind = self.merlind().start()
        merlind.signal(signal.SIGUSR1)
        self.assertEqual(post(merlind.port, "Ada", png()).code, 202)
        self.assertEqual(merlind.stop(), -signal.SIGTERM)

    def test_log_that_nobody_reads(self) -> None:
        """merlind serves although nobody reads its log, drops lines and says later how many (D16)."""
        merlind = self.merlind("--log-json")
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        merlind.spawn(stdout=writer)
        os.close(writer)
        until(merlind.serves, "merlind to serve")
        # Each line has some 100 bytes; a pipe holds 64 KB, and merlind as many lines as make 1 MB.
        asked = 0
        connection = http.client.HTTPConnection("127.0.0.1", merlind.port, timeout=60)
        self.addCleanup(connection.close)
        while not merlind.metric("merlind_log_lines_dropped_total"):
            for _ in range(500):
                self.assertEqual(ask(connection, "GET", "/?task_id=1").code, 404)
                asked += 1
            self.assertLess(asked, 50_000)
        os.set_blocking(reader, False)
        text = b""

        def read() -> bool:
            nonlocal text
            try:
                while piece := os.read(reader, 65536):
                    text += piece
            except BlockingIOError:
                pass
            return b"lines of the log were dropped" in text

        until(read, "the line that counts")
        dropped = merlind.metric("merlind_log_lines_dropped_total")
        messages = [json.loads(line)["message"] for line in text.splitlines()]
        self.assertTrue(messages[-1].startswith(f"{dropped:.0f} lines of the log were dropped"), messages[-1])
        self.assertEqual(len([message for message in messages if message.startswith("GET 404")]) + dropped, asked)
        self.figures(requests=asked, dropped=f"{dropped:.0f}")

    def test_stop_although_nobody_reads(self) -> None:
        """A stop waits for whoever reads the log, but not for long (D16)."""
        merlind = self.merlind()
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(writer, True)
        merlind.spawn(stdout=writer)
        os.close(writer)
        until(merlind.serves, "merlind to serve")
        began = time.monotonic()
        self.assertEqual(merlind.stop(), -signal.SIGTERM)
        took = time.monotonic() - began
        self.assertLess(took, 5)
        self.figures(seconds_to_stop=f"{took:.1f}")


class SystemdTest(ProcessCase):
    """systemd, played by a socket."""

    def test_unit_file(self) -> None:
        """systemd understands the unit file."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("needs systemd-analyze")
        text = (ROOT / "deploy" / "merlind.service").read_text()
        unit = self.folder / "merlind.service"
        unit.write_text(text.replace("/opt/merlind/bin/twistd", shutil.which("true") or ""))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
        # It also says what is wrong with units of this machine.
        self.assertNotIn("merlind", done.stderr)

    def test_notifications(self) -> None:
        """It is told when merlind serves, that it is alive as often as the watchdog wants, and when it stops."""
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.settimeout(60)
        name = f"merlind-{os.getpid()}-{time.monotonic_ns()}"
        manager.bind(f"\0{name}")
        merlind = self.merlind(env={"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "1000000"}).spawn()
        told: list[str] = []
        while told.count("WATCHDOG=1") < 4:
            told.append(manager.recv(4096).decode())
            if told[-1].startswith("READY=1"):
                self.assertEqual(post(merlind.port, "Ada", png()).code, 202)
        self.assertIn("READY=1\nSTATUS=serving", told)
        merlind.signal(signal.SIGTERM)
        while not told[-1].startswith("STOPPING=1"):
            told.append(manager.recv(4096).decode())
        merlind.wait()
        self.assert_no_traceback(merlind)


class HealthcheckTest(ProcessCase):
    """The command of the image's HEALTHCHECK."""

    def check(self, admin: str, **more: str) -> int:
        """Run it as the image does; return its exit status."""
        command = [sys.executable, "-m", "merlind.admin.healthcheck"]
        env = environment({"MERLIND_ADMIN": admin, **more})
        return subprocess.run(command, env=env, stdout=subprocess.DEVNULL, timeout=60).returncode

    def test_healthcheck(self) -> None:
        """It finds merlind alive over TCP and over a unix socket, past any proxy, and finds a dead one dead (D17)."""
        merlind = self.merlind().start()
        tcp = f"tcp:{merlind.admin}:interface=127.0.0.1"
        self.assertEqual(self.check(tcp), 0)
        self.assertEqual(self.check(tcp, http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9"), 0)
        merlind.stop()
        self.assertEqual(self.check(tcp), 1)
        self.assertEqual(self.check("none"), 0)
        unix = f"unix:/tmp/merlind-{merlind.port}.sock"
        merlind.command = [f"--admin={unix}" if "--admin=" in word else word for word in merlind.command]
        merlind.spawn()
        until(merlind.serves, "merlind to serve")
        self.assertEqual(self.check(unix), 0)
        merlind.stop()
