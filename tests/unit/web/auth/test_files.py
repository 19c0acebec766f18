"""The files of users and tokens: what is in them, that they are read again, and the commands that write them."""

import io
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.web.auth import passwd, token
from merlind.web.auth.htpasswd import is_password, parse_users
from merlind.web.auth.token import TokenEntry
from merlind.web.auth.tokens import hash_token, parse_tokens, token_line
from merlind.web.auth.watched_file import MAX_FILE_BYTES, BadLine, FileUnusable, WatchedFile
from tests.unit.web.auth.support import hash_of
from tests.unit.web.support import LogLines

GOOD = hash_of("secret")


class FileCase(SynchronousTestCase):
    """A test with a folder of its own."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.path = folder / "file"


class UsersTests(SynchronousTestCase):
    """Files of users and hashes."""

    def test_users(self) -> None:
        """Comments, empty lines and line ends of Windows are no matter."""
        text = f"# ours\r\n\r\nann:{GOOD}\r\n  Zoe\u0308:{hash_of('other')}\n"
        self.assertEqual(parse_users(text), {"ann": GOOD, "Zo\u00eb": hash_of("other")})

    def test_refused(self) -> None:
        """Each line that can't be used is named, with the reason and the cure; neither user nor hash is told."""
        for line, why in (
            ("ann:$2y$05$abcdefghijklmnopqrstuv", "a bcrypt hash; make the line anew: python -m"),
            ("ann:$apr1$abc$defghi", "an MD5 hash of Apache"),
            ("ann:{SHA}abcdefghi", "a SHA-1 hash"),
            ("ann:$6$abc$def", "a SHA-512 hash of crypt"),
            ("ann:$5$abc$def", "a SHA-256 hash of crypt"),
            ("ann:$7$abc", "a hash of another kind"),
            ("ann:" + GOOD.replace("argon2id", "argon2i"), "an argon2 hash, but not argon2id"),
            ("ann:" + GOOD.replace("t=2", "t=9"), "an argon2id hash, but not of m=19456,t=2,p=1"),
            ("ann:" + GOOD[:-1], "an argon2id hash"),
            ("ann:secret", "no hash that is known"),
            ("ann", "there is no colon"),
            (":" + GOOD, "a user's name has 1 to"),
            (f"ann:{GOOD}\nann:{GOOD}", "this user is there twice"),
        ):
            error = self.assertRaises(BadLine, parse_users, "# first\n" + line)
            number = 2 + line.count("\n")
            self.assertTrue(str(error).startswith(f"line {number}: {why}"), error)
            self.assertNotIn("ann:", str(error))
            self.assertNotIn("abc", str(error))
            self.assertNotIn("xxx", str(error))


class TokensTests(SynchronousTestCase):
    """Files of tokens."""

    def test_tokens(self) -> None:
        """A user may have several; what was created when, and what for, is of no matter."""
        one, two = hash_token(b"one"), hash_token(b"two")
        text = f"# ours\n\nann:my laptop:{one}:2026-11-25T17:00:00Z\nann::{two}:\n"
        self.assertEqual(parse_tokens(text), {one: "ann", two: "ann"})

    def test_refused(self) -> None:
        """Each line that can't be used is named, with the reason; nothing of it is told."""
        good = hash_token(b"one")
        for line, why in (
            (f"ann:laptop:{good}", "it is not USER:LABEL:SHA256:CREATED"),
            ("ann:laptop:merlind_secret:2026", "the third field is not a SHA-256"),
            (f"ann:laptop:{good.upper()}:2026", "the third field is not a SHA-256"),
            (f":laptop:{good}:2026", "a user's name has 1 to"),
            (f"ann:a:{good}:2026\nbob:b:{good}:2026", "this token is there twice"),
        ):
            error = self.assertRaises(BadLine, parse_tokens, line)
            self.assertTrue(str(error).startswith(f"line {1 + line.count(chr(10))}: {why}"), error)
            self.assertNotIn("secret", str(error))


class WatchedFileTests(FileCase):
    """A file that is read again when it has changed."""

    def watch(self) -> "WatchedFile[str]":
        def parse(text: str) -> str:
            if text == "bad":
                raise BadLine(1, "it is bad")
            return text

        return WatchedFile(self.path, parse)

    def test_read_once(self) -> None:
        """What hasn't changed is not read again."""
        self.path.write_text("one")
        watched = self.watch()
        self.assertIs(watched.content, watched.content)

    def test_changed(self) -> None:
        """A file that was replaced, or written to, counts at once, even if its size and its time are the same."""
        self.path.write_text("one")
        watched = self.watch()
        self.assertEqual(watched.content, "one")
        time = os.stat(self.path).st_mtime_ns

        draft = self.path.with_name("draft")
        draft.write_text("two")
        os.utime(draft, ns=(time, time))
        draft.replace(self.path)
        self.assertEqual(watched.content, "two")

        self.path.write_text("three")
        self.assertEqual(watched.content, "three")

    def test_bad(self) -> None:
        """A file that is bad or gone leaves what was there in force, and one line in the log; a good one counts."""
        self.path.write_text("one")
        watched = self.watch()
        lines = LogLines.of(self)
        self.path.write_text("bad")
        self.assertEqual([watched.content for _ in range(3)], ["one"] * 3)
        self.path.unlink()
        self.assertEqual([watched.content for _ in range(3)], ["one"] * 3)
        self.path.write_text("two")
        self.assertEqual([watched.content for _ in range(3)], ["two"] * 3)
        path, kept = str(self.path.absolute()), "; what it said before counts on"
        self.assertEqual(
            lines.lines,
            [
                f"{path}, line 1: it is bad{kept}",
                f"{path} can't be read: No such file or directory{kept}",
                f"{path} was read again",
            ],
        )

    def test_refused(self) -> None:
        """A start with a file that can't be used fails, and one line says why; a named pipe doesn't hang it."""

        def gone() -> None:
            pass

        def pipe() -> None:
            os.mkfifo(self.path)

        def latin() -> None:
            self.path.write_bytes(b"\xe9")

        def large() -> None:
            self.path.write_bytes(b"x" * (MAX_FILE_BYTES + 1))

        def bad() -> None:
            self.path.write_text("bad")

        for make, why in (
            (gone, " can't be read: No such file or directory"),
            (pipe, " can't be used: it is no regular file"),
            (latin, " can't be used: it is not UTF-8"),
            (large, f" can't be used: it has more than {MAX_FILE_BYTES} bytes"),
            (bad, ", line 1: it is bad"),
        ):
            make()
            error = self.assertRaises(FileUnusable, self.watch)
            self.assertEqual(str(error), f"{self.path.absolute()}{why}")
            self.path.unlink(missing_ok=True)


class CommandCase(FileCase):
    """A command, with its output."""

    def setUp(self) -> None:
        super().setUp()
        self.out, self.errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.errors)

    def type(self, line: bytes) -> None:
        """Let this be the standard input."""
        self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))

    @property
    def mode(self) -> int:
        return self.path.stat().st_mode & 0o777

    def left(self) -> list[str]:
        """The files beside ours."""
        return [path.name for path in self.path.parent.iterdir() if path != self.path]


class PasswdTests(CommandCase):
    """``python -m merlind.web.auth.passwd``."""

    def run_command(self, user: str, password: bytes) -> int:
        self.type(password + b"\n")
        return passwd.main([str(self.path), user])

    def test_made(self) -> None:
        """The file is made for its owner alone, with a hash of the real kind, and the password is right."""
        self.assertEqual(self.run_command("ann", "pass wörd".encode()), 0)
        users = parse_users(self.path.read_text())
        self.assertEqual(list(users), ["ann"])
        self.assertTrue(is_password(users["ann"], "pass wörd".encode()))
        self.assertFalse(is_password(users["ann"], b"pass word"))
        self.assertEqual((self.mode, self.left(), self.out.getvalue(), self.errors.getvalue()), (0o600, [], "", ""))

    def test_changed(self) -> None:
        """One user's line is changed, even one that merlind refuses; all others, comments and the mode stay."""
        self.path.write_text(f"# ours\nann:$2y$old\n\nbob:{GOOD}")
        self.path.chmod(0o640)
        self.assertEqual((self.run_command("ann", b"new"), self.run_command("cy", b"third")), (0, 0))
        before, ann, *after = self.path.read_text().split("\n")
        self.assertEqual((before, after[:2], self.mode), ("# ours", ["", f"bob:{GOOD}"], 0o640))
        self.assertEqual(list(parse_users(self.path.read_text())), ["ann", "bob", "cy"])
        self.assertTrue(is_password(ann.partition(":")[2], b"new"))

    def test_refused(self) -> None:
        """What can't be a user or a password, and a file that can't be written, get one line."""
        for user, password, why in (
            ("a:b", b"x", "passwd: a user's name is printable"),
            ("ann", b"", "passwd: a password has 1 to"),
            ("ann", b"a\0", "passwd: a password has no control characters"),
        ):
            self.assertEqual(self.run_command(user, password), 1)
            self.assertIn(why, self.errors.getvalue())
        self.assertFalse(self.path.exists())
        self.path = self.path / "below" / "nothing"
        self.assertEqual(self.run_command("ann", b"x"), 1)
        self.assertIn("can't be written: No such file or directory", self.errors.getvalue())
        self.assertEqual(passwd.main([]), 2)

    def test_terminal(self) -> None:
        """At a terminal the password is asked for twice, and must be the same."""

        class Terminal:
            isatty = staticmethod(lambda: True)

        self.patch(sys, "stdin", Terminal())
        typed = iter(["one", "one", "one", "two"])
        prompt: Any = lambda _text: next(typed)  # noqa: E731
        self.assertEqual(passwd.ask_password(prompt), b"one")
        self.assertRaises(ValueError, passwd.ask_password, prompt)


class TokenTests(CommandCase):
    """``python -m merlind.web.auth.token``."""

    def test_added(self) -> None:
        """Each call adds a token of its own and prints it; the file has its hash alone."""
        self.assertEqual((token.main([str(self.path), "ann", "laptop"]), token.main([str(self.path), "bob"])), (0, 0))
        one, two = self.out.getvalue().split()
        self.assertRegex(one, r"\Amerlind_[A-Za-z0-9_-]{43}\Z")
        text = self.path.read_text()
        self.assertEqual(parse_tokens(text), {hash_token(one.encode()): "ann", hash_token(two.encode()): "bob"})
        self.assertNotIn(one[8:], text)
        self.assertEqual((self.mode, self.left()), (0o600, []))

    def test_line(self) -> None:
        """The line says what for, and since when in UTC; what was there stays, with or without an end of line."""
        self.path.write_text("# ours")
        made = token.add_token(self.path, "ann", "laptop", datetime(2026, 11, 25, 17, 0, tzinfo=UTC))
        expected = f"# ours\nann:laptop:{hash_token(made.encode())}:2026-11-25T17:00:00Z\n"
        self.assertEqual(self.path.read_text(), expected)

    def test_refused(self) -> None:
        """What can't be a user or a label, and a file with a bad line, get one line; the file stays."""
        for arguments, why in ((["a:b"], "a user's name is printable"), (["ann", "a:b"], "a label has up to 128")):
            self.assertEqual(token.main([str(self.path), *arguments]), 1)
            self.assertIn(f"token: {why}", self.errors.getvalue())
        self.assertFalse(self.path.exists())
        self.path.write_text("garbage")
        self.assertEqual(token.main([str(self.path), "ann"]), 1)
        self.assertIn(f"token: {self.path}, line 1: it is not", self.errors.getvalue())
        self.assertEqual((self.path.read_text(), token.main([])), ("garbage", 2))
        self.path = self.path.parent / "none" / "file"
        self.assertEqual(token.main([str(self.path), "ann"]), 1)

    def test_listed_and_revoked(self) -> None:
        """A user's tokens with one label go, and all else stays as it is, comments too."""
        lines = [token_line(*words) for words in (("ann", "laptop", "t1", "c1"), ("ann", "", "t2", "c2"))]
        self.path.write_text("\n".join(["# ours", lines[0], "", lines[1], token_line("bob", "laptop", "t3", "c3"), ""]))
        entries = [TokenEntry("ann", "laptop", "c1"), TokenEntry("ann", "", "c2"), TokenEntry("bob", "laptop", "c3")]
        self.assertEqual(token.list_tokens(self.path), entries)

        self.assertEqual(token.revoke_tokens(self.path, "ann", "phone"), 0)
        self.assertEqual(token.revoke_tokens(self.path, "ann", "laptop"), 1)

        self.assertEqual(token.list_tokens(self.path), entries[1:])
        self.assertEqual(self.path.read_text().split("\n")[:3], ["# ours", "", lines[1]])
        self.assertEqual(self.left(), [])

    def test_no_file(self) -> None:
        """There is nothing to list or to revoke in a file that isn't there, and none is made."""
        for call in (lambda: token.list_tokens(self.path), lambda: token.revoke_tokens(self.path, "ann", "")):
            self.assertRaises(FileNotFoundError, call)
        self.assertFalse(self.path.exists())
