"""The user that the process will run as, where twistd starts as root and switches (``--uid``, ``--gid``)."""

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class User:
    """The numbers of user and group to switch to; None where there is no switch."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def of(cls, twistd: Mapping[str, Any]) -> "User":
        """Return the user that twistd's own options name; twistd switches to it between the two parts of the start."""
        uid, gid = twistd.get("uid"), twistd.get("gid")
        if os.geteuid() != 0:
            return cls()  # who isn't root can't switch, and twistd says so
        if uid is not None:
            try:
                own_group = pwd.getpwuid(uid).pw_gid
            except KeyError:
                raise SystemExit(f"merlind: --uid: there is no user {uid}") from None
            gid = own_group if gid is None else gid
        return cls(uid, gid)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Be this user meanwhile, as far as files are concerned: what is made belongs to it. Raises OSError."""
        uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
        try:
            # As twistd does it. The user comes last, and back first: only root may change groups.
            if self.gid is not None:
                os.setegid(self.gid)
                if self.uid is not None:
                    os.setgroups(os.getgrouplist(pwd.getpwuid(self.uid).pw_name, self.gid))
            if self.uid is not None:
                os.seteuid(self.uid)
            yield
        finally:
            if self.uid is not None:
                os.seteuid(uid)
            if self.gid is not None:
                os.setegid(gid)
                if self.uid is not None:
                    os.setgroups(groups)

    def own(self, path: Path) -> None:
        """Give a path to this user, if there is a switch. Raises OSError."""
        if self != User():
            os.chown(path, -1 if self.uid is None else self.uid, -1 if self.gid is None else self.gid)
