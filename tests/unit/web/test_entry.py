"""The entry point: which responses go through its adapters."""

from merlind.web.response import Response
from merlind.web.server.head import Head
from tests.unit.web.support import EdgeCase, get, message, post


def _mark(head: Head, response: Response) -> Response:
    return response.with_header(b"X-Path", head.path)


class AdapterTests(EdgeCase):
    """Adapters: the last look at a response."""

    adapters = (_mark,)

    def mark(self, data: bytes) -> str | None:
        """What the adapter has set in the response to ``data``."""
        return self.connect().send(data).reply().get("X-Path")

    def test_adapted(self) -> None:
        """Responses of handlers and of the router, and refusals before the body, go through the adapters."""
        for data in (post(), get(5), message("PUT", "/"), message("POST", "/", b"x", Content_Type="text/plain")):
            self.assertEqual(self.mark(data), "/")
        self.assertEqual(self.mark(message("GET", "/other")), "/other")

    def test_without_a_head(self) -> None:
        """A response to what couldn't be parsed stays as it is."""
        self.assertIsNone(self.mark(b"GET / HTTP/1.1\r\nno colon\r\n\r\n"))

    def test_fast_path(self) -> None:
        """A plain status request gets its response from memory as it is."""
        task = self.connect().send(post()).reply().json["task"]
        self.assertIsNone(self.mark(get(task)))
        self.assertEqual(self.mark(get(task, Prefer="wait=0")), "/")
