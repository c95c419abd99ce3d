"""How rosters reach the operator: the first pins its authority, later ones must follow it, and nothing here signs any."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests_commands import refused, write
from tests_commands import run as choral
from tests_material import small_plan

from server import daemon
from server.exchange import LocalExchange
from server.home import AcceptedRoster, OperatorHome
from server.rounds import run_study
from server.study import RosterReplaced
from ssl_core.chain import write_durably
from ssl_core.errors import StateError, TransportError, TrustError
from ssl_core.trust.authority import authority_of
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import AuthorityKeys, Roster, open_roster, sign_roster

run = partial(choral, "operator")


@pytest.fixture
def operator(federation: Any, monkeypatch: pytest.MonkeyPatch) -> OperatorHome:
    monkeypatch.setattr("server.launch.start_run", lambda _control, _hash: 1)
    (federation.operator.root / "run" / "flwr").mkdir(exist_ok=True)
    home: OperatorHome = federation.operator
    return home


def signed(federation: Any, version: int, *signers: Identity, **changes: Any) -> bytes:
    roster = federation.operator.roster()[0].model_copy(update={"version": version} | changes)
    return sign_roster(roster, signers or [federation.authority])


def plan(federation: Any, **changes: Any) -> Path:
    path: Path = federation.root / "written.toml"
    path.write_text(tomli_w.dumps(small_plan(federation.names, **changes)))
    return path


def launch(federation: Any, given: bytes | None = None, **changes: Any) -> Any:
    words = () if given is None else ("--roster", write(federation.root / "given.json", given))
    return run("launch", plan(federation, **changes), "--detach", "--json", "--home", federation.operator.root, *words)


def test_launch_takes_a_newer_roster_and_writes_it_where_the_sites_read_it(federation: Any, operator: OperatorHome) -> None:
    assert operator.accepted is None
    assert launch(federation).exit_code == 0
    assert operator.accepted == AcceptedRoster(
        version=1, digest=operator.roster()[1], authorities=(federation.authority.public_hex,), threshold=1
    )
    second = signed(federation, 2)
    assert launch(federation, second).exit_code == 0
    assert (operator.root / "roster.json").read_bytes() == second and operator.accepted.version == 2
    assert launch(federation, second).exit_code == 0, "the same again changes nothing"


def test_rosters_that_must_not_follow_are_refused_and_change_nothing(federation: Any, operator: OperatorHome) -> None:
    assert launch(federation, signed(federation, 2)).exit_code == 0
    before = {name: (operator.root / name).read_bytes() for name in ("roster.json", "accepted.json")}
    stranger = Identity.generate()
    own = {"authorities": (stranger.public_hex,)}
    cases = [
        (signed(federation, 1), ("roster is older", "value: 1", "limit: 2")),
        (signed(federation, 2, members=operator.roster()[0].members[::-1]), ("sorted by name",)),
        (signed(federation, 2, server=operator.card, replaces=_keys(stranger)), ("two rosters carry one version", "value: 2")),
        (signed(federation, 3, stranger), ("roster is not signed by the keys", "value: 1 present, 0 of them count")),
        (signed(federation, 3, stranger, **own), ("not of the authority that is pinned", "field: authorities")),
        (signed(federation, 3, operator.operator, operator.server), ("roster is not signed by the keys",)),
        (signed(federation, 3, server=operator.card.model_copy(update={"superlink": "127.0.0.1:1"})), ("another server",)),
        (b"{}", ("not a signed envelope",)),
    ]
    for data, words in cases:
        refused(launch(federation, data), *words)
        assert {name: (operator.root / name).read_bytes() for name in before} == before
    refused(run("launch", plan(federation), "--roster", federation.root / "none", "--home", operator.root), "field: --roster")
    # Dropped into the folder by hand, such a file is refused as well, by every command that needs a roster.
    write_durably(operator.root / "roster.json", cases[0][0])
    refused(launch(federation), "roster is older")
    with pytest.raises(TrustError, match="older"):
        operator.roster()


def _keys(*identities: Identity) -> AuthorityKeys:
    return AuthorityKeys(authorities=tuple(sorted(key.public_hex for key in identities)), threshold=1)


def test_a_record_that_is_damaged_says_what_to_do(federation: Any, operator: OperatorHome) -> None:
    assert launch(federation).exit_code == 0
    write_durably(operator.root / "accepted.json", b"{")
    refused(launch(federation), "StateError", "damaged", "delete it")


def test_an_authority_that_hands_over_is_followed(federation: Any, operator: OperatorHome) -> None:
    assert launch(federation).exit_code == 0
    east, west = Identity.generate(), Identity.generate()
    new = authority_of([east.public, west.public], 2)
    change = {
        "authorities": tuple(key.hex() for key in new.keys), "threshold": 2, "replaces": _keys(federation.authority),
    }  # fmt: skip
    refused(launch(federation, signed(federation, 2, east, west, **change)), "roster is not signed by the keys", "1 of")
    refused(launch(federation, signed(federation, 2, federation.authority, east, **change)), "not signed", "limit: 2 of")
    assert launch(federation, signed(federation, 2, federation.authority, east, west, **change)).exit_code == 0
    assert operator.accepted is not None and operator.accepted.authority == new
    before = {"authorities": (federation.authority.public_hex,), "threshold": 1, "replaces": None}
    refused(launch(federation, signed(federation, 3, **before)), "pinned here")
    last = signed(federation, 3, east, west, authorities=change["authorities"], threshold=2, replaces=None)
    assert launch(federation, last).exit_code == 0 and open_roster(last, new)[0].version == 3


def test_the_operators_files_cannot_make_a_roster(federation: Any, operator: OperatorHome) -> None:
    """Ruling 1: with every key of the operator's machine none of its rosters is accepted anywhere."""
    keys = [Identity.load(path) for path in operator.root.rglob("*.key") if path.parent.name != "tls"]
    assert len(keys) == 2
    forged = signed(federation, 2, *keys)
    site = federation.site("site-a")
    with pytest.raises(TrustError, match="not signed"):
        site.install_roster(forged)
    fresh = {"operator": Identity.generate().public_hex, "server": Identity.generate().public_hex}
    server = operator.card.model_copy(update=fresh)
    mine = signed(federation, 2, *keys, **_keys(*keys).model_dump(), server=server)
    with pytest.raises(TrustError, match="not of the authority that is pinned"):
        site.install_roster(mine)


def test_status_says_which_studies_a_newer_roster_ended(federation: Any, operator: OperatorHome) -> None:
    old = json.loads(launch(federation).stdout)["plan"]
    before = json.loads(run("status", "--json", "--home", operator.root).stdout)
    assert before[0]["state"] == "launched"
    new = json.loads(launch(federation, signed(federation, 2), seed=7).stdout)["plan"]
    states = {fact["plan"]: fact["state"] for fact in json.loads(run("status", "--json", "--home", operator.root).stdout)}
    assert states[new] == "launched"
    assert states[old].startswith("over: made for an earlier roster than version 2; launch its plan (TOML) again")
    refused(run("launch", old, "--yes", "--home", operator.root), "another roster", "remedy: sign it for this roster")
    (operator.study(old) / "finished").write_text("")
    states = {fact["plan"]: fact["state"] for fact in json.loads(run("status", "--json", "--home", operator.root).stdout)}
    assert states[old] == "launched", "a study that is done is not over in this sense"


def events(operator: OperatorHome, plan_hash: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (operator.study(plan_hash) / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("line", ["round-closed", "study-finished"])
def test_a_running_study_stops_between_rounds_and_never_after_its_last(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr("server.launch.start_run", lambda _control, _hash: 1)
    federation = make_federation(3, patients=6)
    operator = federation.operator
    (operator.root / "run" / "flwr").mkdir(exist_ok=True)
    plan_hash = json.loads(launch(federation, rounds__rounds=2).stdout)["plan"]
    federation.invite_and_approve(plan_hash)
    taken: list[str] = []

    def at(reached: str) -> None:
        if reached == line and not taken:
            taken.append(reached)
            operator.adopt_roster(signed(federation, 2))

    run_study(operator.root, plan_hash, LocalExchange(federation.services()), at=at)
    stages = [event["stage"] for event in events(operator, plan_hash)]
    if line == "round-closed":
        assert events(operator, plan_hash)[-1]["reason"] == "roster version 2 counts now"
        assert stages.count("closed") == 1 and stages[-1] == "stopped" and "failed" not in stages
        with pytest.raises(StateError, match="another roster"):
            run_study(operator.root, plan_hash, LocalExchange(federation.services()))
    else:
        assert stages.count("closed") == 2 and stages[-1] == "finished"


def test_the_error_of_a_replaced_roster_has_all_four_parts(federation: Any, operator: OperatorHome) -> None:
    from server.study import StudyRun

    plan_hash = json.loads(launch(federation).stdout)["plan"]
    study = StudyRun(operator, plan_hash, LocalExchange({}), lambda _line: None)
    study.check_roster()
    first = operator.roster()[1]
    _, digest = operator.adopt_roster(signed(federation, 2))
    with pytest.raises(RosterReplaced) as caught:
        study.check_roster()
    assert (caught.value.field, caught.value.value, caught.value.limit) == ("roster", first, digest) and caught.value.remedy


class Followed:
    """What the daemon's follower told the SuperLink."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rosters: list[Roster] = []
        self.back: list[str] = []
        self.silent = False
        monkeypatch.setattr(daemon, "control", lambda _home: None)
        monkeypatch.setattr("server.members.nodes", lambda _database: {})
        monkeypatch.setattr("server.members.returned", lambda _roster, _known: self.back)
        monkeypatch.setattr("server.members.follow", self._follow)

    def _follow(self, roster: Roster, *_: object) -> None:
        if self.silent:
            raise TransportError("flwr supernode failed")
        self.rosters.append(roster)


def test_the_daemon_follows_a_file_once_and_survives_a_bad_one(
    federation: Any, operator: OperatorHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = Followed(monkeypatch)
    operator.adopt_roster()
    follower = daemon._Follower(operator)
    assert follower.look() == [] and seen.rosters == []
    second = signed(federation, 2)
    path = operator.root / "roster.json"
    for bad in (second[:100], b"", signed(federation, 2, Identity.generate())):
        path.write_bytes(bad)
        assert follower.look() == [] and follower.look() == [] and seen.rosters == []
    assert capsys.readouterr().out.count("roster not followed: ") == 3, "each is named once"
    path.unlink()
    assert follower.look() == [] and "missing" in capsys.readouterr().out
    write_durably(path, second)
    assert follower.look() == [] and follower.look() == []
    assert [roster.version for roster in seen.rosters] == [2] and operator.accepted is not None
    assert operator.accepted.version == 2


def test_the_daemon_tries_again_where_the_superlink_did_not_answer(
    federation: Any, operator: OperatorHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Followed(monkeypatch)
    operator.adopt_roster()
    follower = daemon._Follower(operator)
    seen.silent = True
    write_durably(operator.root / "roster.json", signed(federation, 2))
    assert follower.look() == [] and seen.rosters == []
    seen.silent = False
    assert follower.look() == [] and seen.rosters == [], "not at once"
    monkeypatch.setattr("server.daemon._RETRY_S", 0.0)
    seen.silent = True
    follower._again_at = 0.0
    assert follower.look() == []
    seen.silent = False
    assert follower.look() == [] and [roster.version for roster in seen.rosters] == [2]


def test_hospitals_that_come_back_are_left_to_a_new_database(
    federation: Any, operator: OperatorHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Followed(monkeypatch)
    follower = daemon._Follower(operator)
    seen.back = ["site-b"]
    write_durably(operator.root / "roster.json", signed(federation, 2))
    assert follower.look() == ["site-b"] and seen.rosters == []
