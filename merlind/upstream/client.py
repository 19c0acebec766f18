"""The client of merlinface: sends one request for a task, and says what came of it.

Whether and when to try again is the scheduler's decision.
"""

import secrets
from collections.abc import Callable
from http.cookiejar import CookieJar

from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.internet.defer import TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from merlind.core.interfaces import PhotoMissing, PhotoStore
from merlind.core.outcome import (
    TOO_FEW_FILES,
    Fault,
    HandleExpired,
    Outcome,
    Pending,
    Rejected,
    Scored,
    TransientError,
)
from merlind.core.task import Task
from merlind.daemon.clock import ServiceClock
from merlind.upstream.agent import CompleteResponse, KeepAliveAgent
from merlind.upstream.errors import NoConnection, OutcomeUnknown
from merlind.upstream.form import poll_form, upload_form
from merlind.upstream.reply import interpret
from merlind.upstream.response_parser import BadResponse

_LABELS: dict[type, str] = {
    Scored: "scored",
    Pending: "pending",
    Rejected: "rejected",
    HandleExpired: "handle_expired",
    TransientError: "transient_error",
}
"""What an outcome is called in the metrics."""


class MerlinfaceClient:
    """Speaks the upstream side of docs/contract.md with the URL of ``agent``.

    ``timeout`` bounds one whole request, from connecting to the response's last byte, in seconds.
    ``on_request(kind, outcome, seconds)`` is called when one has ended.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        clock: ServiceClock,
        agent: KeepAliveAgent,
        photos: PhotoStore,
        on_request: Callable[[str, str, float], None],
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._agent = agent
        self._treq = HTTPClient(agent)
        # The agent has the URL. This refers to the same (RFC 3986, section 4.4), and treq need not encode it each time.
        self._same_url = EncodedURL()
        self._no_cookies = CookieJar()  # given one, treq makes none for each request
        self._photos = photos
        self._on_request = on_request
        self._timeout = timeout
        # Random, so that nobody can make a photo with the boundary in it.
        self._boundary = secrets.token_hex(16).encode("ascii")
        self._headers = Headers(
            {
                b"Content-Type": [b"multipart/form-data; boundary=" + self._boundary],
                b"Accept": [b"application/json"],
                b"User-Agent": [b"merlind"],
            }
        )
        # What all polls have in common, around the length of their form.
        lines = [name + b": " + value for name, values in self._headers.getAllRawHeaders() for value in values]
        opening = f"POST {agent.target} HTTP/1.1\r\nHost: {agent.host}\r\nAccept-Encoding: identity\r\nContent-Length: "
        self._poll_opening = opening.encode("ascii")
        self._poll_ending = b"\r\n".join((b"", *lines, b"", b""))

    async def send(self, task: Task) -> Outcome:
        """Send one request for a task: its photo, or a poll once it has a retry_id.

        Returns an outcome whatever the upstream does. Raises PhotoMissing, and CancelledError when cancelled, which
        closes the connection and the photo's file.
        """
        kind = "upload" if task.retry_id is None else "poll"
        began = self._reactor.seconds()
        label = "cancelled"
        try:
            outcome = await (self._upload(task) if task.retry_id is None else self._poll(task, task.retry_id))
            label = _LABELS[type(outcome)]
        except PhotoMissing:
            label = "photo_missing"
            raise
        except (TimeoutError, NoConnection, OutcomeUnknown, BadResponse) as error:
            outcome = _no_response(error)
            label = _LABELS[TransientError]
            self._log.debug("{kind} failed: {reason}", kind=kind, reason=outcome.reason)
        finally:
            self._on_request(kind, label, self._reactor.seconds() - began)
        return outcome

    async def _poll(self, task: Task, retry_id: str) -> Outcome:
        # Polls are most of the requests. They bypass treq: all of a poll but the form and its length is ready already.
        form = poll_form(self._boundary, retry_id)
        request = (self._poll_opening, b"%d" % len(form), self._poll_ending, form)
        response = await self._agent.send(request).addTimeout(self._timeout, self._reactor)
        return interpret(True, response, self._clock.wall(), (task.name, retry_id))

    async def _upload(self, task: Task) -> Outcome:
        try:
            photo = self._photos.open(task)
        except OSError:
            return TransientError(TOO_FEW_FILES, fault=Fault.UNAVAILABLE, sent=False)
        with photo:
            form = upload_form(self._boundary, task.name, photo, task.photo)
            sent = self._treq.post(
                self._same_url,
                data=form,
                headers=self._headers,
                cookies=self._no_cookies,
                allow_redirects=False,
                unbuffered=True,
            )
            response = await sent.addTimeout(self._timeout, self._reactor)
        complete = response.original  # treq's response wraps the agent's
        assert isinstance(complete, CompleteResponse)
        return interpret(False, complete.response, self._clock.wall(), (task.name,))


def _no_response(error: Exception) -> TransientError:
    """Describe a request without a usable response, in a few words that are the same each time."""
    match error:
        case TimeoutError():
            return TransientError("timed out", fault=Fault.UNAVAILABLE)
        case NoConnection():
            return TransientError(f"no connection: {error}", fault=error.fault, sent=False)
        case OutcomeUnknown():
            return TransientError(f"{error}, outcome unknown", fault=error.fault)
        case _:
            return TransientError(f"{error}, outcome unknown", fault=Fault.RESPONSE)
