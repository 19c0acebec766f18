"""What is known of one photo with one name, as the results and the journal hold it."""

import json
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

Key = tuple[str, str]
"""What makes two submissions equal: the photo's SHA-256 digest in hexadecimal, and the name."""


class Stage(StrEnum):
    """How far a photo has come."""

    NEW = "new"
    """Not taken by the server yet."""
    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"
    """The task failed for good."""
    REFUSED = "refused"
    """The server didn't take it: no image, too large, no name."""
    GONE = "not_found"
    """The server no longer knows the task."""


FINISHED = frozenset({Stage.READY, Stage.FAILED, Stage.REFUSED})


@dataclass(frozen=True, slots=True)
class Record:
    """One photo with one name. ``photo`` is the path as it was given; ``sha256`` is in hexadecimal."""

    photo: str
    name: str
    sha256: str = ""
    task: int | None = None
    stage: Stage = Stage.NEW
    result: float | None = None
    error: str | None = None

    @property
    def key(self) -> Key:
        return self.sha256, self.name


COLUMNS = tuple("status" if field.name == "stage" else field.name for field in fields(Record))
"""The names of a record's values, as results and journal have them."""


def to_dict(record: Record) -> dict[str, Any]:
    """Return a record's values by their names in COLUMNS."""
    values = asdict(record)
    return {column: values["stage" if column == "status" else column] for column in COLUMNS}


def to_line(record: Record) -> str:
    """Return a record as a line of JSON, with its newline."""
    return json.dumps(to_dict(record), ensure_ascii=False) + "\n"


def from_line(line: str) -> Record:
    """Read a record from a line of JSON. Raises ValueError."""
    try:
        values = json.loads(line)
        record = Record(**{"stage" if name == "status" else name: value for name, value in values.items()})
        number = record.task is None or (isinstance(record.task, int) and record.task > 0)
        if not (number and isinstance(record.name, str) and isinstance(record.sha256, str)):
            raise ValueError(line)
        return Record(**{**asdict(record), "stage": Stage(record.stage)})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{line!r} is no record") from error
