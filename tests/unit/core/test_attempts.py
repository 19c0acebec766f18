"""How many wrong passwords a client may send."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.attempts import MAX_CLIENTS, MAX_FAILURES, WINDOW, Attempts


class AttemptsTests(SynchronousTestCase):
    """Wrong passwords by client."""

    def setUp(self) -> None:
        self.attempts = Attempts()

    def test_too_many(self) -> None:
        """After so many in a minute, a client waits until that is over; others don't."""
        for second in range(MAX_FAILURES):
            self.assertEqual(self.attempts.seconds_to_wait("a", second), 0)
            self.attempts.begin("a", second)

        self.assertEqual(self.attempts.seconds_to_wait("a", MAX_FAILURES), WINDOW - MAX_FAILURES)
        self.assertEqual(self.attempts.seconds_to_wait("b", MAX_FAILURES), 0)

        self.assertEqual(self.attempts.seconds_to_wait("a", WINDOW), 0)
        self.attempts.begin("a", WINDOW)
        self.assertEqual(self.attempts.seconds_to_wait("a", WINDOW), 0)

    def test_at_once(self) -> None:
        """Those that are still being checked count too, until they turn out to be right."""
        begun = [self.attempts.begin("a", 0) for _ in range(MAX_FAILURES)]
        self.assertEqual(self.attempts.seconds_to_wait("a", 0), WINDOW)

        begun[0].forgive()

        self.assertEqual(self.attempts.seconds_to_wait("a", 0), 0)

    def test_forgiven_late(self) -> None:
        """One that turns out to be right after its minute changes nothing in the next."""
        late = self.attempts.begin("a", 0)
        for _ in range(MAX_FAILURES):
            self.attempts.begin("a", WINDOW)
        late.forgive()
        self.assertEqual(self.attempts.seconds_to_wait("a", WINDOW), WINDOW)

    def test_memory(self) -> None:
        """Clients whose minute is over are forgotten, and there are never more than so many."""
        for number in range(MAX_CLIENTS + 10):
            self.attempts.begin(str(number), 0)
        self.assertEqual(len(self.attempts), MAX_CLIENTS)
        self.attempts.begin("new", WINDOW)
        self.assertEqual(len(self.attempts), 1)
