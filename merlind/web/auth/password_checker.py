"""Checks passwords against a file of hashes, off the reactor."""

import hmac
import os
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from merlind.web.auth.credentials import Avatar, IRecallsPasswords
from merlind.web.auth.htpasswd import hash_password, is_password, parse_users
from merlind.web.auth.watched_file import WatchedFile

THREADS = 2
"""How many passwords are checked at once. Each takes 19 MiB and a processor for some 20 ms, so that more threads would
take memory and get no further. The pool is one of its own, made when the first password comes: the reactor's holds up
to ten threads, and name look-ups need it."""

NICENESS = 10
"""How much the two threads give way to the reactor's where processors are short: all requests wait for that one."""

MAX_PENDING = 64
"""How many passwords may wait and be checked, together: less than a second of work."""

REMEMBERED = 300.0
"""Seconds for which a password that was right needs no check: who polls sends it with each request."""

MAX_REMEMBERED = 10_000
"""How many right passwords are remembered."""


class GentleThread(threading.Thread):
    """A thread with less of a claim to the processor than others have."""

    def run(self) -> None:
        if sys.platform == "linux":  # elsewhere threads have no niceness of their own
            thread = threading.get_native_id()
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
        super().run()


class GentlePool(ThreadPool):
    """A pool of such threads."""

    threadFactory = GentleThread


class SignInBusy(Exception):
    """Too many passwords are being checked."""


@implementer(ICredentialsChecker, IRecallsPasswords)
class HtpasswdChecker:
    """The users of a file, which is read again when it changes. Raises FileUnusable.

    Passwords are remembered as keyed hashes, whose key is this process's own. An unknown user costs what a wrong
    password does, so that time doesn't tell who is known.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(
        self,
        reactor: Any,
        path: Path,
        verify: Callable[[str, bytes], bool] = is_password,
        make_pool: Callable[[int, int, str], ThreadPool] = GentlePool,
    ) -> None:
        self._reactor = reactor
        self._file: WatchedFile[Mapping[str, str]] = WatchedFile(path, parse_users)
        self._verify = verify
        self._make_pool = make_pool
        self._pool: ThreadPool | None = None
        self._nobody = hash_password(secrets.token_bytes(16), secrets.token_bytes(16))
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, float] = {}
        self._right_of: object = None
        self._pending: dict[tuple[bytes, str], list[Deferred[Avatar]]] = {}

    def recall(self, credentials: UsernamePassword) -> bool:
        """Return whether these credentials were right lately, and the file is still the same."""
        if self._file.content is not self._right_of:
            self._right.clear()
            self._right_of = self._file.content
        until = self._right.get(self._key_of(credentials))
        return until is not None and self._reactor.seconds() < until

    def requestAvatarId(self, credentials: UsernamePassword) -> "Deferred[Avatar]":
        """Fire with the user's name. Fails with UnauthorizedLogin, and with SignInBusy."""
        if self.recall(credentials):
            return succeed(credentials.username)
        users = self._file.content
        found = users.get(credentials.username.decode("utf-8"))
        hashed = found or self._nobody
        key = self._key_of(credentials), hashed
        waiter: Deferred[Avatar] = Deferred()
        if key in self._pending:
            # A page that opens sends the same password several times at once.
            self._pending[key].append(waiter)
            return waiter
        if len(self._pending) >= MAX_PENDING:
            return fail(SignInBusy("too many passwords are being checked at once"))
        self._pending[key] = [waiter]
        checked = deferToThreadPool(self._reactor, self._threads(), self._verify, hashed, credentials.password)
        checked.addBoth(self._checked, key, credentials.username, users if found else None)
        return waiter

    def _checked(self, right: bool | Failure, key: tuple[bytes, str], user: bytes, users: object) -> None:
        """Tell those who wait; ``users`` is what the file said when this began, None if the user wasn't there."""
        waiters = self._pending.pop(key)
        if right is True and users is not None:
            if users is self._right_of:
                self._remember(key[0])
            for waiter in waiters:
                waiter.callback(user)
            return
        failure = right if isinstance(right, Failure) else Failure(UnauthorizedLogin())
        for waiter in waiters:
            waiter.errback(failure)

    def _remember(self, key: bytes) -> None:
        self._right.pop(key, None)
        while len(self._right) >= MAX_REMEMBERED:
            del self._right[next(iter(self._right))]
        self._right[key] = self._reactor.seconds() + REMEMBERED

    def _key_of(self, credentials: UsernamePassword) -> bytes:
        # No name has a colon in it.
        return hmac.digest(self._key, credentials.username + b":" + credentials.password, "sha256")

    def _threads(self) -> ThreadPool:
        if self._pool is None:
            self._pool = self._make_pool(0, THREADS, "passwords")
            self._pool.start()
            self._reactor.addSystemEventTrigger("during", "shutdown", self._pool.stop)
        return self._pool
