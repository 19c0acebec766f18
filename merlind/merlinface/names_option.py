"""The option ``--names``, which both plugins have: national name statistics for the face scorer to use beside ours."""

import os
from collections.abc import Iterable, Sequence

from merlind.daemon.options import Option

NO_NAMES = "none"
"""The default."""


def names_file(text: str) -> str | None:
    """Read the path of a file of names, which relative to another directory would be another; None for ``none``."""
    return None if text == NO_NAMES else os.path.abspath(text)


NAMES = Option(
    "names",
    NO_NAMES,
    "National statistics of names, for the face scorer; may be given more than once (docs/scorer.md).",
    names_file,
)


def given_names(values: Iterable[str | None]) -> list[str]:
    """Return the paths that were given, of the option's values."""
    return [path for path in values if path is not None]


def check_names(paths: Sequence[str]) -> str:
    """Read files of names, and return one line that tells what is in them.

    The workers read them again, but a start that fails is noticed. Raises ValueError, with one line for a person, for a
    file that is broken.
    """
    # What these need is in the extra, and without files nobody needs it in this process.
    from merlind.merlinface.scorer.names import Names
    from merlind.merlinface.scorer.national import NationalFileError, read, report

    try:
        tables = [read(path) for path in paths]
    except NationalFileError as error:
        raise ValueError(f"--names: {error}") from None
    return report(tables, Names.load(tables).count())
