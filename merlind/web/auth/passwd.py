"""``python -m merlind.web.auth.passwd FILE USER``: sets a user's password in a file of ``--auth htpasswd:FILE``.

It is ``merlinctl passwd USER --file FILE`` for where merlinctl isn't installed. The password is asked for twice on a
terminal, and otherwise is the first line of the standard input.
"""

import getpass
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unicodedata import normalize

from merlind.core.users import normal_password, user_name
from merlind.web.auth.htpasswd import hash_password
from merlind.web.auth.lines import replace_file, text_of

USAGE = "usage: python -m merlind.web.auth.passwd FILE USER"


def set_password(path: Path, user: str, password: bytes) -> None:
    """Set a user's password in a file, which is made if there is none; all other lines stay.

    Raises OSError, and ValueError for what can't be one. What other lines say is of no matter: they may be those that
    merlind refuses.
    """
    user = user_name(user.encode("utf-8", "surrogateescape"))
    line = f"{user}:{hash_password(normal_password(password), secrets.token_bytes(16))}"
    lines = text_of(path).rstrip("\n").split("\n")
    places = [i for i, other in enumerate(lines) if normalize("NFC", other.partition(":")[0].strip()) == user]
    if places:
        lines[places[0]] = line
    else:
        lines.append(line)
    replace_file(path, "\n".join([*lines, ""]).lstrip("\n"))


def ask_password(prompt: Callable[[str], str] = getpass.getpass) -> bytes:
    """Ask for a password. Raises ValueError if it isn't the same twice."""
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline().rstrip(b"\r\n")
    password = prompt("New password: ")
    if prompt("Again: ") != password:
        raise ValueError("these were two different passwords")
    return password.encode("utf-8", "surrogateescape")


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    if len(arguments) != 2:
        print(USAGE, file=sys.stderr)
        return 2
    path = Path(arguments[0])
    try:
        set_password(path, arguments[1], ask_password())
    except ValueError as error:
        print(f"passwd: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"passwd: {path} can't be written: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
