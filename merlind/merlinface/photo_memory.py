"""How much memory photos may take, from their first byte until they have been looked at."""


class PhotoMemoryFull(Exception):
    """There is no room for more bytes of photos now."""


class PhotoMemory:
    """Room for so many bytes, which all photos share."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0
        """How many bytes are held."""

    def take(self, size: int) -> None:
        """Take room for more bytes. Raises PhotoMemoryFull."""
        if self.used + size > self._most:
            raise PhotoMemoryFull
        self.used += size

    def give(self, size: int) -> None:
        """Give room back."""
        self.used -= size


class HeldPhoto:
    """One photo, which counts until it is released."""

    def __init__(self, memory: PhotoMemory) -> None:
        self._memory = memory
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Add to the photo. Raises PhotoMemoryFull."""
        self._memory.take(len(data))
        self._size += len(data)
        self._pieces.append(bytes(data))

    def read(self) -> bytes:
        """Return the whole photo; it is held once, however it came in."""
        self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    def release(self) -> None:
        """Drop the photo; may be called again."""
        self._memory.give(self._size)
        self._size = 0
        self._pieces.clear()
