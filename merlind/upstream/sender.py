"""Sends forms in pieces to the upstream, through treq. Imported with the first: treq takes a tenth of a start."""

from typing import Any

from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from merlind.upstream.agent import KeepAliveAgent
from merlind.upstream.response_parser import UpstreamResponse

_DROPPED_REQUEST_HEADERS = frozenset({b"accept-encoding", b"host", b"content-length", b"connection"})


class FormSender:
    """Posts forms with these headers to the URL of an agent."""

    def __init__(self, agent: KeepAliveAgent, url: str, headers: Headers) -> None:
        self._treq = HTTPClient(TreqAgent(agent), _NO_COOKIES)
        self._url = _FixedURL.from_text(url)
        self._headers = headers

    def send(self, body: IBodyProducer) -> "Deferred[UpstreamResponse]":
        """Post it. Fails as the agent's ``exchange`` does, and as the body."""
        sent: Deferred[Any] = self._treq.request(
            "POST",
            self._url,
            headers=self._headers,
            data=body,
            cookies=_NO_COOKIES,
            allow_redirects=False,
            unbuffered=True,
        )
        # Its body needs no collecting: it came whole.
        return sent.addCallback(lambda response: response.original.answer)


class _NoCookies(IndexableCookieJar):
    """A jar that neither keeps cookies nor gives any: merlinface has none, and looking for them takes time."""

    def add_cookie_header(self, request: object) -> None:
        """There are none."""

    def extract_cookies(self, response: object, request: object) -> None:
        """None are kept."""


_NO_COOKIES = _NoCookies()


class _FixedURL(EncodedURL):
    """A URL that is written out as it is: treq would parse, encode and write it anew, three quarters of its work."""

    def to_uri(self) -> "_FixedURL":
        return self


@implementer(IAgent)
class TreqAgent:
    """The same as an IAgent, for treq to build upon. The ``answer`` of its responses is the answer, whole already."""

    def __init__(self, agent: KeepAliveAgent) -> None:
        self._agent = agent

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> "Deferred[Any]":
        assert bodyProducer is not None, "the upstream is only ever sent forms"
        lines = [b"%s %s HTTP/1.1" % (method, self._agent.target.encode("ascii"))]
        lines.append(b"Host: " + self._agent.host.encode("ascii"))
        lines.append(b"Content-Length: %d" % bodyProducer.length)
        for name, values in (headers or Headers()).getAllRawHeaders():
            if name.lower() not in _DROPPED_REQUEST_HEADERS:
                lines += [name + b": " + value for value in values]
        exchange: Deferred[Any] = self._agent.exchange((b"\r\n".join(lines) + b"\r\n\r\n",), bodyProducer)
        return exchange.addCallback(_Response)


class _Response:
    """An answer on its way through treq's layers: they look at its headers alone, and it has none for them."""

    def __init__(self, answer: UpstreamResponse) -> None:
        self.answer = answer
        self.code = answer.code
        self.length = len(answer.body)
        self.headers = Headers()
