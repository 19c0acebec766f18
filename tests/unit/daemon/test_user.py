"""Another user to run as: what is made before the switch belongs to it (D15)."""

import os
import pwd
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.daemon.datadir import DataDir, DataDirUnusable
from merlind.daemon.user import User
from tests.unit.support import failing

ROOT, ROOTS_GROUPS = 0, [0, 7]


class UserCase(SynchronousTestCase):
    """A process of root whose identity the test plays; ``calls`` lists what was changed of it, in order."""

    def setUp(self) -> None:
        self.ids = {"uid": ROOT, "gid": ROOT}
        self.calls: list[tuple[str, Any]] = []
        self.patch(os, "geteuid", lambda: self.ids["uid"])
        self.patch(os, "getegid", lambda: self.ids["gid"])
        self.patch(os, "getgroups", lambda: ROOTS_GROUPS)
        self.patch(os, "seteuid", lambda uid: self.change("uid", uid))
        self.patch(os, "setegid", lambda gid: self.change("gid", gid))
        self.patch(os, "setgroups", lambda groups: self.change("groups", groups))
        self.patch(os, "getgrouplist", lambda name, gid: [gid, 70])
        self.patch(os, "chown", lambda path, uid, gid: self.calls.append((Path(path).name, (uid, gid))))
        self.patch(pwd, "getpwuid", self.find)

    def change(self, what: str, value: Any) -> None:
        """What the system calls do: only root may, as long as it is root."""
        self.assertTrue(self.ids["uid"] == ROOT or what == "uid", "only root may change groups")
        self.calls.append((what, value))
        if what in self.ids:
            self.ids[what] = value

    def find(self, uid: int) -> Any:
        return {5: pwd.struct_passwd(("five", "x", 5, 50, "", "/", ""))}[uid]


class OptionsTests(UserCase):
    """From twistd's options."""

    def test_options(self) -> None:
        """User and group are those of the options; the group is the user's own if none is given."""
        for twistd, user in (
            ({}, User()),
            ({"uid": None, "gid": None}, User()),
            ({"uid": 5, "gid": None}, User(5, 50)),
            ({"uid": 5, "gid": 6}, User(5, 6)),
            ({"uid": None, "gid": 6}, User(None, 6)),
        ):
            self.assertEqual(User.of(twistd), user)

    def test_unknown(self) -> None:
        """A user that there isn't ends the start with a line: twistd couldn't switch to it."""
        error = self.assertRaises(SystemExit, User.of, {"uid": 77, "gid": 6})
        self.assertEqual(error.code, "merlind: --uid: there is no user 77")

    def test_not_root(self) -> None:
        """Without root there is no switch."""
        self.ids["uid"] = 9
        self.assertEqual(User.of({"uid": 5, "gid": 6}), User())


class ActingTests(UserCase):
    """As the other user."""

    def test_back_again(self) -> None:
        """Groups change while root is root, and all is as it was afterwards, whatever happens meanwhile."""

        def act() -> None:
            with User(5, 50).acting():
                self.assertEqual(self.ids, {"uid": 5, "gid": 50})
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, act)
        self.assertEqual(
            self.calls,
            [("gid", 50), ("groups", [50, 70]), ("uid", 5), ("uid", ROOT), ("gid", ROOT), ("groups", ROOTS_GROUPS)],
        )

    def test_group_alone(self) -> None:
        """So does a group without a user."""
        with User(None, 50).acting():
            self.assertEqual(self.ids, {"uid": ROOT, "gid": 50})
        self.assertEqual(self.calls, [("gid", 50), ("gid", ROOT)])

    def test_nobody_else(self) -> None:
        """Without a switch nothing is changed or given away."""
        with User().acting():
            User().own(Path("x"))
        self.assertEqual(self.calls, [])


class DataDirTests(UserCase):
    """The data directory of the other user."""

    def acquire(self, path: Path) -> None:
        data_dir = DataDir(path, User(5, 50))
        self.addCleanup(data_dir.release)
        data_dir.acquire()

    def test_given_away(self) -> None:
        """Folders that are made are given to the user, those above as well; what is in them is made by the user."""
        path = Path(self.mktemp())
        made: list[int] = []
        real = os.open

        def open_(name: Any, *rest: Any) -> int:
            made.append(self.ids["uid"])
            return real(name, *rest)

        self.patch(os, "open", open_)
        self.acquire(path / "above" / "data")
        chowned = [call for call in self.calls if isinstance(call[1], tuple)]
        self.assertEqual(chowned[-2:], [("above", (5, 50)), ("data", (5, 50))])
        self.assertEqual(made, [5, 5])
        self.assertEqual(self.ids["uid"], ROOT)

    def test_not_given_away(self) -> None:
        """A directory that was there before isn't; if the user can't use it, the line says who can't."""
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        self.acquire(path)
        self.assertEqual([call for call in self.calls if isinstance(call[1], tuple)], [])
        self.patch(os, "open", failing(13))
        error = self.assertRaises(DataDirUnusable, self.acquire, path)
        self.assertEqual(str(error), f"{path} can't be used by user 5: Permission denied")
