"""TLS to the upstream: a connection counts as made when its handshake is done, and a failed handshake says why.

Twisted's own endpoint counts it as made before the handshake, and says of a bad certificate only that it is bad.
"""

from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from merlind.core.outcome import Fault
from merlind.upstream.errors import NoConnection

_UNKNOWN_ISSUER = "comes from an unknown issuer"
_VERIFY_ERRORS = {
    2: _UNKNOWN_ISSUER,
    9: "is not valid yet",
    10: "has expired",
    18: f"{_UNKNOWN_ISSUER}: it signed itself",
    19: _UNKNOWN_ISSUER,
    20: _UNKNOWN_ISSUER,
    21: _UNKNOWN_ISSUER,
    23: "was revoked",
    24: "was issued by one that may not issue any",
    26: "is not meant for a server",
    66: "has a key that is too weak",
    67: "has a key that is too weak",
    68: "has a signature that is too weak",
    79: "was issued by one that may not issue any",
}
"""What is wrong with a certificate, by OpenSSL's code (X509_STORE_CTX_get_error(3))."""


@implementer(IStreamClientEndpoint, IOpenSSLClientConnectionCreator)
class TlsEndpoint:
    """Connects to ``host`` through the endpoint ``tcp``, and speaks TLS there.

    ``connect`` fires after the handshake, with the certificate and its name verified. It fails with NoConnection if
    the handshake does, else as ``tcp`` does.
    """

    def __init__(self, reactor: IReactorTime, host: str, tcp: IStreamClientEndpoint) -> None:
        self._reactor = reactor
        self._host = host
        self._tcp = tcp
        self._options = optionsForClientTLS(host)

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        handshakes = Factory.forProtocol(lambda: _Handshake(self._host, protocolFactory))
        handshakes.noisy = False
        connecting: Deferred[Any] = self._tcp.connect(TLSMemoryBIOFactory(self, True, handshakes, self._reactor))
        return connecting.addCallback(lambda tls: tls.wrappedProtocol.done)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make OpenSSL's side of a connection, which verifies the certificate's chain but not its name."""

        def verify(connection: SSL.Connection, certificate: X509, code: int, depth: int, valid: int) -> bool:
            if not valid:
                which = "the certificate" if depth == 0 else "a certificate in its chain"
                tlsProtocol.failVerification(_refusal(f"{which} {describe_code(code)}"))
            return bool(valid)

        connection: SSL.Connection = self._options.clientConnectionForTLS(tlsProtocol)
        # In place of Twisted's callback, which also lets certificates pass that have no name at all.
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """Has a connection's place until the handshake is done; ``done`` fires with the protocol that has it then."""

    transport: Any

    def __init__(self, host: str, factory: IProtocolFactory) -> None:
        self.done: Deferred[IProtocol] = Deferred(lambda _: self.transport.abortConnection())
        self._host = host
        self._factory = factory

    def handshakeCompleted(self) -> None:
        try:
            _verify_name(self.transport.getHandle(), self._host)
        except VerificationError:
            self.transport.failVerification(_refusal(f"the certificate is for another name than {self._host}"))
        except CertificateError:
            self.transport.failVerification(_refusal("the certificate has no usable name"))
        else:
            protocol = self._factory.buildProtocol(self.transport.getPeer())
            assert protocol is not None, "the factory always makes one"
            self.transport.wrappedProtocol = protocol
            protocol.makeConnection(self.transport)
            self.done.callback(protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return  # cancelled
        if reason.check(NoConnection) is None:
            words = describe(reason.value)
            lost = NoConnection("lost in the TLS handshake")
            reason = Failure(lost) if words is None else _refusal(words)
        self.done.errback(reason)


def _verify_name(connection: SSL.Connection, host: str) -> None:
    """Verify that the peer's certificate is for ``host``. Raises VerificationError and CertificateError."""
    verify = verify_ip_address if isIPAddress(host) or isIPv6Address(host) else verify_hostname
    verify(connection, host)


def _refusal(words: str) -> Failure:
    return Failure(NoConnection(f"TLS trouble: {words}", Fault.MISCONFIGURED))


def describe_code(code: int) -> str:
    """Return in words what is wrong with a certificate, after its subject, by OpenSSL's code for it."""
    return _VERIFY_ERRORS.get(code, f"can't be verified (OpenSSL's error {code})")


def describe(error: BaseException | None) -> str | None:
    """Return OpenSSL's words for an error of TLS; None for any other error."""
    if not isinstance(error, SSL.Error):
        return None
    queue = error.args[0] if error.args else None
    return str(queue[-1][-1]) if isinstance(queue, list) and queue else type(error).__name__
