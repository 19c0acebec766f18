"""What the fault suite needs of the machine: strace, mounts, loads; and how a test says that it can't be had."""

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from unittest import SkipTest

from tests.processes import Merlind, ProcessCase, until

ROUNDS = int(os.environ.get("MERLIND_FAULT_ROUNDS", "25"))
"""How often it is killed at random; what else is repeated goes along with it."""

LIBRARIES = Path("/usr/lib")

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2


def need(*tools: str, root: bool = False) -> None:
    """Skip the test unless these tools, and the rights of root, are there."""
    if root and os.geteuid() != 0:
        raise SkipTest("needs root")
    for tool in tools:
        if shutil.which(tool) is None:
            raise SkipTest(f"needs {tool}")


def library(name: str) -> str:
    """The path of a shared library to be preloaded; skips the test if it isn't there."""
    for folder in ("", "*/", "faketime/", "*/faketime/"):
        for found in LIBRARIES.glob(f"{folder}{name}"):
            return str(found)
    raise SkipTest(f"needs {name}")


def spread(count: int, most: int) -> list[int]:
    """``count`` numbers from 1 to ``most``, the small ones closer together."""
    return sorted({1 + round((most - 1) * (n / max(1, count - 1)) ** 2) for n in range(count)})


class Strace:
    """strace, attached to a process that runs; ``inject`` is what it does to which system calls.

    ``trace`` names those that it writes down, if those are others.
    """

    def __init__(self, test: ProcessCase, daemon: Merlind, inject: str, trace: str | None = None) -> None:
        need("strace")
        self._output = test.folder / f"strace.{time.monotonic_ns()}"
        traced = trace or inject.partition(":")[0]
        command = ["strace", "-f", "-p", str(daemon.pid), "-o", str(self._output), "-e", f"trace={traced}"]
        self._process = subprocess.Popen(
            [*command, "-e", f"inject={inject}"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        test.addCleanup(self.detach)
        assert self._process.stderr is not None
        # One line for all of its threads.
        line = self._process.stderr.readline()
        if "attached" not in line:
            raise SkipTest(f"strace may not attach: {line.strip()}")

    def detach(self) -> None:
        """Let go of the process."""
        if self._process.poll() is None:
            self._process.terminate()
        with suppress(ValueError):
            self._process.communicate(timeout=30)

    def calls(self) -> list[str]:
        """A line for each call, by the time that it has let go."""
        self.detach()
        return self._output.read_text("utf-8", "replace").splitlines()


class MountCase(ProcessCase):
    """A test with a file system of its own, at ``mountpoint``."""

    def setUp(self) -> None:
        super().setUp()
        need("mount", "umount", root=True)
        self.mountpoint = self.folder / "mnt"

    def mount(self, *arguments: str, at: Path | None = None) -> None:
        """Mount it, or something else elsewhere; skips the test where that can't be done, as in most containers."""
        where = at or self.mountpoint
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = subprocess.run(["mount", *arguments, str(where)], capture_output=True, text=True)
        if done.returncode != 0:
            raise SkipTest(f"can't mount: {done.stderr.strip()}")
        self.addCleanup(self.unmount, where)

    def unmount(self, at: Path | None = None) -> None:
        """Unmount it, if it is mounted."""
        where = at or self.mountpoint
        if os.path.ismount(where):
            # The kernel may be a moment behind the end of the last process that used it.
            until(lambda: subprocess.run(["umount", str(where)], capture_output=True).returncode == 0, "the unmount")


class LoopCase(MountCase):
    """A test on an ext4 of its own, in a file."""

    def setUp(self) -> None:
        super().setUp()
        need("mkfs.ext4")
        self.image = self.folder / "image"

    def make(self, megabytes: int = 96) -> None:
        """Make a new one, and mount it."""
        with self.image.open("wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True)
        self.mount_image()

    def mount_image(self) -> None:
        """Mount it; the kernel flushes nothing of itself for five minutes."""
        self.mount("-o", "loop,commit=300", str(self.image))

    def lose_power(self) -> None:
        """Nothing more gets to the disk, and what was not flushed is gone."""
        descriptor = os.open(self.mountpoint, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        except OSError as error:
            raise SkipTest(f"can't shut the file system down: {error}") from None
        finally:
            os.close(descriptor)


def died_by(daemon: Merlind, number: int = signal.SIGKILL) -> bool:
    """Whether it was ended by a signal."""
    return not daemon.running and daemon.wait() == -number
