"""From a plan that a person wrote to a running study: sign, start, watch.

Comes in: a study plan (TOML), or the same plan signed on another machine. Goes out: `studies/<plan hash>/` with the signed
plan and the initial weights, and a Flower run. A Flower failure in which no round was refused is started again, at most
three times (ruling 32); a study that has state goes on where it was (ruling 4).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.event_reader import EventReader
from server.bundle import run_status, start_run, stop_run
from server.daemon import control
from server.events import EventLog
from server.home import OperatorHome
from ssl_core.chain import write_durably
from ssl_core.config import StudyPlan, read_toml
from ssl_core.errors import ConfigError, TransportError
from ssl_core.session import open_plan, sum_params
from ssl_core.trust.envelope import peek, seal

_STARTS = 3
_LOOK_S = 0.2
_RUN_LOOK_S = 20.0
_END = frozenset({"finished", "stopped"})


def sign_plan(home: OperatorHome, path: Path) -> bytes:
    """Fill in roster and initial weights, check what can be checked, sign with the operator's key; the envelope's bytes."""
    from ssl_core.encoders.vector import to_vector, weights_hash
    from ssl_core.objectives.build import build_model

    plan = read_toml(StudyPlan, path, "study plan")
    if plan.alone:
        raise ConfigError("plan is for one site alone", field="alone", remedy="run it there: choral site pretrain")
    if plan.roster is not None or plan.initial_weights is not None:
        raise ConfigError("roster and initial_weights are filled in at launch", field="roster", remedy="remove both keys")
    roster, digest = home.roster()
    for site in plan.sites:
        roster.member(site.name)
    weights = to_vector(build_model(plan))
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


def store_study(home: OperatorHome, signed: bytes) -> str:
    """Keep a signed plan and its initial weights; returns the plan hash. The same plan again changes nothing."""
    from ssl_core.encoders.vector import to_vector, weights_hash
    from ssl_core.objectives.build import build_model

    plan, plan_hash = open_signed(home, signed)
    folder = home.study(plan_hash)
    if not (folder / "plan.json").is_file():
        weights = to_vector(build_model(plan))
        if weights_hash(weights) != plan.initial_weights:
            raise ConfigError("initial weights differ on this machine", field="initial_weights", value=weights_hash(weights))
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / "initial.f32", weights.astype("<f4").tobytes())
        write_durably(folder / "plan.json", signed)
    return plan_hash


def launch(home: OperatorHome, plan_hash: str) -> int:
    """Start a Flower run for a stored study; returns Flower's run id."""
    folder = home.study(plan_hash)
    (folder / "stop").unlink(missing_ok=True)
    run_id = start_run(control(home), plan_hash)
    write_durably(folder / "run", f"{run_id}\n".encode())
    return run_id


def watch(home: OperatorHome, plan_hash: str, *, on_event: Callable[[dict[str, Any]], None]) -> bool:
    """Follow a launched study to its end, starting it again where Flower failed it; True when it finished."""
    folder = home.study(plan_hash)
    reader = EventReader(folder)
    starts, next_look = 1, time.monotonic() + _RUN_LOOK_S
    while True:
        for event in reader.new():
            on_event(event)
            if event["stage"] in _END:
                return bool(event["stage"] == "finished")
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + _RUN_LOOK_S
            status = run_status(control(home), int((folder / "run").read_text()))
            if status.ended and not (folder / "finished").exists():
                for event in reader.new():
                    on_event(event)
                    if event["stage"] in {*_END, "failed"}:
                        return bool(event["stage"] == "finished")
                if starts == _STARTS:
                    raise TransportError(
                        "Flower ended the run three times", field="status", value=status.details or status.status,
                        remedy=f"read {home.root / 'logs'}",
                    )  # fmt: skip
                starts += 1
                EventLog(folder).write("started-again", start=starts, reason="Flower ended the run")
                launch(home, plan_hash)
        time.sleep(_LOOK_S)


def stop(home: OperatorHome, plan_hash: str) -> None:
    """Ask the round loop to stop between messages; the study keeps its state and can be launched again."""
    folder = home.study(plan_hash)
    (folder / "stop").write_text("")
    deadline = time.monotonic() + 15.0
    run_id = int((folder / "run").read_text()) if (folder / "run").is_file() else None
    while run_id is not None and not run_status(control(home), run_id).ended:
        if time.monotonic() > deadline:
            stop_run(control(home), run_id)
            return
        time.sleep(_LOOK_S)


def progress(home: OperatorHome, plan_hash: str) -> dict[str, Any]:
    """Where a study stands, from its events alone."""
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
    accepted = home.accepted
    named = peek((folder / "plan.json").read_bytes(), "plan").get("roster")
    if accepted is not None and named != accepted.digest and not (folder / "finished").exists():
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
