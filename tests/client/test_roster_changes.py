"""One site while the federation changes: what it accepts, what it refuses, and what a change costs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests_commands import refused, run, write
from tests_holders import Hospitals, done

from client.home import SiteHome
from ssl_core.trust.envelope import add_signature, canonical, peek
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import Roster, sign_roster

SITES = ("site-a", "site-b", "site-c", "site-d")


class World(Hospitals):
    """Also keeps the rosters that were signed by two of the three holders."""

    def roster(self, version: int, *words: object, by: tuple[str, ...] = ("north", "south")) -> Path:
        path = self.root / f"roster-{version}.json"
        done(self.sign(by[0], *words, "--out", path))
        for holder in by[1:]:
            made = done(self.sign(holder, path))
        assert made["version"] == version
        return path

    def home(self, name: str = "site-a") -> SiteHome:
        return SiteHome(self.sites[name])

    def kept(self, name: str = "site-a") -> Any:
        """All that an attempt could change."""
        return (self.sites[name] / "roster.json").read_bytes(), self.home(name).chain.entries()

    def status(self, name: str = "site-a") -> Any:
        return run("site", "status", "--home", self.sites[name], "--json")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Four hospitals that accepted version 1 and each other; site-a is looked at."""
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    made = World.agreed(tmp_path, *SITES)
    one = made.roster(1, *made.requests(*SITES), "--server", made.server_card)
    done(made.accept("site-a", "--roster", one, *made.pairs(*SITES[1:])))
    return made


def newest(world: World) -> Roster:
    return world.home().roster()[0]


def keys(world: World, *names: str) -> list[Identity]:
    return [Identity.load(world.holders[name] / "authority.key") for name in names]


def test_the_card_of_several_holders_is_pinned_at_init(world: World) -> None:
    pinned = world.home().authority
    assert pinned.threshold == 2 and pinned.text == (world.holders["west"] / "authority-card.pub").read_text()
    words = run(
        "site", "init", "site-x", "--authority", world.holders["west"] / "authority-card.pub", "--home", world.root / "x"
    )
    assert f"Authority pinned: {pinned.fingerprint} (2 of 3 keys)" in words.output
    two = write(world.root / "two.pub", b"".join((world.holders[n] / "authority.pub").read_bytes() for n in ("north", "south")))
    refused(run("site", "init", "site-y", "--authority", two, "--home", world.root / "y"), "how many of its keys must sign")
    assert not (world.root / "y").exists()


def test_rosters_that_must_not_count_are_refused_and_change_nothing(world: World) -> None:
    before = world.kept()
    second = newest(world).model_copy(update={"version": 2})
    north, south, west = keys(world, "north", "south", "west")
    stranger = Identity.generate()
    once = sign_roster(second, [north])
    other = second.model_copy(update={"version": 1, "members": second.members[:3]})
    weak = second.model_copy(update={"threshold": 1})
    alone = second.model_copy(update={"authorities": (north.public_hex,), "threshold": 1})
    cases = {
        "unsigned": (sign_roster(second, []), ("not signed by the keys", "value: 0 present, 0 of them count", "limit: 2 of")),
        "k - 1": (once, ("not signed by the keys", "value: 1 present, 1 of them count", "limit: 2 of", "remedy: ")),
        "one holder twice": (add_signature(once, "roster", north), ("value: 1 present, 1 of them count",)),
        "a non-holder": (add_signature(once, "roster", stranger), ("value: 2 present, 1 of them count",)),
        "a site": (add_signature(once, "roster", world.home().identity), ("value: 2 present, 1 of them count",)),
        "same version, other content": (
            sign_roster(other, [north, south, west]),
            ("two rosters carry one version", "value: 1, "),
        ),
        "fewer signatures": (sign_roster(weak, [north]), ("not of the authority that is pinned here", "value: ", "limit: ")),
        "one holder's own": (sign_roster(alone, [north]), ("not of the authority that is pinned here",)),
    }
    for what, (data, words) in cases.items():
        given = write(world.root / "given.json", data)
        refused(world.accept("site-a", "--roster", given), "TrustError", *words)
        refused(world.accept("site-a", "--roster", given, *world.pairs("site-b")), "TrustError")
        assert world.kept() == before, what
    two = world.roster(2, "--from", world.root / "roster-1.json")
    done(world.accept("site-a", "--roster", two))
    refused(world.accept("site-a", "--roster", world.root / "roster-1.json"), "roster is older", "value: 1", "limit: 2")


def test_of_two_rosters_of_one_version_the_one_accepted_first_counts(world: World) -> None:
    """Two complete ones exist only where more than 2k - m holders break the rule; here both who signed twice are forged."""
    signed = keys(world, "north", "south")
    base = newest(world).model_copy(update={"version": 2})
    one = sign_roster(base, signed)
    other = sign_roster(base.model_copy(update={"members": base.members[:3]}), signed)
    done(world.accept("site-a", "--roster", write(world.root / "one.json", one)))
    before = world.kept()
    refused(
        world.accept("site-a", "--roster", write(world.root / "other.json", other)),
        "two rosters carry one version", "field: version", "value: 2, digest ", "limit: digest ", "remedy: tell the holders",
    )  # fmt: skip
    assert world.kept() == before
    # The same payload with another set of signatures is the same roster.
    same = write(world.root / "same.json", sign_roster(base, keys(world, "north", "west")))
    assert done(world.accept("site-a", "--roster", same))["changes"] is None
    # Put into the folder by hand it is refused too, and so is a newer one that no person accepted.
    for data, words in (
        (other, "two rosters carry one version"),
        (sign_roster(base.model_copy(update={"version": 3}), signed), "not accepted here by a person"),
    ):
        write(world.sites["site-a"] / "roster.json", data)
        refused(world.status(), words, "choral site accept" if "person" in words else "field: version")


def test_a_newcomer_alone_needs_a_fingerprint(world: World) -> None:
    world.site("site-e", world.holders["west"] / "authority-card.pub")
    two = world.roster(2, *world.requests("site-e"), "--from", world.root / "roster-1.json")
    facts = done(world.accept("site-a", "--roster", two))
    assert facts["not_accepted"] == ["site-e"], "the roster counts, its newcomer does not yet"
    words = run("site", "accept", *world.pairs("site-e"), "--home", world.sites["site-a"]).output
    assert "Roster version 2: 5 sites, 5 accepted here." in words
    shown = run("site", "accept", "--roster", two, "--home", world.sites["site-a"]).output
    assert shown == "Roster version 2: 5 sites, 5 accepted here.\n", "accepted again, nothing is new"


def test_a_member_with_a_new_key_must_be_given_again_and_it_says_so(world: World) -> None:
    was = world.prints["site-b"]
    shutil.move(world.sites["site-b"], world.root / "lost")
    world.site("site-b", world.holders["north"] / "authority-card.pub")
    two = world.roster(2, *world.requests("site-b"), "--from", world.root / "roster-1.json")
    before = world.kept()
    refused(world.accept("site-a", "--roster", two, "site-b", was), "fingerprint is not the one", f"value: {was}", "telephone")
    assert world.kept() == before
    words = run("site", "accept", "--roster", two, "--home", world.sites["site-a"]).output
    now = world.prints["site-b"]
    for line in (f"new key of site-b: {now}", f"not accepted: site-b  {now} (its key changed: accept it again)"):
        assert line in words
    assert "4 sites, 3 accepted here" in words
    assert done(world.accept("site-a", *world.pairs("site-b")))["not_accepted"] == []
    # Back to the key of before: what was accepted once for it does not count any more.
    old = peek((world.root / "lost" / "join-request.json").read_bytes(), "join")
    members = tuple(m.model_copy(update=old) if m.name == "site-b" else m for m in newest(world).members)
    three = sign_roster(newest(world).model_copy(update={"version": 3, "members": members}), keys(world, "north", "south"))
    facts = done(world.accept("site-a", "--roster", write(world.root / "three.json", three)))
    assert facts["not_accepted"] == ["site-b"] and facts["changes"]["new_identity"] == ["site-b"]


def test_a_key_that_was_changed_and_changed_back_must_be_given_again(world: World) -> None:
    """Also where nobody here accepted the key in between: the roster said once that the first one counts no more."""
    first = newest(world)
    other = Identity.generate().public_hex
    members = tuple(m.model_copy(update={"identity": other}) if m.name == "site-b" else m for m in first.members)
    for version, listed in ((2, members), (3, first.members)):
        signed = sign_roster(first.model_copy(update={"version": version, "members": listed}), keys(world, "north", "south"))
        facts = done(world.accept("site-a", "--roster", write(world.root / "given.json", signed)))
        assert facts["not_accepted"] == ["site-b"]
    words = run("site", "accept", *world.pairs("site-c"), "--home", world.sites["site-a"]).output
    assert "not accepted: site-b" in words and "accept it again" in words
    assert done(world.accept("site-a", *world.pairs("site-b")))["not_accepted"] == []


def test_a_hospital_that_left_and_comes_back_is_a_newcomer(world: World) -> None:
    two = world.roster(2, "--from", world.root / "roster-1.json", "--without", "site-d")
    assert done(world.accept("site-a", "--roster", two))["changes"]["left"] == ["site-d"]
    assert "site-d" not in world.home().accepted()
    three = world.roster(3, *world.requests("site-d"), "--from", two)
    words = run("site", "accept", "--roster", three, "--home", world.sites["site-a"]).output
    assert f"not accepted: site-d  {world.prints['site-d']} (it had left: accept it again)" in words
    assert done(world.accept("site-a", *world.pairs("site-d")))["not_accepted"] == []


def test_new_keys_of_operator_and_server_are_named_and_a_running_daemon_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(run("operator", "init", "--home", world.root / "next", "--address", "127.0.0.1:9555", "--json"))
    two = world.roster(2, "--from", world.root / "roster-1.json", "--server", world.root / "next" / "server-card.json")
    monkeypatch.setattr("client.daemon.site_status", lambda _home: {"pid": 1, "processes": []})
    words = run("site", "accept", "--roster", two, "--home", world.sites["site-a"]).output
    card = newest(world).server
    for line in ("new operator key ", "new server key ", "new server certificate", "new address", "start the daemon again"):
        assert line in words
    assert card.superlink == "127.0.0.1:9555"
    three = world.roster(3, "--from", two, "--without", "site-d")
    assert "start the daemon again" not in run("site", "accept", "--roster", three, "--home", world.sites["site-a"]).output


def handed_over(world: World) -> tuple[Path, Path]:
    """(version 2, in which west leaves and east comes; the new card)."""
    world.holder("east")
    card = world.agree(2, "north", "south", "east", at=("north", "south", "east"))
    return world.roster(2, "--from", world.root / "roster-1.json", by=("north", "south")), card


def test_an_authority_changes_only_where_a_person_gives_its_card(world: World) -> None:
    old = (world.holders["west"] / "authority-card.pub").read_bytes()
    two, card = handed_over(world)
    before = world.kept()
    refused(
        world.accept("site-a", "--roster", two),
        "hands over to another authority", "field: authorities", "value: ", "limit: ", "--authority FILE",
    )  # fmt: skip
    wrong = write(world.root / "wrong.pub", (world.holders["east"] / "authority.pub").read_bytes())
    refused(world.accept("site-a", "--roster", two, "--authority", wrong), "not of the authority whose card was given")
    refused(world.accept("site-a", "--authority", card), "give --roster FILE")
    refused(world.accept("site-a", "--roster", world.root / "roster-1.json", "--authority", card), "card was given")
    assert world.kept() == before
    facts = done(world.accept("site-a", "--roster", two, "--authority", card))
    assert facts["changes"]["authority"] == f"{world.home().authority.fingerprint} (2 of 3 keys)"
    assert world.home().authority.text.encode() == card.read_bytes() != old
    assert done(world.status())["roster_version"] == 2
    assert json.loads(canonical(world.home().chain.entries("authority")[-1].body))["threshold"] == 2

    # From then on the old keys are nothing here, whatever the version.
    south, west = keys(world, "south", "west")
    roster = peek((world.root / "roster-1.json").read_bytes(), "roster") | {"version": 9}
    back = sign_roster(Roster.model_validate_json(canonical(roster)), [south, west])
    before = world.kept()
    refused(world.accept("site-a", "--roster", write(world.root / "back.json", back)), "not of the authority that is pinned")
    given = write(world.root / "old.pub", old)
    refused(world.accept("site-a", "--roster", world.root / "back.json", "--authority", given), "not of the authority that is")
    refused(world.accept("site-a", "--roster", world.root / "roster-1.json"), "not of the authority that is pinned")
    assert world.kept() == before
    three = world.roster(3, "--from", two, by=("north", "east"))
    assert done(world.accept("site-a", "--roster", three))["version"] == 3


def test_a_site_that_missed_the_handover_takes_it_first(world: World) -> None:
    two, card = handed_over(world)
    three = world.roster(3, "--from", two, by=("south", "east"))
    refused(world.accept("site-a", "--roster", three, "--authority", card), "not of the authority that is pinned", "first")
    done(world.accept("site-a", "--roster", two, "--authority", card))
    done(world.accept("site-a", "--roster", three))
    # A hospital that joins later pins the new card alone, and needs nothing of what was before.
    world.site("site-e", card)
    four = world.roster(4, *world.requests("site-e"), "--from", three, by=("north", "east"))
    assert done(world.accept("site-e", "--roster", four, *world.pairs(*SITES)))["not_accepted"] == []


def test_a_kill_between_log_and_file_is_repaired_by_the_same_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    two, card = handed_over(world)
    first = (world.sites["site-a"] / "roster.json").read_bytes()

    def dies(_path: Path, _data: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("client.home.write_durably", dies)
        assert world.accept("site-a", "--roster", two, "--authority", card).exit_code != 0
    assert (world.sites["site-a"] / "roster.json").read_bytes() == first
    refused(world.status(), "TrustError", "authority")
    done(world.accept("site-a", "--roster", two))
    assert done(world.status())["roster_version"] == 2
    assert [entry.body["version"] for entry in world.home().chain.entries("roster")] == [1, 2]
