"""Targets and Connection headers that were misread."""

from tests.unit.web.support import EdgeCase, get, message


class TargetTests(EdgeCase):
    """What the request line asks for."""

    def test_absolute_form_at_the_start_alone(self) -> None:
        """A URL within a target is a part of it (RFC 9112, 3.2.2)."""
        for target in ("/?task_id=5http://a", "/?http://a/&task_id=5https://b"):
            self.assert_problem(self.ask(message("GET", target)), 400, "bad_task_id", closed=False)
        self.assert_problem(self.ask(message("GET", "/http://a/?task_id=5")), 404, "not_found", closed=False)

    def test_close_in_a_list(self) -> None:
        """Connection is a list, in as many lines as one likes (RFC 9110, 7.6.1; RFC 9112, 9.6)."""
        for connection in ("close", "Close", "close, TE", "close,x", "x,close", "x ,\tclose", "x\r\nConnection: close"):
            client = self.connect().send(get(5, Connection=connection))
            self.assertEqual((client.reply().get("Connection"), client.closed), ("close", True), connection)
        for connection in ("keep-alive", "closed", "x-close", ""):
            client = self.connect().send(get(5, Connection=connection))
            self.assertEqual((client.reply().get("Connection"), client.closed), (None, False), connection)
