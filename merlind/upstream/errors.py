"""Why a request got no response: what agent and connection fail with."""

from merlind.core.outcome import Fault


class NoConnection(Exception):
    """No connection could be made, so nothing of the request was sent; the message says what prevented it."""

    def __init__(self, reason: str, fault: Fault = Fault.UNAVAILABLE) -> None:
        super().__init__(reason)
        self.fault = fault


class OutcomeUnknown(Exception):
    """The connection ended during a request: only the upstream knows whether it acted on it. The message says how."""

    def __init__(self, reason: str = "connection lost", fault: Fault = Fault.UNAVAILABLE) -> None:
        super().__init__(reason)
        self.fault = fault
