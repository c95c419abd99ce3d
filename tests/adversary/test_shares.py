"""Rows 13 and 14: sealed shares that go to the wrong place, and shares that are wrong inside."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests_federation import Federation, altered, make_params, repacked, signed_view
from tests_malicious import MaliciousServer

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum import sealing, shamir
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.evidence import Kind, ProvenFault, accused, proves
from ssl_core.secure_sum.messages import Answer, Mark, Parts, Upload
from ssl_core.secure_sum.sealing import Route
from ssl_core.trust.identity import Secret


def packets(server, context, dealer):
    return server.contexts[context].parts[dealer].packets


def marks(reply):
    return [value.reveal()[0] for value in decode(Answer, reply).values]


@pytest.fixture
def second():
    """Round 2 is open and uploaded; the server kept round 1's packets. N = 7, sites 5 and 6 collude."""
    server = MaliciousServer(Federation(make_params(7)))
    updates = server.federation.whole_updates(1)
    first = server.open_round(updates)
    context = server.open_round(updates, 2)
    return server, updates, first, context


def wrong_blobs(server, first, context):
    """What the server may put in the place of site 1's share for site 0."""
    ours, others = packets(server, context, 1)[0].share, packets(server, context, 1)[2].share
    return {
        "addressed to site 2": others.blob,
        "site 0's own, reflected": packets(server, context, 0)[1].share.blob,
        "site 0's to itself": packets(server, context, 0)[0].share.blob,
        "from site 2": packets(server, context, 2)[0].share.blob,
        "from round 1": packets(server, first, 1)[0].share.blob,
        "the backup": packets(server, context, 1)[0].backup.blob,
        "one bit changed": bytes([ours.blob[0] ^ 1]) + ours.blob[1:],
        "cut": ours.blob[:27],
        "empty": b"",
    }


def test_row_13_a_share_from_elsewhere_opens_nowhere(second):
    """The site answers it with a complaint, whose key opens the one share that it was to give away anyway."""
    server, updates, first, context = second
    for what, blob in wrong_blobs(server, first, context).items():
        shares = [packets(server, context, dealer)[0].share for dealer in server.everyone]
        right = shares[1]
        shares[1] = replace(right, blob=blob)
        name = server.name(0)
        site = server.federation.make_site(name, server.federation.stores[name].copy())
        reply = site.unmask(server.unmask_request(context, 0, server.everyone, shares=tuple(shares)))
        server.hear_answer(context, 0, reply)
        assert marks(reply) == [Mark.SHARE, Mark.COMPLAINT, *[Mark.SHARE] * 5], what
        key = Secret(decode(Answer, reply).values[1].reveal()[1:])
        route = Route(context=context, sender=1, recipient=0)
        assert sealing.unseal(key, route, blob) is None, what
        assert sealing.is_share(route, sealing.unseal(key, route, right.blob), right.commitment)
        for other in (replace(route, sender=0, recipient=1), replace(route, recipient=2), replace(route, kind=sealing.BACKUP)):
            for dealer in server.everyone:
                for packet in packets(server, context, dealer):
                    assert sealing.unseal(key, other, packet.share.blob) is None
                    assert sealing.unseal(key, other, packet.backup.blob) is None
    server.check_one_sum(updates)


@pytest.mark.parametrize("how", ["readdressed", "reflected", "noise"])
def test_row_13_b_a_dealer_who_seals_for_another_place_is_named_and_the_sum_is_exact(how):
    """Nothing opens: its two ends are named, and neither is blamed alone (rulings, 10)."""
    federation = Federation(make_params(7))
    updates = federation.whole_updates(1)
    federation.begin(1)
    federation.sent = {name: federation.sites[name].upload(1, updates[name]) for name in federation.names}
    dealt = decode(Parts, decode(Upload, federation.sent[federation.names[1]][0]).parts).packets
    other = decode(Parts, decode(Upload, federation.sent[federation.names[0]][0]).parts).packets
    blob = {"readdressed": dealt[2].share.blob, "reflected": other[1].share.blob, "noise": bytes(60)}[how]
    repacked(federation, 1, 0, blob=blob)
    finish(federation)
    assert signed_view(federation.coordinator.total()) == federation.expected(updates, federation.names)
    assert [(fault.sites, fault.evidence) for fault in federation.coordinator.faults] == [(federation.names[1::-1], None)]
    assert "does not open" in federation.coordinator.faults[0].problem


def finish(federation):
    for name, sent in federation.sent.items():
        federation.coordinator.add_upload(name, *sent)
    federation.agree()
    federation.unmask()


def sent_round(count=7):
    federation = Federation(make_params(count))
    updates = federation.whole_updates(1)
    federation.begin(1)
    federation.sent = {name: federation.sites[name].upload(1, updates[name]) for name in federation.names}
    return federation, updates


def test_row_14_a_corrupted_share_in_a_valid_seal_blames_its_dealer_and_the_sum_is_exact():
    """Site 1 deals site 0 another share than it committed to; the others' t shares give b_1."""
    federation, updates = sent_round()
    repacked(federation, 1, 0, content=shamir.to_bytes(7))
    finish(federation)
    assert signed_view(federation.coordinator.total()) == federation.expected(updates, federation.names)
    (fault,) = federation.coordinator.faults
    assert fault.sites == (federation.names[1],) and fault.evidence.kind == Kind.DEALING
    assert accused(federation.params, fault.evidence) == federation.names[1] and proves(federation.params, fault.evidence)


def test_row_14_b_with_too_many_of_them_there_is_no_sum_rather_than_a_wrong_one():
    """t = 5 of 7: three corrupted shares leave four."""
    federation, _ = sent_round()
    for holder in (0, 2, 3):
        repacked(federation, 1, holder, content=shamir.to_bytes(7))
    finish(federation)
    assert not federation.coordinator.answered
    with pytest.raises(ProtocolError, match="too few answers"):
        federation.coordinator.total()
    assert {fault.sites for fault in federation.coordinator.faults} == {(federation.names[1],)}


def test_row_14_c_shares_of_no_polynomial_void_the_round_and_name_the_dealer():
    """Every share fits its own commitment, so that no holder can notice; together they give another secret."""
    federation, _ = sent_round()
    context = decode(Upload, federation.sent[federation.names[1]][0]).context
    for holder in range(7):
        content = shamir.to_bytes(1000 + holder * holder * holder)
        commitment = sealing.commit_share(Route(context=context, sender=1, recipient=holder), content)
        repacked(federation, 1, holder, content=content, commitment=commitment)
    finish(federation)
    with pytest.raises(RoundVoid, match="shares do not fit it") as caught:
        federation.coordinator.total()
    assert caught.value.value == federation.names[1]
    assert federation.coordinator.faults[0].sites == (federation.names[1],)


def test_row_14_d_a_holder_who_returns_a_wrong_share_convicts_itself():
    """Site 0 signs what it returns, so that it cannot be blamed on the dealer or the server."""
    federation, updates = sent_round()
    for name, sent in federation.sent.items():
        federation.coordinator.add_upload(name, *sent)
    federation.agree()
    name, request = federation.names[0], federation.coordinator.unmask_requests()[federation.names[0]]
    real, five = sealing.unseal, shamir.to_bytes(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "is_share", lambda *_: True)
        patch.setattr(sealing, "unseal", lambda key, route, *rest: five if route.sender == 2 else real(key, route, *rest))
        lie = federation.sites[name].unmask(request)
    with pytest.raises(ProvenFault, match="returned share is not the one committed to") as caught:
        federation.coordinator.add_answer(name, lie)
    assert accused(federation.params, caught.value.evidence) == name and proves(federation.params, caught.value.evidence)
    for other in federation.names[1:]:
        request = federation.coordinator.unmask_requests()[other]
        federation.coordinator.add_answer(other, federation.sites[other].unmask(request))
    assert signed_view(federation.coordinator.total()) == federation.expected(updates, federation.names)


def test_row_14_e_two_ends_that_hold_different_pair_keys_are_named_before_anything_is_unmasked():
    federation, _ = sent_round()
    parts = decode(Parts, decode(Upload, federation.sent[federation.names[1]][0]).parts)
    commitments = list(parts.commitments)
    commitments[4] = bytes(32)
    federation.sent[federation.names[1]] = altered(federation, 1, parts={"commitments": tuple(commitments)})[1:]
    for name, sent in federation.sent.items():
        federation.coordinator.add_upload(name, *sent)
    federation.coordinator.fix_survivors()
    with pytest.raises(RoundVoid, match="different keys for their pair"):
        federation.coordinator.unmask_requests()
    assert federation.coordinator.faults[0].sites == (federation.names[1], federation.names[4])
