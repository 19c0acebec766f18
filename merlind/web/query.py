"""Reads a task's number from a query or a urlencoded form."""

import re
from urllib.parse import parse_qsl

from merlind.web.mistakes import wrong_query
from merlind.web.response import HTTPError, problem

_MAX_PARAMETERS = 32
_TASK_ID = re.compile(r"[0-9]{1,16}", re.ASCII)


def task_id_in(query: bytes, field: str = "task_id") -> int:
    """Return the task id in ``field``. Raises HTTPError, 400, unless there is exactly one, of 1 to 16 digits."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        raise HTTPError(problem(400, "bad_task_id", f"the query has more than {_MAX_PARAMETERS} parameters")) from None
    values = [value for name, value in pairs if name == field]
    if len(values) != 1 or not _TASK_ID.fullmatch(values[0]):
        raise HTTPError(problem(400, "bad_task_id", wrong_query(pairs)))
    return int(values[0])
