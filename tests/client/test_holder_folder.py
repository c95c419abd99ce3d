"""What one holder's folder keeps: one signed roster of a version, whatever runs at once, is killed, or is written into it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests_commands import refused, run
from tests_holders import Hospitals, done

from client.holder import Holder
from ssl_core.chain import write_durably
from ssl_core.errors import TrustError
from ssl_core.trust.envelope import canonical, peek
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import Roster, open_request, open_server_identity, sign_roster

SITES = ("site-a", "site-b", "site-c")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospitals:
    """Holders north and south who both sign, three hospitals, an operator's card."""
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    made = Hospitals(tmp_path)
    for name in ("north", "south"):
        made.holder(name)
    card = made.agree(2, "north", "south")
    for name in SITES:
        made.site(name, card)
    done(run("operator", "init", "--home", made.operator, "--json"))
    return made


def drafted(world: Hospitals, turn: int) -> bytes:
    """An unsigned roster that differs in the server's address."""
    card = open_server_identity(world.server_card.read_bytes())
    server = card.model_copy(update={"superlink": f"127.0.0.1:{9000 + turn}"})
    requests = [open_request(path.read_bytes()) for path in world.requests(*SITES)]
    return Holder(world.holders["north"]).draft(requests, server, None, [])


def test_a_folder_that_others_wrote_to_is_noticed(world: Hospitals) -> None:
    path = world.root / "roster.json"
    done(world.sign("north", *world.requests(*SITES), "--server", world.server_card, "--out", path))
    roster = Roster.model_validate_json(canonical(peek(path.read_bytes(), "roster")))
    write_durably(world.holders["north"] / "last-roster.json", sign_roster(roster, [Identity.generate()]))
    refused(world.sign("north", path), "roster is not signed by the keys")
    write_durably(world.holders["north"] / "authority-card.pub", b"threshold 9\n")
    refused(world.sign("north", path), "how many of its keys must sign")


def test_two_commands_at_once_sign_one_roster_of_a_version(world: Hospitals) -> None:
    holder = Holder(world.holders["north"])
    drafts = [drafted(world, turn) for turn in range(6)]

    def attempt(data: bytes) -> bytes | None:
        try:
            return Holder(holder.root).sign(data)
        except TrustError:
            return None

    with ThreadPoolExecutor(6) as pool:
        signed = [data for data in pool.map(attempt, drafts) if data is not None]
    assert len(signed) == 1 and (holder.root / "last-roster.json").read_bytes() == signed[0]


@pytest.mark.parametrize("line", ["before", "after"])
def test_a_kill_beside_the_durable_write_never_gives_two_signatures(
    world: Hospitals, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Killed before it, nothing was signed; killed after it, the same roster is signed again and no other of its version."""

    class Killed(Exception):
        pass

    real: Callable[..., None] = write_durably

    def dies(path: Path, data: bytes) -> None:
        if line == "after":
            real(path, data)
        raise Killed

    holder = Holder(world.holders["north"])
    data, rival = drafted(world, 0), drafted(world, 2)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("client.holder.write_durably", dies)
        holder.sign(data)
    other = drafted(world, 1)
    if line == "before":
        assert holder.last is None and holder.sign(other)
    else:
        assert open_as_kept(holder)["version"] == 1
        assert peek(other, "roster")["version"] == 2, "the next one that is made has the next number"
        with pytest.raises(TrustError, match="another roster of this version"):
            holder.sign(rival)
        assert holder.sign(data)


def open_as_kept(holder: Holder) -> dict[str, Any]:
    return peek((holder.root / "last-roster.json").read_bytes(), "roster")
