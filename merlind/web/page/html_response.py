"""The response that a page goes out in."""

from merlind.web.response import Response


def html_response(code: int, html: bytes, policy: str, language: str) -> Response:
    """Make a response of a page."""
    headers = (
        (b"Content-Language", language.encode("ascii")),
        (b"Content-Security-Policy", policy.encode("ascii")),
        # Not no-referrer: with that, the Origin of a form is null, and looks like one of another site.
        (b"Referrer-Policy", b"same-origin"),
        (b"Vary", b"Accept, Accept-Language"),
    )
    return Response(code, html, b"text/html; charset=utf-8", headers)
