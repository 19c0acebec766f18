"""Where the log goes: real files, pipes, terminals and sockets, none of which is ever waited for (D16)."""

import os
import pty
import socket
import tty
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.daemon import log_output
from merlind.daemon.log_output import LogOutput

PLENTY = b"x" * 1_000_000
"""More than a pipe, a socket or a terminal holds."""


class DescriptorTests(SynchronousTestCase):
    """A descriptor that was inherited."""

    def pipe(self) -> tuple[int, int]:
        """A pipe: where to read, where to write."""
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        return ends

    def output(self, descriptor: int) -> LogOutput:
        """An output, whose own descriptors are closed after the test."""
        output = LogOutput.to_descriptor(descriptor)
        if output._descriptor != descriptor:
            self.addCleanup(os.close, output._descriptor)
        return output

    def assert_never_waits(self, output: LogOutput, reader: int) -> None:
        """Write until nothing more is taken, then check that what is read makes room again."""
        taken = 0
        while piece := output.write(PLENTY):
            taken += piece
        self.assertGreater(taken, 0)
        self.assertLess(taken, len(PLENTY))
        read = 0
        while read < taken:
            read += len(os.read(reader, 65536))
        self.assertTrue(output.wait(5))
        self.assertEqual(output.write(b"more"), 4)
        self.assertEqual(os.read(reader, 65536), b"more")

    def test_pipe(self) -> None:
        """A full pipe takes nothing, and its mode stays as it was: other processes share it."""
        reader, writer = self.pipe()
        self.assert_never_waits(self.output(writer), reader)
        self.assertTrue(os.get_blocking(writer))

    def test_pipe_that_cannot_be_opened_again(self) -> None:
        """Where Linux doesn't open a pipe a second time, a full one takes nothing either."""
        reader, writer = self.pipe()
        self.patch(log_output, "_FLAGS", os.O_WRONLY | os.O_DIRECTORY)
        output = self.output(writer)
        self.assertEqual(output._descriptor, writer)
        self.assert_never_waits(output, reader)

    def test_pipe_that_never_waits(self) -> None:
        """A pipe that was made so by others is written to as it is."""
        reader, writer = self.pipe()
        os.set_blocking(writer, False)
        self.patch(log_output, "_FLAGS", os.O_WRONLY | os.O_DIRECTORY)
        self.assert_never_waits(self.output(writer), reader)

    def test_pipe_without_a_reader(self) -> None:
        """It is an error, which ends no process."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        output = self.output(writer)
        os.close(reader)
        self.assertTrue(output.wait(0))
        self.assertRaises(BrokenPipeError, output.write, b"x")

    def test_terminal(self) -> None:
        """A terminal that is paused takes nothing."""
        reader, writer = pty.openpty()
        self.addCleanup(os.close, reader)
        self.addCleanup(os.close, writer)
        tty.setraw(writer)
        self.assert_never_waits(self.output(writer), reader)
        self.assertTrue(os.get_blocking(writer))

    def test_socket(self) -> None:
        """A socket, which systemd's journal gives to its services, takes nothing when it is full."""
        reader, writer = socket.socketpair()
        self.addCleanup(reader.close)
        self.addCleanup(writer.close)
        output = self.output(writer.fileno())
        self.addCleanup(output._socket.close)
        self.assert_never_waits(output, reader.fileno())
        self.assertTrue(os.get_blocking(writer.fileno()))

    def test_file(self) -> None:
        """A file that was opened by the shell is written to from where it is, and never opened anew."""
        file = Path(self.mktemp())
        with file.open("wb", buffering=0) as opened:
            opened.write(b"before ")
            output = self.output(opened.fileno())
            self.assertEqual((output.write(b"after"), output.wait(0)), (5, True))
            output.reopen()
            output.write(b" all")
        self.assertEqual(file.read_bytes(), b"before after all")


class FileTests(SynchronousTestCase):
    """A file that was named."""

    def output(self, path: Path) -> LogOutput:
        """The output to a file, closed after the test."""
        output = LogOutput.to_file(str(path))
        self.addCleanup(lambda: os.close(output._descriptor))
        return output

    def test_appended(self) -> None:
        """It is made where there is none, and else goes on."""
        file = Path(self.mktemp())
        for line in (b"one\n", b"two\n"):
            self.assertEqual(self.output(file).write(line), 4)
        self.assertEqual(file.read_bytes(), b"one\ntwo\n")

    def test_reopened(self) -> None:
        """After it was moved away, a new one is made by the same name, wherever the process is by then."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        output = self.output(Path("log"))
        os.chdir("/")
        output.write(b"old")
        (folder / "log").rename(folder / "log.1")
        output.write(b" old")
        output.reopen()
        output.write(b"new")
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.assertEqual(found, {"log": b"new", "log.1": b"old old"})

    def test_old_file_stays_in_use(self) -> None:
        """If the new one can't be made, the old one is written on."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        output = self.output(folder / "log")
        folder.rename(folder.with_name("moved"))
        self.assertRaises(FileNotFoundError, output.reopen)
        self.assertEqual(output.write(b"still here"), 10)
        self.assertEqual((folder.with_name("moved") / "log").read_bytes(), b"still here")

    def test_named_pipe(self) -> None:
        """A named pipe that nobody reads is an error, and doesn't hold up the start."""
        path = Path(self.mktemp())
        os.mkfifo(path)
        self.assertRaises(OSError, LogOutput.to_file, str(path))
