"""Counts and logs each response of the public listener: a POST's with its task, an error's with its code.

The log has no address, no query and no name in it.
"""

from twisted.logger import Logger

from merlind.daemon.metrics import Metrics
from merlind.web.response import METHODS, Response

_NAMES = {method: method.decode("ascii") for method in METHODS}
"""The methods by which responses are counted and logged; all others are one: a client could make up endless ones."""

_log = Logger()  # here, because one of a class makes a new one each time that it is used


class AccessLog:
    """Called with each response: the request's method, the response, and how long it took in seconds."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, method: bytes, response: Response, seconds: float) -> None:
        name, code, ms = _NAMES.get(method, "other"), response.code, int(seconds * 1000)
        self._metrics.request(name, code)
        if response.task is not None:
            _log.info("{method} {code} {ms} ms, task {task}", method=name, code=code, ms=ms, task=response.task)
        elif response.problem is not None:
            self._metrics.problem(response.problem)
            _log.info("{method} {code} {ms} ms, {problem}", method=name, code=code, ms=ms, problem=response.problem)
        else:
            _log.info("{method} {code} {ms} ms", method=name, code=code, ms=ms)
