"""Sign-in in real processes: passwords, tokens, and a proxy on a unix socket."""

import base64
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.client import Reply, ask, form, png, request
from tests.processes import HOST, Merlind, ProcessCase, environment, until


def command(module: str, *arguments: str, typed: str = "") -> str:
    """Run one of the commands that make lines; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"merlind.web.auth.{module}", *arguments],
        input=typed, capture_output=True, text=True, check=True, env=environment(),
    )  # fmt: skip
    return done.stdout.strip()


def basic(user: str, password: str) -> dict[str, str]:
    """The header of a user and password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")}


def bearer(token: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {token}"}


class UnixConnection(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


class SignInCase(ProcessCase):
    """A folder for users and tokens."""

    def upload(self, merlind: Merlind, headers: dict[str, str], name: str = "Ada", photo: bytes = b"") -> Reply:
        """Upload a photo."""
        sent = form(name, photo or png())
        return request(merlind.port, "POST", "/", sent.body, {"Content-Type": sent.content_type, **headers})

    def status(self, merlind: Merlind, task: int, headers: dict[str, str]) -> Reply:
        """Ask for a task, and wait for it."""
        return request(merlind.port, "GET", f"/?task_id={task}", headers={"Prefer": "wait=30", **headers})


class PasswordTest(SignInCase):
    """``--auth htpasswd:FILE``."""

    def test_own_tasks(self) -> None:
        """From a password to a score; others don't see it; a changed file counts at once; a stop is clean."""
        users = self.folder / "users"
        for user in ("ann", "bob"):
            command("passwd", str(users), user, typed=f"{user}'s pass wörd\n")
        merlind = self.merlind(f"--auth=htpasswd:{users}").start()
        ann, bob = basic("ann", "ann's pass wörd"), basic("bob", "bob's pass wörd")

        refused = request(merlind.port, "GET", "/", headers={"Accept": "text/html"})
        self.assertEqual(refused.code, 401)
        self.assertIn("Sign in", refused.body.decode("utf-8"))
        self.assertEqual(refused.headers["WWW-Authenticate"], 'Basic realm="merlind", charset="UTF-8"')
        self.assertEqual(request(merlind.port, "GET", "/", headers={"Accept": "text/html", **ann}).code, 200)
        self.assertEqual(self.upload(merlind, basic("ann", "wrong")).code, 401)

        task = self.upload(merlind, ann).json()["task"]
        self.assertEqual(self.status(merlind, task, ann).json()["status"], "ready")
        theirs, unknown = self.status(merlind, task, bob), self.status(merlind, 1, bob)
        self.assertEqual((theirs.code, theirs.body), (404, unknown.body))
        self.assertEqual(request(merlind.port, "GET", f"/?task_id={task}").code, 401)

        command("passwd", str(users), "ann", typed="changed\n")
        self.assertEqual(self.status(merlind, task, ann).code, 401)
        self.assertEqual(self.status(merlind, task, basic("ann", "changed")).code, 200)

        self.assertEqual(merlind.metric('merlind_sign_ins_refused_total{reason="password"}'), 2)
        self.assertEqual(request(merlind.admin, "GET", "/health/live").code, 200)
        self.assertEqual(merlind.stop(), -signal.SIGTERM)
        for secret in ("ann", "bob", "pass w"):
            self.assertNotIn(secret, merlind.log().replace(str(self.folder), ""))
        self.assert_no_traceback(merlind)

    def test_continue(self) -> None:
        """``100 Continue`` comes when the password was right, and a 401 in its place when it was wrong."""
        users = self.folder / "users"
        command("passwd", str(users), "ann", typed="secret\n")
        merlind = self.merlind(f"--auth=htpasswd:{users}").start()
        for password, expected in (("wrong", b"HTTP/1.1 401 "), ("secret", b"HTTP/1.1 100 ")):
            with socket.create_connection((HOST, merlind.port), timeout=60) as client:
                head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=B\r\n"
                head += f"Content-Length: 400\r\nExpect: 100-continue\r\n{credentials(basic('ann', password))}\r\n"
                client.sendall(head.encode("ascii"))
                self.assertTrue(client.recv(4096).startswith(expected), password)

    def test_bad_file(self) -> None:
        """A start with a file that can't be used ends with one line, which names file, line and cure."""
        users = self.folder / "users"
        users.write_text("# ours\nann:$apr1$salt$hash\n")
        merlind = self.merlind(f"--auth=htpasswd:{users}").spawn()
        self.assertEqual(merlind.wait(), 1)
        last = merlind.log().splitlines()[-1]
        self.assertIn(f"merlind: --auth htpasswd:{users}: {users}, line 2: an MD5 hash of Apache; make the line", last)
        self.assertNotIn("salt", merlind.log())
        self.assert_no_traceback(merlind)

    def test_wrong_passwords_hold_nobody_up(self) -> None:
        """While fifty wrong passwords are checked, statuses are told as fast as ever to who is signed in."""
        users, tokens = self.folder / "users", self.folder / "tokens"
        command("passwd", str(users), "ann", typed="secret\n")
        token = bearer(command("token", str(tokens), "ann", "test"))
        merlind = self.merlind(f"--auth=htpasswd:{users}", f"--auth=tokens:{tokens}").start()
        codes: list[int] = []

        def guess(number: int) -> None:
            headers = {**basic("ann", f"wrong {number}"), "X-Forwarded-For": f"192.0.2.{number}"}
            codes.append(request(merlind.port, "GET", "/?task_id=1", headers=headers).code)

        threads = [threading.Thread(target=guess, args=(number,)) for number in range(50)]
        waits = []
        connection = http.client.HTTPConnection(HOST, merlind.port, timeout=60)
        self.addCleanup(connection.close)
        ask(connection, "GET", "/?task_id=1", headers=token)
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            began = time.perf_counter()
            self.assertEqual(ask(connection, "GET", "/?task_id=1", headers=token).code, 404)
            waits.append(time.perf_counter() - began)
        for thread in threads:
            thread.join()
        self.assertEqual(codes, [401] * 50)
        waits.sort()
        median, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        self.figures(statuses=len(waits), p50_ms=f"{1000 * median:.1f}", p99_ms=f"{1000 * p99:.1f}")
        # Without threads of their own, fifty hashes of 20 ms would hold the reactor for a second.
        self.assertLess(median, 0.2)
        self.assertGreater(len(waits), 10)


class TokenTest(SignInCase):
    """``--auth tokens:FILE``."""

    def test_own_tasks(self) -> None:
        """From a token to a score; others don't see it, nor does who has no token; a revoked one is out at once."""
        tokens = self.folder / "tokens"
        ann, bob = (bearer(command("token", str(tokens), user, "laptop")) for user in ("ann", "bob"))
        merlind = self.merlind(env={"MERLIND_AUTH": f"tokens:{tokens}"}).start()
        photo = png()

        task = self.upload(merlind, ann, photo=photo).json()["task"]
        self.assertEqual(self.status(merlind, task, ann).json()["status"], "ready")
        self.assertEqual(self.status(merlind, task, bob).code, 404)
        self.assertNotEqual(self.upload(merlind, bob, photo=photo).json()["task"], task)
        self.assertEqual(self.upload(merlind, ann, photo=photo).json()["task"], task)
        refused = self.status(merlind, task, bearer("merlind_unknown"))
        expected = 'Bearer realm="merlind", error="invalid_token"'
        self.assertEqual((refused.code, refused.headers["WWW-Authenticate"]), (401, expected))
        self.assertEqual(request(merlind.port, "OPTIONS", "/").code, 204)

        tokens.write_text("".join(line for line in tokens.open() if not line.startswith("ann:")))
        self.assertEqual(self.status(merlind, task, ann).code, 401)
        self.assertEqual(self.status(merlind, task, bob).code, 404)
        self.assertNotIn(ann["Authorization"][7:], merlind.log())
        self.assert_no_traceback(merlind)


class ProxyTest(SignInCase):
    """``--auth proxy:Remote-User``."""

    def test_on_a_unix_socket_alone(self) -> None:
        """The header is believed on the unix socket, and ignored over TCP, on the same merlind."""
        folder = tempfile.TemporaryDirectory()  # the test's own folder has too long a path for a socket
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "socket"
        merlind = self.merlind(f"--listen=unix:{path}:mode=600", "--auth=proxy:Remote-User").start()
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        sent = form("Ada", png())
        connection = UnixConnection(path)
        self.addCleanup(connection.close)

        def through_proxy(method: str, target: str, user: str, body: bytes | None = None) -> Reply:
            return ask(connection, method, target, body, {"Content-Type": sent.content_type, "Remote-User": user})

        task = through_proxy("POST", "/", "ann", sent.body).json()["task"]
        target = f"/?task_id={task}"
        until(lambda: through_proxy("GET", target, "ann").code == 200, "the score")
        self.assertEqual(through_proxy("GET", target, "bob").code, 404)
        self.assertEqual(through_proxy("DELETE", target, "bob").code, 404)
        refused = request(merlind.port, "GET", target, headers={"Remote-User": "ann"})
        self.assertEqual((refused.code, refused.json()["code"]), (403, "forbidden"))
        self.assertEqual(request(merlind.port, "POST", "/", sent.body, {"Remote-User": "ann"}).code, 403)
        self.assertEqual(through_proxy("DELETE", target, "ann").code, 204)
        self.assert_no_traceback(merlind)

    def test_no_unix_socket(self) -> None:
        """Without a unix socket there is nothing to believe: it doesn't start, and says so."""
        merlind = self.merlind("--auth=proxy:Remote-User").spawn()
        self.assertEqual(merlind.wait(), 1)
        self.assertIn("a proxy is believed on unix sockets only", merlind.log().splitlines()[-1])


def credentials(headers: dict[str, str]) -> str:
    """Headers as lines."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
