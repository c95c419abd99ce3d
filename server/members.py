"""Keeps the SuperLink's list of SuperNode keys equal to the roster, while it runs (ruling 31).

Comes in: the accepted roster and the SuperLink's database. Goes out: members that are new are registered, keys that are on
the roster no more are unregistered, so that Flower answers them with 401 from then on; nothing is restarted.

Flower keeps the key of an unregistered node for ever and registers no key twice, so a hospital that left and comes back
with its old key needs a new database: `returned` names such hospitals, `forget` begins anew before the SuperLink starts.
What is lost then are Flower's runs, never a study: launched again, it goes on where it was.

Flower's commands list neither keys nor names, so the table `node` of its database is read, never written. The columns used
here are internal to flwr and pinned with it; tests/server/test_members.py fails when they move.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from server.superlink import FlowerControl, supernode_point
from ssl_core.errors import StateError
from ssl_core.trust.roster import Roster

_UNREGISTERED = "unregistered"
_BUSY_S = 10.0
_BITS = 64


@dataclass(frozen=True, slots=True)
class Node:
    """One SuperNode as the SuperLink knows it."""

    node_id: int
    registered: bool


def nodes(database: Path) -> dict[bytes, Node]:
    """Every SuperNode that was ever registered, by the curve point of its key; raises `StateError`."""
    if not database.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as link:
            rows = link.execute("SELECT node_id, public_key, status FROM node").fetchall()
    except sqlite3.Error as error:
        raise StateError(
            "the SuperLink's database cannot be read", field="path", value=str(database),
            remedy="stop choral operator start, delete this file, and start it again",
        ) from error  # fmt: skip
    # SQLite's integers are signed; Flower's node ids are not.
    return {supernode_point(key): Node(node_id % 2**_BITS, status != _UNREGISTERED) for node_id, key, status in rows}


def returned(roster: Roster, known: Mapping[bytes, Node]) -> list[str]:
    """Members whose key was unregistered earlier."""
    points = {member.name: supernode_point(member.supernode) for member in roster.members}
    return [name for name, point in points.items() if point in known and not known[point].registered]


def forget(database: Path) -> None:
    """Delete the database of a SuperLink that does not run."""
    for path in (database, *database.parent.glob(f"{database.name}-*")):
        path.unlink(missing_ok=True)


def follow(roster: Roster, control: FlowerControl, database: Path, folder: Path) -> None:
    """Unregister whoever is not on the roster, then register whoever is new. `folder` takes the public key files."""
    known = nodes(database)
    points = {supernode_point(member.supernode): member for member in roster.members}
    for point, node in known.items():
        if node.registered and point not in points:
            control.unregister(node.node_id)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for point, member in points.items():
        if point not in known:
            files[member.name] = folder / f"{member.name}.pub"
            files[member.name].write_text(member.supernode + "\n")
    control.register(files)
