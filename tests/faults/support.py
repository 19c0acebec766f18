"""What the fault suite needs of the machine, strace and mounts above all. A test is skipped where that is missing."""

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
"""How often a test kills merlind at random moments; other repetitions are in proportion."""

LIBRARIES = Path("/usr/lib")

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2


def need(*tools: str, root: bool = False) -> None:
    """Skip the test if one of the tools is missing, or if it needs root and we are not."""
    if root and os.geteuid() != 0:
        raise SkipTest("needs root")
    for tool in tools:
        if shutil.which(tool) is None:
            raise SkipTest(f"needs {tool}")


def library(name: str) -> str:
    """Return the path of a shared library to preload; skip the test if it is missing."""
    for folder in ("", "*/", "faketime/", "*/faketime/"):
        for found in LIBRARIES.glob(f"{folder}{name}"):
            return str(found)
    raise SkipTest(f"needs {name}")


def spread(count: int, most: int) -> list[int]:
    """Return up to ``count`` numbers from 1 to ``most``, the small ones closer together."""
    return sorted({1 + round((most - 1) * (n / max(1, count - 1)) ** 2) for n in range(count)})


class Strace:
    """strace, attached to a running process.

    ``inject`` says which system calls it interferes with and how, as in strace's option of that name. ``trace`` names
    the calls to record, by default the same ones.
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
        # strace prints one line, however many threads it attaches to.
        line = self._process.stderr.readline()
        if "attached" not in line:
            raise SkipTest(f"strace can't attach: {line.strip()}")

    def detach(self) -> None:
        """Detach from the process, which goes on."""
        if self._process.poll() is None:
            self._process.terminate()
        with suppress(ValueError):
            self._process.communicate(timeout=30)

    def calls(self) -> list[str]:
        """Detach, and return the recorded calls, a line each."""
        self.detach()
        return self._output.read_text("utf-8", "replace").splitlines()


class MountCase(ProcessCase):
    """A test with a file system of its own at ``mountpoint``; needs root."""

    def setUp(self) -> None:
        super().setUp()
        need("mount", "umount", root=True)
        self.mountpoint = self.folder / "mnt"

    def mount(self, *arguments: str, at: Path | None = None) -> None:
        """Run mount for ``at``, by default ``mountpoint``; skip the test where that fails, as in most containers."""
        where = at or self.mountpoint
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = subprocess.run(["mount", *arguments, str(where)], capture_output=True, text=True)
        if done.returncode != 0:
            raise SkipTest(f"can't mount: {done.stderr.strip()}")
        self.addCleanup(self.unmount, where)

    def unmount(self, at: Path | None = None) -> None:
        """Unmount ``at``, by default ``mountpoint``, if anything is mounted there."""
        where = at or self.mountpoint
        if os.path.ismount(where):
            # The kernel may still release the files of a process that has just ended.
            until(lambda: subprocess.run(["umount", str(where)], capture_output=True).returncode == 0, "the unmount")


class LoopCase(MountCase):
    """A test on an ext4 file system of its own, in the file ``image``."""

    def setUp(self) -> None:
        super().setUp()
        need("mkfs.ext4")
        self.image = self.folder / "image"

    def make(self, megabytes: int = 96) -> None:
        """Make a new file system, and mount it."""
        with self.image.open("wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True)
        self.mount_image()

    def mount_image(self) -> None:
        """Mount the file system; for five minutes the kernel commits nothing unless a process asks for it."""
        self.mount("-o", "loop,commit=300", str(self.image))

    def lose_power(self) -> None:
        """Shut the file system down: what was not flushed is lost, and nothing more is written."""
        descriptor = os.open(self.mountpoint, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        except OSError as error:
            raise SkipTest(f"can't shut the file system down: {error}") from None
        finally:
            os.close(descriptor)


def died_by(daemon: Merlind, number: int = signal.SIGKILL) -> bool:
    """Return whether the process was ended by this signal."""
    return not daemon.running and daemon.wait() == -number
