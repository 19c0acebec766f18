"""Hostile clients in great number, all of one address: merlind stays small, and serves a client of another address.

Nothing here is judged by a clock. The other client must have been served so and so often before an attack is over.
Codes such as A1 are rows of docs/battery.md.
"""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.client import GONE_AWAY, Ledger, ask, form, png, post
from tests.hostile import KINDS, MIX
from tests.processes import Merlind, ProcessCase, environment, until
from tests.upstream import Upstream, UpstreamRequest

ROOT = Path(__file__).parents[2]

NEIGHBOUR = "127.0.0.2"
"""The address of the client that must be served; the attackers have 127.0.0.1."""

MEMORY = 512 << 20
"""The most address space that merlind may have, in bytes.

Some 140 MB of it are taken from the start, of which 60 are resident. So this is stricter than a container of 512 MB,
needs no root, and ends in a MemoryError where a container would kill the process.
"""

GROWTH = 20 << 20
"""How much larger merlind may be after all attacks than before, in bytes."""

LONGEST_LINE = 300
"""No line of the log is longer than this, in characters."""

UPLOADS = 6
"""How often a photo is uploaded at most whose retry_id the upstream forgets each time: once, and five times again."""


class Neighbour:
    """A client of an address of its own: asks for a finished task on a kept connection, and uploads now and then.

    It counts what it got, and what was wrong with any of it. Its tasks go into the ledger.
    """

    def __init__(self, merlind: Merlind, ledger: Ledger, task: int) -> None:
        self._port = merlind.port
        self._ledger = ledger
        self._task = task
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answers = 0
        self.uploads = 0
        self.wrong: list[str] = []

    def __enter__(self) -> "Neighbour":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60, source_address=(NEIGHBOUR, 0))
        while not self._stopped.is_set():
            try:
                self._go_on(connection)
            except GONE_AWAY as error:
                self.wrong.append(repr(error))
                connection.close()
                time.sleep(0.1)
            time.sleep(0.01)
        connection.close()

    def _go_on(self, connection: http.client.HTTPConnection) -> None:
        reply = ask(connection, "GET", f"/?task_id={self._task}")
        if reply.code != 200:
            self.wrong.append(f"{reply.code} {reply.body!r}")
        self.answers += 1
        if self.answers % 10 == 0:
            name, photo = f"neighbour {self.answers}", png(100)
            sent = form(name, photo)
            reply = ask(connection, "POST", "/", sent.body, {"Content-Type": sent.content_type})
            if reply.code in (200, 202):
                self._ledger.note(reply, name, photo)
                self.uploads += 1
            else:
                self.wrong.append(f"{reply.code} {reply.body!r}")

    def served(self) -> tuple[int, int]:
        """How many status requests and uploads were served so far."""
        return self.answers, self.uploads


class Attack:
    """A process that sends hostile requests; its ``codes`` are known when it has ended."""

    def __init__(self, test: "HostileTest", kinds: tuple[str, ...], requests: int, clients: int, hold: float) -> None:
        arguments = [f"--kinds={','.join(kinds)}", f"--requests={requests}", f"--clients={clients}", f"--hold={hold}"]
        seed = len(test.attacks)
        command = [sys.executable, "-m", "tests.hostile", str(test.daemon.port), f"--seed={seed}", *arguments]
        self._output = test.folder / f"attack.{seed}"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=output)
        test.addCleanup(self.end)
        test.attacks.append(self)

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()

    @property
    def over(self) -> bool:
        """Whether everything was sent."""
        return self._process.poll() is not None

    @property
    def codes(self) -> dict[str, int]:
        """How many requests were sent, in how many visits, and which codes came back."""
        return dict(json.loads(self._output.read_text("ascii")))


class HostileTest(ProcessCase):
    """All attacks on one merlind, which has 512 MB."""

    def setUp(self) -> None:
        super().setUp()
        self.attacks: list[Attack] = []
        self.gate = threading.Event()
        self.upstream = Upstream(self.addCleanup, self.respond)
        self.daemon = self.merlind("--upstream-timeout=5", upstream=self.upstream.url, memory=MEMORY).start()
        self.kept = self.ledger()

    def respond(self, request: UpstreamRequest) -> object:
        """Score photos at once, but for one that waits for the gate, and one whose retry_id is always forgotten."""
        if request.key == "held":
            return request.wait("held") if not self.gate.is_set() else request.respond_json(status="ready", result=0.5)
        if request.key == "forgotten":
            forgotten = b'{"status":"error","errors":["unknown retry_id"]}'
            return request.respond(404, forgotten) if request.kind == "poll" else request.wait("forgotten")
        return request.score()

    def warm_up(self) -> int:
        """Let merlind do what it does on any day, and return the number of a finished task."""
        for number in range(50):
            self.kept.post(self.daemon.port, f"warm {number}", png(300))
        until(lambda: self.daemon.unfinished() == 0, "the first tasks to finish")
        tasks = list(self.kept.promises)
        for task in tasks * 10:
            self.daemon.get(task)
        return tasks[0]

    def stage(self, neighbour: Neighbour, *attacks: tuple[Any, ...]) -> None:
        """Run attacks together, until they are over and the neighbour was served again and again meanwhile."""
        answers, uploads = neighbour.served()
        running = [Attack(self, *attack) for attack in attacks]
        until(lambda: all(attack.over for attack in running), f"{attacks} to be over", 120)
        until(lambda: neighbour.answers >= answers + 10 and neighbour.uploads > uploads, f"service beside {attacks}")
        self.assertTrue(self.daemon.running, self.daemon.log()[-2000:])
        self.assertEqual(neighbour.wrong, [], attacks)

    def test_all_attacks(self) -> None:
        """Attacks of all kinds, one after the other and together, leave merlind as it was (A1 to A9, B1 to B6)."""
        task = self.warm_up()
        with Neighbour(self.daemon, self.kept, task) as neighbour:
            until(lambda: neighbour.uploads >= 3, "the neighbour to be served")
            before = self.daemon.memory()
            post(self.daemon.port, "held", png())
            post(self.daemon.port, "forgotten", png())
            for kind in KINDS:
                self.stage(neighbour, ((kind,), 400, 32, 0.05))
            self.stage(neighbour, (("uploads begun",), 600, 520, 3.0))
            self.stage(neighbour, (("long polls",), 5000, 300, 3.0), (("floods",), 50_000, 64, 1.0))
            self.stage(
                neighbour, (("trailers", "many headers"), 300, 30, 0.5), (("new names", "long names"), 1000, 30, 0.05)
            )
            self.stage(neighbour, (MIX, 10_000, 64, 0.3), (MIX, 10_000, 64, 0.02))
            self.gate.set()
            until(lambda: self.daemon.metric("merlind_connections") <= 1, "all connections but one to be closed")
        self.check_afterwards(before)
        self.figures(
            attackers_requests=sum(attack.codes["sent"] for attack in self.attacks),
            neighbours_requests=neighbour.answers,
            neighbours_uploads=neighbour.uploads,
            memory_before=f"{before >> 20} MB",
            memory_after=f"{self.daemon.memory() >> 20} MB",
        )

    def check_afterwards(self, before: int) -> None:
        """merlind is no larger than before, kept what it promised, and its log is short and without a traceback."""
        until(lambda: self.daemon.metric("merlind_connections") == 0, "all connections to be closed")
        self.assertEqual(self.daemon.metric("merlind_active_uploads"), 0)
        until(lambda: self.daemon.memory() < before + GROWTH, f"the memory to return to some {before >> 20} MB")
        until(lambda: self.daemon.unfinished() <= 1, "all tasks but one to finish")  # the forgotten one may take a day
        self.assertEqual(self.kept.losses(self.daemon.port, finished=True), [])
        self.assertLessEqual(len(self.upstream.seen("upload", "forgotten")), UPLOADS)
        self.assert_no_traceback(self.daemon)
        log = self.daemon.log().replace(str(self.daemon.data), "")  # the tests' folders have long paths
        self.assertLess(max(map(len, log.splitlines())), LONGEST_LINE)

    def test_stop_in_a_flood(self) -> None:
        """SIGTERM ends merlind while pipelines and long polls of many clients are on it (A2, D8)."""
        task = self.warm_up()
        post(self.daemon.port, "held", png())
        with Neighbour(self.daemon, self.kept, task) as neighbour:
            endless = 10**9
            Attack(self, ("floods", "long polls"), endless, 64, 5.0)
            Attack(self, MIX, endless, 64, 0.5)
            until(lambda: neighbour.answers >= 20, "the neighbour to be served")
            self.assertEqual(neighbour.wrong, [])
            self.assertEqual(self.daemon.stop(), -signal.SIGTERM)
        self.assert_no_traceback(self.daemon)
        for attack in self.attacks:
            attack.end()
        self.daemon.start()
        self.assertEqual(self.kept.losses(self.daemon.port), [])


class HeldTest(ProcessCase):
    """Very many clients that wait for one task."""

    def test_released_together(self) -> None:
        """They are all told when it is finished, and others are served before the last one is (A8)."""
        gate = threading.Event()

        def respond(request: UpstreamRequest) -> object:
            return request.score() if request.name != "held" or gate.wait(60) else None

        merlind = self.merlind(upstream=Upstream(self.addCleanup, respond).url).start()
        finished = self.ledger().post(merlind.port, "Ada", png())
        until(lambda: merlind.get(finished).code == 200, "the first task to finish")
        held = post(merlind.port, "held", png()).json()["task"]
        poll = b"GET /?task_id=%d HTTP/1.1\r\nHost: a\r\nPrefer: wait=60\r\n\r\n" % held
        crowd = []
        # Each from an address of its own: that one client may not have so many is another promise.
        for number in range(900):
            client = socket.create_connection(("127.0.0.1", merlind.port), 60, (f"127.0.1.{1 + number % 250}", 0))
            self.addCleanup(client.close)
            client.sendall(poll)
            crowd.append(client)
        until(lambda: merlind.metric("merlind_long_polls") == len(crowd), "the crowd to wait")
        gate.set()
        self.assertEqual(merlind.get(finished).code, 200)
        codes = [re.match(rb"HTTP/1.1 (\d+) ", client.recv(4096)) for client in crowd]
        self.assertEqual({code and code[1] for code in codes}, {b"200"})
        self.assert_no_traceback(merlind)
