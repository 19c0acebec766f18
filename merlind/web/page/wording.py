"""What there is to say of a score, of a failed task and of an error; errors.js and text.js say the same in the page."""

from collections.abc import Mapping

from merlind.web.page.measures import decimal
from merlind.web.page.texts import Texts

FACE = "face"
"""The kind of scorer whose scores have a meaning: the odds of a score are P(name | face) / P(name)."""


def odds(texts: Texts, scorer: str, result: float) -> str:
    """Return how much more common the name is with such faces; nothing if the score doesn't say that."""
    if scorer != FACE or not 0 <= result <= 1:
        return ""
    if 0.48 < result < 0.52:
        return texts.say("as_likely")
    often = result > 0.5
    higher, lower = (result, 1 - result) if often else (1 - result, result)
    if higher > 9.9 * lower:
        return texts.say("much_likelier" if often else "much_less_likely")
    return texts.say("likelier" if often else "less_likely", times=decimal(texts, f"{higher / lower:.1f}"))


def failure(texts: Texts, error: Mapping[str, str]) -> str:
    """Return why there is no score, by a failed task's error: docs/contract.md, "Requests"."""
    code, detail = error["code"], error["detail"]
    if code == "gave_up" and error["source"] == "merlind":
        return texts.say("failed.set_up_wrongly")
    for key in (f"refused.{detail}", f"failed.{code}"):
        if key in texts:
            return texts.say(key, detail=detail)
    return texts.say("failed.upstream_error", detail=detail)


def request_error(texts: Texts, problem: Mapping[str, str]) -> str:
    """Return what is wrong with a request, by its problem: docs/contract.md, "Errors".

    Texts for the server's own pages go first: the script tries again by itself, and these pages don't. The
    codes without a text tell of requests that no page makes.
    """
    code = problem["code"]
    keys = (f"plain.{code}", f"error.{code}", "error.page_fault")
    return texts.say(next(key for key in keys if key in texts), code=code)
