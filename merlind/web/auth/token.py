"""``python -m merlind.web.auth.token FILE USER [LABEL]``: adds a token to a file of ``--auth tokens:FILE``.

It is printed once: the file keeps its SHA-256 alone. To revoke it, delete its line. It is ``merlinctl token add USER
LABEL --file FILE`` for where merlinctl isn't installed.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from merlind.core.users import user_name
from merlind.web.auth.lines import replace_file, text_of
from merlind.web.auth.tokens import new_token, parse_tokens, token_line
from merlind.web.auth.watched_file import BadLine, lines_of

USAGE = "usage: python -m merlind.web.auth.token FILE USER [LABEL]"


def add_token(path: Path, user: str, label: str, now: datetime) -> str:
    """Add a token for a user to a file, which is made if there is none; returns the token.

    Raises ValueError and BadLine for what can't be one, and OSError.
    """
    token = new_token()
    line = token_line(user, label, token, now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    before = text_of(path)
    parse_tokens(before)
    gap = "" if not before or before.endswith("\n") else "\n"
    replace_file(path, f"{before}{gap}{line}\n")
    return token


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """What a file tells of a token."""

    user: str
    label: str
    created: str


def list_tokens(path: Path) -> list[TokenEntry]:
    """Return the tokens of a file, in its order. Raises OSError, ValueError and BadLine."""
    path.stat()  # raises OSError if it is missing
    text = text_of(path)
    parse_tokens(text)
    fields = [line.split(":", 3) for _, line in lines_of(text)]
    return [TokenEntry(user.strip(), label, created) for user, label, _, created in fields]


def revoke_tokens(path: Path, user: str, label: str) -> int:
    """Delete a user's tokens with a label from a file; returns how many they were. All other lines stay.

    Raises OSError, ValueError and BadLine.
    """
    path.stat()  # raises OSError if it is missing
    text = text_of(path)
    parse_tokens(text)
    user = user_name(user.encode("utf-8", "surrogateescape"))
    gone = {number for number, line in lines_of(text) if _is_of(line, user, label)}
    if gone:
        kept = [line for number, line in enumerate(text.split("\n"), 1) if number not in gone]
        replace_file(path, "\n".join(kept))
    return len(gone)


def _is_of(line: str, user: str, label: str) -> bool:
    fields = line.split(":", 3)
    return user_name(fields[0].encode("utf-8")) == user and fields[1] == label


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    if len(arguments) not in (2, 3):
        print(USAGE, file=sys.stderr)
        return 2
    path, label = Path(arguments[0]), "".join(arguments[2:])
    try:
        token = add_token(path, arguments[1], label, datetime.now(UTC))
    except (ValueError, BadLine) as error:
        print(f"token: {path}, {error}" if isinstance(error, BadLine) else f"token: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"token: {path} can't be written: {error.strerror}", file=sys.stderr)
        return 1
    print(token)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
