"""TLS over real sockets: an upstream with certificates that merlind must not trust, and merlind's own listener.

Codes such as U18 are rows of docs/battery.md.
"""

import socket
import ssl
from functools import partial

from tests.certificates import make_identity
from tests.client import png, post
from tests.processes import HOST, Merlind, ProcessCase, free_port, until
from tests.upstream import Upstream, UpstreamRequest


class CertificateTest(ProcessCase):
    """merlind with an upstream whose URL is https."""

    def test_bad_certificates_are_named_and_get_nothing(self) -> None:
        """The log names what is wrong; nothing is sent, and once the certificate is mended the task is scored (U18)."""
        authority = make_identity("authority.example")
        trusted = self.folder / "trusted.pem"
        trusted.write_bytes(authority.certificate_pem)
        for identity, words in (
            (make_identity(HOST, days=(-20, -1), issuer=authority), "the certificate has expired"),
            (make_identity("other.example", issuer=authority), f"the certificate is for another name than {HOST}"),
            (make_identity(HOST), "the certificate comes from an unknown issuer"),
            (make_identity(issuer=authority), "the certificate has no usable name"),
        ):
            upstream = Upstream(self.addCleanup, UpstreamRequest.score, tls=identity.server_context(self.folder))
            merlind = self.merlind(upstream=upstream.url, env={"SSL_CERT_FILE": str(trusted)}).start()
            task = post(merlind.port, "Ada", png()).json()["task"]
            until(partial(self.has_logged, merlind, words), f'"{words}" in the log')
            self.assertNotIn("outcome unknown", merlind.log())
            self.assertEqual((merlind.get(task).code, upstream.requests), (202, []))
            upstream.tls = make_identity(HOST, issuer=authority).server_context(self.folder)
            self.assertEqual(merlind.get(task, wait=60).code, 200)
            self.assert_no_traceback(merlind)
            merlind.kill()

    def has_logged(self, merlind: Merlind, words: str) -> bool:
        return words in merlind.log()


class ListenerTest(ProcessCase):
    """merlind's own TLS, on an ``ssl:`` endpoint."""

    def test_serves_by_tls(self) -> None:
        """A client that asks for HTTP by its name (ALPN) gets it, and what it pipelines is answered in order."""
        identity = make_identity("localhost")
        pem = self.folder / "server.pem"
        pem.write_bytes(identity.key_pem + identity.certificate_pem)
        port = free_port()
        merlind = Merlind(
            self.addCleanup, self.folder, f"--listen=ssl:{port}:interface={HOST}:privateKey={pem}"
        ).start()
        context = ssl.create_default_context(cadata=identity.certificate_pem.decode("ascii"))
        for offered in (["h2", "http/1.1"], ["http/1.1"], []):
            if offered:
                context.set_alpn_protocols(offered)
            with socket.create_connection((HOST, port), 30) as raw:
                client = context.wrap_socket(raw, server_hostname="localhost")
                client.sendall(b"GET /?task_id=1 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
                received = b""
                while received.count(b"HTTP/1.1 404 ") < 100:
                    received += client.recv(65536)
                client.close()
        merlind.stop()
