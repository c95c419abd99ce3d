"""What a roster changes against an earlier one: for the person who signs it, and for the one who accepts it.

Comes in: two rosters, the earlier one or None. Goes out: a `RosterChange`, as lines for people or facts for `--json`.
It says nothing about signatures: both rosters were verified, or will be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssl_core.trust.identity import fingerprint
from ssl_core.trust.roster import Roster

_SERVER = (
    ("operator", "operator key"),
    ("server", "server key"),
    ("server_ca", "server certificate"),
    ("superlink", "address"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterChange:
    """Names of sites, sorted; `server` and `authority` name what of them is new, in words."""

    since: int | None
    joined: tuple[str, ...]
    left: tuple[str, ...]
    new_identity: tuple[str, ...]
    new_supernode: tuple[str, ...]
    server: tuple[str, ...]
    authority: str | None

    @property
    def reconnect(self) -> bool:
        """Must a running daemon be started again to reach the server?"""
        return "address" in self.server or "server certificate" in self.server

    def lines(self, roster: Roster) -> list[str]:
        """For people; `roster` is the later one."""
        found = [f"joined: {name}  {roster.fingerprint(name)}" for name in self.joined]
        found += [f"left: {name}" for name in self.left]
        found += [f"new key of {name}: {roster.fingerprint(name)}" for name in self.new_identity]
        found += [f"new SuperNode key of {name}" for name in self.new_supernode]
        found += [f"new {what}" for what in self.server]
        if self.authority is not None:
            found.append(f"new authority: {self.authority}")
        return found or ["nothing but the version"]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "since_version": self.since,
            "joined": list(self.joined),
            "left": list(self.left),
            "new_identity": list(self.new_identity),
            "new_supernode": list(self.new_supernode),
            "server": list(self.server),
            "authority": self.authority,
        }


def change_of(before: Roster | None, after: Roster) -> RosterChange:
    """What is different in `after`; without an earlier roster, every site joined and nothing else is new."""
    old = {} if before is None else {member.name: member for member in before.members}
    new = {member.name: member for member in after.members}
    both = sorted(old.keys() & new.keys())
    server: list[str] = []
    if before is not None:
        for field, what in _SERVER:
            if (value := getattr(after.server, field)) != getattr(before.server, field):
                server.append(f"{what} {fingerprint(bytes.fromhex(value))}" if what.endswith("key") else what)
    return RosterChange(
        since=None if before is None else before.version,
        joined=tuple(sorted(new.keys() - old.keys())),
        left=tuple(sorted(old.keys() - new.keys())),
        new_identity=tuple(name for name in both if old[name].identity != new[name].identity),
        new_supernode=tuple(name for name in both if old[name].supernode != new[name].supernode),
        server=tuple(server),
        authority=None if before is None or before.authority == after.authority else after.authority.words,
    )
