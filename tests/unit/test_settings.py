"""Settings that are fitted to the limit on open files."""

from twisted.trial.unittest import SynchronousTestCase

from merlind import tap
from merlind.settings import MAX_REFUSED_CONNECTIONS, OWN_FILES, WORKER_PIPES, fit_open_files


def parsed(*arguments: str) -> tap.Options:
    """The options of a command line."""
    options = tap.Options({})
    options.parseOptions(arguments)
    return options


class OpenFilesTests(SynchronousTestCase):
    """What a limit on open files allows."""

    def fitted(self, files: int, *arguments: str) -> tuple[int, int, int]:
        """Requests to the upstream, uploads and connections with so many files."""
        settings = fit_open_files(tap.make_settings(parsed(*arguments)), files)
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

    def test_embedded(self) -> None:
        """Where the upstream is embedded, both ends of a request's connection count, and each worker's pipes."""
        for files in (128, 256, 1024, 4096):
            for workers in (0, 1, 7):
                settings = fit_open_files(tap.make_settings(parsed("--upstream=embedded")), files, workers)
                concurrency, uploads = settings.upstream_concurrency, settings.max_uploads
                connections = settings.max_connections + min(MAX_REFUSED_CONNECTIONS, settings.max_connections)
                taken = OWN_FILES + WORKER_PIPES * workers + 3 * concurrency + uploads + connections
                self.assertLessEqual(taken, files, (files, workers))

    def test_no_client_gets_everything(self) -> None:
        """However few files there are, one client gets at most half of what there is, and at least one of each."""
        for files in (0, 64, 256, 1024, 4096, 1_000_000):
            settings = fit_open_files(tap.make_settings(parsed()), files)
            for most, total in (
                (settings.max_connections_per_client, settings.max_connections),
                (settings.max_long_polls_per_client, settings.max_connections),
                (settings.max_uploads_per_client, settings.max_uploads),
                (settings.max_pending_per_client, settings.max_pending),
            ):
                self.assertTrue(most == 1 if total < 4 else 1 < most <= total // 2, (files, most, total))

    def test_limits_by_client(self) -> None:
        """What the operator chose stays, up to half of the total; 0, which sets no limit, stays too."""
        for total, most, expected in ((100, 50, 50), (100, 51, 50), (100, 7, 7), (100, 0, 0), (1, 1, 1), (1, 0, 0)):
            settings = fit_open_files(
                tap.make_settings(parsed(f"--max-pending={total}", f"--max-pending-per-client={most}")), 1_000_000
            )
            self.assertEqual(settings.max_pending_per_client, expected)

    def test_not_raised(self) -> None:
        """No setting becomes larger than the operator chose."""
        few = ("--upstream-concurrency=2", "--max-uploads=3", "--max-connections=4")
        self.assertEqual(self.fitted(1_000_000, *few), (2, 3, 4))
