from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from tests_commands import edit, refused, run, write
from typer.testing import Result

from client.site_service import SiteService
from deploy.demo_data.padchest import FETCH_COMMAND, WHEEL_VARIABLE
from deploy.supervisor import StateLock
from ssl_core.card import load_encoder
from ssl_core.errors import BudgetError, ProtocolError
from ssl_core.parcel import IncomingKind, OutgoingKind, Parcel
from ssl_core.session import Approval, open_approval, open_plan
from ssl_core.trust.envelope import canonical, seal
from ssl_core.trust.identity import Identity, fingerprint
from ssl_core.trust.roster import Roster, sign_roster


def invite(federation: Any, name: str, plan_hash: str) -> Approval:
    """What the site's executor answers when the server sends the signed plan."""
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    answer = SiteService(federation.root / name).handle(Parcel(IncomingKind.INVITE, plan))
    assert answer.kind == OutgoingKind.APPROVAL
    return open_approval(answer.body, federation.site(name).identity.public, plan_hash)


def newer(federation: Any, **changes: Any) -> Roster:
    roster: Roster = federation.operator.roster()[0]
    return roster.model_copy(update={"version": roster.version + 1} | changes)


def rows(home: Path, kind: str) -> int:
    with sqlite3.connect(home / "chain.db") as log:
        count = log.execute("SELECT count(*) FROM log WHERE kind = ?", (kind,)).fetchone()[0]
    log.close()
    return int(count)


def test_the_walk_from_init_to_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    authority, operator = tmp_path / "authority", tmp_path / "operator"
    key = json.loads(run("authority", "init", "--home", authority, "--json").stdout)["public_key"]
    card = json.loads(run("operator", "init", "--home", operator, "--json").stdout)["server_card"]
    names, prints, requests = ["site-a", "site-b", "site-c"], {}, []
    for name in names:
        facts = json.loads(run("site", "init", name, "--authority", key, "--home", tmp_path / name, "--json").stdout)
        prints[name] = facts["fingerprint"]
        requests.append(facts["join_request"])
    signed = run("authority", "sign", *requests, "--server", card, "--out", operator / "roster.json", "--home", authority,
                 "--yes", "--json")  # fmt: skip
    assert json.loads(signed.stdout)["sites"] == prints

    home = tmp_path / "site-a"
    taken = run("site", "accept", "--roster", operator / "roster.json", "--home", home, "--json")
    assert json.loads(taken.stdout)["not_accepted"] == ["site-b", "site-c"]
    words = run("site", "accept", "site-b", prints["site-b"].upper(), "--home", home).output
    assert "2 accepted here" in words and f"not accepted: site-c  {prints['site-c']}" in words
    assert json.loads(run("site", "accept", "site-c", prints["site-c"], "--home", home, "--json").stdout)["not_accepted"] == []
    facts = json.loads(run("site", "status", "--home", home, "--json").stdout)
    assert facts == {"site": "site-a", "daemon": None, "server": None, "rule_paused": None, "roster_version": 1, "studies": []}
    (statement,) = json.loads(run("site", "ledger", "--home", home, "--json").stdout)["cohorts"]
    assert (statement["entries"], statement["totals"]["spent"], statement["limit"]) == ([], 0.0, 10.0)
    assert "roster version  none yet" in run("site", "status", "--home", tmp_path / "site-b").output


def test_invited_approved_and_charged_once(federation: Any) -> None:
    home = federation.root / "site-a"
    plan_hash = federation.launch()
    assert invite(federation, "site-a", plan_hash).status == "waiting"
    for kind in set(IncomingKind) - {IncomingKind.INVITE}:
        with pytest.raises(ProtocolError, match="study is not approved at this site"):
            SiteService(home).handle(Parcel(kind, bytes.fromhex(plan_hash) + bytes(8)))
    (study,) = json.loads(run("site", "status", "--home", home, "--json").stdout)["studies"]
    assert (study["plan"], study["rounds_answered"]) == (plan_hash, 0)
    assert study["state"].startswith("waiting") and study["bytes_out"] > 0

    log = federation.site("site-a").chain.entries()
    asked = run("site", "approve", plan_hash, "--home", home)
    assert asked.exit_code == 1 and "Nothing was changed" in asked.output
    for word in ("epsilon of this study", "remains after", "unit", "patient", "who sees the sum", "minimum in a sum"):
        assert word in asked.output
    assert federation.site("site-a").chain.entries() == log
    assert invite(federation, "site-a", plan_hash).status == "waiting"

    for _ in range(2):
        done = run("site", "approve", plan_hash[:8], "--home", home, "--yes", "--json")
        assert json.loads(done.stdout)["approved"] is True
        assert (rows(home, "reserve"), rows(home, "approval")) == (1, 1)
    approval = invite(federation, "site-a", plan_hash)
    assert approval.status == "approved" and approval.key_offer
    (entry,) = json.loads(run("site", "ledger", "--home", home, "--json").stdout)["cohorts"][0]["entries"]
    assert (entry["study"], entry["steps"], entry["steps_started"]) == (plan_hash, 10, 0)
    shown = " ".join(run("site", "ledger", "--home", home).output.split())
    assert "10 charged, 0 started" in shown and "too few studies to tell" in shown
    assert "approved; rounds answered: 0" in run("site", "status", "--home", home).output

    # One changed byte is another plan: it waits for a person, and the first approval does not count for it.
    other = federation.launch(purpose="Pretrain one encoder of radiology reports across five hospitals, in private!")
    assert other != plan_hash and invite(federation, "site-a", other).status == "waiting"
    assert rows(home, "reserve") == 1


@pytest.mark.parametrize(
    ("name", "key"),
    [("Site A", None), ("-a", None), ("site-a", "abcd\n"), ("site-a", ""), ("site-a", "no hex"), ("site-a", "absent")],
)
def test_init_with_a_wrong_name_or_authority_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str | None
) -> None:
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    path = tmp_path / "authority.pub"
    if key != "absent":
        path.write_text(Identity.generate().public_hex if key is None else key)
    before = sorted(tmp_path.iterdir())
    result = run("site", "init", "--authority", path, "--home", tmp_path / "site", "--", name)
    refused(result, "ConfigError", "field: name" if key is None else "authorit")
    assert sorted(tmp_path.iterdir()) == before


def test_init_says_that_its_source_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    key = json.loads(run("authority", "init", "--home", tmp_path / "authority", "--json").stdout)["public_key"]
    source = tmp_path / "source.toml"
    for home, said in (("site-a", True), ("site-b", False)):
        words = run("site", "init", home, "--authority", key, "--source", source, "--home", tmp_path / home).output
        assert (f"There is no file {source} yet" in words) is said
        source.write_text("")


def test_a_folder_that_is_no_sites_or_is_one_already_is_refused(federation: Any) -> None:
    for command in (["status"], ["ledger"], ["approve", "0" * 8], ["accept", "a", "b"], ["start"], ["pretrain", "x.toml"]):
        refused(run("site", *command, "--home", federation.root / "data"), "not a site's state folder", "choral site init")
    key = write(federation.root / "authority.pub", federation.authority.public_hex.encode())
    before = (federation.root / "site-a" / "identity.key").read_bytes()
    refused(run("site", "init", "site-a", "--authority", key, "--home", federation.root / "site-a"), "not empty")
    assert (federation.root / "site-a" / "identity.key").read_bytes() == before


def test_a_roster_that_is_older_unsigned_foreign_or_lacks_this_site_is_refused(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(4, patients=1)
    home, path = federation.root / "site-a", federation.root / "given.json"
    first = (home / "roster.json").read_bytes()

    def accept(data: bytes) -> Result:
        return run("site", "accept", "--roster", write(path, data), "--home", home)

    second = newer(federation)
    assert accept(sign_roster(second, [federation.authority])).exit_code == 0
    kept, log = (home / "roster.json").read_bytes(), federation.site("site-a").chain.entries()
    refused(accept(first), "roster is older", "field: version", "value: 1", "limit: 2", "current roster")
    third = newer(federation, version=3)
    refused(accept(sign_roster(third, [])), "roster is not signed", "value: 0 present")
    refused(accept(sign_roster(third, [Identity.generate()])), "roster is not signed", "limit: 1 of")
    operator = federation.operator
    refused(accept(sign_roster(third, [operator.operator, operator.server])), "roster is not signed")
    refused(accept(canonical(third.model_dump(mode="json"))), "not a signed envelope")
    without = third.model_copy(update={"members": third.members[1:]})
    refused(accept(sign_roster(without, [federation.authority])), "not on the roster", "value: site-a")
    mine = third.members[0].model_copy(update={"identity": Identity.generate().public_hex})
    forged = third.model_copy(update={"members": (mine, *third.members[1:])})
    refused(accept(sign_roster(forged, [federation.authority])), "another key for this site", "tell the authority at once")
    two = second.model_copy(update={"members": second.members[:3]})
    refused(accept(sign_roster(two, [federation.authority])), "two rosters carry one version", "value: 2")
    few = third.model_dump(mode="json") | {"members": [m.model_dump(mode="json") for m in third.members[:2]]}
    refused(accept(seal("roster", few, federation.authority)), "2 sites; at least 3")
    refused(run("site", "accept", "--roster", home / "none.json", "--home", home), "file is missing", "--roster")
    assert (home / "roster.json").read_bytes() == kept and federation.site("site-a").chain.entries() == log
    # A file that was put there by hand is checked at every use.
    for bad in (first, sign_roster(third, [Identity.generate()])):
        write(home / "roster.json", bad)
        refused(run("site", "status", "--home", home), "TrustError")


def test_a_wrong_fingerprint_leaves_neither_roster_nor_members(federation: Any) -> None:
    home = federation.root / "site-a"
    signed = sign_roster(newer(federation), [federation.authority])
    roster = newer(federation)
    before = ((home / "roster.json").read_bytes(), federation.site("site-a").chain.entries())
    wrong = fingerprint(Identity.generate().public)
    result = run(
        "site", "accept", "site-b", roster.fingerprint("site-b"), "site-c", wrong, "--home", home,
        "--roster", write(federation.root / "given.json", signed),
    )  # fmt: skip
    refused(result, "field: site-c", f"value: {wrong}", f"limit: {roster.fingerprint('site-c')}", "telephone that hospital")
    assert ((home / "roster.json").read_bytes(), federation.site("site-a").chain.entries()) == before
    refused(run("site", "accept", "site-z", wrong, "--home", home), "not on the roster", "value: site-z")
    refused(run("site", "accept", "site-b", "--home", home), "NAME FINGERPRINT pairs")
    refused(run("site", "accept", "--home", home), "NAME FINGERPRINT pairs")


def test_a_study_with_a_member_whom_nobody_here_accepted_is_refused(federation: Any) -> None:
    home = federation.root / "site-a"
    stranger = Identity.generate()
    roster = newer(federation)
    changed = roster.members[2].model_copy(update={"identity": stranger.public_hex})
    signed = sign_roster(roster.model_copy(update={"members": (*roster.members[:2], changed)}), [federation.authority])
    old = federation.launch()
    assert invite(federation, "site-a", old).status == "waiting"
    given = write(federation.root / "given.json", signed)
    assert "not accepted: site-c" in run("site", "accept", "--roster", given, "--home", home).output
    refused(run("site", "approve", old, "--home", home, "--yes"), "another roster", "field: roster", "limit: ", "remedy")
    write(federation.operator.root / "roster.json", signed)
    plan_hash = federation.launch(seed=3)
    assert invite(federation, "site-a", plan_hash).status == "declined"
    refused(run("site", "approve", plan_hash, "--home", home, "--yes"), "value: site-c", "choral site accept site-c FINGER")
    assert rows(home, "reserve") == 0
    assert run("site", "accept", "site-c", fingerprint(stranger.public), "--home", home).exit_code == 0
    assert invite(federation, "site-a", plan_hash).status == "waiting"


POLICY = [
    ({"min_sites": 4}, ("field: rounds.min_sites", "value: 3", "limit: at least 4")),
    ({"max_rounds": 4}, ("field: rounds.rounds + rounds.max_void", "value: 5", "limit: at most 4")),
    ({"max_steps": 9}, ("field: steps", "value: 10", "limit: at most 9")),
    ({"min_noise_multiplier": 2.5}, ("field: privacy.noise_multiplier", "value: 2.0", "limit: at least 2.5")),
    ({"max_sampling_rate": 0.05}, ("field: privacy.sampling_rate", "value: 0.1", "limit: at most 0.05")),
    ({"delta": 1e-6}, ("field: privacy.delta", "value: 1e-05", "limit: at most 1e-06")),
    ({"max_epsilon": 0.1}, ("BudgetError", "field: epsilon for life", "value: 0.", "limit: 0.1 at delta", "more noise")),
    (
        {"max_epsilonn": 1.0},
        ("ConfigError", "policy.toml", "field: max_epsilonn", "known keys: answer_grid_s, auto_approve_epsilon"),
    ),
    ({"max_steps": "many"}, ("ConfigError", "field: max_steps", "value: many")),
    ({"min_sites": 2}, ("ConfigError", "field: min_sites", "value: 2")),
]


def test_a_study_beyond_the_policy_is_refused_with_field_value_and_limit(federation: Any) -> None:
    home = federation.root / "site-a"
    plan_hash = federation.launch()
    invite(federation, "site-a", plan_hash)
    policy = home / "policy.toml"
    default, log = policy.read_bytes(), federation.site("site-a").chain.entries()
    for changes, words in POLICY:
        edit(policy, **changes)
        refused(run("site", "approve", plan_hash, "--home", home, "--yes"), *words)
        assert federation.site("site-a").chain.entries() == log, changes
        write(policy, default)
    edit(policy, max_epsilon=0.1, auto_approve_epsilon=10.0)
    with pytest.raises(BudgetError):
        federation.study("site-a", plan_hash).approve("policy rule")
    assert invite(federation, "site-a", plan_hash).status == "declined"
    refused(run("site", "approve", "0123456", "--home", home), "no single study", "at least 8 hexadecimal digits")


def test_the_hospitals_own_rule_approves_a_cheap_study_and_no_other(federation: Any) -> None:
    home = federation.root / "site-a"
    plan_hash = federation.launch()
    edit(home / "policy.toml", auto_approve_epsilon=0.01)
    assert invite(federation, "site-a", plan_hash).status == "waiting"
    edit(home / "policy.toml", auto_approve_epsilon=5.0)
    assert invite(federation, "site-a", plan_hash).status == "approved"
    (entry,) = federation.site("site-a").chain.entries("approval")
    assert entry.body == {"plan": plan_hash, "by": "policy rule"} and rows(home, "reserve") == 1


def declined(federation: Any, name: str, plan: bytes) -> None:
    """Invited with `plan`, the site declines although its rule would approve the cost; a person cannot either."""
    home = federation.root / name
    edit(home / "policy.toml", auto_approve_epsilon=10.0)
    answer = SiteService(home).handle(Parcel(IncomingKind.INVITE, plan))
    plan_hash = open_plan(plan, federation.operator.operator.public)[1]
    assert open_approval(answer.body, federation.site(name).identity.public, plan_hash).status == "declined"
    refused(run("site", "approve", plan_hash, "--home", home, "--yes"), "PolicyError")
    assert rows(home, "reserve") == 0 and rows(home, "approval") == 0


def test_a_plan_for_other_sites_reserves_nothing_here(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(5, patients=6)
    federation.names.remove("site-e")
    plan_hash = federation.launch(rounds__min_sites=4)
    declined(federation, "site-e", (federation.operator.study(plan_hash) / "plan.json").read_bytes())


def test_a_plan_that_the_operator_made_for_one_site_alone_reserves_nothing(federation: Any) -> None:
    path = federation.operator.study(federation.launch()) / "plan.json"
    plan, _ = open_plan(path.read_bytes(), federation.operator.operator.public)
    body = plan.model_dump(mode="json") | {"alone": True, "sites": [{"name": "site-a", "nominal_size": 40}]}
    declined(federation, "site-a", seal("plan", body, federation.operator.operator))


GOOD = "patient,text\n" + "".join(f"p{n},lung no heart\n" for n in range(8))
RECORDS = [
    (None, ("a declared file is missing", "value: reports.csv")),
    ("id,text\np1,lung\n", ("column 'patient' is missing in file 'reports.csv'", "field: patient_column")),
    ("patient,text\n,lung\n ,heart\n", ("patient column 'patient' is empty in file 'reports.csv'",)),
    ("patient,text\n", ("the source holds no patient",)),
    (GOOD + ",lung\n", ("more records are bad", "reports.csv (", "limit: 0.0", "max_bad_share")),
    (GOOD + "p9,lung,extra\n", ("more records are bad", "reports.csv (")),
    (GOOD + "p9,\n", ("more records are bad", "reports.csv (")),
    (GOOD + "p9,lu\udcffng\n", ("more records are bad", "reports.csv (")),
]


def test_bad_records_are_refused_before_the_approval_by_file(federation: Any) -> None:
    home, data = federation.root / "site-a", federation.root / "data" / "site-a"
    plan_hash = federation.launch()
    invite(federation, "site-a", plan_hash)
    log = federation.site("site-a").chain.entries()
    for text, words in RECORDS:
        (data / "reports.csv").unlink(missing_ok=True)
        if text is not None:
            write(data / "reports.csv", text.encode(errors="surrogateescape"))
        result = run("site", "approve", plan_hash, "--home", home, "--yes")
        refused(result, "DataError", *words)
        assert "p9" not in result.output and "lung" not in result.output, "an error says nothing of a patient"
    edit(data / "source.toml", kind="npz")
    refused(run("site", "approve", plan_hash, "--home", home, "--yes"), "ConfigError", "source.toml")
    edit(home / "site.toml", source=str(data / "none.toml"))
    refused(run("site", "approve", plan_hash, "--home", home, "--yes"), "source file is missing", "none.toml")
    assert federation.site("site-a").chain.entries() == log


def test_a_log_that_was_cut_edited_or_taken_away_stops_every_command(federation: Any) -> None:
    home = federation.root / "site-a"
    plan_hash = federation.launch()
    invite(federation, "site-a", plan_hash)
    federation.site("site-a").chain.close()

    def after(name: str, statement: str) -> Path:
        """A copy of the folder in which a stranger ran `statement` on the log."""
        copy = Path(shutil.copytree(home, federation.root / "copies" / name))
        with sqlite3.connect(copy / "chain.db") as log:
            log.execute(statement)
        log.close()
        return copy

    cut = "DELETE FROM log WHERE sequence = (SELECT max(sequence) FROM log)"
    edit_one = "UPDATE log SET body = replace(body, 'site-b', 'site-x') WHERE kind = 'member'"
    for name, statement, words in (
        ("cut", cut, "rolled back, truncated or replaced"),
        ("gap", "DELETE FROM log WHERE sequence = 2", "edited or truncated"),
        ("edit", edit_one, "edited or truncated"),
        ("drop", "DROP TABLE log", "not a readable SQLite file"),
    ):
        copy = after(name, statement)
        for command in (["status"], ["ledger"], ["approve", plan_hash, "--yes"], ["start"]):
            refused(run("site", *command, "--home", copy), "ChainError", words)
    # The anchor outside the folder tells when head and log were both taken back.
    copy = after("anchored", cut)
    (copy / "chain.db.head").unlink()
    refused(run("site", "ledger", "--home", copy), "older than its anchor", "tell the authority")
    for path in copy.glob("chain.db*"):
        path.unlink()
    refused(run("site", "ledger", "--home", copy), "log is missing", "never starts a second log")
    assert run("site", "ledger", "--home", home).exit_code == 0


@pytest.mark.usefixtures("kept_signals")
def test_a_second_daemon_and_a_daemon_without_a_roster_are_refused(federation: Any) -> None:
    home = federation.root / "site-a"
    lock = StateLock(home / "run")
    try:
        refused(run("site", "start", "--home", home), "another daemon", f"value: {os.getpid()}", "stop that daemon")
    finally:
        lock.release()
    (home / "roster.json").unlink()
    refused(run("site", "start", "--home", home), "no roster was accepted yet", "choral site accept --roster FILE")


def alone(federation: Any, name: str, **changes: Any) -> Path:
    federation.launch()
    plan = tomllib.loads((federation.root / "plan.toml").read_text())
    plan |= {"alone": True, "sites": [{"name": name, "nominal_size": 40}]} | changes
    plan["rounds"] |= {"rounds": 1, "steps_per_round": 1, "max_void": 0}
    path: Path = federation.root / "alone.toml"
    path.write_text(tomli_w.dumps(plan))
    return path


def test_a_site_pretrains_alone_once_on_the_same_ledger(federation: Any) -> None:
    home = federation.root / "site-a"
    plan = alone(federation, "site-a")
    asked = run("site", "pretrain", plan, "--home", home)
    assert asked.exit_code == 1 and "Nothing was changed" in asked.output and rows(home, "reserve") == 0
    facts = json.loads(run("site", "pretrain", plan, "--home", home, "--yes", "--json").stdout)
    assert load_encoder(Path(facts["encoder"])).card.kind == "alone"
    (entry,) = json.loads(run("site", "ledger", "--home", home, "--json").stdout)["cohorts"][0]["entries"]
    assert (entry["steps"], entry["steps_started"]) == (1, 1)
    log = federation.site("site-a").chain.entries()
    refused(run("site", "pretrain", plan, "--home", home, "--yes"), "was run here already", Path(facts["encoder"]).name)
    assert federation.site("site-a").chain.entries() == log


def test_a_plan_to_pretrain_alone_that_does_not_fit_this_site_is_refused(federation: Any) -> None:
    home = federation.root / "site-a"
    plan = alone(federation, "site-b")
    refused(run("site", "pretrain", plan, "--home", home, "--yes"), "another site", "value: site-b", "limit: site-a")
    edit(plan, sites=[{"name": "site-a", "nominal_size": 40}])
    right = plan.read_bytes()
    rounds = tomllib.loads(right.decode())["rounds"]
    edit(plan, rounds=rounds | {"max_void": 1})
    refused(run("site", "pretrain", plan, "--home", home, "--yes"), "field: rounds.max_void", "value: 1", "limit: 0",
            "write max_void = 0")  # fmt: skip
    edit(plan, rounds=rounds | {"roundz": 1})
    refused(run("site", "pretrain", plan, "--home", home, "--yes"), "field: rounds.roundz", "alone.toml")
    federation.launch()
    refused(run("site", "pretrain", federation.root / "plan.toml", "--home", home, "--yes"), "for a federation", "alone = true")
    write(plan, right)
    edit(plan, sites=[{"name": "site-a", "nominal_size": 50000}])
    refused(run("site", "pretrain", plan, "--home", home, "--yes"), "policy delta", "value: 3e-05", "nominal size = 2e-05")
    write(plan, right)
    edit(home / "policy.toml", max_epsilon=0.01)
    refused(run("site", "pretrain", plan, "--home", home, "--yes"), "BudgetError", "limit: 0.01")
    edit(home / "policy.toml", max_epsilon=10.0, min_noise_multiplier=3.0)
    refused(run("site", "pretrain", plan, "--home", home, "--yes"), "privacy.noise_multiplier", "at least 3.0")
    assert rows(home, "reserve") == 0 and list((home / "encoders").iterdir()) == []


def test_images_of_another_shape_are_refused_by_file(federation: Any) -> None:
    home, data = federation.root / "site-a", federation.root / "data" / "site-a"
    plan = alone(
        federation, "site-a", data={"kind": "image", "height": 16, "width": 16},
        encoder={"name": "mlp-image", "hidden": 8, "code": 4}, objective={"name": "masked-image"},
    )  # fmt: skip
    refused(run("site", "pretrain", plan, "--home", home, "--yes"), "another kind", "value: table", "limit: npz")
    np.savez(data / "x.npz", image=np.zeros((4, 8, 16), np.uint8), patient=np.arange(4))
    (data / "source.toml").write_text('kind = "npz"\npath = "x.npz"\n')
    refused(run("site", "pretrain", plan, "--home", home, "--yes"), "'x.npz'", "image_field", "8, 16", "16, 16")
    write(data / "x.npz", b"no archive")
    refused(run("site", "pretrain", plan, "--home", home, "--yes"), "is no npz file", "value: x.npz")
    assert rows(home, "reserve") == 0


def test_the_demo_without_its_data_prints_the_command_that_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(WHEEL_VARIABLE, raising=False)
    monkeypatch.setenv("COLUMNS", "600")
    result = run("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 1
    assert "DataError" in result.output and FETCH_COMMAND in result.output
