"""Command-line options that an environment variable can set too; both plugins build theirs on this."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from merlind import __version__
from merlind.daemon.listen import check

Parse = Callable[[str], Any]


@dataclass(frozen=True)
class Option:
    """One option: its long name, its default as one would type it, what it says in ``--help``, and how it is read.

    ``parse`` turns the text into the value and raises ValueError, with a message for a person, if it can't.
    """

    name: str
    default: str
    help: str
    parse: Parse = str


class EnvironmentOptions(usage.Options):
    """Options of which each has an environment variable: with the prefix MERLIND, ``--data-dir`` is MERLIND_DATA_DIR.

    The flag wins over the variable, the variable over the default. A subclass lists ``declared`` and the names of its
    ``flags``; the parsed values stand under the options' names.
    """

    prefix = ""
    declared: Sequence[Option] = ()
    flags: Sequence[tuple[str, str]] = ()
    repeated: frozenset[str] = frozenset()
    optParameters: ClassVar[list[list[str | None]]]
    optFlags: ClassVar[list[list[str | None]]]

    def __init_subclass__(cls) -> None:
        cls.optParameters = [
            [o.name, None, None, f"{o.help} [default: {o.default}, or ${cls.variable(o.name)}]"]
            for o in cls.declared
            if o.name not in cls.repeated
        ]
        cls.optFlags = [[name, None, f"{text} [or ${cls.variable(name)}=1]"] for name, text in cls.flags]

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._given: dict[str, list[str]] = {}
        super().__init__()

    @classmethod
    def variable(cls, name: str) -> str:
        """The environment variable that sets the option ``name``."""
        return f"{cls.prefix}_{name.upper().replace('-', '_')}"

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line. Raises SystemExit with one clear line: twistd would print all its help before it."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"{self.prefix.lower()}: {error}") from None

    def postOptions(self) -> None:
        for option in self.declared:
            repeated = option.name in self.repeated
            given: Any = self._given.get(option.name) if repeated else self[option.name]
            source = f"--{option.name}"
            if given is None:
                source = self.variable(option.name)
                text = self._environment.get(source, option.default)
                given = text.split() if repeated else text
            if repeated and not given:
                raise usage.UsageError(f"{source}: it names nothing")
            try:
                self[option.name] = [option.parse(text) for text in given] if repeated else option.parse(given)
            except ValueError as error:
                raise usage.UsageError(f"{source}: {error}") from None
        for name, _ in self.flags:
            self[name] = bool(self[name]) or boolean(self._environment.get(self.variable(name), "0"))

    def opt_version(self) -> NoReturn:
        """Tell the version."""
        print(f"{self.prefix.lower()} {__version__}")
        raise SystemExit(0)

    def add_repeated(self, name: str, value: str) -> None:
        """Take one more value of an option that may be given more than once."""
        self._given.setdefault(name, []).append(value)


def boolean(text: str) -> bool:
    """``1``, ``true``, ``yes`` and ``on`` are true; everything else is not."""
    return text.strip().lower() in {"1", "true", "yes", "on"}


def seconds(lowest: float = 0.0) -> Parse:
    """A parser of finite seconds, not below ``lowest``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number of seconds") from None
        if not math.isfinite(value) or value < lowest:
            raise ValueError(f"{text!r} is not a number of seconds of at least {lowest:g}")
        return value

    return parse


def count(lowest: int = 0) -> Parse:
    """A parser of whole numbers, not below ``lowest``."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or len(text) > 15 or int(text) < lowest:
            raise ValueError(f"{text!r} is not a whole number of at least {lowest}")
        return int(text)

    return parse


def share(text: str) -> float:
    """A share: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(f"{text!r} is not a share between 0 and 1")
    return value


def endpoint(text: str) -> str:
    """The description of a Twisted server endpoint."""
    try:
        check(text)
    except Exception as error:
        # An endpoint's own parser raises what it likes.
        raise ValueError(f"{text!r} is not an endpoint such as tcp:8000 ({error})") from None
    return text
