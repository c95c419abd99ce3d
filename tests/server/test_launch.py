"""Following a study that was launched: what ends it, what Flower may fail, and who may work on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context
from flwr.app.message import RecordDict
from flwr.serverapp import Grid

from deploy.supervisor import StateLock
from server import flower_app, launch
from server.bundle import RunStatus
from server.events import EventLog
from server.home import OperatorHome
from server.study_lock import working_on
from ssl_core.errors import StateError, TransportError

PLAN = "ab" * 32


class Flower:
    """What launch asks of the `flwr` command; `looks` are the answers to its questions after the run, one after another."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.started = 0
        self.stopped: list[int] = []
        self.says: list[list[tuple[str, dict[str, Any]]]] = []
        self.looks: Iterator[str | None] = iter(())

    def start_run(self, _control: object, plan_hash: str) -> int:
        assert plan_hash == PLAN
        self.started += 1
        for stage, facts in self.says.pop(0) if self.says else []:
            self.log.write(stage, **facts)
        return self.started

    def run_status(self, _control: object, run_id: int) -> RunStatus:
        status = next(self.looks)
        if status is None:
            raise TransportError("flwr ls failed")
        return RunStatus(run_id, status, "")

    def stop_run(self, _control: object, run_id: int) -> None:
        self.stopped.append(run_id)


@pytest.fixture
def home(tmp_path: Path) -> OperatorHome:
    (tmp_path / "operator.toml").write_text('port = 9443\naddress = "127.0.0.1:9443"\n')
    (tmp_path / "studies" / PLAN).mkdir(parents=True)
    return OperatorHome(tmp_path)


@pytest.fixture
def flower(home: OperatorHome, monkeypatch: pytest.MonkeyPatch) -> Flower:
    made = Flower(EventLog(home.study(PLAN)))
    for name in ("start_run", "run_status", "stop_run"):
        monkeypatch.setattr(launch, name, getattr(made, name))
    monkeypatch.setattr(launch, "control", lambda _home: None)
    for name in ("_LOOK_S", "_RUN_LOOK_S", "_STOP_S", "_HANDOVER_S"):
        monkeypatch.setattr(launch, name, 0.0)
    return made


def follow(home: OperatorHome) -> tuple[bool, list[str]]:
    seen: list[str] = []
    launch.launch(home, PLAN)
    return launch.watch(home, PLAN, on_event=lambda event: seen.append(event["stage"])), seen


RUNNING: tuple[str, dict[str, Any]] = ("running", {"rounds": 3, "sites": 3})
FINISHED: tuple[str, dict[str, Any]] = ("finished", {"done": 3})


def test_the_end_of_an_earlier_launch_is_not_the_end_of_this_one(home: OperatorHome, flower: Flower) -> None:
    flower.says = [[RUNNING, ("stopped", {})], [RUNNING, FINISHED]]
    assert follow(home) == (False, ["running", "stopped"])
    assert launch.progress(home, PLAN)["state"] == "stopped"
    assert follow(home) == (True, ["running", "finished"])


def test_a_finished_study_that_is_launched_again_is_finished(home: OperatorHome, flower: Flower) -> None:
    (home.study(PLAN) / "finished").write_text("")
    flower.log.write("finished", done=3)
    flower.looks = iter(["running", "finished:completed"])
    assert follow(home) == (True, [])
    assert flower.started == 1


def test_a_superlink_that_is_away_ends_nothing(home: OperatorHome, flower: Flower) -> None:
    flower.says = [[RUNNING]]

    def looks() -> Iterator[str | None]:
        yield from (None, None, "running", None)
        flower.log.write("finished", done=3)
        yield "finished:completed"

    flower.looks = looks()
    assert follow(home) == (True, ["running", "no-answer", "no-answer", "finished"])
    assert flower.started == 1


def test_a_superlink_that_stays_away_is_said_in_the_end(home: OperatorHome, flower: Flower) -> None:
    flower.looks = iter([None] * launch._SILENT_LOOKS)
    with pytest.raises(TransportError, match="flwr ls failed"):
        follow(home)
    assert next(flower.looks, "all asked") == "all asked"


def test_a_run_that_flower_failed_is_started_again_and_the_third_failure_is_the_last(
    home: OperatorHome, flower: Flower
) -> None:
    flower.says = [[RUNNING], [RUNNING, ("failed", {"reason": "RunNotRunningException", "final": False})], [RUNNING]]
    flower.looks = iter(["finished:failed"] * 3)
    seen: list[str] = []
    launch.launch(home, PLAN)
    with pytest.raises(TransportError, match="three times"):
        launch.watch(home, PLAN, on_event=lambda event: seen.append(event["stage"]))
    assert flower.started == 3 and seen.count("started-again") == 2 and seen.count("failed") == 1


def test_a_study_that_failed_by_its_own_rules_is_not_started_again(home: OperatorHome, flower: Flower) -> None:
    flower.says = [[RUNNING, ("failed", {"reason": "more void rounds than the plan reserves", "final": True})]]
    flower.looks = iter(["finished:failed"] * 3)
    assert follow(home) == (False, ["running", "failed"])
    assert flower.started == 1


def test_a_stop_that_flower_had_to_enforce_is_told_and_not_undone(home: OperatorHome, flower: Flower) -> None:
    flower.says = [[RUNNING]]
    launch.launch(home, PLAN)
    flower.looks = iter(["running"])
    launch.stop(home, PLAN)
    assert flower.stopped == [1] and launch.progress(home, PLAN)["state"] == "stopped"
    assert not launch.watch(home, PLAN, on_event=lambda _event: None)
    # Neither is it where the run's end is seen before the event.
    flower.says = [[RUNNING]]
    launch.launch(home, PLAN)
    (home.study(PLAN) / "stop").write_text("")
    flower.looks = iter(["finished:stopped"])
    assert not launch.watch(home, PLAN, on_event=lambda _event: None)
    assert flower.started == 2


def test_a_study_that_is_being_worked_on_is_followed_and_not_started_a_second_time(home: OperatorHome, flower: Flower) -> None:
    flower.says = [[RUNNING]]
    assert launch.launch(home, PLAN) == 1
    flower.log.write("finished", done=3)
    with working_on(home.study(PLAN), patience_s=0.0):
        assert follow(home) == (True, ["running", "finished"])
    assert flower.started == 1


def test_a_study_that_does_not_stop_is_not_launched(home: OperatorHome, flower: Flower) -> None:
    (home.study(PLAN) / "run").write_text("1\n")
    (home.study(PLAN) / "stop").write_text("")
    with working_on(home.study(PLAN), patience_s=0.0), pytest.raises(StateError, match=r"works on this study.*pid.*stop"):
        launch.launch(home, PLAN)
    assert flower.started == 0 and (home.study(PLAN) / "stop").exists()
    launch.launch(home, PLAN)
    assert flower.started == 1 and not (home.study(PLAN) / "stop").exists()


def test_the_lock_waits_and_ends_with_its_holder(home: OperatorHome) -> None:
    folder = home.study(PLAN)
    code = f"from deploy.supervisor import StateLock; from pathlib import Path; lock = StateLock(Path({str(folder)!r}))"
    holder = subprocess.Popen([sys.executable, "-c", f"{code}; print('held', flush=True); import time; time.sleep(300)"],
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(StateError, match=rf"pid; value: {holder.pid}"), working_on(folder, patience_s=0.3):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with working_on(folder, patience_s=5.0), pytest.raises(StateError):
        StateLock(folder)
    StateLock(folder).release()


def test_the_serverapp_works_on_a_study_alone(home: OperatorHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    def run_study(root: Path, plan_hash: str, _exchange: object) -> None:
        with pytest.raises(StateError):
            StateLock(root / "studies" / plan_hash)
        ran.append(plan_hash)

    monkeypatch.setenv("CHORAL_HOME", str(tmp_path))
    monkeypatch.setattr("server.rounds.run_study", run_study)
    monkeypatch.setattr("server.study.supernode_keys", lambda _home, _plan: {})
    monkeypatch.setattr(flower_app, "_HANDOVER_S", 0.0)
    main: Callable[[Grid | None, Context], None] = flower_app.main
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={"choral-plan": PLAN})
    main(None, context)
    assert ran == [PLAN]
    with working_on(home.study(PLAN), patience_s=0.0), pytest.raises(StateError, match="another process"):
        main(None, context)
    assert ran == [PLAN]
