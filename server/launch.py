"""From a plan that a person wrote to a running study: sign, start, watch.

Comes in: a study plan (TOML), or the same plan signed on another machine. Goes out: `studies/<plan hash>/` with the signed
plan and the initial weights, and a Flower run. A Flower failure in which no round was refused is started again, at most
three times (ruling 32); a study that has state goes on where it was (ruling 4). One run at a time works on a study.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.event_reader import EventReader
from server.bundle import RunStatus, run_status, start_run, stop_run
from server.daemon import control
from server.events import EventLog
from server.home import OperatorHome
from server.study_lock import worked_on, working_on
from ssl_core.chain import write_durably
from ssl_core.config import StudyPlan, read_toml
from ssl_core.errors import ConfigError, StateError, TransportError
from ssl_core.privacy.statement import rounded_up
from ssl_core.session import open_plan, sum_params
from ssl_core.trust.envelope import peek, seal

_STARTS = 3
_LOOK_S = 0.2
_RUN_LOOK_S, _SILENT_LOOKS = 20.0, 15
_STOP_S, _HANDOVER_S = 15.0, 10.0
_LAUNCHED = "launched"
_END = frozenset({"finished", "stopped"})
# What status says of a hospital that is in the plan and of which there is no event.
_UNHEARD = "no message yet: is its daemon running?"


def sign_plan(home: OperatorHome, path: Path, start: Path | None = None) -> bytes:
    """Fill in roster and initial weights, check what can be checked, sign with the operator's key; the envelope's bytes.

    `start`: prepared weights, whose hash the plan names, or is given.
    """
    from ssl_core.encoders.vector import weights_hash
    from ssl_core.start_weights import start_hash, start_weights

    plan = read_toml(StudyPlan, path, "study plan")
    if plan.alone:
        raise ConfigError("plan is for one site alone", field="alone", remedy="run it there: choral site pretrain")
    if plan.roster is not None or plan.initial_weights is not None:
        raise ConfigError("roster and initial_weights are filled in at launch", field="roster", remedy="remove both keys")
    roster, digest = home.roster()
    for site in plan.sites:
        roster.member(site.name)
    if start is not None and plan.start is None:
        plan = plan.model_copy(update={"start": start_hash(plan, start)})
    weights = start_weights(plan, start)
    plan = plan.model_copy(update={"roster": digest, "initial_weights": weights_hash(weights)})
    sum_params(plan, "0" * 64, roster, digest, weights.size)  # refuses what could give no safe sum
    return seal("plan", plan.model_dump(mode="json"), home.operator)


def open_signed(home: OperatorHome, signed: bytes) -> tuple[StudyPlan, str]:
    """(plan, plan hash) of a plan that this operator's key signed for the relayed roster; writes nothing."""
    roster, digest = home.roster()
    plan, plan_hash = open_plan(signed, bytes.fromhex(roster.server.operator))
    if plan.roster != digest:
        raise ConfigError(
            "plan was signed for another roster", field="roster", value=plan.roster, limit=digest,
            remedy="sign it for this roster: choral operator launch PLAN.toml",
        )  # fmt: skip
    return plan, plan_hash


def question(home: OperatorHome, signed: bytes) -> str:
    """What a person is asked before `signed` is launched: is this study, at this price, meant?"""
    from server.choose import price

    plan, plan_hash = open_signed(home, signed)
    cost = f"epsilon {rounded_up(price(plan, 1), 2)} at delta {plan.privacy.delta:g}"
    return f"Launch study {plan_hash}? It costs each patient {cost}, all rounds and void ones counted."


def store_study(home: OperatorHome, signed: bytes, start: Path | None = None) -> str:
    """Keep a signed plan and its initial weights; returns the plan hash. The same plan again changes nothing."""
    from ssl_core.encoders.vector import weights_hash
    from ssl_core.start_weights import start_weights

    plan, plan_hash = open_signed(home, signed)
    folder = home.study(plan_hash)
    if not (folder / "plan.json").is_file():
        weights = start_weights(plan, start)
        if weights_hash(weights) != plan.initial_weights:
            raise ConfigError("initial weights differ on this machine", field="initial_weights", value=weights_hash(weights))
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / "initial.f32", weights.astype("<f4").tobytes())
        write_durably(folder / "plan.json", signed)
    return plan_hash


def launch(home: OperatorHome, plan_hash: str) -> int:
    """Start a Flower run for a stored study, or find the one that works on it already; Flower's run id.

    A study that is just being stopped is waited for; `StateError` when that takes too long.
    """
    folder = home.study(plan_hash)
    stopping = (folder / "stop").exists()
    try:
        with working_on(folder, patience_s=_HANDOVER_S if stopping else 0.0):
            (folder / "stop").unlink(missing_ok=True)
    except StateError:
        if stopping or not (folder / "run").is_file():
            raise
        return _run_of(folder)
    return _start(home, plan_hash)


def _start(home: OperatorHome, plan_hash: str) -> int:
    folder = home.study(plan_hash)
    # What stands before this line belongs to earlier launches; `watch` must not take their end for this one's.
    EventLog(folder).write(_LAUNCHED)
    run_id = start_run(control(home), plan_hash)
    write_durably(folder / "run", f"{run_id}\n".encode())
    return run_id


def _run_of(folder: Path) -> int:
    return int((folder / "run").read_text())


def watch(home: OperatorHome, plan_hash: str, *, on_event: Callable[[dict[str, Any]], None]) -> bool:
    """Follow a launched study to its end, starting it again where Flower failed it; True when it finished.

    A SuperLink that is away ends nothing, for its daemon brings it back. `TransportError` after five minutes without it,
    and when Flower has ended the run three times.
    """
    folder = home.study(plan_hash)
    reader = EventReader(folder)
    new = _since_launch(list(reader.new()))
    starts, silent, next_look = 1, 0, time.monotonic() + _RUN_LOOK_S
    ended: RunStatus | None = None
    while True:
        for event in new:
            on_event(event)
            verdict = _verdict(event)
            if verdict is not None:
                return verdict
        if ended is not None:
            # What a run has to say it wrote before Flower called it ended, so all of it was read above.
            if (folder / "finished").exists() or (folder / "stop").exists():
                return (folder / "finished").exists()
            if starts == _STARTS:
                raise TransportError(
                    "Flower ended the run three times", field="status", value=ended.details or ended.status,
                    remedy=f"read {home.root / 'logs'}",
                )  # fmt: skip
            starts, ended = starts + 1, None
            EventLog(folder).write("started-again", start=starts, reason="Flower ended the run")
            _start(home, plan_hash)
        elif time.monotonic() >= next_look:
            next_look = time.monotonic() + _RUN_LOOK_S
            try:
                status = run_status(control(home), _run_of(folder))
                silent, ended = 0, status if status.ended else None
            except TransportError as error:
                silent += 1
                if silent == _SILENT_LOOKS:
                    raise
                if silent == 1:
                    EventLog(folder).write("no-answer", reason=error.problem)
        time.sleep(_LOOK_S)
        new = list(reader.new())


def _since_launch(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    starts = [at for at, event in enumerate(events) if event["stage"] == _LAUNCHED]
    return events[starts[-1] + 1 :] if starts else events


def _verdict(event: dict[str, Any]) -> bool | None:
    """True: the study finished; False: it stopped, or failed by its own rules; None: it goes on, or may be started again."""
    if event["stage"] in _END:
        return bool(event["stage"] == "finished")
    if event["stage"] == "failed" and event["final"]:
        return False
    return None


def stop(home: OperatorHome, plan_hash: str) -> str:
    """Ask the round loop to stop between messages; the study keeps its state and can be launched again. What it is then."""
    folder = home.study(plan_hash)
    if (folder / "finished").exists():
        return "is finished: there is nothing to stop"
    (folder / "stop").write_text("")
    deadline = time.monotonic() + _STOP_S
    run_id = _run_of(folder) if (folder / "run").is_file() else None
    while run_id is not None and not run_status(control(home), run_id).ended:
        if time.monotonic() > deadline:
            stop_run(control(home), run_id)
            # A ServerApp that Flower ends says nothing any more.
            EventLog(folder).write("stopped")
            return "stopped"
        time.sleep(_LOOK_S)
    return "stopped"


def progress(home: OperatorHome, plan_hash: str) -> dict[str, Any]:
    """Where a study stands, from its events, and whether a process works on it."""
    folder = home.study(plan_hash)
    facts: dict[str, Any] = {"plan": plan_hash, "state": "launched", "rounds_closed": 0, "rounds_void": 0, "sites": {}}
    for event in EventReader(folder).new():
        stage, site = event["stage"], event.get("site")
        if site is not None:
            facts["sites"][site] = stage
        elif stage == "running":
            facts |= {"state": "running", "rounds": event["rounds"]}
        elif stage == "closed":
            facts["rounds_closed"] = event["done"]
        elif stage == "void":
            facts["rounds_void"] += 1
        elif stage in {"finished", "stopped", "failed"}:
            facts["state"] = stage if "reason" not in event else f"{stage}: {event['reason']}"
    if facts["state"] == "running" and not worked_on(folder):
        facts["state"] = f"interrupted: nobody works on it; choral operator launch {plan_hash[:8]} goes on where it was"
    accepted = home.accepted
    if accepted is not None and not (folder / "finished").exists():
        plan = peek((folder / "plan.json").read_bytes(), "plan")
        for site in plan["sites"]:
            facts["sites"].setdefault(site["name"], _UNHEARD)
        if plan.get("roster") != accepted.digest:
            facts["state"] = (
                f"over: made for an earlier roster than version {accepted.version}; launch its plan (TOML) again, and every "
                "hospital approves it anew"
            )
    return facts


def find_study(home: OperatorHome, start_of_hash: str) -> str:
    """The one study whose hash begins so; at least 8 digits."""
    found = [h for h in home.studies() if h.startswith(start_of_hash) and len(start_of_hash) >= 8]
    if len(found) != 1:
        raise ConfigError(
            "no single study has such a hash",
            field="plan hash",
            value=start_of_hash,
            limit="at least 8 hexadecimal digits",
            remedy="choral operator status lists them",
        )
    return found[0]
