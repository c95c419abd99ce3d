"""A federation lives: three holders of which two sign, four hospitals, a fifth joins, one leaves. Everything by command."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests_commands import refused, run
from tests_holders import Hospitals, done
from tests_material import small_plan, write_reports

from client.site_service import SiteService
from server.exchange import LocalExchange
from server.rounds import run_study
from ssl_core.parcel import IncomingKind, Parcel

FIRST = ("site-a", "site-b", "site-c", "site-d")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospitals]:
    """Holders north, south and west of whom two sign; four hospitals with a few patients; an operator."""
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    monkeypatch.setattr("server.launch.start_run", lambda _control, _hash: 1)
    made = Hospitals(tmp_path)
    for name in ("north", "south", "west"):
        made.holder(name)
    card = made.agree(2, "north", "south", "west")
    for number, name in enumerate(FIRST):
        made.site(name, card, "--source", write_reports(tmp_path / "data" / name, patients=6, seed=number))
    done(run("operator", "init", "--home", made.operator, "--json"))
    (made.operator / "run" / "flwr").mkdir(parents=True)
    yield made


def write_plan(world: Hospitals, *names: str) -> Path:
    path: Path = world.root / "plan.toml"
    path.write_text(tomli_w.dumps(small_plan(list(names), rounds__rounds=1)))
    return path


def launch(world: Hospitals, plan: object, *words: object) -> str:
    facts = done(run("operator", "launch", plan, "--detach", "--json", "--home", world.operator, *words))
    return str(facts["plan"])


def invite(world: Hospitals, plan_hash: str, *names: str) -> None:
    plan = (world.operator / "studies" / plan_hash / "plan.json").read_bytes()
    for name in names:
        SiteService(world.sites[name]).handle(Parcel(IncomingKind.INVITE, plan))


def state(world: Hospitals, site: str, plan_hash: str) -> str:
    facts = done(run("site", "status", "--home", world.sites[site], "--json"))
    (study,) = [study for study in facts["studies"] if study["plan"] == plan_hash]
    return str(study["state"])


def test_a_fifth_hospital_joins_and_one_leaves_by_one_command_each(world: Hospitals) -> None:
    one, two, three = (world.root / f"roster-{version}.json" for version in (1, 2, 3))

    # Version 1. With one of two signatures it is a roster to nobody.
    made = done(world.sign("north", *world.requests(*FIRST), "--server", world.server_card, "--out", one))
    assert made["version"] == 1 and made["signatures"][0]["missing"] == 1
    early = world.accept("site-a", "--roster", one, *world.pairs("site-b"))
    refused(early, "field: signatures", "value: 1 present, 1 of them count", "limit: 2 of", "remedy")
    plan = write_plan(world, *FIRST)
    taken = run("operator", "launch", plan, "--roster", one, "--yes", "--home", world.operator)
    refused(taken, "field: signatures", "value: 1 present, 1 of them count", "limit: 2 of", "remedy")
    assert not (world.operator / "roster.json").exists() and not (world.sites["site-a"] / "roster.json").exists()
    assert done(world.sign("south", one))["signatures"][0]["missing"] == 0
    for name in FIRST:
        others = [other for other in FIRST if other != name]
        assert done(world.accept(name, "--roster", one, *world.pairs(*others)))["not_accepted"] == []
    old = launch(world, plan, "--roster", one)
    invite(world, old, *FIRST)
    assert done(run("site", "approve", old, "--home", world.sites["site-a"], "--yes", "--json"))["approved"]

    # A fifth hospital: version 2 begins with version 1; the holder who was away for version 1 signs it too.
    world.site("site-e", world.holders["west"] / "authority-card.pub", "--source",
               write_reports(world.root / "data" / "site-e", patients=6, seed=9))  # fmt: skip
    made = done(world.sign("north", *world.requests("site-e"), "--from", one, "--out", two))
    assert made["changes"]["joined"] == ["site-e"] and made["version"] == 2
    made = done(world.sign("west", two))
    assert made["changes"]["since_version"] is None and made["signatures"][0]["missing"] == 0
    for name in FIRST:
        facts = done(world.accept(name, "--roster", two, *world.pairs("site-e")))
        assert (facts["version"], facts["not_accepted"], facts["changes"]["joined"]) == (2, [], ["site-e"])
        assert facts["studies_ended"] == ([f"reports ({old[:12]})"] if name == "site-a" else [])
    assert done(world.accept("site-e", "--roster", two, *world.pairs(*FIRST)))["not_accepted"] == []

    # The study of before has ended at the sites, and the operator is told what to do.
    assert "over here: made for an earlier roster; to go on, the operator launches" in state(world, "site-a", old)
    five = (*FIRST, "site-e")
    new = launch(world, write_plan(world, *five), "--roster", two)
    (told, _) = done(run("operator", "status", "--json", "--home", world.operator))
    assert told["plan"] == old and told["state"].startswith("over: made for an earlier roster than version 2; launch its plan")
    refused(run("operator", "launch", old, "--yes", "--home", world.operator), "another roster", "remedy: sign it for this")
    invite(world, new, *five)
    assert {state(world, name, new) for name in five} == {f"waiting for: choral site approve {new[:12]}"}

    # One leaves: no fingerprint needs to be read out again, and the hospital itself is told that it is not on the roster.
    made = done(world.sign("south", "--from", two, "--without", "site-b", "--out", three))
    assert made["changes"]["left"] == ["site-b"] and made["version"] == 3
    assert done(world.sign("north", three))["signatures"][0]["missing"] == 0
    stay = ("site-a", "site-c", "site-d", "site-e")
    for name in stay:
        facts = done(world.accept(name, "--roster", three))
        assert (facts["version"], facts["not_accepted"], facts["changes"]["left"]) == (3, [], ["site-b"])
    refused(world.accept("site-b", "--roster", three), "not on the roster", "value: site-b")
    assert done(run("site", "status", "--home", world.sites["site-b"], "--json"))["roster_version"] == 2

    # The four go on together under version 3.
    last = launch(world, write_plan(world, *stay), "--roster", three)
    invite(world, last, *stay)
    for name in stay:
        done(run("site", "approve", last, "--home", world.sites[name], "--yes", "--json"))
    run_study(world.operator, last, LocalExchange({name: SiteService(world.sites[name]).handle for name in stay}))
    (*_, told) = done(run("operator", "status", "--json", "--home", world.operator))
    assert told["plan"] == last and told["state"] == "finished" and told["rounds_closed"] == 1
    charged = done(run("site", "ledger", "--home", world.sites["site-a"], "--json"))["cohorts"][0]["entries"]
    assert [entry["study"] for entry in charged] == [old, last], "what was reserved for the ended study is never given back"


def test_a_study_that_runs_stops_at_the_operator_once_a_newer_roster_is_taken(world: Hospitals) -> None:
    one, two = (world.root / f"roster-{version}.json" for version in (1, 2))
    done(world.sign("north", *world.requests(*FIRST), "--server", world.server_card, "--out", one))
    done(world.sign("south", one))
    for name in FIRST:
        done(world.accept(name, "--roster", one, *world.pairs(*FIRST)))
    done(world.sign("north", "--from", one, "--out", two))
    done(world.sign("south", two))
    plan = launch(world, write_plan(world, *FIRST), "--roster", one)
    services = {name: SiteService(world.sites[name]).handle for name in FIRST}
    invite(world, plan, *FIRST)
    for name in FIRST:
        done(run("site", "approve", plan, "--home", world.sites[name], "--yes", "--json"))

    def take(line: str) -> None:
        if line == "keys-acknowledged":
            launch(world, write_plan(world, *FIRST), "--roster", two)

    run_study(world.operator, plan, LocalExchange(services), at=take)
    events = [json.loads(line) for line in (world.operator / "studies" / plan / "events.jsonl").read_text().splitlines()]
    assert events[-1]["stage"] == "stopped" and events[-1]["reason"] == "roster version 2 counts now"
    assert not any(event["stage"] == "start" for event in events)


def test_the_plan_of_the_demo_names_no_roster() -> None:
    """A plan is launched again under a newer roster by its TOML, in which nothing needs to be edited for that."""
    for path in files("deploy").joinpath("studies").iterdir():
        assert "roster" not in tomllib.loads(path.read_text())


def test_shared_folders_hold_no_key(world: Hospitals) -> None:
    """What is handed around carries public halves alone."""
    secret: dict[str, Any] = {name: (folder / "authority.key").read_bytes() for name, folder in world.holders.items()}
    for name, folder in world.holders.items():
        assert b"PRIVATE" in secret[name]
        for shared in ("authority.pub", "authority-card.pub"):
            assert b"PRIVATE" not in (folder / shared).read_bytes()
