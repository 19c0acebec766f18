"""Command-line options that environment variables can set too; both plugins build theirs on this."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NoReturn, cast

from twisted.internet.endpoints import serverFromString
from twisted.python import usage

from merlind import __version__


@dataclass(frozen=True)
class Option:
    """An option: its long name, its default as one would type it, its line in ``--help``, and how its text is read.

    ``coerce`` raises ValueError, with a message for people, for a text that it can't read.
    """

    name: str
    default: str
    help: str
    coerce: Callable[[str], Any] = str

    def read(self, source: str, text: str) -> Any:
        """Return the value of a text from ``source``, a flag or a variable. Raises UsageError, which names it."""
        try:
            return self.coerce(text)
        except ValueError as error:
            raise usage.UsageError(f"{source}: {error}") from None


class EnvironmentOptions(usage.Options):
    """Options that have an environment variable each: with the prefix MERLIND, ``--data-dir`` has MERLIND_DATA_DIR.

    A flag wins over its variable, the variable over the default. A subclass lists its options in ``declared`` and its
    switches, with their help, in ``flags``. An option in ``repeated`` may be given more than once: it needs a method
    ``opt_NAME`` that calls ``add``, its variable is split at white space, and its value is a list.
    """

    prefix = ""
    declared: Sequence[Option] = ()
    flags: Sequence[tuple[str, str]] = ()
    repeated: frozenset[str] = frozenset()
    optParameters: ClassVar[list[list[Any]]]
    optFlags: ClassVar[list[list[str | None]]]

    def __init_subclass__(cls) -> None:
        cls.optParameters = [
            [o.name, None, None, f"{o.help} [default: {o.default}, or ${cls.variable(o.name)}]",
             partial(o.read, f"--{o.name}")]
            for o in cls.declared
            if o.name not in cls.repeated
        ]  # fmt: skip
        cls.optFlags = [[name, None, f"{text} [or ${cls.variable(name)}=1]"] for name, text in cls.flags]

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        super().__init__()
        for option in self.declared:
            self.pop(option.name, None)  # what is there after parsing was on the command line

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the environment variable that sets the option ``name``."""
        return f"{cls.prefix}_{name.upper().replace('-', '_')}"

    def add(self, name: str, text: str) -> None:
        """Add one value of an option that may be given more than once."""
        (option,) = (option for option in self.declared if option.name == name)
        self.setdefault(name, []).append(option.read(f"--{name}", text))

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line. Raises SystemExit with one line: twistd would print all of its help before it."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"{self.prefix.lower()}: {error}") from None

    def postOptions(self) -> None:
        """Set what the command line left open, from the variables or the defaults."""
        for option in self.declared:
            if option.name not in self:
                variable = self.variable(option.name)
                text = self._environment.get(variable, option.default)
                if option.name in self.repeated:
                    self[option.name] = [option.read(variable, word) for word in text.split() or [text]]
                else:
                    self[option.name] = option.read(variable, text)
        for name, _ in self.flags:
            self[name] = bool(self[name]) or boolean(self._environment.get(self.variable(name), "0"))

    def opt_version(self) -> NoReturn:
        """Print the version."""
        print(f"{self.prefix.lower()} {__version__}")
        raise SystemExit(0)


def boolean(text: str) -> bool:
    """Return whether a text is ``1``, ``true``, ``yes`` or ``on``, in any case."""
    return text.strip().lower() in {"1", "true", "yes", "on"}


def _number(text: str, lowest: float, highest: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not lowest <= value <= highest or math.isinf(value):
        raise ValueError(f"{text!r} is not {what}")
    return value


def seconds(lowest: float = 0.0) -> Callable[[str], float]:
    """Return a function that reads a finite number of seconds, at least ``lowest``."""
    return lambda text: _number(text, lowest, math.inf, f"a number of seconds of at least {lowest:g}")


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    return _number(text, 0, 1, "a share between 0 and 1")


def count(lowest: int = 0) -> Callable[[str], int]:
    """Return a function that reads a whole number of up to 15 digits, at least ``lowest``."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or len(text) > 15 or int(text) < lowest:
            raise ValueError(f"{text!r} is not a whole number of at least {lowest}")
        return int(text)

    return read


def endpoint(text: str) -> str:
    """Return the description of a Twisted server endpoint as it is. Raises ValueError if it is none."""
    try:
        serverFromString(cast(Any, None), text)  # parsing needs no reactor, and there may be none yet
    except Exception as error:
        # An endpoint's own parser may raise anything.
        if text.removeprefix("haproxy:").startswith("systemd"):
            raise ValueError(_no_systemd_socket(text, os.environ)) from None
        raise ValueError(f"{text!r} is not an endpoint such as tcp:8000 ({error})") from None
    return text


def _no_systemd_socket(text: str, environment: Mapping[str, str]) -> str:
    names = environment.get("LISTEN_FDNAMES", "").replace(":", ", ")
    passed = f"those that it passed are named {names}" if names else "it passed none (LISTEN_FDNAMES is not set)"
    return (
        f"{text!r} is no socket that systemd passed: {passed}. Write systemd:domain=INET6:name=NAME, "
        "where NAME is FileDescriptorName in the socket unit, and start that unit"
    )
