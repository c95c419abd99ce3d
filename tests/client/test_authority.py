from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from tests_commands import refused, run
from typer.testing import Result

from client.home import create_site
from server.home import create_operator
from ssl_core.trust.authority import authority_of
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import open_roster


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An authority, an operator's card and three join requests."""
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    made = json.loads(run("authority", "init", "--home", tmp_path / "authority", "--json").stdout)
    key = bytes.fromhex(Path(made["public_key"]).read_text())
    create_operator(tmp_path / "operator", ["127.0.0.1"], 9443, "127.0.0.1:9443")
    requests = []
    for name in ("site-c", "site-a", "site-b"):
        create_site(tmp_path / name, name, [key], 1, None)
        requests.append(tmp_path / name / "join-request.json")
    return {
        "home": tmp_path / "authority",
        "key": key,
        "requests": requests,
        "server": tmp_path / "operator" / "server-card.json",
        "out": tmp_path / "roster.json",
    }


def sign(world: dict[str, Any], *more: object, requests: list[Path] | None = None) -> Result:
    members = world["requests"] if requests is None else requests
    return run(
        "authority", "sign", *members, "--server", world["server"], "--out", world["out"], "--home", world["home"], *more
    )


def test_the_key_is_the_owners_alone_and_is_never_made_twice(world: dict[str, Any]) -> None:
    key = world["home"] / "authority.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and stat.S_IMODE(world["home"].stat().st_mode) == 0o700
    before = key.read_bytes()
    refused(run("authority", "init", "--home", world["home"]), "folder is not empty", "remedy")
    refused(run("authority", "init", "--home", world["out"].with_name("operator") / "server.key"), "folder is not empty")
    assert key.read_bytes() == before


def test_a_signed_roster_verifies_lists_all_and_its_version_rises(world: dict[str, Any]) -> None:
    for version in (1, 2):
        facts = json.loads(sign(world, "--yes", "--json").stdout)
        roster, _ = open_roster(world["out"].read_bytes(), authority_of([world["key"]], 1))
        assert (roster.version, facts["version"]) == (version, version)
        assert [member.name for member in roster.members] == ["site-a", "site-b", "site-c"]
        assert facts["sites"]["site-b"] == roster.fingerprint("site-b")
    assert "Roster version 3 with 3 sites" in sign(world, "--yes").output


def test_without_a_terminal_and_without_yes_nothing_is_signed(world: dict[str, Any]) -> None:
    result = sign(world)
    assert result.exit_code == 1 and "Nothing was changed" in result.output and "site-a" in result.output
    assert not world["out"].exists() and not (world["home"] / "last-roster.json").exists()


def test_fewer_than_three_sites_or_one_twice_are_refused(world: dict[str, Any]) -> None:
    refused(sign(world, "--yes", requests=world["requests"][:2]), "2 sites; at least 3", "field: members", "value: 2")
    twice = [*world["requests"], world["requests"][0]]
    refused(sign(world, "--yes", requests=twice), "sorted by name, each once")
    assert not world["out"].exists() and not (world["home"] / "last-roster.json").exists()


def test_a_request_that_was_changed_on_the_way_is_refused(world: dict[str, Any], tmp_path: Path) -> None:
    other, mine = (json.loads(path.read_text()) for path in world["requests"][:2])
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(mine | {"payload": other["payload"]}))
    refused(sign(world, "--yes", requests=[forged, *world["requests"][1:]]), "join is not signed", "field: signatures")
    forged.write_text("{}")
    refused(sign(world, "--yes", requests=[forged, *world["requests"][1:]]), "not a signed envelope")
    refused(sign(world, "--yes", requests=[tmp_path / "none.json"]), "file is missing", "none.json")
    assert not world["out"].exists()


def test_a_missing_folder_for_the_roster_costs_no_version(world: dict[str, Any], tmp_path: Path) -> None:
    world["out"] = tmp_path / "nowhere" / "roster.json"
    refused(sign(world, "--yes"), "folder is missing", "--out")
    assert not (world["home"] / "last-roster.json").exists()


def test_a_key_file_that_others_can_read_is_refused(world: dict[str, Any], tmp_path: Path) -> None:
    (world["home"] / "authority.key").chmod(0o644)
    refused(sign(world, "--yes"), "can be read by others", "limit: 0o600", "chmod 600")
    Identity.generate().save(tmp_path / "other.key")
    refused(run("authority", "sign", *world["requests"], "--server", world["server"], "--out", world["out"],
                "--home", tmp_path), "key file is missing")  # fmt: skip
