"""Counts and logs each response of the public listener. The log has no address, no query and no name in it."""

from twisted.logger import Logger

from merlind.daemon.metrics import Metrics
from merlind.web.response import METHODS

_NAMES = {method: method.decode("ascii") for method in METHODS}
"""The methods by which responses are counted and logged; all others are one: a client could make up endless ones."""

_log = Logger()  # here, because one of a class makes a new one each time that it is used


class AccessLog:
    """Called with each response: the request's method, the status, and how long it took in seconds."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, method: bytes, code: int, seconds: float) -> None:
        name = _NAMES.get(method, "other")
        self._metrics.request(name, code)
        _log.info("{method} {code} {ms} ms", method=name, code=code, ms=int(seconds * 1000))
