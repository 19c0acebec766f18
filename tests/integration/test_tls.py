"""An upstream with certificates that merlind must not trust, and one that it may; over real sockets.

Codes such as U18 are rows of docs/battery.md.
"""

from functools import partial

from tests.certificates import make_identity
from tests.client import png, post
from tests.processes import HOST, Merlind, ProcessCase, until
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
