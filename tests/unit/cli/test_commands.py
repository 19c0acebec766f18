"""The command line itself: help, completion, and errors that need no server."""

import io
import re
import sys
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from merlind.cli.main import cli, main


class CommandCase(SynchronousTestCase):
    """Calls merlinctl in this process."""

    def call(self, *arguments: str, typed: str = "", **variables: str) -> tuple[int, str, str]:
        """Run a command that needs no server; returns its exit status, its output and its errors."""
        stdin, stdout, stderr = (io.TextIOWrapper(io.BytesIO(text), "utf-8") for text in (typed.encode(), b"", b""))
        argv = ["merlinctl", *arguments]
        with (
            patch.multiple(sys, stdin=stdin, stdout=stdout, stderr=stderr, argv=argv),
            patch.dict("os.environ", variables),
        ):
            end = self.assertRaises(SystemExit, main)
        for stream in (stdout, stderr):
            stream.seek(0)
        return int(end.code or 0), stdout.read(), stderr.read()


class HelpTests(CommandCase):
    """What a newcomer reads, and what a shell asks for."""

    def test_each_command_teaches(self) -> None:
        """Each command is listed, has its help, and shows how it is called where that takes more than a number."""
        status, overview, _ = self.call("--help")
        self.assertEqual(status, 0)
        self.assertEqual(re.findall(r"^  ([a-z]+)  ", overview, re.MULTILINE), list(cli.commands))
        self.assertNotIn("...\n", overview.partition("\n")[2])
        for command in cli.commands:
            status, output, errors = self.call(command, "--help")
            self.assertEqual((status, errors), (0, ""))
            if command not in ("status", "erase", "resume", "token"):
                self.assertIn(f"merlinctl {command} ", output.partition("\n")[2])

    def test_nothing_said(self) -> None:
        """Without a command, the help is what comes."""
        status, output, errors = self.call()
        self.assertEqual((status, output, "merlinctl send face.jpg --name Anna" in errors), (2, "", True))

    def test_completion(self) -> None:
        """Each shell gets its script."""
        for shell in ("bash", "zsh", "fish"):
            self.assertIn("_MERLINCTL_COMPLETE", self.call("completion", shell)[1])

    def test_completed(self) -> None:
        """What a shell asks for is answered: commands, options and their values."""
        for words, last, found in (
            ("merlinctl", "re", ["retry", "resume", "restore"]),
            ("merlinctl tasks", "--st", ["--state"]),
            ("merlinctl tasks --state", "p", ["poll"]),
        ):
            variables = {"COMP_WORDS": f"{words} {last}", "COMP_CWORD": str(words.count(" ") + 1)}
            _, output, _ = self.call(_MERLINCTL_COMPLETE="bash_complete", **variables)
            self.assertEqual([line.partition(",")[2] for line in output.splitlines()], found)


class ErrorTests(CommandCase):
    """Every error is one line, with the status of a wrong command line."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.photo, self.bad = self.folder / "Anna.jpg", self.folder / "bad"
        self.photo.touch()
        self.bad.write_text("garbage\n")

    def test_wrong_calls(self) -> None:
        """What is said of each."""
        photo, bad = str(self.photo), str(self.bad)
        for arguments, said in (
            (["bogus"], "merlinctl: No such command 'bogus'"),
            (["send", "--bogus"], "merlinctl send: No such option '--bogus'"),
            (["send", photo], "exactly one of"),
            (["send", photo, "--name=A", "--csv=x"], "exactly one of"),
            (["send", "--name=A"], "name a photo"),
            (["send", photo, "--csv=x"], "the photos are those of the table"),
            (["send", "none.jpg", "--name=A"], "there is no file none.jpg"),
            (["send", photo, "--name=A", "--timeout=soon"], "'soon' is no duration"),
            (["tasks", "--since", "soon"], "'soon' is no duration"),
            (["tasks", "--state", "odd"], "'odd' is not one of"),
            (["retry"], "either numbers of tasks, or --failed"),
            (["retry", "5", "--failed"], "either numbers of tasks, or --failed"),
            (["retry", "5", "--code", "gave_up"], "either numbers of tasks, or --failed"),
            (["retry", "0"], "0 is not in the range"),
            (["passwd", "ann"], "--file: MERLIND_AUTH doesn't name one of htpasswd:"),
            (["passwd", "a:b", "-f", f"{self.folder}/users"], "a user's name is printable"),
            (["passwd", "ann", "-f", "none/users"], "none/users can't be used: No such file"),
            (["token", "add", "ann", "-f", bad], f"{bad}, line 1: it is not USER:LABEL"),
            (["token", "list", "-f", "none"], "none can't be used: No such file"),
            (["token", "revoke", "ann", "-f", bad], f"{bad}, line 1"),
            (["backup", "x", "--data-dir=none"], "none/tasks.sqlite is missing"),
            (["restore", bad], "Missing option '--data-dir'"),
            (["restore", "none", f"--data-dir={self.folder}/new"], "there is no file none"),
            (["restore", bad, f"--data-dir={self.folder}"], "is not empty"),
            (["restore", bad, f"--data-dir={self.folder}/new"], "nothing was restored: it is damaged"),
        ):
            status, output, errors = self.call(*arguments, typed="x\n", MERLIND_AUTH="none")
            self.assertEqual((status, output, errors.count("\n")), (2, "", 1), (arguments, errors))
            self.assertIn(said, errors)
        self.assertEqual(self.bad.read_text(), "garbage\n")

    def test_no(self) -> None:
        """Nothing is erased without a yes."""
        status, _, errors = self.call("erase", "5", "6", typed="n\n")
        self.assertEqual((status, "Erase 2 tasks for good?" in errors), (130, True))
        self.assertIn("nothing was done", errors)

    def test_interrupted(self) -> None:
        """Ctrl+C in a backup ends it with the shell's number for that."""
        with patch("merlind.storage.backup.back_up", side_effect=KeyboardInterrupt):
            status, _, errors = self.call("backup", "x")
        self.assertEqual((status, errors), (130, "merlinctl: interrupted; nothing was written\n"))


class UserTests(CommandCase):
    """The files of users and tokens, where MERLIND_AUTH names them."""

    def test_tokens(self) -> None:
        """Made, listed and revoked."""
        file = Path(self.mktemp())
        auth = {"MERLIND_AUTH": f"htpasswd:users tokens:{file}"}
        status, token, _ = self.call("token", "add", "ann", "laptop", **auth)
        self.assertEqual((status, token[:8]), (0, "merlind_"))
        self.assertIn('"label": "laptop"', self.call("token", "list", **auth)[1])
        self.assertEqual(self.call("token", "list", "bob", **auth)[:2], (0, ""))
        status, _, errors = self.call("token", "revoke", "ann", "phone", **auth)
        self.assertEqual((status, "no token with the label 'phone'" in errors), (1, True))
        status, _, errors = self.call("token", "revoke", "ann", "laptop", **auth)
        self.assertEqual((status, errors), (0, "1 token revoked\n"))
        self.assertEqual(self.call("token", "list", **auth)[1], "")

    def test_password(self) -> None:
        """Read from the standard input where that is no terminal."""
        file = Path(self.mktemp())
        self.assertEqual(self.call("passwd", "ann", typed="pass wörd\n", MERLIND_AUTH=f"htpasswd:{file}"), (0, "", ""))
        self.assertTrue(file.read_text().startswith("ann:$argon2id$"))
