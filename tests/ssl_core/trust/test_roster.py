from __future__ import annotations

import pytest

from ssl_core.errors import ConfigError, TrustError
from ssl_core.trust.authority import authority_of
from ssl_core.trust.certificates import generate_node_key
from ssl_core.trust.envelope import seal
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import (
    JoinRequest,
    Roster,
    ServerIdentity,
    open_request,
    open_roster,
    open_server_identity,
    sign_request,
    sign_roster,
    sign_server_identity,
)

AUTHORITY, OPERATOR, SERVER = Identity.generate(), Identity.generate(), Identity.generate()
PINNED = authority_of([AUTHORITY.public], 1)
SITES = {name: (Identity.generate(), generate_node_key()[1]) for name in ("north", "south", "west", "east")}
CARD = ServerIdentity(operator=OPERATOR.public_hex, server=SERVER.public_hex, server_ca="-", superlink="127.0.0.1:9443")


def roster(version: int = 1, names: tuple[str, ...] = ("east", "north", "south", "west")) -> Roster:
    members = tuple(JoinRequest(name=n, identity=SITES[n][0].public_hex, supernode=SITES[n][1]) for n in names)
    return Roster(version=version, authorities=(AUTHORITY.public_hex,), threshold=1, server=CARD, members=members)


def test_a_signed_roster_opens_and_counts_corruption_on_its_members() -> None:
    opened, digest = open_roster(sign_roster(roster(), [AUTHORITY]), PINNED)
    assert opened == roster() and len(digest) == 64
    assert opened.corrupt == 1


@pytest.mark.parametrize("signer", [OPERATOR, SERVER, SITES["north"][0]])
def test_with_every_key_of_the_operators_machine_no_roster_can_be_made(signer: Identity) -> None:
    with pytest.raises(TrustError):
        open_roster(sign_roster(roster(), [signer]), PINNED)


def test_an_older_version_is_a_roll_back() -> None:
    with pytest.raises(TrustError, match="older"):
        open_roster(sign_roster(roster(2), [AUTHORITY]), PINNED, newer_than=3)


def test_another_kind_of_signed_file_never_passes_for_a_roster() -> None:
    with pytest.raises(TrustError, match="another kind"):
        open_roster(seal("plan", roster().model_dump(mode="json"), AUTHORITY), PINNED)


def test_a_roster_that_names_other_authorities_is_refused() -> None:
    changed = roster().model_copy(update={"authorities": (Identity.generate().public_hex,)})
    with pytest.raises(TrustError, match="authorities"):
        open_roster(sign_roster(changed, [AUTHORITY]), PINNED)


def test_fewer_than_three_sites_or_one_key_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        roster(names=("east", "north"))
    twice = roster().model_dump()
    twice["members"][0]["identity"] = twice["members"][1]["identity"]
    with pytest.raises(ValueError, match="two parties"):
        Roster.model_validate({**twice, "authorities": tuple(twice["authorities"])})


def test_a_join_request_is_signed_by_the_key_that_it_names() -> None:
    identity, node = SITES["north"]
    request = JoinRequest(name="north", identity=identity.public_hex, supernode=node)
    assert open_request(sign_request(request, identity)) == request
    with pytest.raises(TrustError):
        open_request(sign_request(request, SITES["south"][0]))


def test_a_server_card_needs_both_of_its_keys() -> None:
    assert open_server_identity(sign_server_identity(CARD, OPERATOR, SERVER)) == CARD
    with pytest.raises(TrustError):
        open_server_identity(seal("server", CARD.model_dump(mode="json"), SERVER))


def test_unknown_fields_are_refused() -> None:
    identity, node = SITES["north"]
    body = {"name": "north", "identity": identity.public_hex, "supernode": node, "weight": 3}
    with pytest.raises(ConfigError, match="weight"):
        open_request(seal("join", body, identity))
