"""One request: its body streams into a receiver, and then it is handled."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.clients import user_key
from merlind.core.users import ANONYMOUS
from merlind.web.response import NO_STORAGE, HTTPError, Response, problem
from merlind.web.server.head import Head
from merlind.web.server.interfaces import BodyReceiver, Entry

_INTERNAL_ERROR = problem(500, "internal_error", "the server failed")


class Request:
    """A request with the head ``head`` from ``client``, which is who asks, for the limits by client.

    ``respond`` is called with the response, unless the client goes away before that.
    """

    _log = Logger()

    def __init__(self, head: Head, client: str, entry: Entry, respond: Callable[[Response], None]) -> None:
        self.head = head
        self.client = client
        self.user = ANONYMOUS
        self.receiver: BodyReceiver | None = None
        """What takes the body. A handler that takes it over sets this to None."""
        self._entry = entry
        self._respond: Callable[[Response], None] | None = respond
        self._on_gone: Callable[[], None] | None = None
        self._on_identified: Callable[[Response | None], None] | None = None

    def identify(self, by_unix_socket: bool, then: Callable[[Response | None], None]) -> bool:
        """Find out who asks, and call ``then`` with the response that refuses the request, or None to go on with it.

        Returns False if that takes time; ``then`` isn't called if the client goes away meanwhile.
        """
        self._on_identified = then
        try:
            verdict = self._entry.identify(self.head, self.client, by_unix_socket)
        except Exception:
            self._log.failure("unexpected error in a request")
            verdict = _INTERNAL_ERROR
        if isinstance(verdict, Deferred):
            verdict.addCallback(self._identified)
            return False
        self._identified(verdict)
        return True

    def _identified(self, verdict: str | Response) -> None:
        then, self._on_identified = self._on_identified, None
        if then is None:
            return
        if isinstance(verdict, str):
            self.user = verdict
            if verdict != ANONYMOUS:
                self.client = user_key(verdict)
        then(None if isinstance(verdict, str) else verdict)

    def open_body(self) -> None:
        """Choose what takes the body. Raises HTTPError."""
        self.receiver = self._entry.open_body(self.head, self.client)

    def write_body(self, data: bytes) -> None:
        """Take the next bytes of the body. Raises HTTPError."""
        if self.receiver is None:
            return
        try:
            self.receiver.write(data)
        except OSError as error:
            self._log.error("a photo could not be written: {why}", why=error.strerror)
            raise HTTPError(NO_STORAGE) from error

    def handle(self) -> None:
        """Find the response, now that the request is whole."""
        try:
            response = self._entry.respond(self)
        except Exception:
            self._failed(Failure())
            return
        if isinstance(response, Response):
            self._finish(response)
        else:
            response.addCallback(self._finish).addErrback(self._failed)

    def when_gone(self, call: Callable[[], None]) -> None:
        """Call this if the client goes away before the response; now, if it has gone already."""
        if self._respond is None:
            call()
        else:
            self._on_gone = call

    def end(self) -> None:
        """Discard what came in: the client has gone, or was refused. What a handler has begun goes on to its end.

        Nothing is cancelled: an exception in a coroutine would keep its frames, and with them the connection, until the
        garbage is collected.
        """
        self._respond = self._on_identified = None
        self._discard()
        on_gone, self._on_gone = self._on_gone, None
        if on_gone is not None:
            on_gone()

    def _finish(self, response: Response) -> None:
        self._on_gone = None
        self._discard()
        respond, self._respond = self._respond, None
        if respond is not None:
            respond(response)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("unexpected error in a request", failure=failure)
        self._finish(_INTERNAL_ERROR)

    def _discard(self) -> None:
        if self.receiver is not None:
            self.receiver.discard()
            self.receiver = None
