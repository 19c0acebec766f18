"""How many of something each client has at once, and whether it may have another."""


class ClientLimit:
    """Allows each client ``most`` of something; 0 sets no limit. Keeps nothing of clients that have none."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: dict[str, int] = {}

    def full(self, client: str) -> bool:
        """Whether a client has as many as it may have."""
        return 0 < self.most <= self._counts.get(client, 0)

    def enter(self, client: str) -> bool:
        """Count one more for a client, unless it has as many as it may have; returns whether it was counted."""
        if self.full(client):
            return False
        self.add(client)
        return True

    def add(self, client: str) -> None:
        """Count one more for a client, even past the limit."""
        if self.most:
            self._counts[client] = self._counts.get(client, 0) + 1

    def leave(self, client: str) -> None:
        """Count one less for a client. Raises KeyError if it has none."""
        if not self.most:
            return
        if self._counts[client] > 1:
            self._counts[client] -= 1
        else:
            del self._counts[client]

    @property
    def clients(self) -> int:
        """How many clients have any."""
        return len(self._counts)
