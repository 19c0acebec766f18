"""Who a request is from, and what is refused: docs/contract.md, "Signing in"."""

import base64
from collections import Counter
from pathlib import Path
from typing import Any, cast

from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.attempts import MAX_FAILURES, WINDOW
from merlind.web.auth.credentials import MAX_CREDENTIALS
from merlind.web.auth.password_checker import MAX_PENDING
from merlind.web.auth.proxy import ProxyChecker
from merlind.web.auth.sign_in import SignIn
from merlind.web.auth.tokens import TokenChecker
from merlind.web.response import Response
from merlind.web.server.head import Head
from tests.unit.support import Reactor
from tests.unit.web.auth.support import TOKENS, OtherChecker, Passwords, basic, bearer, knows, token_file
from tests.unit.web.support import LogLines, fired

BASIC = b'Basic realm="merlind", charset="UTF-8"'
BEARER = b'Bearer realm="merlind"'


def head(*fields: tuple[str, str | bytes], method: str = "GET") -> Head:
    """A request's head."""
    made = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in fields]
    return Head(f"{method} / HTTP/1.1".encode(), [(b"Host", b"a"), *made])


def challenges(response: Response) -> list[bytes]:
    """What a response says to sign in by."""
    return [value for name, value in response.headers if name == b"WWW-Authenticate"]


class SignInCase(SynchronousTestCase):
    """Sign-in with all kinds of checkers, unless a test makes another one."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.refused: Counter[str] = Counter()
        self.users = Passwords(self.reactor, Path(self.mktemp()))
        self.tokens = TokenChecker(token_file(Path(self.mktemp())))
        self.proxy = ProxyChecker("Remote-User")
        self.use(self.users.checker, self.tokens, self.proxy)

    def use(self, *checkers: Any) -> None:
        """Let these be the checkers."""
        self.sign_in = SignIn(checkers, self.reactor.seconds, lambda reason: self.refused.update([reason]))

    def ask(self, *fields: tuple[str, str | bytes], client: str = "192.0.2.1", unix: bool = False) -> Any:
        """The verdict, after a password that has to be checked was."""
        verdict = self.sign_in.identify(head(*fields), client, unix)
        if not isinstance(verdict, Deferred):
            return verdict
        said = fired(verdict)
        self.users.work()
        self.assertEqual(len(said), 1)
        return said[0]

    def authorize(self, value: str | bytes, **more: Any) -> Any:
        """The verdict on an Authorization header."""
        return self.ask(("Authorization", value), **more)

    def assert_refused(self, response: Any, code: int, word: str, reason: str) -> None:
        """It is this response, and was counted for this reason."""
        self.assertIsInstance(response, Response)
        self.assertEqual((response.code, f'"code":"{word}"'.encode() in response.body), (code, True), response.body)
        self.assertEqual(self.refused, {reason: 1})
        self.refused.clear()


class CredentialsTests(SignInCase):
    """What a request brings."""

    def test_password(self) -> None:
        """A right password signs in, the scheme in any case; a wrong one doesn't, nor does an unknown user."""
        self.assertEqual(self.authorize(basic("ann", "secret")), "ann")
        self.assertEqual(self.authorize(basic("bob", "other").replace("Basic ", "bAsIc  ")), "bob")
        for user, password in (("ann", "other"), ("cy", "secret")):
            refused = self.authorize(basic(user, password))
            self.assert_refused(refused, 401, "unauthorized", "password")
            self.assertEqual(challenges(refused), [BASIC, BEARER])
        self.assertEqual(*[self.authorize(basic(*sent)).body for sent in (("ann", "other"), ("cy", "secret"))])

    def test_token(self) -> None:
        """A token signs its user in, at once; an unknown one doesn't, and the response says that it was the token."""
        self.assertEqual(self.sign_in.identify(head(("Authorization", bearer("ann"))), "a", False), "ann")
        self.assertEqual(self.authorize(f"bearer {TOKENS['bob']}"), "bob")
        refused = self.authorize("Bearer merlind_unknown")
        self.assert_refused(refused, 401, "unauthorized", "token")
        self.assertEqual(challenges(refused), [BASIC, BEARER + b', error="invalid_token"'])

    def test_none(self) -> None:
        """Without credentials the response says how to sign in; a preflight needs none."""
        refused = self.ask()
        self.assert_refused(refused, 401, "unauthorized", "no_credentials")
        self.assertEqual(challenges(refused), [BASIC, BEARER])
        self.assertEqual(self.sign_in.identify(head(method="OPTIONS"), "a", False), "")

    def test_malformed(self) -> None:
        """What is malformed, of another scheme, or there twice signs nobody in, and no checker is asked."""
        good = basic("ann", "secret")
        for value in (
            b"", b"Basic", b"Basic ", good[6:].encode(), b"Digest username=ann", b"Basic ann:secret", b"Bearer",
            b"Bearer a b", b"Bearer \xff", b"Basic " + b"A" * MAX_CREDENTIALS, basic("", "secret").encode(),
            basic("ann", "").encode(), basic("a\nnn", "secret").encode(), basic("ann", "x" * 1025).encode(),
            b"Basic " + base64.b64encode(b"\xff:secret"), b"Basic " + base64.b64encode(b"ann:\xff"),
            b"Basic " + base64.b64encode(b"ann"), b"Basic " + base64.b64encode("\u0301".encode() * 1500 + b":x"),
        ):  # fmt: skip
            self.assert_refused(self.authorize(value), 401, "unauthorized", "malformed")
        twice = self.ask(("Authorization", good), ("Authorization", good))
        self.assert_refused(twice, 401, "unauthorized", "malformed")
        self.assertEqual(self.users.pools, [])

    def test_nfc(self) -> None:
        """User and password are compared after NFC."""
        self.users.write(**{"Zo\u00eb": "\u00e9"})
        self.assertEqual(self.authorize(basic("Zoe\u0308", "e\u0301")), "Zo\u00eb")

    def test_challenges(self) -> None:
        """The response names the schemes that are taken, and no others."""
        for checkers, expected in (
            ([self.users.checker], [BASIC]),
            ([self.tokens], [BEARER]),
            ([self.tokens, self.users.checker], [BASIC, BEARER]),
        ):
            self.use(*checkers, self.proxy)
            self.assertEqual(challenges(self.ask()), expected)

    def test_scheme_without_a_checker(self) -> None:
        """A password is wrong where only tokens are taken, and the other way round."""
        self.use(self.tokens)
        self.assert_refused(self.authorize(basic("ann", "secret")), 401, "unauthorized", "password")
        self.use(self.users.checker)
        refused = self.authorize(bearer("ann"))
        self.assert_refused(refused, 401, "unauthorized", "token")
        self.assertEqual(challenges(refused), [BASIC])

    def test_nothing_in_the_log(self) -> None:
        """Neither users nor passwords nor tokens are logged."""
        lines = LogLines.of(self)
        for value in (basic("ann", "secret"), basic("ann", "wrong"), bearer("ann"), "Bearer unknown", "Basic x"):
            self.authorize(value)
        self.assertEqual(lines.lines, [])


class ProxyTests(SignInCase):
    """A proxy's word."""

    def test_on_a_unix_socket(self) -> None:
        """The header is believed on a unix socket, before credentials of the client's own."""
        self.assertEqual(self.ask(("Remote-User", "cy"), unix=True), "cy")
        self.assertEqual(self.ask(("remote-user", " Zoe\u0308 "), unix=True), "Zo\u00eb")
        both = self.ask(("Remote-User", "cy"), ("Authorization", bearer("ann")), unix=True)
        self.assertEqual(both, "cy")

    def test_over_tcp(self) -> None:
        """Over TCP it is ignored, whatever other credentials there are."""
        self.assert_refused(self.ask(("Remote-User", "cy")), 401, "unauthorized", "no_credentials")
        self.assertEqual(self.ask(("Remote-User", "cy"), ("Authorization", bearer("ann"))), "ann")

    def test_without_a_proxy_checker(self) -> None:
        """Unless that is asked for, it is ignored on a unix socket, too."""
        self.use(self.tokens)
        self.assert_refused(self.ask(("Remote-User", "cy"), unix=True), 401, "unauthorized", "no_credentials")

    def test_no_name(self) -> None:
        """Without the header, with two of it or what can't be a name, the client's own credentials count."""
        for fields in ([], ["cy", "ann"], [""], ["a:b"], [b"\xff"]):
            named: Any = [("Remote-User", value) for value in fields]
            self.assert_refused(self.ask(*named, unix=True), 401, "unauthorized", "no_credentials")
            self.assertEqual(self.ask(*named, ("Authorization", bearer("ann")), unix=True), "ann")
            self.assertEqual(self.ask(*named, ("Authorization", basic("bob", "other")), unix=True), "bob")

    def test_alone(self) -> None:
        """Where only the proxy can sign anybody in, there is nothing to challenge a client to: 403."""
        self.use(self.proxy)
        for unix in (True, False):
            refused = self.ask(unix=unix)
            self.assert_refused(refused, 403, "forbidden", "no_credentials")
            self.assertEqual(challenges(refused), [])

    def test_headers(self) -> None:
        """A header that HTTP itself needs, or that can't be one, is not taken."""
        for header in ("", "a b", "Host", "authorization", "Cookie", "X" * 65, "Käse"):
            self.assertRaises(ValueError, ProxyChecker, header)


class AttemptTests(SignInCase):
    """How many passwords a client may try."""

    def test_too_many(self) -> None:
        """After so many wrong ones, a client is refused without a check until its minute is over; others aren't."""
        for number in range(MAX_FAILURES):
            self.assertEqual(self.authorize(basic("ann", f"wrong {number}")).code, 401)
        self.refused.clear()
        self.reactor.advance(5)

        refused = self.authorize(basic("ann", "secret"))
        self.assert_refused(refused, 429, "too_many_sign_ins", "attempts")
        self.assertIn((b"Retry-After", b"%d" % (WINDOW - 5)), refused.headers)
        self.assertNotIn(b"proxy", refused.body)
        self.assertEqual(self.users.waiting, 0)

        self.assertEqual(self.authorize(basic("ann", "secret"), client="192.0.2.2"), "ann")
        self.assertEqual(self.authorize(bearer("ann")), "ann")
        self.reactor.advance(WINDOW - 5)
        self.assertEqual(self.authorize(basic("bob", "other")), "bob")

    def test_at_once(self) -> None:
        """Those that are being checked count: no more than so many of one client wait."""
        said = [self.sign_in.identify(head(("Authorization", basic("ann", str(n)))), "a", False) for n in range(50)]
        waiting = [verdict for verdict in said if isinstance(verdict, Deferred)]
        self.assertEqual((len(waiting), self.users.waiting), (MAX_FAILURES, MAX_FAILURES))
        self.assertEqual({cast(Response, v).code for v in said if not isinstance(v, Deferred)}, {429})
        for verdict in waiting:
            fired(verdict)
        self.users.work()

    def test_signed_in_already(self) -> None:
        """Who has signed in from the same address is not locked out, and right passwords never count."""
        for _ in range(2 * MAX_FAILURES):
            self.assertEqual(self.authorize(basic("ann", "secret")), "ann")
        for number in range(MAX_FAILURES):
            self.authorize(basic("bob", f"wrong {number}"))
        self.assertEqual(self.authorize(basic("ann", "secret")), "ann")
        self.assertEqual(self.authorize(basic("bob", "other")).code, 429)

    def test_local(self) -> None:
        """A proxy on this machine may be why all are one client: the response says so."""
        for number in range(MAX_FAILURES):
            self.authorize(basic("ann", f"wrong {number}"), client="local")
        self.assertIn(b"X-Forwarded-For", self.authorize(basic("ann", "x"), client="local").body)

    def test_busy(self) -> None:
        """When too many passwords of all clients are being checked, one more gets 503, which counts for nobody."""
        for number in range(MAX_PENDING):
            asked = head(("Authorization", basic("ann", f"wrong {number}")))
            fired(cast(Any, self.sign_in.identify(asked, str(number), False)))
        for _ in range(MAX_FAILURES + 1):
            self.assert_refused(self.authorize(basic("bob", "other"), client="b"), 503, "sign_in", "busy")
        self.users.work()
        self.assertEqual(self.authorize(basic("bob", "other"), client="b"), "bob")


class OtherCheckerTests(SignInCase):
    """Checkers of other packages."""

    def test_one_after_the_other(self) -> None:
        """The first that knows the credentials counts; each is asked only if those before don't."""
        first, second = OtherChecker(knows(b"ann")), OtherChecker(knows(b"bob"))
        self.use(first, second)
        self.assertEqual((self.authorize(basic("ann", "x")), self.authorize(basic("bob", "x"))), ("ann", "bob"))
        self.assertEqual((len(first.asked), len(second.asked)), (2, 1))
        self.assertTrue(first.asked[0].checkPassword(b"x"))
        self.assertEqual(self.authorize(basic("cy", "x")).code, 401)

    def test_answers(self) -> None:
        """A checker may return or raise at once, or later; a name that can't be a user's signs nobody in."""

        def raises(credentials: Any) -> Any:
            raise UnauthorizedLogin

        for answer, expected in (
            (lambda _: b"ann", "ann"),
            (lambda _: "ann", "ann"),
            (lambda _: succeed("Zoe\u0308".encode()), "Zo\u00eb"),
            (raises, 401),
            (lambda _: fail(LoginFailed()), 401),
            (lambda _: b"", 401),
            (lambda _: (), 401),
            (lambda _: None, 401),
            (lambda _: b"a:b", 401),
            (lambda _: b"\xff", 401),
        ):
            self.use(OtherChecker(answer))
            verdict = self.authorize(basic("ann", "x"))
            self.assertEqual(verdict if isinstance(verdict, str) else verdict.code, expected)

    def test_later(self) -> None:
        """One that takes its time is waited for."""
        answer: Deferred[Any] = Deferred()
        self.use(OtherChecker(lambda _: answer))
        said = fired(cast(Any, self.sign_in.identify(head(("Authorization", basic("ann", "x"))), "a", False)))
        self.assertEqual(said, [])
        answer.callback(b"ann")
        self.assertEqual(said, ["ann"])

    def test_failing(self) -> None:
        """One that fails gets 503, counts for nobody's attempts, and the log tells the kind of the error alone."""
        lines = LogLines.of(self)

        def fails(credentials: Any) -> Any:
            raise ConnectionError(f"no ldap for {credentials.username!r}: {credentials.password!r}")

        self.use(OtherChecker(fails))
        for _ in range(MAX_FAILURES + 1):
            self.assert_refused(self.authorize(basic("ann", "secret")), 503, "sign_in", "error")
        self.assertEqual(set(lines.lines), {"a checker failed: ConnectionError"})
