"""Targets and Connection headers that are easily misread."""

from tests.unit.web.support import EdgeCase, get, message


class TargetTests(EdgeCase):
    """The request's target and its Connection header."""

    def test_absolute_form_at_the_start_only(self) -> None:
        """A URL inside a target is part of the target (RFC 9112, section 3.2.2)."""
        for target in ("/?task_id=5http://a", "/?http://a/&task_id=5https://b"):
            self.assert_problem(self.ask(message("GET", target)), 400, "bad_task_id", closed=False)
        self.assert_problem(self.ask(message("GET", "/http://a/?task_id=5")), 404, "not_found", closed=False)

    def test_close_in_a_list(self) -> None:
        """Connection is a list, in one or more lines (RFC 9110, section 7.6.1; RFC 9112, section 9.6)."""
        for connection in ("close", "Close", "close, TE", "close,x", "x,close", "x ,\tclose", "x\r\nConnection: close"):
            client = self.connect().send(get(5, Connection=connection))
            self.assertEqual((client.reply().get("Connection"), client.closed), ("close", True), connection)
        for connection in ("keep-alive", "closed", "x-close", ""):
            client = self.connect().send(get(5, Connection=connection))
            self.assertEqual((client.reply().get("Connection"), client.closed), (None, False), connection)
