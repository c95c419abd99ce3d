"""The operator's real daemon follows the roster: who joined is let in, who left is not, and nothing is restarted for it.

The sites' ends are real SuperNodes over TLS; their state folders, keys and signed rosters are made by the commands' own
functions.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.home import create_site
from client.processes import supernode_argv
from deploy.flower_env import flower_env, make_secret
from deploy.loopback_ports import held_ports, wait_for
from deploy.supervisor import ProcessSpec, Supervisor
from server.home import OperatorHome, create_operator
from ssl_core.chain import write_durably
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import Roster, open_request, sign_roster

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("site-a", "site-b", "site-c", "site-d")
CONNECTED, REFUSED = "SuperNode ID", "Failed to initialize the connection"


class World:
    """An operator's daemon, and SuperNodes that are started by name."""

    def __init__(self, root: Path, operator: OperatorHome, supervisor: Supervisor, node_ports: list[int]) -> None:
        self.root, self.operator, self.supervisor = root, operator, supervisor
        self.authority = Identity.generate()
        self.node_ports = dict(zip(NAMES, node_ports, strict=True))
        self.starts = 0
        self.last: dict[str, str] = {}

    def publish(self, version: int, *names: str) -> None:
        """Put a roster into the operator's folder, as a person copies it."""
        requests = [open_request((self.root / name / "join-request.json").read_bytes()) for name in names]
        roster = Roster(
            version=version, authorities=(self.authority.public_hex,), threshold=1, server=self.operator.card,
            members=tuple(requests),
        )  # fmt: skip
        write_durably(self.operator.root / "roster.json", sign_roster(roster, [self.authority]))

    def connect(self, name: str) -> Path:
        """Start the site's SuperNode, its only one; its log."""
        # One that was turned away may still hold the site's port while it ends.
        if (before := self.last.get(name)) in self.supervisor.names():
            self.supervisor.stop(before)
        self.starts += 1
        self.last[name] = f"{name}-{self.starts}"
        log = self.root / f"{name}-{self.starts}.log"
        self.supervisor.start(
            ProcessSpec(
                name=self.last[name],
                argv=supernode_argv(
                    superlink=f"127.0.0.1:{self.operator.config.port}", ca_certificate=self.operator.tls.ca_certificate,
                    private_key=self.root / name / "supernode.key", runtime_port=self.node_ports[name],
                    secret_file=make_secret(self.root / f"{name}.secret"),
                ),
                env=flower_env(self.root / f"flwr-{name}") | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                log_path=log,
            )
        )  # fmt: skip
        return log

    def daemon_says(self, words: str) -> None:
        log = self.root / "operator.log"
        wait_for(lambda: log.is_file() and words in log.read_text(), timeout_s=90, what=f"the daemon to say: {words}")


def says(log: Path, words: str) -> None:
    wait_for(lambda: log.is_file() and words in log.read_text(), timeout_s=90, what=f"{log.name} to say: {words}")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    with held_ports(1 + len(NAMES)) as ports, Supervisor(tmp_path / "state") as supervisor:
        operator = create_operator(tmp_path / "operator", ["127.0.0.1"], ports[0], f"127.0.0.1:{ports[0]}")
        made = World(tmp_path, operator, supervisor, ports[1:])
        for name in NAMES:
            create_site(tmp_path / name, name, [made.authority.public], 1, None)
        made.publish(1, "site-a", "site-b", "site-c")
        supervisor.start(
            ProcessSpec(
                name="operator",
                argv=(sys.executable, "-P", "-m", "choral", "operator", "start", "--home", str(operator.root)),
                env=flower_env(tmp_path / "flwr") | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                log_path=tmp_path / "operator.log",
            )
        )
        wait_for((operator.root / "run" / "ready").exists, timeout_s=90, what="the operator's daemon")
        yield made


def test_the_superlink_follows_the_roster_without_a_restart(world: World) -> None:
    stays, leaves = world.connect("site-a"), world.connect("site-c")
    for log in (stays, leaves):
        says(log, CONNECTED)
    early = world.connect("site-d")
    says(early, REFUSED)
    superlink = world.supervisor.pid("operator")

    # A file that was half copied, and one of another authority, change nothing and do not end the daemon.
    whole = (world.operator.root / "roster.json").read_bytes()
    (world.operator.root / "roster.json").write_bytes(whole[: len(whole) // 2])
    world.daemon_says("roster not followed: file is not a signed envelope")
    mine, world.authority = world.authority, Identity.generate()
    world.publish(2, "site-a", "site-b", "site-d")
    world.daemon_says("roster not followed: roster is not of the authority that is pinned here")

    world.authority = mine
    world.publish(2, "site-a", "site-b", "site-d")
    world.daemon_says("following roster version 2: 3 sites")
    says(world.connect("site-d"), CONNECTED)
    wait_for(lambda: any(d.name.startswith("site-c") for d in world.supervisor.poll()), timeout_s=90, what="site-c's end")
    says(world.connect("site-c"), REFUSED)
    assert world.supervisor.pid("operator") == superlink
    assert (world.root / "operator.log").read_text().count("superlink ended") == 0
    assert REFUSED not in stays.read_text()

    # A hospital that left and comes back has kept its folder, with its ledger for life, and so its keys.
    database = world.operator.root / "run" / "superlink.db"
    first = database.stat().st_ino
    world.publish(3, "site-a", "site-b", "site-c")
    world.daemon_says("back on the roster: site-c; the SuperLink starts with a new database")
    wait_for(lambda: database.exists() and database.stat().st_ino != first, timeout_s=90, what="the new database")
    wait_for(lambda: CONNECTED in retry(world, "site-c"), timeout_s=120, what="site-c to be let in again")
    says(world.connect("site-d"), REFUSED)


def retry(world: World, name: str) -> str:
    """Start the SuperNode once more and wait for its word, as a site's daemon does."""
    log = world.connect(name)
    wait_for(lambda: any(word in log.read_text() for word in (CONNECTED, REFUSED)), timeout_s=90, what=f"{name}'s word")
    return log.read_text()


def test_a_daemon_that_was_down_while_the_roster_changed_begins_with_the_new_one(world: World) -> None:
    world.supervisor.stop("operator")
    shutil.copy(world.operator.root / "roster.json", world.root / "first.json")
    world.publish(2, "site-a", "site-b", "site-d")
    world.supervisor.start(
        ProcessSpec(
            name="operator",
            argv=(sys.executable, "-P", "-m", "choral", "operator", "start", "--home", str(world.operator.root)),
            env=flower_env(world.root / "flwr") | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            log_path=world.root / "operator.log",
        )
    )
    wait_for((world.operator.root / "run" / "ready").exists, timeout_s=90, what="the operator's daemon")
    says(world.connect("site-d"), CONNECTED)
    says(world.connect("site-c"), REFUSED)
    shutil.copy(world.root / "first.json", world.operator.root / "roster.json")
    world.daemon_says("roster not followed: roster is older than the one accepted here")
