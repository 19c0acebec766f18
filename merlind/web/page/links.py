"""Links between the pages: a query alone, and so right below any path that a proxy serves merlind at."""

from urllib.parse import urlencode


def link(language: str | None, task_id: int | None = None, erased: bool = False) -> str:
    """Return the link to a task's page, or to the form; ``language`` is there if the person chose it."""
    query: dict[str, object] = {}
    if task_id is not None:
        query["task_id"] = task_id
    if erased:
        query["erased"] = 1
    if language is not None:
        query["lang"] = language
    return "?" + urlencode(query)
