"""Who asks: finds the user of a request by checkers of twisted.cred. docs/contract.md, "Signing in", has the rules."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.attempts import Attempts
from merlind.core.clients import is_local
from merlind.core.users import ANONYMOUS, user_name
from merlind.web.auth.credentials import (
    IProxiedRequest,
    IRecallsPasswords,
    IToken,
    ProxiedRequest,
    Token,
    read_authorization,
)
from merlind.web.auth.password_checker import SignInBusy
from merlind.web.response import Response, problem, too_many, unavailable
from merlind.web.server.head import Head

Verdict = str | Response
"""Who asks, by name; or the response that refuses the request."""

_BASIC = (b"WWW-Authenticate", b'Basic realm="merlind", charset="UTF-8"')
_BEARER = (b"WWW-Authenticate", b'Bearer realm="merlind"')
_BAD_TOKEN = (b"WWW-Authenticate", b'Bearer realm="merlind", error="invalid_token"')

_BUSY = unavailable("sign_in", "too many passwords are being checked just now", 1)
_FAILED = unavailable("sign_in", "nobody can sign in just now: the log of the server says why")

_log = Logger()


class SignIn:
    """Finds the user of a request, or the response to one that brings no good credentials.

    ``now`` returns seconds of a clock that never goes back; ``on_refused`` is called with the reason of each refusal,
    a label for the metrics.
    """

    def __init__(self, checkers: Sequence[Any], now: Callable[[], float], on_refused: Callable[[str], None]) -> None:
        self._now = now
        self._on_refused = on_refused
        self._attempts = Attempts()
        self._passwords, self._tokens, self._proxies = (
            [checker for checker in checkers if interface in checker.credentialInterfaces]
            for interface in (IUsernamePassword, IToken, IProxiedRequest)
        )

    def identify(self, head: Head, client: str, by_unix_socket: bool) -> "Verdict | Deferred[Verdict]":
        """Return who sent a request, or what fires with it; it doesn't fail. ``client`` is the address's key."""
        if head.method == b"OPTIONS":
            return ANONYMOUS  # a browser asks before it sends credentials: Fetch, section 3.2.2
        if not by_unix_socket or not self._proxies:
            return self._by_authorization(head, client)
        asked = self._ask(iter(self._proxies), ProxiedRequest(head))
        return _now_or_later(
            asked.addCallback(lambda verdict: self._by_authorization(head, client) if verdict is None else verdict)
        )

    def _by_authorization(self, head: Head, client: str) -> "Verdict | Deferred[Verdict]":
        fields = head.get_all(b"authorization")
        if not fields:
            return self._refuse("no_credentials", "sign in" if self._passwords or self._tokens else "use the proxy")
        try:
            (field,) = fields
            credentials = read_authorization(field)
        except ValueError:
            return self._refuse("malformed", "the Authorization header is malformed, or of a scheme that is not taken")
        if isinstance(credentials, Token):
            asked = self._ask(iter(self._tokens), credentials)
            return _now_or_later(asked.addCallback(lambda verdict: verdict or self._refuse_token()))
        return self._by_password(credentials, client)

    def _by_password(self, credentials: Any, client: str) -> "Verdict | Deferred[Verdict]":
        for checker in self._passwords:
            # Before attempts are counted: others at the same address don't lock out who is signed in.
            if IRecallsPasswords.providedBy(checker) and checker.recall(credentials):
                return str(credentials.username, "utf-8")
        wait = self._attempts.seconds_to_wait(client, self._now())
        if wait:
            self._on_refused("attempts")
            shared = " from this machine, or through a proxy that doesn't send X-Forwarded-For" * is_local(client)
            return too_many("too_many_sign_ins", f"too many wrong passwords{shared}", wait)
        attempt = self._attempts.begin(client, self._now())

        def judge(verdict: Verdict | None) -> Verdict:
            if verdict is None:
                return self._refuse("password", "wrong user or password")
            attempt.forgive()
            return verdict

        return _now_or_later(self._ask(iter(self._passwords), credentials).addCallback(judge))

    def _ask(self, checkers: Iterator[Any], credentials: Any) -> "Deferred[Any]":
        """Ask one checker after the other; fires with a Verdict, or None if no one knows these credentials."""
        checker = next(checkers, None)
        if checker is None:
            return succeed(None)
        asked = maybeDeferred(checker.requestAvatarId, credentials)
        return asked.addCallback(_user_of).addErrback(self._not_known, checkers, credentials)

    def _not_known(self, failure: Failure, checkers: Iterator[Any], credentials: Any) -> Any:
        if failure.check(LoginFailed):
            return self._ask(checkers, credentials)
        if failure.check(SignInBusy):
            self._on_refused("busy")
            return _BUSY
        # Not the failure as it is: what a checker's exception says may have a password in it.
        _log.error("a checker failed: {kind}", kind=type(failure.value).__qualname__)
        self._on_refused("error")
        return _FAILED

    def _refuse_token(self) -> Response:
        return self._refuse("token", "the token is not known", _BAD_TOKEN if self._tokens else None)

    def _refuse(self, reason: str, detail: str, bearer: tuple[bytes, bytes] | None = _BEARER) -> Response:
        """Make a 401 with what is taken (RFC 9110, section 11.6.1); a 403 where only a proxy can sign anybody in."""
        self._on_refused(reason)
        challenges = [_BASIC] * bool(self._passwords) + [bearer or _BEARER] * bool(self._tokens)
        if not challenges:
            return problem(403, "forbidden", "only the proxy in front can sign anybody in")
        return problem(401, "unauthorized", detail, *challenges)


def _user_of(avatar: object) -> str:
    """Return the name that a checker found. Raises UnauthorizedLogin if it is no user's."""
    raw = avatar.encode("utf-8", "surrogateescape") if isinstance(avatar, str) else avatar
    try:
        return user_name(raw if isinstance(raw, bytes) else b"")  # () is an anonymous user, which is none here
    except ValueError:
        raise UnauthorizedLogin from None


def _now_or_later(asked: "Deferred[Verdict]") -> "Verdict | Deferred[Verdict]":
    """Return the result if it is there: most are, and then the connection needn't wait."""
    if not asked.called or asked.paused:
        return asked
    found: list[Verdict] = []
    asked.addCallback(found.append)
    return found[0]
