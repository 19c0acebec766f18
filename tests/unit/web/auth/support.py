"""Shared by the tests of sign-in: a pool without threads, a cheap hash, checkers that the test plays."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from merlind.web.auth.credentials import IToken
from merlind.web.auth.htpasswd import LANES, MEMORY_KIB, PASSES
from merlind.web.auth.password_checker import HtpasswdChecker
from merlind.web.auth.sign_in import SignIn
from merlind.web.auth.tokens import token_line
from tests.unit.support import JPEG, Reactor
from tests.unit.web.support import EdgeCase, form, post

TOKENS = {"ann": "merlind_" + "A" * 43, "bob": "merlind_" + "B" * 43}
"""A token of each user."""


def hash_of(password: str) -> str:
    """Looks like a hash of a password, and tells it to ``is_password``."""
    salt = base64.b64encode(password.encode("utf-8").ljust(16, b"\0")).decode("ascii").rstrip("=")
    return f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${'x' * 43}"


def is_password(hashed: str, password: bytes) -> bool:
    """Whether ``hash_of`` this password looks so."""
    return hashed == hash_of(password.decode("utf-8"))


class Pool:
    """A thread pool without threads: the test says when each piece of work is done."""

    def __init__(self, least: int, most: int, name: str) -> None:
        self.most = most
        self.running = False
        self.waiting: list[Callable[[], None]] = []

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, Any], object], function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except Exception:
                on_result(False, Failure())
            else:
                on_result(True, result)

        self.waiting.append(run)

    def work(self) -> int:
        """Do all that waits; returns how much it was."""
        work, self.waiting = self.waiting, []
        for run in work:
            run()
        return len(work)


class Passwords:
    """A checker of a file that the test writes, with its pool."""

    def __init__(self, reactor: Reactor, path: Path, verify: Callable[[str, bytes], bool] = is_password) -> None:
        self.path = path
        self.pools: list[Pool] = []
        self.write(ann="secret", bob="other")
        self.checker = HtpasswdChecker(reactor, path, verify, self._make_pool)

    def _make_pool(self, least: int, most: int, name: str) -> Any:
        self.pools.append(Pool(least, most, name))
        return self.pools[-1]

    def write(self, **users: str) -> None:
        """Make these the users, with these passwords."""
        draft = self.path.with_suffix(".new")
        draft.write_text("".join(f"{user}:{hash_of(password)}\n" for user, password in users.items()))
        draft.replace(self.path)

    @property
    def waiting(self) -> int:
        """How many passwords are to be checked."""
        return sum(len(pool.waiting) for pool in self.pools)

    def work(self) -> int:
        """Check them; returns how many there were."""
        return sum(pool.work() for pool in self.pools)


def token_file(path: Path) -> Path:
    """Write a file with the TOKENS."""
    path.write_text("".join(f"{token_line(user, 'test', token, '2026-01-01')}\n" for user, token in TOKENS.items()))
    return path


@implementer(ICredentialsChecker)
class OtherChecker:
    """A checker as any package may have: ``answer`` makes what it returns, raises, or fires with."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def requestAvatarId(self, credentials: Any) -> Any:
        self.asked.append(credentials)
        return self.answer(credentials)


def knows(user: bytes) -> "Callable[[Any], Deferred[Any]]":
    """The answer of a checker that knows one user, whatever the password."""

    def answer(credentials: Any) -> "Deferred[Any]":
        return succeed(user) if credentials.username == user else fail(UnauthorizedLogin())

    return answer


def basic(user: str, password: str) -> str:
    """The Authorization header of a user and password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def bearer(user: str) -> str:
    """The Authorization header of a user's token."""
    return f"Bearer {TOKENS[user]}"


@implementer(ICredentialsChecker)
class LateChecker:
    """A checker of tokens that knows ann and takes one turn of the reactor; for ``Bearer never`` it takes for ever."""

    credentialInterfaces = (IToken,)

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def requestAvatarId(self, credentials: Any) -> "Deferred[Any]":
        answer: Deferred[Any] = Deferred()
        if credentials.token == b"ann":
            self._reactor.callLater(0, answer.callback, b"ann")
        elif credentials.token != b"never":
            self._reactor.callLater(0, answer.errback, UnauthorizedLogin())
        return answer


class LateCase(EdgeCase):
    """The public listener with sign-in that takes its time."""

    def sign_in(self) -> SignIn:
        return SignIn([LateChecker(self.reactor)], self.reactor.seconds, self.metrics.sign_in_refused)

    def accepted(self, name: str = "Anna", photo: bytes = JPEG) -> int:
        reply = self.ask(signed(post(form(name, photo))))
        self.assertEqual(reply.code, 202, reply.body)
        return int(reply.json["task"])


def signed(data: bytes, token: str = "ann") -> bytes:
    """The same requests, each with a token."""
    host = b"Host: localhost:8000\r\n"
    return data.replace(host, host + f"Authorization: Bearer {token}\r\n".encode())
