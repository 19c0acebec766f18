"""The image of the Dockerfile, really built and run, without a container engine: by buildah, in a chroot.

It takes minutes, so it runs only where MERLIND_TEST_IMAGE is set, as it is in CI: ``tests/image/run``.
"""

import atexit
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from merlind.storage.pairing import MARK
from tests.client import GONE_AWAY, png, post, request
from tests.processes import HOST, free_port, until

BUILD = Path(__file__).parent / "build"
NAME = "merlind"
USER = 10001

PROXY = {name: "http://127.0.0.1:1" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
"""A proxy at which nobody answers."""


@cache
def image() -> "Image":
    """Build the image, once; what it needs is removed when the tests end. Raises SkipTest where it can't be built."""
    if not os.environ.get("MERLIND_TEST_IMAGE"):
        raise SkipTest("MERLIND_TEST_IMAGE is not set")
    missing = [tool for tool in ("buildah", "debootstrap", "apt-get") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        raise SkipTest(f"it needs root and {', '.join(missing) or 'nothing else'}")
    folder = Path(tempfile.mkdtemp(prefix="merlind-image-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # The face scorer's packages are large, and nothing here is about scores.
    subprocess.run([BUILD, folder, NAME, "SCORER=0"], check=True, stdout=subprocess.DEVNULL)
    return Image(folder)


class Image:
    """The image, in a store of its own in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._buildah = ["buildah", "--storage-driver=vfs", f"--root={folder}/storage", f"--runroot={folder}/run"]
        self._runs = 0
        self.container = self.call("from", "--pull-never", NAME)
        self.root = Path(self.call("mount", self.container))
        self.config = json.loads(self.call("inspect", "--type=image", NAME))["Docker"]["config"]

    def call(self, *arguments: str) -> str:
        """Run buildah, and return what it printed."""
        done = subprocess.run([*self._buildah, *arguments], check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    def run(self, command: list[str], volume: Path, env: Mapping[str, str], **more: Any) -> subprocess.Popen[str]:
        """Run a command in the image as its own user, with its own variables and ``env``."""
        isolation = ["--isolation=chroot", "--network=host", f"--user={self.config['User']}"]
        (mount_point,) = self.config["Volumes"]
        variables = [f"--env={name}={value}" for name, value in env.items()]
        options = [*isolation, f"--volume={volume}:{mount_point}", *variables]
        # Without ours: buildah hands proxies on, and others could be MERLIND_….
        plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.Popen(
            [*self._buildah, "run", *options, self.container, "--", *command], env=plain, text=True, **more
        )

    def changed_since(self, marker: Path) -> list[str]:
        """Return the files of the root file system that were written after a file was, those in /tmp aside."""
        when = marker.stat().st_ctime_ns
        found = []
        for path in self.root.rglob("*"):
            inside = path.relative_to(self.root)
            # buildah puts a file of its own into /run meanwhile.
            if inside.parts[0] != "tmp" and inside != Path("run") and path.lstat().st_ctime_ns > when:
                found.append(str(inside))
        return found


class Container:
    """One merlind after another in the image, with the same volume and the same ports."""

    def __init__(self, test: SynchronousTestCase, built: Image, folder: Path) -> None:
        self.image = built
        self.volume = folder / "volume"
        self.volume.mkdir(parents=True)
        os.chown(self.volume, USER, USER)
        self.port, self.admin = free_port(), free_port()
        self.env = {
            "MERLIND_LISTEN": f"tcp:{self.port}:interface={HOST}",
            "MERLIND_ADMIN": f"tcp:{self.admin}:interface={HOST}",
            "MERLIND_UPSTREAM": "embedded:stand-in",
            "MERLIND_POLL_INTERVAL": "0.1",
        }
        self._log = folder / "log"
        self._process: subprocess.Popen[str] | None = None
        test.addCleanup(self.end, signal.SIGKILL)

    def start(self) -> None:
        """Start merlind by the image's ENTRYPOINT, and wait until it serves."""
        with self._log.open("a") as log:
            self._process = self.image.run(
                self.image.config["Entrypoint"], self.volume, self.env, stdout=log, stderr=subprocess.STDOUT
            )
        until(self.serves, "merlind in the image to serve")

    def serves(self) -> bool:
        """Whether it answers."""
        assert self._process is not None and self._process.poll() is None, f"it ended: {self.log()}"
        try:
            return request(self.port, "OPTIONS").code == 204
        except GONE_AWAY:
            return False

    def log(self) -> str:
        """What all runs logged."""
        return self._log.read_text("utf-8")

    def pid(self) -> int:
        """The process that is merlind itself, below buildah's own."""
        assert self._process is not None
        pid = self._process.pid
        while child := _child(pid):
            pid = child
        return pid

    def end(self, number: int) -> None:
        """Send merlind a signal, and wait for the end."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self.pid(), number)
            self._process.wait(60)

    def health(self, env: Mapping[str, str]) -> tuple[int, str]:
        """Run the image's HEALTHCHECK beside it; return its exit status and what it printed."""
        kind, *command = self.image.config["Healthcheck"]["Test"]
        assert kind == "CMD", kind
        asked = self.image.run(command, self.volume, {**self.env, **env}, stdout=subprocess.PIPE)
        printed, _ = asked.communicate(timeout=60)
        return asked.returncode, printed.strip()


def _child(pid: int) -> int | None:
    """Return a process's child, whichever of its threads started it."""
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        if children := thread.read_text("ascii").split():
            return int(children[0])
    return None


class ImageTest(SynchronousTestCase):
    """What a container of the image does."""

    def setUp(self) -> None:
        self.image = image()
        self.folder = Path(self.mktemp()).absolute()
        self.container = Container(self, self.image, self.folder)

    def test_killed(self) -> None:
        """It runs as its own user, and goes on after a kill with the same volume; it writes nowhere else."""
        marker = self.folder / "marker"
        marker.touch()
        self.container.start()
        status = Path(f"/proc/{self.container.pid()}/status").read_text("ascii")
        self.assertIn(f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n", status)
        task = post(self.container.port, "Ada", png()).json()["task"]

        self.container.end(signal.SIGKILL)
        self.container.start()

        answer = request(self.container.port, "GET", f"/?task_id={task}", headers={"Prefer": "wait=60"})
        self.assertEqual((answer.code, answer.json()["status"]), (200, "ready"))
        self.container.end(signal.SIGTERM)
        self.assertEqual({path.name for path in (self.container.volume / "spool").rglob("*") if path.is_file()}, {MARK})
        self.assertEqual(self.image.changed_since(marker), [])
        log = self.container.log()
        self.assertIn("stopped", log)
        # Twisted would write its cache of plugins if it thought it too old.
        self.assertNotIn("plugin cache", log)
        self.assertNotIn("Traceback", log)

    def test_health(self) -> None:
        """The image's own HEALTHCHECK says whether merlind is alive, with and without a proxy in the environment."""
        self.assertEqual(self.container.health({})[0], 1)
        self.container.start()
        for env in ({}, PROXY):
            code, printed = self.container.health(env)
            self.assertEqual((code, printed), (0, f"{self.container.env['MERLIND_ADMIN']}: HTTP 200"))
