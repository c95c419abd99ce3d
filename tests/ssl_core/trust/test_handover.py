"""k of m signatures, and an authority that hands over to another: what verifies, and everything that must not."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from ssl_core.errors import TrustError
from ssl_core.trust.authority import Authority, authority_of
from ssl_core.trust.certificates import generate_node_key
from ssl_core.trust.envelope import add_signature, canonical, kind_of, seal, signers
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import (
    AuthorityKeys,
    JoinRequest,
    Roster,
    ServerIdentity,
    open_as_named,
    open_roster,
    sign_roster,
    signatures,
)

A, B, C, D, STRANGER = (Identity.generate() for _ in range(5))
OLD = authority_of([key.public for key in (A, B, C)], 2)
NEW = authority_of([key.public for key in (A, B, D)], 2)
OTHERS = authority_of([STRANGER.public], 1)
MEMBERS = tuple(
    JoinRequest(name=name, identity=Identity.generate().public_hex, supernode=generate_node_key()[1]) for name in "abc"
)
CARD = ServerIdentity(
    operator=Identity.generate().public_hex, server=Identity.generate().public_hex, server_ca="-", superlink="127.0.0.1:9443"
)


def named(authority: Authority) -> dict[str, Any]:
    return {"authorities": tuple(key.hex() for key in authority.keys), "threshold": authority.threshold}


def roster(version: int = 1, authority: Authority = OLD, replaces: Authority | None = None) -> Roster:
    before = None if replaces is None else AuthorityKeys(**named(replaces))
    return Roster(version=version, **named(authority), replaces=before, server=CARD, members=MEMBERS)


def test_exactly_the_sets_of_at_least_k_distinct_holders_open_a_roster() -> None:
    everybody = (A, B, C, D, STRANGER)
    for count in range(len(everybody) + 1):
        for chosen in itertools.combinations(everybody, count):
            data = sign_roster(roster(), chosen)
            holders = {key.public for key in chosen} & set(OLD.keys)
            assert signatures(data, roster()) == [(OLD, tuple(sorted(holders)))]
            if len(holders) >= OLD.threshold:
                assert open_roster(data, OLD)[0] == open_as_named(data)[0] == roster()
            else:
                with pytest.raises(TrustError, match=f"{len(chosen)} present, {len(holders)} of them count; limit: 2 of"):
                    open_roster(data, OLD)


def test_one_holder_who_signs_twice_counts_once() -> None:
    once = sign_roster(roster(), [A])
    again = add_signature(add_signature(once, "roster", A), "roster", A)
    assert len(json.loads(again)["signatures"]) == 1
    with pytest.raises(TrustError, match="1 present"):
        open_roster(again, OLD)
    # Two entries under one key id are no envelope; the same signature under another holder's id does not verify there.
    doubled = json.loads(once)
    doubled["signatures"] *= 2
    with pytest.raises(TrustError, match="not a signed envelope"):
        open_roster(canonical(doubled), OLD)
    lent = json.loads(sign_roster(roster(), [A, B]))
    first, second = lent["signatures"]
    lent["signatures"] = [first, second | {"sig": first["sig"]}]
    with pytest.raises(TrustError, match="2 present, 1 of them count"):
        open_roster(canonical(lent), OLD)


def test_a_signature_is_added_to_the_same_bytes_and_to_no_other_kind() -> None:
    once = sign_roster(roster(), [A])
    both = add_signature(once, "roster", B)
    assert json.loads(once)["payload"] == json.loads(both)["payload"] and signers(both, "roster", OLD.keys) == tuple(
        sorted([A.public, B.public])
    )
    with pytest.raises(TrustError, match="another kind"):
        add_signature(seal("plan", {"a": 1}, A), "roster", B)
    with pytest.raises(TrustError, match="another kind"):
        signers(once, "plan", OLD.keys)
    assert kind_of(once) == "roster" and kind_of(seal("join", {"a": 1}, A)) == "join"
    for payload_type in ("text/plain", "application/vnd.choral.roster", 3):
        data = canonical(json.loads(once) | {"payloadType": payload_type})
        if isinstance(payload_type, str):
            assert kind_of(data) == ""
        else:
            with pytest.raises(TrustError, match="not a signed envelope"):
                kind_of(data)


def test_an_authority_hands_over_by_k_of_the_old_and_k_of_the_new_and_a_persons_card() -> None:
    change = roster(2, NEW, OLD)
    for count in range(5):
        for chosen in itertools.combinations((A, B, C, D), count):
            data = sign_roster(change, chosen)
            keys = {key.public for key in chosen}
            if len(keys & set(OLD.keys)) >= 2 and len(keys & set(NEW.keys)) >= 2:
                assert open_roster(data, OLD, successor=NEW, newer_than=1)[0] == change
                with pytest.raises(TrustError, match="hands over to another authority"):
                    open_roster(data, OLD, newer_than=1)
                with pytest.raises(TrustError, match="not of the authority whose card was given"):
                    open_roster(data, OLD, successor=OTHERS, newer_than=1)
            else:
                with pytest.raises(TrustError, match="not signed by the keys"):
                    open_roster(data, OLD, successor=NEW, newer_than=1)


def test_who_pinned_the_new_authority_takes_the_handover_and_never_the_old_one_again() -> None:
    change = sign_roster(roster(2, NEW, OLD), [A, B, D])
    assert open_roster(change, NEW)[0].version == 2
    back = roster(3, OLD)
    everybody = (A, B, C, D)
    with pytest.raises(TrustError, match="not of the authority that is pinned"):
        open_roster(sign_roster(back, everybody), NEW, successor=OLD)
    # A way back exists, by k of the keys that count now.
    returning = roster(3, OLD, NEW)
    with pytest.raises(TrustError, match="not signed by the keys"):
        open_roster(sign_roster(returning, [A, C]), NEW, successor=OLD)
    assert open_roster(sign_roster(returning, [A, B]), NEW, successor=OLD)[0] == returning
    with pytest.raises(TrustError, match="older"):
        open_roster(change, NEW, newer_than=3)


def test_a_stranger_cannot_hand_over_to_himself() -> None:
    for forged in (roster(2, OTHERS), roster(2, OTHERS, OLD), roster(2, OTHERS, NEW)):
        for chosen in ([STRANGER], [STRANGER, A]):
            with pytest.raises(TrustError):
                open_roster(sign_roster(forged, chosen), OLD, successor=OTHERS)


def test_a_lower_threshold_is_another_authority() -> None:
    weak = authority_of(OLD.keys, 1)
    with pytest.raises(TrustError, match="not of the authority that is pinned"):
        open_roster(sign_roster(roster(1, weak), [A]), OLD)
    with pytest.raises(TrustError, match="not signed by the keys"):
        open_roster(sign_roster(roster(2, weak, OLD), [A]), OLD, successor=weak)
    assert open_roster(sign_roster(roster(2, weak, OLD), [A, C]), OLD, successor=weak)[0].authority == weak


@pytest.mark.parametrize(
    "changes",
    [
        {"authorities": tuple(key.hex() for key in reversed(OLD.keys))}, {"authorities": (OLD.keys[0].hex(),) * 2},
        {"authorities": ()}, {"threshold": 4}, {"threshold": 0}, {"replaces": AuthorityKeys(**named(OLD))},
    ],
)  # fmt: skip
def test_an_authority_that_is_none_is_refused_inside_a_roster(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Roster(**{"version": 1, **named(OLD), "server": CARD, "members": MEMBERS} | changes)
