"""`choral site status` after a change of roster: studies of before are shown as what they are, and nothing fails."""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests_commands import refused, run, write
from tests_tls import tls_server

from client import site_status
from client.site_service import SiteService
from client.study import store_plan
from deploy.loopback_ports import held_ports
from server.home import create_operator
from ssl_core.parcel import IncomingKind, Parcel
from ssl_core.trust.certificates import issue_server_certificate
from ssl_core.trust.envelope import canonical, peek, seal
from ssl_core.trust.roster import sign_roster

NOW = datetime.datetime.now(datetime.UTC)
GO_ON = "; to go on, the operator launches its plan again and you approve it anew"
SIGNER_GONE = "over here: signed by a key that is no longer in the roster" + GO_ON


@pytest.mark.parametrize("server", ["up", "down", "another's", "of an older daemon"])
def test_whether_the_server_answers_is_shown_while_a_daemon_runs(
    federation: Any, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    site = federation.site("site-a")
    issued = issue_server_certificate(["127.0.0.1"], now=NOW)
    write(site.root / "run" / "ca.crt", issued.ca)
    presented = issue_server_certificate(["127.0.0.1"], now=NOW) if server == "another's" else issued
    assert json.loads(run("site", "status", "--home", site.root, "--json").stdout)["server"] is None
    with ExitStack() as held:
        listens = server != "down"
        port = held.enter_context(tls_server(federation.root, presented)) if listens else held.enter_context(held_ports(1))[0]
        daemon: dict[str, Any] = {"pid": 7, "processes": ["supernode", "executor"]}
        daemon |= {} if server == "of an older daemon" else {"superlink": f"127.0.0.1:{port}"}
        monkeypatch.setattr(site_status, "site_status", lambda _: daemon)
        shown = run("site", "status", "--home", site.root)
        if server == "of an older daemon":
            with socket.create_connection(("127.0.0.1", port)):
                pass  # for the server, which waits for one
    assert shown.exit_code == 0 and "running, pid 7, supernode, executor" in shown.output
    words = {
        "up": "answers with the certificate of the roster", "down": "does not answer; the daemon goes on trying",
        "another's": "is not the server of the roster: the server's certificate does not verify",
    }  # fmt: skip
    assert [word for word in words.values() if f"127.0.0.1:{port} {word}" in shown.output] == [
        *([words[server]] if server in words else [])
    ]


@pytest.fixture
def studies(federation: Any) -> dict[str, str]:
    """Hashes of an approved study and of one that waits, at site-a."""
    hashes = {"approved": federation.launch(), "waiting": federation.launch(seed=4)}
    for state, plan_hash in hashes.items():
        study = store_plan(federation.site("site-a"), (federation.operator.study(plan_hash) / "plan.json").read_bytes())
        if state == "approved":
            study.approve("person")
    return hashes


def accept(federation: Any, **changes: Any) -> None:
    roster, _ = federation.site("site-a").roster()
    newer = roster.model_copy(update={"version": roster.version + 1} | changes)
    path = write(federation.root / "given.json", sign_roster(newer, [federation.authority]))
    assert run("site", "accept", "--roster", path, "--home", federation.root / "site-a").exit_code == 0


def states(home: Path) -> dict[str, tuple[str, str]]:
    facts = json.loads(run("site", "status", "--home", home, "--json").stdout)
    return {study["plan"]: (study["name"], study["state"]) for study in facts["studies"]}


def test_plans_of_an_operator_whose_key_was_replaced_are_shown(federation: Any, studies: dict[str, str]) -> None:
    home = federation.root / "site-a"
    before = json.loads(run("site", "status", "--home", home, "--json").stdout)["studies"]
    create_operator(federation.root / "next", ["127.0.0.1"], 9443, "127.0.0.1:9443")
    accept(federation, server=type(federation.operator)(federation.root / "next").card)
    assert states(home) == {plan_hash: ("reports", SIGNER_GONE) for plan_hash in studies.values()}
    after = json.loads(run("site", "status", "--home", home, "--json").stdout)["studies"]
    assert [s["bytes_out"] for s in after] == [s["bytes_out"] for s in before]
    shown = run("site", "status", "--home", home).output
    assert shown.count("signed by a key that is no longer in the roster") == 2 and "study reports" in shown
    refused(run("site", "approve", studies["waiting"], "--home", home, "--yes"), "TrustError", "not signed by the keys")
    (charged,) = json.loads(run("site", "ledger", "--home", home, "--json").stdout)["cohorts"]
    assert charged["entries"][0]["study"] == studies["approved"]
    assert not any(study["records_kept"] for study in after), "no round will read the copy"


def test_plans_for_a_roster_of_before_are_shown_as_over(federation: Any, studies: dict[str, str]) -> None:
    home = federation.root / "site-a"
    name, state = states(home)[studies["approved"]]
    assert (name, state) == ("reports", "approved") and states(home)[studies["waiting"]][1].startswith("waiting")
    accept(federation)
    assert states(home) == {
        plan_hash: ("reports", "over here: made for an earlier roster" + GO_ON) for plan_hash in studies.values()
    }


def test_a_study_that_gave_its_encoder_is_finished(federation: Any, studies: dict[str, str]) -> None:
    home = federation.root / "site-a"
    (home / "encoders" / f"reports-{studies['approved'][:8]}").mkdir(parents=True)
    found = states(home)
    assert found[studies["approved"]] == ("reports", "finished") and found[studies["waiting"]][1].startswith("waiting")
    accept(federation)
    ended = "over here: made for an earlier roster"
    assert {plan: state for plan, (_, state) in states(home).items()} == {
        studies["approved"]: ended, studies["waiting"]: ended + GO_ON
    }  # fmt: skip


def test_a_plan_file_that_was_changed_is_still_refused(federation: Any, studies: dict[str, str]) -> None:
    home = federation.root / "site-a"
    path = home / "studies" / studies["waiting"] / "plan.json"
    whole = path.read_bytes()
    body = peek(whole, "plan")
    stranger = seal("plan", body | {"purpose": "another purpose"}, federation.authority)
    broken = json.loads(whole)
    broken["signatures"][0]["sig"] = broken["signatures"][0]["sig"][::-1]
    for data in (stranger, canonical(broken), b"{}", whole[:50]):
        path.write_bytes(data)
        refused(run("site", "status", "--home", home), "TrustError")
    path.write_bytes(whole)
    create_operator(federation.root / "next", ["127.0.0.1"], 9443, "127.0.0.1:9443")
    accept(federation, server=type(federation.operator)(federation.root / "next").card)
    path.write_bytes(stranger)
    refused(run("site", "status", "--home", home), "TrustError")


def test_a_study_that_nobody_asks_for_any_more_says_so_before_a_budget_is_reserved(federation: Any) -> None:
    site, plan_hash = federation.site("site-a"), federation.launch()
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    SiteService(site.root).handle(Parcel(IncomingKind.INVITE, plan))
    noted = site.study(plan_hash) / "asked"

    def said(ago_s: float | None) -> tuple[str, str, float | None]:
        if ago_s is None:
            noted.unlink()
        else:
            os.utime(noted, (time.time() - ago_s,) * 2)
        (study,) = json.loads(run("site", "status", "--home", site.root, "--json").stdout)["studies"]
        screen = run("site", "approve", plan_hash, "--home", site.root, "--different-people")
        assert screen.exit_code == 1 and not site.chain.entries("reserve"), "nobody said yes"
        return study["state"], screen.output, study["asked_ago_s"]

    waiting = f"waiting for: choral site approve {plan_hash[:12]}"
    for ago_s, words in ((0, None), (500, None), (900, "15 minutes"), (7 * 3600, "7 hours"), (3 * 86400, "3 days")):
        state, screen, asked = said(ago_s)
        stale = f"last asked {words} ago: if this daemon ran since, ask the operator whether the study still waits"
        assert state == waiting + ("" if words is None else f" ({stale})")
        assert ("WARNING" in screen, stale in screen) == ((False, False) if words is None else (True, True))
        assert asked == pytest.approx(ago_s, abs=60)
    assert said(None)[0::2] == (waiting, None)
    SiteService(site.root).handle(Parcel(IncomingKind.INVITE, plan))
    assert noted.is_file()
