"""Settings that are fitted to the limit on open files."""

from twisted.trial.unittest import SynchronousTestCase

from merlind import tap
from merlind.settings import MAX_REFUSED_CONNECTIONS, OWN_FILES, fit_open_files


class OpenFilesTests(SynchronousTestCase):
    """What a limit on open files allows."""

    def fitted(self, files: int, *arguments: str) -> tuple[int, int, int]:
        """Requests to the upstream, uploads and connections with so many files."""
        options = tap.Options({})
        options.parseOptions(arguments)
        settings = fit_open_files(tap.make_settings(options), files)
        return settings.upstream_concurrency, settings.max_uploads, settings.max_connections

    def test_plenty(self) -> None:
        """With enough files, nothing is cut."""
        self.assertEqual(self.fitted(1_000_000), (32, 512, 20_000))

    def test_few(self) -> None:
        """Everything fits together, and there is at least one of each."""
        for files in (0, 1, 20, 30, 64, 100, 256, 1024, 4096, 20_000):
            concurrency, uploads, connections = self.fitted(files)
            self.assertTrue(min(concurrency, uploads, connections) >= 1, files)
            if files >= 64:
                refused = min(MAX_REFUSED_CONNECTIONS, connections)
                self.assertLessEqual(OWN_FILES + 2 * concurrency + uploads + connections + refused, files)

    def test_not_raised(self) -> None:
        """No setting becomes larger than the operator chose."""
        few = ("--upstream-concurrency=2", "--max-uploads=3", "--max-connections=4")
        self.assertEqual(self.fitted(1_000_000, *few), (2, 3, 4))
