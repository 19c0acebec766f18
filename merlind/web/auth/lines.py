"""Changes the files of users and tokens as a whole, so that a merlind that reads them never finds half of one."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def text_of(path: Path) -> str:
    """Return what is in a file, nothing if there is none. Raises OSError, and ValueError if it isn't UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None


def replace_file(path: Path, text: str) -> None:
    """Put a text in a file's place. It keeps owner and mode; a new one is its owner's alone. Raises OSError."""
    path = path.resolve()  # a link stays one
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            with suppress(FileNotFoundError):
                found = path.stat()
                os.fchown(file.fileno(), found.st_uid, found.st_gid)
                os.fchmod(file.fileno(), found.st_mode & 0o7777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
