"""Whom a connection is counted for, and who sent a request: the limits by client need both."""

from merlind.core.client_limit import ClientLimit
from merlind.core.clients import ClientAddresses
from merlind.tasks.refusals import ClientOverLimit
from merlind.web.server.head import Head


class Admission:
    """Counts connections by client.

    A connection counts for its peer from the start. That of a trusted proxy counts only from its first request on, and
    only if that doesn't tell another client: a proxy's connections are shared by its clients.
    """

    def __init__(self, addresses: ClientAddresses, limit: ClientLimit) -> None:
        self._addresses = addresses
        self._limit = limit

    def full(self, peer: str | None) -> ClientOverLimit | None:
        """Return why a peer may not connect, or None if it may."""
        client = self._addresses.client_of(peer, (), ())
        if self._addresses.is_trusted(peer) or not self._limit.full(client):
            return None
        return ClientOverLimit("connections", self._limit.most, client)

    def admit(self, peer: str | None) -> "Admitted":
        """Count a new connection, which the limit allows."""
        return Admitted(self._addresses, self._limit, peer)


class Admitted:
    """One connection. ``leave`` it when it is lost."""

    __slots__ = ("_addresses", "_counted", "_limit", "_own", "_peer", "_trusted")

    def __init__(self, addresses: ClientAddresses, limit: ClientLimit, peer: str | None) -> None:
        self._addresses = addresses
        self._limit = limit
        self._counted: str | None = None
        self._set_peer(peer)
        if not self._trusted:
            self._count(self.client_of(None))

    def look_again(self, peer: str | None, head: Head) -> None:
        """Look again at the first request: ``peer`` may be another one by now, told by the PROXY protocol.

        Raises ClientOverLimit.
        """
        if peer != self._peer:
            self.leave()
            self._set_peer(peer)
        client = self.client_of(None)
        if self._counted is None and self.client_of(head) == client:
            if self._limit.full(client):
                raise ClientOverLimit("connections", self._limit.most, client)
            self._count(client)

    def client_of(self, head: Head | None) -> str:
        """Return who sent a request; None is one that tells no address."""
        if head is None or not self._trusted:
            return self._own
        forwarded, x_forwarded_for = head.get_all(b"forwarded"), head.get_all(b"x-forwarded-for")
        if not forwarded and not x_forwarded_for:
            return self._own
        return self._addresses.client_of(self._peer, forwarded, x_forwarded_for)

    def leave(self) -> None:
        """Count it no longer."""
        if self._counted is not None:
            self._limit.leave(self._counted)
            self._counted = None

    def _set_peer(self, peer: str | None) -> None:
        self._peer = peer
        self._trusted = self._addresses.is_trusted(peer)
        self._own = self._addresses.client_of(peer, (), ())

    def _count(self, client: str) -> None:
        self._limit.add(client)
        self._counted = client
