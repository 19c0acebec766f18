"""The data files that come with the face scorer."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

DATA = Path(str(files("merlind.merlinface.scorer"))) / "data"
NAMES = {"names.bin", "guess.bin", "yunet.onnx", "faceres.onnx"}


class DataTests(SynchronousTestCase):
    """Files, provenance and licences."""

    def test_checksums(self) -> None:
        """SOURCES.md has the SHA-256 of every data file as it is."""
        listed = dict(re.findall(r"^\| `(\S+)` \|.*`([0-9a-f]{64})` \|$", (DATA / "SOURCES.md").read_text(), re.M))

        self.assertEqual(
            listed, {name: hashlib.sha256((DATA / name).read_bytes()).hexdigest() for name in sorted(NAMES)}
        )

    def test_licences(self) -> None:
        """Every licence text that SOURCES.md names is there, and no other."""
        named = set(re.findall(r"\(LICENSES/(\S+?)\)", (DATA / "SOURCES.md").read_text()))

        self.assertEqual(named, {file.name for file in (DATA / "LICENSES").iterdir()})
        self.assertTrue(named)
