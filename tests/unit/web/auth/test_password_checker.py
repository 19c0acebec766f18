"""Passwords are checked off the reactor, two at once, and remembered for a while."""

import os
import sys
import threading
from pathlib import Path
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from merlind.web.auth import password_checker
from merlind.web.auth.credentials import IRecallsPasswords
from merlind.web.auth.htpasswd import hash_password, is_password
from merlind.web.auth.password_checker import MAX_PENDING, NICENESS, REMEMBERED, THREADS, HtpasswdChecker, SignInBusy
from tests.unit.support import Reactor
from tests.unit.web.auth.support import Passwords, hash_of
from tests.unit.web.support import fired


def of(user: str, password: str) -> UsernamePassword:
    """Credentials."""
    return UsernamePassword(user.encode(), password.encode())


class CheckerCase(SynchronousTestCase):
    """A checker with a pool that the test plays."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.users = Passwords(self.reactor, Path(self.mktemp()))
        self.checker = self.users.checker

    def ask(self, user: str, password: str) -> list[Any]:
        """What the checker says, in a list; nothing is in it yet while a password is being checked."""
        return fired(self.checker.requestAvatarId(of(user, password)))

    def assert_wrong(self, said: list[Any], kind: type[Exception] = UnauthorizedLogin) -> None:
        (failure,) = said
        self.assertIsInstance(failure, Failure)
        self.assertTrue(failure.check(kind), failure)


class HtpasswdCheckerTests(CheckerCase):
    """What the checker says."""

    def test_interfaces(self) -> None:
        self.assertTrue(verifyObject(ICredentialsChecker, self.checker))
        self.assertTrue(verifyObject(IRecallsPasswords, self.checker))

    def test_right_and_wrong(self) -> None:
        """A password is right for its own user alone, and is checked on the pool, not at once."""
        said = [self.ask("ann", "secret"), self.ask("ann", "other"), self.ask("bob", "secret"), self.ask("cy", "other")]
        self.assertEqual(said, [[]] * 4)
        self.assertEqual(self.users.work(), 4)
        self.assertEqual(said[0], [b"ann"])
        for wrong in said[1:]:
            self.assert_wrong(wrong)

    def test_no_pool_before_it_is_needed(self) -> None:
        """Threads are made when the first password comes, two at most, and end with the reactor."""
        self.assertEqual(self.users.pools, [])
        self.ask("ann", "secret")
        self.ask("bob", "secret")
        (pool,) = self.users.pools
        self.assertEqual((pool.most, pool.running), (THREADS, True))
        for call, args, kwargs in self.reactor.triggers["during"]["shutdown"]:
            call(*args, **kwargs)
        self.assertFalse(pool.running)

    def test_unknown_user_costs_as_much(self) -> None:
        """For an unknown user a real hash is checked, of the same cost as anybody's, and it is never right."""
        checked: list[str] = []

        def verify(hashed: str, password: bytes) -> bool:
            checked.append(hashed)
            return True

        self.users = Passwords(self.reactor, Path(self.mktemp()), verify)
        self.checker = self.users.checker
        unknown, known = self.ask("cy", "x"), self.ask("ann", "x")
        self.users.work()
        self.assert_wrong(unknown)
        self.assertEqual(known, [b"ann"])
        self.assertEqual(checked[1], hash_of("secret"))
        self.assertEqual(checked[0].split("$")[:4], checked[1].split("$")[:4])
        self.assertFalse(is_password(checked[0], b"x"))

    def test_same_password_at_once(self) -> None:
        """Who sends the same password several times at once has it checked once; another's counts by itself."""
        right, wrong = [self.ask("ann", "secret") for _ in range(5)], [self.ask("ann", "no") for _ in range(5)]
        self.assertEqual(self.users.work(), 2)
        self.assertEqual(right, [[b"ann"]] * 5)
        for said in wrong:
            self.assert_wrong(said)

    def test_bounded(self) -> None:
        """Past so many, the next is refused at once; there is room again when they are done."""
        for number in range(MAX_PENDING):
            self.ask("ann", f"wrong {number}")
        self.assert_wrong(self.ask("ann", "secret"), SignInBusy)
        self.assertEqual(self.users.work(), MAX_PENDING)
        said = self.ask("ann", "secret")
        self.users.work()
        self.assertEqual(said, [b"ann"])

    def test_failing(self) -> None:
        """If a password can't be checked, who asks is told so, and the next try is made."""

        def verify(hashed: str, password: bytes) -> bool:
            raise MemoryError

        self.users = Passwords(self.reactor, Path(self.mktemp()), verify)
        self.checker = self.users.checker
        for _ in range(2):
            said = self.ask("ann", "secret")
            self.users.work()
            self.assert_wrong(said, MemoryError)


class RememberedTests(CheckerCase):
    """Passwords that were right."""

    def setUp(self) -> None:
        super().setUp()
        self.ask("ann", "secret")
        self.users.work()

    def test_no_check(self) -> None:
        """A password that was right needs no check for a while, and another one does."""
        self.assertEqual(self.ask("ann", "secret"), [b"ann"])
        self.assertEqual(self.ask("ann", "wrong"), [])
        self.assertEqual(self.users.waiting, 1)
        self.assertTrue(self.checker.recall(of("ann", "secret")))
        self.assertFalse(self.checker.recall(of("bob", "secret")))
        self.reactor.advance(REMEMBERED)
        self.assertFalse(self.checker.recall(of("ann", "secret")))
        self.assertEqual(self.ask("ann", "secret"), [])

    def test_wrong_is_not_remembered(self) -> None:
        """A wrong one is checked each time."""
        for _ in range(2):
            self.ask("ann", "wrong")
            self.assertEqual(self.users.work(), 1)

    def test_forgotten_when_the_file_changes(self) -> None:
        """A password that was changed is wrong at once, and so is that of a user who is gone."""
        self.users.write(ann="changed", bob="other")
        said = self.ask("ann", "secret"), self.ask("ann", "changed")
        self.users.work()
        self.assert_wrong(said[0])
        self.assertEqual(said[1], [b"ann"])
        self.users.write(bob="other")
        self.assertFalse(self.checker.recall(of("ann", "changed")))
        gone = self.ask("ann", "changed")
        self.users.work()
        self.assert_wrong(gone)

    def test_changed_during_the_check(self) -> None:
        """One that was right when its check began is not remembered if the file changed meanwhile."""
        said = self.ask("bob", "other")
        self.users.write(ann="secret", bob="changed")
        self.assertFalse(self.checker.recall(of("ann", "secret")))
        self.users.work()
        self.assertEqual(said, [b"bob"])
        self.assertFalse(self.checker.recall(of("bob", "other")))

    def test_bounded(self) -> None:
        """No more than so many are remembered, the latest."""
        self.patch(password_checker, "MAX_REMEMBERED", 2)
        self.users.write(ann="a", bob="b", cy="c")
        for user, password in (("ann", "a"), ("bob", "b"), ("cy", "c")):
            self.ask(user, password)
            self.users.work()
        kept = [self.checker.recall(of(user, password)) for user, password in (("ann", "a"), ("bob", "b"), ("cy", "c"))]
        self.assertEqual(kept, [False, True, True])

    def test_no_password_is_kept(self) -> None:
        """What is remembered has no password in it."""
        self.assertNotIn("secret", repr(vars(self.checker)))


class ThreadTests(SynchronousTestCase):
    """Real threads: two passwords at once, with less of a claim to the processor, and never on the thread that asks."""

    def test_two_at_once(self) -> None:
        """Of ten passwords, two are being checked at once and the others wait; meanwhile the asking thread goes on."""
        begun, go_on, lock = threading.Semaphore(0), threading.Semaphore(0), threading.Lock()
        running: list[int] = [0, 0]
        threads: set[int] = set()
        niceness: set[int] = set()

        def verify(hashed: str, password: bytes) -> bool:
            with lock:
                running[0] += 1
                running[1] = max(running)
                threads.add(threading.get_ident())
                if sys.platform == "linux":
                    niceness.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            begun.release()
            go_on.acquire()
            with lock:
                running[0] -= 1
            return False

        class Threaded(Reactor):
            """A reactor that keeps what threads want it to call."""

            def callFromThread(self, function: Any, *args: Any, **kwargs: Any) -> None:
                calls.append((function, args, kwargs))
                done.release()

        calls: list[Any] = []
        done = threading.Semaphore(0)
        path = Path(self.mktemp())
        path.write_text(f"ann:{hash_of('secret')}\n")
        reactor = Threaded()
        checker = HtpasswdChecker(reactor, path, verify)
        said = [fired(checker.requestAvatarId(of("ann", f"wrong {number}"))) for number in range(10)]
        for _ in range(THREADS):
            self.assertTrue(begun.acquire(timeout=60))
        self.assertEqual(running[0], THREADS)
        self.assertEqual(said, [[]] * 10)
        for _ in range(10):
            go_on.release()
        for _ in range(10):
            self.assertTrue(done.acquire(timeout=60))
        for function, args, kwargs in calls:
            function(*args, **kwargs)
        for call, args, kwargs in reactor.triggers["during"]["shutdown"]:
            call(*args, **kwargs)
        self.assertEqual((running[1], len(threads)), (THREADS, THREADS))
        self.assertNotIn(threading.get_ident(), threads)
        own = os.getpriority(os.PRIO_PROCESS, 0)
        self.assertEqual(niceness, {max(NICENESS, own)} if sys.platform == "linux" else set())
        for (failure,) in said:
            self.assertTrue(failure.check(UnauthorizedLogin))


class HashTests(SynchronousTestCase):
    """The hash itself."""

    def test_known(self) -> None:
        """A hash is written as other tools write it, and is right for its password alone."""
        hashed = hash_password(b"password", b"somesaltsomesalt")
        self.assertTrue(hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$"))
        self.assertTrue(is_password(hashed, b"password"))
        self.assertFalse(is_password(hashed, b"Password"))
