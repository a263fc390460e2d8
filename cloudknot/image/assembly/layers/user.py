"""JobUser: the user that jobs run as, and its lines in an image's list of users. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from cloudknot.image.assembly.base.facts import BaseFacts
from cloudknot.image.assembly.layers.layer import ROOT, LayerWriter, Owner

FIRST_UID = 1000
"""The first number for people, as in Debian."""
_ROOT_LINE = "root:x:0:0:root:/root:/bin/sh\n"


@dataclass(frozen=True)
class JobUser:
    """A user of an image.

    Attributes
    ----------
    name : str
        Empty for the user that the base image itself runs as.
    owner : Owner
    home : str
    is_new : bool
        Whether the base image lacks it.
    group_is_new : bool
    """

    name: str
    owner: Owner
    home: str
    is_new: bool
    group_is_new: bool

    @classmethod
    def of(cls, name: str, facts: BaseFacts) -> JobUser:
        """Return the user with a name: the base image's, or a new one with the first free number."""
        users, groups = _entries(facts.passwd), _entries(facts.group)
        if not name:
            return cls("", ROOT, "", False, False)
        if (known := users.get(name)) and len(known) >= 6:
            return cls(name, Owner(int(known[2]), int(known[3])), known[5], False, False)
        taken = {entry[2] for entry in (*users.values(), *groups.values()) if len(entry) > 2}
        uid = next(number for number in range(FIRST_UID, FIRST_UID + len(taken) + 1) if str(number) not in taken)
        group = groups.get(name)
        gid = int(group[2]) if group and len(group) > 2 else uid
        return cls(name, Owner(uid, gid), f"/home/{name}", True, group is None)

    def write(self, layer: LayerWriter, facts: BaseFacts) -> None:
        """Add the user to a layer: its lines in the lists of users and groups, and its home."""
        uid, gid = self.owner.uid, self.owner.gid
        if self.is_new:
            line = f"{self.name}:x:{uid}:{gid}::{self.home}:/bin/sh\n"
            layer.file("/etc/passwd", _with_line(facts.passwd or _ROOT_LINE, line))
            layer.folder(self.home, owner=self.owner)
        if self.group_is_new:
            layer.file("/etc/group", _with_line(facts.group or "root:x:0:\n", f"{self.name}:x:{gid}:\n"))


def _entries(text: str) -> dict[str, list[str]]:
    lines = [line.split(":") for line in text.splitlines()]
    return {entry[0]: entry for entry in lines}


def _with_line(text: str, line: str) -> bytes:
    return f"{text}{'' if text.endswith(chr(10)) else chr(10)}{line}".encode()
