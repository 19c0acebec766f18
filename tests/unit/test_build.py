"""What the parts get from the settings."""

from twisted.trial.unittest import SynchronousTestCase

from merlind import build, tap
from merlind.web.page.facts import Facts
from tests.unit.test_settings import parsed


class FactsTests(SynchronousTestCase):
    """What the pages say."""

    def facts(self, *arguments: str, face: bool = True) -> Facts:
        """The facts with these options, where the face scorer is installed, or isn't."""
        self.patch(build, "face_installed", lambda: face)
        return build.page_facts(tap.make_settings(parsed(*arguments)))

    def test_service(self) -> None:
        """A scoring service is named by its host, without user, port and path."""
        for url, host in (
            ("http://merlinface.com:12345/api/", "merlinface.com"),
            ("https://Faces.Example.org", "faces.example.org"),
            ("http://[2001:db8::1]:80/", "2001:db8::1"),
        ):
            facts = self.facts(f"--upstream={url}")
            self.assertEqual((facts.scorer, facts.host), ("url", host))

    def test_own_scorer(self) -> None:
        """merlind's own scorer is the one that runs."""
        for upstream, face, scorer in (
            ("embedded", True, "face"),
            ("embedded", False, "stand-in"),
            ("embedded:stand-in", True, "stand-in"),
            ("embedded:face", True, "face"),
        ):
            facts = self.facts(f"--upstream={upstream}", face=face)
            self.assertEqual((facts.scorer, facts.host), (scorer, None))

    def test_settings(self) -> None:
        """What is kept for how long, and how large a photo may be, are those of the options."""
        facts = self.facts("--retention=60", "--give-up-after=20", "--keep-failed=30", "--max-photo-bytes=5000")
        self.assertEqual((facts.retention, facts.longest_kept, facts.max_photo_bytes), (60.0, 50.0, 5000))
