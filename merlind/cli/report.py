"""``merlinctl check``: what a bug report needs. It tells no name, user, host, path, token or password."""

import os
import platform
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from merlind import __version__
from merlind.cli.admin import Admin
from merlind.cli.exits import CommandError, Exit
from merlind.cli.http import TryLater, Unreachable
from merlind.cli.operations import size_of
from merlind.cli.output import Table, show
from merlind.cli.stats import Stats, look, reasons
from merlind.storage.sqlite.database import DatabaseUnusable, schema_version

PACKAGES = ("Twisted", "klein", "treq", "httptools", "prometheus_client", "numpy", "onnxruntime")
"""Those whose versions matter most."""

VARIABLES = "MERLIND_"

_PATH = re.compile(r"/\S+")


async def check(admin: Admin, data_dir: Path, format: str | None) -> Exit:
    """Show the report. The status is that of an unreachable admin listener, if it is."""
    status = Exit.OK
    values: dict[str, Any] = {"merlinctl": __version__, **_machine(), **_options(), **_data(data_dir)}
    try:
        values |= _daemon(await look(admin))
    except (Unreachable, TryLater, CommandError):
        # The error has the URL, which may be nobody's business.
        values["admin"] = "no answer from the admin listener: say --admin-url"
        status = Exit.UNREACHABLE
    show(format, [values], values, Table(("what", ""), list(_rows(values))))
    return status


def _machine() -> dict[str, Any]:
    room = {"python": platform.python_version(), "platform": platform.platform(), "processors": os.cpu_count()}
    return room | {"sqlite": sqlite3.sqlite_version, **_versions()}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _options() -> dict[str, Any]:
    """The names of options that were set where this can be seen: here, and for merlinds that run as this user."""
    found = {name for name in os.environ if name.startswith(VARIABLES)}
    for process in _processes():
        found |= set(option_names(process))
    return {"options_set": sorted(found)}


def option_names(command: Iterable[str]) -> list[str]:
    """Return the names of the options in the command of a ``twistd … merlind``, without their values."""
    words = list(command)
    if "merlind" not in words or not any("twistd" in word for word in words[: words.index("merlind")]):
        return []
    return [word.partition("=")[0] for word in words[words.index("merlind") + 1 :] if word.startswith("--")]


def _processes() -> Iterable[list[str]]:
    """The commands of all processes, where there is /proc."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue  # it has ended


def _data(data_dir: Path) -> dict[str, Any]:
    database = data_dir / "tasks.sqlite"
    try:
        room = shutil.disk_usage(data_dir)
        found: dict[str, Any] = {"disk": f"{size_of(room.free)} free of {size_of(room.total)}"}
        for name in ("tasks.sqlite", "tasks.sqlite-wal"):
            if (data_dir / name).exists():
                found[name] = size_of((data_dir / name).stat().st_size)
        found["schema"] = schema_version(database)
        found["photos"] = _count(data_dir / "spool")
        found["lost_photos"] = _count(data_dir / "lost")
    except FileNotFoundError:
        return {"data": "no data directory there: say --data-dir"}
    except OSError as error:
        return {"data": f"the data directory can't be read: {error.strerror}"}
    except DatabaseUnusable:
        found["schema"] = "the database can't be read"
    return found


def _count(folder: Path) -> int:
    return sum(entry.name[0].isdecimal() for entry in os.scandir(folder)) if folder.exists() else 0


def _daemon(stats: Stats) -> dict[str, Any]:
    metrics = {
        name: value
        for name, value in stats.metrics.items()
        if value and name.startswith(("merlind_", "process_")) and "_bucket{" not in name and "_created" not in name
    }
    return {
        "ready": stats.ready.well,
        "working": stats.working.well,
        "reasons": list(map(without_words, reasons(stats))),
        "notes": list(map(without_words, stats.working.notes)),
        "metrics": metrics,
    }


def without_words(reason: str) -> str:
    """Return a reason without paths, and without what the upstream said, which may be anything: its kind stays."""
    ours, parenthesis, theirs = reason.partition("(")
    ours = _PATH.sub("…", ours)
    return f"{ours}({theirs.partition(':')[0].rstrip(')')} …)" if parenthesis else ours


def _rows(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        match value:
            case Mapping():
                yield from ((metric, f"{number:g}") for metric, number in value.items())
            case list():
                yield from ((name, said) for said in value or ["none"])
            case _:
                yield name, str(value)
