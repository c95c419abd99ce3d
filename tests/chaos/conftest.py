"""A real federation of four sites on loopback, and how to hurt it: find its processes, kill them, see what was kept."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests_marks import alive, marked_environment
from tests_material import small_plan, write_reports

from deploy import guard
from deploy.event_reader import EventReader
from deploy.loopback import Loopback, SiteSetup
from deploy.supervisor import Death, Supervisor
from ssl_core.card import read_card

NAMES = ["site-a", "site-b", "site-c", "site-d"]
ROUNDS, STEPS, MAX_VOID = 3, 150, 2
# A round of so many steps lasts long enough at a site to be hit in the middle; the hospitals' rule approves its cost.
PLAN = {"rounds__rounds": ROUNDS, "rounds__steps_per_round": STEPS, "rounds__max_void": MAX_VOID}
NOISE = {"privacy__noise_multiplier": 8.0}
POLICY = {"max_epsilon": 20.0, "auto_approve_epsilon": 20.0}


class Chaos(Loopback):
    """The loopback federation; deaths are noted, not raised, for here they are meant."""

    def __init__(self, root: Path, supervisor: Supervisor, mark: dict[str, str]) -> None:
        setups = [
            SiteSetup(name=name, source=write_reports(root / "data" / name, seed=seed), policy=POLICY)
            for seed, name in enumerate(NAMES)
        ]
        super().__init__(root / "federation", setups, supervisor)
        self._env |= mark
        self.deaths: list[Death] = []

    def _check_alive(self) -> None:
        self.deaths += self.supervisor.poll()

    def launch_small(self, **changes: Any) -> str:
        """Launch a study that lasts three rounds; the plan hash."""
        path = self.root / "plan.toml"
        path.write_text(tomli_w.dumps(small_plan(NAMES, **(PLAN | NOISE | changes))))
        return self.launch(path)

    def launch_again(self, plan_hash: str) -> None:
        """`choral operator launch HASH`, as an operator types it to go on with a study."""
        self._start("launch", "operator", "launch", plan_hash, "--yes", "--home", str(self.operator_home))

    def start_site(self, name: str) -> None:
        """`choral site start`."""
        self._start(name, "site", "start", "--home", str(self.site_home(name)))

    def start_operator(self) -> None:
        """`choral operator start`, until it says that it is ready."""
        self._start("operator", "operator", "start", "--home", str(self.operator_home))
        ready = self.operator_home / "run" / "ready"
        self.until(
            lambda: ready.exists() and ready.read_text() == f"{self.supervisor.pid('operator')}\n", "the operator's daemon"
        )

    def until(self, check: Callable[[], Any], what: str, *, timeout_s: float = 240.0) -> Any:
        """Look at `check` every 10 ms until it gives something; the limit is generous, no time is asserted."""
        deadline, looked = time.monotonic() + timeout_s, 0.0
        while not (found := check()):
            assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
            if time.monotonic() - looked > 0.5:
                looked = time.monotonic()
                self._check_alive()
            time.sleep(0.01)
        return found

    def death_of(self, name: str, *, timeout_s: float = 240.0) -> Death:
        """Wait until the daemon or command `name`, started last, has ended without being asked."""

        def found() -> Death | None:
            ended = name not in self.supervisor.names()
            return next((death for death in reversed(self.deaths) if ended and death.name == name), None)

        death: Death = self.until(found, f"the end of {name}", timeout_s=timeout_s)
        return death

    def said_by_daemon(self, name: str) -> list[str]:
        """What a daemon printed about processes that ended."""
        lines = (self.root / "logs" / f"{name}.log").read_text().splitlines()
        return [line.split(";")[0] for line in lines if " ended with code " in line]

    def pids(self, role: str, program: str) -> list[int]:
        """Processes that run `program` below the daemon `role`, guards not counted; a module is named as after -m."""
        found = []
        for pid in guard.descendants(self.supervisor.pid(role)):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if program in [Path(word).name for word in words] and guard.__file__ not in words:
                found.append(pid)
        return found

    def kill(self, role: str, program: str) -> int:
        """SIGKILL to the one process that runs `program` below the daemon `role`; its process id."""
        (pid,) = self.pids(role, program)
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_all(self, role: str) -> None:
        """SIGKILL to a daemon or command and to all below it at once, guards too, as when a machine loses power."""
        root = self.supervisor.pid(role)
        tree = [root, *guard.descendants(root)]
        for pid in tree:
            os.kill(pid, signal.SIGKILL)
        assert self.death_of(role).exit_code == 128 + signal.SIGKILL
        assert not [pid for pid in tree if Path(f"/proc/{pid}").exists()]

    def events(self, plan_hash: str, *stages: str) -> list[dict[str, Any]]:
        """The study's events so far; with `stages`, those alone."""
        found = EventReader(self.operator_home / "studies" / plan_hash).new()
        return [event for event in found if not stages or event["stage"] in stages]

    def log(self, name: str, kind: str) -> list[dict[str, Any]]:
        """Entries of one kind in a site's chain, read beside the running site."""
        with closing(sqlite3.connect(f"file:{self.site_home(name) / 'chain.db'}?mode=ro", uri=True, timeout=60)) as database:
            rows = database.execute("SELECT body FROM log WHERE kind = ? ORDER BY sequence", (kind,)).fetchall()
        return [json.loads(row[0]) for row in rows]

    def begun(self, name: str) -> list[int]:
        """Rounds that a site was charged for, in order."""
        return [body["round"] for body in self.log(name, "commit")]

    def said(self, name: str, plan_hash: str, event: str) -> list[int]:
        """Rounds for which a site's journal holds `event`, in order."""
        return [body["round"] for body in self.log(name, f"sum/{plan_hash}") if body["event"] == event]

    def in_round(self, number: int, *names: str) -> None:
        """Wait until each of these sites has begun to train for round `number`."""
        self.until(lambda: all(number in self.begun(name) for name in names or NAMES), f"round {number}")

    def closed(self, plan_hash: str) -> dict[str, str]:
        """Every file of the closed rounds that the server keeps, by hash."""
        folder = self.operator_home / "studies" / plan_hash / "closed"
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("[0-9]*/*"))}

    def finish(self, plan_hash: str, *, rounds: int = ROUNDS) -> None:
        """Wait for the study's end and check what must hold whatever was killed."""
        assert self.death_of("launch", timeout_s=480.0).exit_code == 0
        (end,) = self.events(plan_hash, "finished")
        assert end["acknowledged"] == len(NAMES)
        closed = self.events(plan_hash, "closed")
        assert [event["done"] for event in closed] == list(range(1, rounds + 1))
        release = read_card(self.publish(plan_hash))
        assert release.rounds_closed == rounds
        for name in NAMES:
            (encoder,) = (self.site_home(name) / "encoders").iterdir()
            assert read_card(encoder).weights == release.weights, name
            self._check_ledger(name, plan_hash, rounds)

    def _check_ledger(self, name: str, plan_hash: str, rounds: int) -> None:
        """The whole schedule was charged once; a round counts as started as soon as the site began it, and once."""
        ledger = json.loads(self.command("site", "ledger", "--json", "--home", str(self.site_home(name))))
        (entry,) = ledger["entries"]
        begun = self.begun(name)
        assert (entry["study"], entry["steps"]) == (plan_hash, (rounds + MAX_VOID) * STEPS)
        assert begun == sorted(set(begun)) == self.said(name, plan_hash, "STARTED"), name
        assert entry["steps_started"] == len(begun) * STEPS


@pytest.fixture
def chaos(tmp_path: Path) -> Iterator[Chaos]:
    """Four sites and an operator, each with its daemon; at the end nothing of it runs."""
    env, mark = marked_environment()
    with Supervisor(tmp_path / "run") as supervisor:
        made = Chaos(tmp_path, supervisor, {key: value for key, value in env.items() if value == mark})
        made.set_up()
        made.start()
        yield made
    assert alive(mark) == []
