"""The SuperLink's list of nodes, read from a database that Flower itself wrote, and what is done to make it the roster's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.linkstate import LinkState
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

from server.members import Node, follow, forget, nodes, returned
from server.superlink import supernode_point
from ssl_core.errors import StateError
from ssl_core.trust.certificates import generate_node_key
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import JoinRequest, Roster, ServerIdentity

# Flower's own migration of its database.
pytestmark = pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")

NAMES = ("alpha", "beta", "gamma", "delta")
KEYS = {name: generate_node_key()[1] for name in NAMES}
CARD = ServerIdentity(
    operator=Identity.generate().public_hex, server=Identity.generate().public_hex, server_ca="-", superlink="127.0.0.1:9443"
)


def roster(*names: str) -> Roster:
    members = tuple(JoinRequest(name=n, identity=Identity.generate().public_hex, supernode=KEYS[n]) for n in sorted(names))
    return Roster(version=1, authorities=(Identity.generate().public_hex,), threshold=1, server=CARD, members=members)


class Link:
    """Flower's own state over a database file, and a control that acts on it as the `flwr` command does."""

    def __init__(self, database: Path) -> None:
        self.database = database
        objects = ObjectStoreFactory(str(database))
        self.state: LinkState = LinkStateFactory(str(database), NoOpFederationManager(), objects).state()
        self.calls: list[str] = []

    def register(self, files: Mapping[str, Path]) -> None:
        for name, path in files.items():
            self.calls.append(f"register {name}")
            self.add(name, path.read_bytes())

    def add(self, name: str, key: bytes) -> int:
        return self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 30.0, name=name)

    def unregister(self, node_id: int) -> None:
        self.calls.append(f"unregister {node_id}")
        self.state.delete_node(NOOP_FLWR_AID, node_id)


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    yield Link(tmp_path / "super link.db")


def act(link: Link, of: Roster) -> list[str]:
    link.calls = []
    follow(of, link, link.database, link.database.parent / "nodes")
    return link.calls


def test_flowers_own_nodes_are_read_with_their_ids_and_whether_they_count(link: Link) -> None:
    made = {name: link.add(name, KEYS[name].encode()) for name in NAMES[:3]}
    link.unregister(made["gamma"])
    assert nodes(link.database) == {supernode_point(KEYS[n]): Node(made[n], n != "gamma") for n in NAMES[:3]}


def test_node_ids_beyond_the_signed_range_are_read_as_flower_counts_them(link: Link) -> None:
    """Flower draws 64 random bits, which SQLite keeps as a signed number: half of all ids are negative there."""
    made = {link.add(str(turn), generate_node_key()[1].encode()) for turn in range(12)}
    assert {node.node_id for node in nodes(link.database).values()} == made
    assert any(node_id >= 2**63 for node_id in made)


def test_the_list_becomes_the_rosters_and_only_what_differs_is_touched(link: Link) -> None:
    assert sorted(act(link, roster("alpha", "beta", "gamma"))) == ["register alpha", "register beta", "register gamma"]
    assert act(link, roster("alpha", "beta", "gamma")) == []
    gamma = nodes(link.database)[supernode_point(KEYS["gamma"])].node_id
    assert act(link, roster("alpha", "beta", "delta")) == [f"unregister {gamma}", "register delta"]
    assert link.state.get_node_id_by_public_key(KEYS["gamma"].encode() + b"\n") is None
    assert act(link, roster("alpha", "beta", "delta")) == []


def test_a_key_that_comes_back_is_named_and_a_new_database_takes_it(link: Link) -> None:
    act(link, roster("alpha", "beta", "gamma"))
    act(link, roster("alpha", "beta", "delta"))
    back = roster("alpha", "gamma", "delta")
    assert returned(back, nodes(link.database)) == ["gamma"]
    assert returned(roster("alpha", "beta", "delta"), nodes(link.database)) == []
    with pytest.raises(ValueError, match="already in use"):
        link.add("gamma", KEYS["gamma"].encode() + b"\n")
    forget(link.database)
    assert [path.name for path in link.database.parent.iterdir() if path.name.startswith(link.database.name)] == []
    fresh = Link(link.database)
    assert sorted(act(fresh, back)) == ["register alpha", "register delta", "register gamma"]
    assert returned(back, nodes(fresh.database)) == []


def test_no_database_yet_is_no_node_and_a_broken_one_says_what_to_do(tmp_path: Path) -> None:
    assert nodes(tmp_path / "none.db") == {}
    broken = tmp_path / "broken.db"
    broken.write_bytes(os.urandom(4096))
    with pytest.raises(StateError, match="delete this file"):
        nodes(broken)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE node (node_id INTEGER)")
    other.close()
    with pytest.raises(StateError, match="cannot be read"):
        nodes(tmp_path / "other.db")


def test_reading_changes_no_byte_of_flowers_database(link: Link) -> None:
    act(link, roster("alpha", "beta", "gamma"))
    before = link.database.read_bytes()
    nodes(link.database)
    assert link.database.read_bytes() == before
