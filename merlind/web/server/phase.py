"""The phases of a connection: what each may be followed by, and how long it may last."""

from enum import Enum


class Phase(Enum):
    """What a connection does just now."""

    IDLE = "waiting for a request"
    HEAD = "receiving a request line or headers"
    SIGNING_IN = "waiting for the word on who asks"
    BODY = "receiving a body"
    HANDLING = "waiting for the response"
    SENDING = "handing the response to the kernel, which waits for the client to read"
    LINGERING = "refused; reading on until the client has seen the response"
    CLOSING = "closed by us; the client has not closed yet"
    CLOSED = "closed"

    __hash__ = object.__hash__  # Enum's own is written in Python, and each request looks phases up


IDLE_TIMEOUT = 60.0
"""Seconds that a connection may stay open without a request."""

HEADER_TIMEOUT = 20.0
"""Seconds from a request's first byte to the end of its head."""

SIGN_IN_TIMEOUT = 20.0
"""Seconds that it may take to find out who asks."""

BODY_GRACE = 20.0
"""Seconds that a body may take in addition to those that its size takes at the minimum rate."""

SEND_TIMEOUT = 30.0
"""Seconds that a client may take to read a response."""

LINGER_TIMEOUT = 5.0
"""Seconds that a refused client may go on sending, so that it reads the response and not a reset; and seconds that a
response may take once the client has closed its direction: it may as well have gone away."""

DEADLINES: dict[Phase, float | None] = {
    Phase.IDLE: IDLE_TIMEOUT,
    Phase.HEAD: HEADER_TIMEOUT,
    Phase.SIGNING_IN: SIGN_IN_TIMEOUT,
    Phase.BODY: BODY_GRACE,
    Phase.HANDLING: None,
    Phase.SENDING: SEND_TIMEOUT,
    Phase.LINGERING: LINGER_TIMEOUT,
    Phase.CLOSING: LINGER_TIMEOUT,
    Phase.CLOSED: None,
}
"""Seconds that a phase may last."""

RECEIVING = frozenset({Phase.IDLE, Phase.HEAD, Phase.BODY})
"""The phases in which bytes of a request are parsed."""

_ENDS = frozenset({Phase.CLOSING, Phase.CLOSED})

TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: _ENDS | {Phase.HEAD, Phase.SIGNING_IN, Phase.BODY, Phase.HANDLING, Phase.LINGERING},
    Phase.HEAD: _ENDS | {Phase.SIGNING_IN, Phase.BODY, Phase.HANDLING, Phase.LINGERING},
    Phase.SIGNING_IN: _ENDS | {Phase.BODY, Phase.HANDLING, Phase.LINGERING},
    Phase.BODY: _ENDS | {Phase.HANDLING, Phase.LINGERING},
    Phase.HANDLING: _ENDS | {Phase.HANDLING, Phase.SENDING, Phase.LINGERING},
    Phase.SENDING: _ENDS | {Phase.IDLE},
    Phase.LINGERING: _ENDS,
    Phase.CLOSING: _ENDS,
    Phase.CLOSED: frozenset(),
}
"""What may follow each phase."""
