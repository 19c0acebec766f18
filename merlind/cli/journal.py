"""The journal of ``merlinctl send -o FILE``: one line of JSON for each change, so that a second run goes on.

The last line of a photo and name is what holds. A line that was cut short, as kill -9 can leave the last one, counts as
not written: its photo is sent again, and the server, which knows it by its bytes, returns the same task.
"""

import os
from pathlib import Path
from typing import IO

from merlind.cli.exits import CommandError, Exit
from merlind.cli.record import Key, Record, from_line, to_line


class Journal:
    """A journal in a file, or in memory only if there is no path.

    Raises CommandError if the file can't be used, or is something else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._records: dict[Key, Record] = {}
        self._file: IO[str] | None = None
        if path is not None:
            try:
                self._read(path)
                self._file = path.open("a", encoding="utf-8")
            except OSError as error:
                raise CommandError(Exit.USAGE, f"{path} can't be used: {error.strerror}") from error

    def _read(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        whole, _, cut = data.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            try:
                record = from_line(line.decode("utf-8"))
            except ValueError:
                raise CommandError(
                    Exit.USAGE, f"{path}, line {number}: this is no journal of merlinctl; name another file"
                ) from None
            self._records[record.key] = record
        if cut:
            os.truncate(path, len(data) - len(cut))

    def find(self, key: Key) -> Record | None:
        """Return what is known of a photo and name, or None."""
        return self._records.get(key)

    def note(self, record: Record) -> None:
        """Write a change down, at once. Raises CommandError on a full disk."""
        self._records[record.key] = record
        if self._file is not None:
            try:
                self._file.write(to_line(record))
                self._file.flush()
            except OSError as error:
                raise CommandError(Exit.USAGE, f"the journal can't be written: {error.strerror}") from error
