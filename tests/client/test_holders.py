"""Several holders of one authority at the command line: what they agree on, what they sign and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests_commands import refused, run, write
from tests_holders import Hospitals, done

from client.holder import Holder
from ssl_core.trust.authority import read_authority
from ssl_core.trust.envelope import canonical, peek, seal
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import Roster, open_as_named, sign_roster

SITES = ("site-a", "site-b", "site-c")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospitals:
    """Holders north, south and west of whom two sign, three hospitals, an operator's card."""
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    return Hospitals.agreed(tmp_path, *SITES)


def make(world: Hospitals, holder: str, out: str, *words: object) -> Path:
    """A once-signed roster of the three hospitals."""
    path: Path = world.root / out
    done(world.sign(holder, *(words or (*world.requests(*SITES), "--server", world.server_card)), "--out", path))
    return path


def last(world: Hospitals, holder: str) -> bytes:
    return (world.holders[holder] / "last-roster.json").read_bytes()


def test_a_key_of_one_holder_stays_a_card_of_its_own(world: Hospitals) -> None:
    alone = world.holder("alone")
    card = read_authority(alone / "authority.pub")
    assert (card.threshold, card.keys) == (1, (Holder(alone).identity.public,)) and Holder(alone).authority == card
    assert not (alone / "authority-card.pub").exists()


def test_agreeing_again_changes_nothing_and_needs_no_answer(world: Hospitals) -> None:
    files = [world.holders[name] / "authority.pub" for name in ("west", "north", "south")]
    home = world.holders["north"]
    before = (home / "authority-card.pub").read_bytes()
    again = run("authority", "init", *files, "--threshold", 2, "--home", home)
    assert again.exit_code == 0 and "2 of 3 holders must sign" in again.output
    asked = run("authority", "init", *files, "--threshold", 3, "--home", home)
    assert asked.exit_code == 1 and "Nothing was changed" in asked.output and '"threshold": 3' in asked.output
    assert (home / "authority-card.pub").read_bytes() == before
    weak = run("authority", "init", *files, "--threshold", 1, "--home", home, "--yes")
    assert "two different rosters of one version are possible" in weak.output


def test_an_agreement_that_cannot_be_is_refused_and_keeps_nothing(world: Hospitals) -> None:
    home, before = world.holders["north"], (world.holders["north"] / "authority-card.pub").read_bytes()
    keys = {name: folder / "authority.pub" for name, folder in world.holders.items()}

    def agree(*words: object) -> Any:
        return run("authority", "init", *words, "--home", home, "--yes")

    refused(agree(keys["north"], keys["south"]), "how many holders", "field: --threshold", "limit: 1 to 2")
    refused(agree("--threshold", 2), "threshold goes with", "field: --threshold", "value: 2")
    refused(agree(keys["north"], keys["south"], "--threshold", 3), "field: threshold", "value: 3", "limit: 1 to 2")
    refused(agree(keys["north"], keys["south"], "--threshold", 0), "field: threshold", "value: 0")
    refused(agree(keys["north"], keys["north"], "--threshold", 1), "each once")
    refused(agree(home / "authority-card.pub", keys["north"], "--threshold", 1), "several keys", "every holder's own file")
    refused(agree(world.root / "none.pub", keys["north"], "--threshold", 1), "cannot be read", "none.pub")
    refused(run("authority", "init", *keys.values(), "--threshold", 2, "--home", world.root / "new"), "key file is missing")
    assert (home / "authority-card.pub").read_bytes() == before
    # Two strangers' keys are nothing to this holder.
    strangers = [write(world.root / f"{n}.pub", Identity.generate().public_hex.encode()) for n in range(2)]
    world.holder("alone")
    home = world.holders["alone"]
    refused(agree(*strangers, "--threshold", 1), "not among those given", "authority.pub")
    assert not (home / "authority-card.pub").exists()


def test_signatures_gather_on_the_same_bytes_and_the_command_counts_them(world: Hospitals) -> None:
    path = make(world, "north", "roster.json")
    once = path.read_bytes()
    shown = run("authority", "sign", path, "--home", world.holders["south"])
    assert shown.exit_code == 1 and "Nothing was changed" in shown.output
    for word in ('"version": 1', "site-a", world.prints["site-a"], "nothing was signed here before", "joined: site-b"):
        assert word in shown.output
    assert path.read_bytes() == once and not (world.holders["south"] / "last-roster.json").exists()
    words = run("authority", "sign", path, "--home", world.holders["north"], "--yes").output
    assert "Signatures missing: 1 of authority" in words and "(2 of 3 keys)" in words
    assert path.read_bytes() == once, "the same holder signing twice counts once"
    words = run("authority", "sign", path, "--home", world.holders["south"], "--yes").output
    assert "It has all its signatures" in words
    assert peek(path.read_bytes(), "roster") == peek(once, "roster")
    assert done(world.sign("west", path))["signatures"][0]["missing"] == 0
    assert len(json.loads(path.read_bytes())["signatures"]) == 3 and open_as_named(path.read_bytes())[0].version == 1
    elsewhere = world.root / "copy.json"
    done(world.sign("west", path, "--out", elsewhere))
    assert elsewhere.read_bytes() == path.read_bytes()


def test_two_holders_who_made_one_version_each_sign_neither_others_nor_two(world: Hospitals) -> None:
    ours = make(world, "north", "ours.json")
    world.site("site-d", world.holders["south"] / "authority-card.pub")
    theirs = make(world, "south", "theirs.json", *world.requests(*SITES, "site-d"), "--server", world.server_card)
    for holder, path in (("north", theirs), ("south", ours)):
        before, kept = path.read_bytes(), last(world, holder)
        refused(
            world.sign(holder, path), "another roster of this version", "field: version", "value: 1, digest", "limit: digest"
        )
        assert (path.read_bytes(), last(world, holder)) == (before, kept)
    # The third can complete one of them, and then no other.
    assert done(world.sign("west", ours))["signatures"][0]["missing"] == 0
    refused(world.sign("west", theirs), "another roster of this version")
    # Nobody who signed version 1 signs it again with other content; the next version begins with the one that counts.
    after = make(world, "south", "after.json", *world.requests("site-d"), "--from", ours)
    assert done(world.sign("north", after))["version"] == 2
    refused(world.sign("north", ours), "older than the last one signed here", "value: 1", "limit: 2")


def test_a_roster_that_is_not_complete_is_no_beginning(world: Hospitals) -> None:
    path = make(world, "north", "roster.json")
    refused(
        world.sign("south", "--from", path, "--out", world.root / "two.json"),
        "roster is not signed", "field: signatures", "value: 1 present, 1 of them count", "limit: 2 of", "remedy",
    )  # fmt: skip
    assert not (world.root / "two.json").exists() and not (world.holders["south"] / "last-roster.json").exists()


def test_what_a_holder_may_not_sign_is_refused_and_leaves_his_file_as_it_was(world: Hospitals) -> None:
    path = make(world, "north", "roster.json")
    roster = open_one(path)
    south = world.holders["south"]
    own = roster.model_copy(update={"authorities": (Holder(south).identity.public_hex,), "threshold": 1})
    forged = [
        (sign_roster(own, [Identity.generate()]), ("another authority than the one agreed", "field: authorities", "limit: ")),
        (
            seal("plan", roster.model_dump(mode="json"), Identity.generate()),
            ("neither a join request nor a roster", "bad.json"),
        ),
        (canonical({"payload": "e30=", "payloadType": "text", "signatures": []}), ("neither a join request nor a roster",)),
        (b"{}", ("not a signed envelope",)),
        (seal("roster", roster.model_dump(mode="json") | {"members": []}), ("0 sites; at least 3",)),
        (seal("roster", roster.model_dump(mode="json") | {"extra": 1}), ("field: extra",)),
    ]
    for data, words in forged:
        bad = write(world.root / "bad.json", data)
        refused(world.sign("south", bad, *("--out", world.root / "out.json")), *words)
        assert bad.read_bytes() == data and not (south / "last-roster.json").exists()
        assert not (world.root / "out.json").exists()
    refused(world.sign("south", path, path), "signed as it is", "value: 2", "limit: one roster.json")
    refused(world.sign("south", path, "--server", world.server_card), "signed as it is")
    refused(world.sign("south", *world.requests(*SITES), "--server", world.server_card), "field: --out")
    refused(world.sign("south", *world.requests(*SITES), "--out", path), "operator's card is missing", "--server")
    refused(world.sign("south", "--out", path), "every hospital must be named", "--from ROSTER")
    refused(world.sign("south", *world.requests(*SITES), "--without", "site-a", "--out", path), "every hospital must be named")
    assert not (south / "last-roster.json").exists()


def open_one(path: Path) -> Roster:
    return Roster.model_validate_json(canonical(peek(path.read_bytes(), "roster")))


def test_a_roster_changes_by_joining_leaving_and_new_keys(world: Hospitals) -> None:
    one = make(world, "north", "one.json")
    done(world.sign("south", one))
    # site-b lost its state: a new folder, a new identity under the old name. The operator made new keys too.
    first = world.prints["site-b"]
    world.sites.pop("site-b")
    shutil.move(world.root / "site-b", world.root / "lost")
    world.site("site-b", world.holders["north"] / "authority-card.pub")
    world.site("site-d", world.holders["north"] / "authority-card.pub")
    done(run("operator", "init", "--home", world.root / "next", "--address", "127.0.0.1:9555", "--json"))
    facts = done(
        world.sign("south", *world.requests("site-b", "site-d"), "--from", one, "--without", "site-c",
                   "--server", world.root / "next" / "server-card.json", "--out", world.root / "two.json")
    )  # fmt: skip
    change = facts["changes"]
    assert (change["joined"], change["left"], change["new_identity"]) == (["site-d"], ["site-c"], ["site-b"])
    assert change["new_supernode"] == ["site-b"] and change["since_version"] == 1
    assert [what.split()[0] for what in change["server"]] == ["operator", "server", "server", "address"]
    assert facts["sites"]["site-b"] == world.prints["site-b"] != first and facts["version"] == 2
    shown = run("authority", "sign", world.root / "two.json", "--home", world.holders["north"]).output
    expected = (
        "Changes (since version 1, the last signed here)", "left: site-c", f"new key of site-b: {facts['sites']['site-b']}",
        "new SuperNode key of site-b", "new operator key ", "new address",
    )  # fmt: skip
    for words in expected:
        assert words in shown
    refused(
        world.sign("north", "--from", one, "--without", "site-z", "--out", world.root / "x.json"), "not on the roster", "site-z"
    )
    twice = [*world.requests("site-d"), *world.requests("site-d")]
    refused(world.sign("north", *twice, "--from", one, "--out", world.root / "x.json"), "sorted by name, each once")
    few = ("--from", one, "--without", "site-a", "--out", world.root / "x.json")
    refused(world.sign("north", *few), "2 sites; at least 3", "field: members", "value: 2")
    assert peek(last(world, "north"), "roster")["version"] == 1, "what was refused was not signed"


def test_a_holder_leaves_and_another_comes_by_the_old_and_the_new_keys(world: Hospitals) -> None:
    one, two, three = (world.root / name for name in ("one.json", "two.json", "three.json"))
    make(world, "north", "one.json")
    done(world.sign("south", one))
    world.holder("east")
    card = world.agree(2, "north", "west", "east", at=("north", "west", "east", "south"))

    # Made by the newcomer: it says whom it replaces, and one of each set is not enough.
    facts = done(world.sign("east", "--from", one, "--out", two))
    assert [entry["missing"] for entry in facts["signatures"]] == [2, 1] and facts["version"] == 2
    shown = run("authority", "sign", two, "--home", world.holders["north"]).output
    assert "hands over from authority" in shown and "new authority: " in shown
    facts = done(world.sign("north", two))
    assert [entry["missing"] for entry in facts["signatures"]] == [1, 0]
    # Complete to whoever pins the new card alone, it is no beginning for a holder before the old keys signed it.
    assert open_as_named(two.read_bytes())[0].version == 2
    refused(
        world.sign("east", "--from", two, "--out", three),
        "roster has too few signatures",
        "field: --from",
        "value: 1",
        "remedy",
    )
    refused(
        world.accept("site-a", "--roster", two, "--authority", card), "not signed by the keys", "value: 2 present, 1 of them"
    )
    # The holder who leaves still counts for the old keys.
    facts = done(world.sign("south", two))
    assert [entry["missing"] for entry in facts["signatures"]] == [0, 0]

    # From then on the old keys are nothing: not at the holders', and (test_roster_changes.py) not at the sites'.
    done(world.sign("west", "--from", two, "--out", three))
    refused(world.sign("south", three), "this holder's key does not count", "field: authorities")
    assert done(world.sign("east", three))["signatures"] == done(world.sign("west", three))["signatures"]
    assert open_as_named(three.read_bytes())[0].replaces is None


def test_a_holder_who_did_not_agree_to_other_keys_signs_no_handover(world: Hospitals) -> None:
    one, two = (world.root / name for name in ("one.json", "two.json"))
    make(world, "north", "one.json")
    done(world.sign("south", one))
    world.holder("east")
    world.agree(2, "north", "west", "east", at=("north",))
    done(world.sign("north", "--from", one, "--out", two))
    refused(
        world.sign("south", two), "another authority than the one agreed here", "choral authority init FILES", "do not sign"
    )
