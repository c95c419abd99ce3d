"""ANSWER: what a site releases, what the server takes of it, and who is named when a share is wrong (notes 8, 13 and 14)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum import answer as answer_module
from ssl_core.secure_sum import keys, recovery, sealing, shamir
from ssl_core.secure_sum.answer import answer_head
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.evidence import ProvenFault, accused, proves
from ssl_core.secure_sum.messages import Answer, Mark, Parts, Start, Unmask, Upload
from ssl_core.secure_sum.sealing import Route
from ssl_core.secure_sum.statements import head_statement, read_signed, sign
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Secret


def prepared(kit, count=5):
    """Round 1 began and every upload is made, none is added."""
    federation = kit.Federation(kit.make_params(count))
    federation.kit = kit
    federation.context = read_signed(Start, federation.begin(1))[0].context
    federation.updates = federation.whole_updates(1)
    federation.sent = {name: federation.sites[name].upload(1, update) for name, update in federation.updates.items()}
    return federation


def added(federation, lost=()):
    """The uploads are added, U is agreed, UNMASK is made."""
    for at, name in enumerate(federation.names):
        if at not in lost:
            federation.coordinator.add_upload(name, *federation.sent[name])
    federation.survivors = [name for at, name in enumerate(federation.names) if at not in lost]
    federation.agree()
    federation.requests = federation.coordinator.unmask_requests()
    return federation


def answer_of(federation, at, *, signer=None, shown=None, drop=0, context=None, **values):
    """Member `at`'s ANSWER with `_2=(mark, 32 bytes)` in place 2, signed again as if it were so."""
    name = federation.names[at]
    body = decode(Answer, federation.sites[name].unmask(federation.requests[name]))
    changed = list(body.values)
    for place, (mark, content) in values.items():
        changed[int(place[1:])] = Secret(bytes([mark]) + content)
    kept = tuple(changed[: len(changed) - drop])
    request = read_signed(Unmask, federation.requests[name])[1]
    shown = tuple(share.commitment for share in request.shares) if shown is None else shown
    head = answer_head(federation.context, at, tuple(range(len(kept))), shown, kept)
    signature = (signer or federation.identities[name]).sign(head_statement(head))
    return name, encode(Answer(context=context or body.context, values=kept, signature=signature))


def share_of(federation, at, dealer):
    name = federation.names[at]
    values = decode(Answer, federation.sites[name].unmask(federation.requests[name])).values
    return values[dealer].reveal()[1:]


def wrong_mark(federation):
    """An answer whose mark is none: its head cannot be built, so the signature stays that of the whole one."""
    name, body = answer_of(federation, 1)
    whole = decode(Answer, body)
    changed = (Secret(b"\x07" + whole.values[0].reveal()[1:]), *whole.values[1:])
    return name, encode(Answer(context=whole.context, values=changed, signature=whole.signature))


ANSWERS = {
    "answer is not signed by its site": lambda f: answer_of(f, 1, signer=f.server),
    "answer is of another round": lambda f: answer_of(f, 1, context=bytes(32)),
    "answer has not one value a participant": lambda f: answer_of(f, 1, drop=1),
    "answer holds a value outside the field": lambda f: answer_of(f, 1, _0=(Mark.SHARE, shamir.PRIME.to_bytes(32, "big"))),
    "pair element is not the one committed to": lambda f: answer_of(f, 1, _4=(Mark.PAIR, bytes(32))),
    "answer is for other survivors": lambda f: answer_of(f, 1, _3=(Mark.PAIR, bytes(32))),
    "returned share is not the one committed to": lambda f: answer_of(f, 1, _2=(Mark.SHARE, bytes(32))),
    "site is not a survivor": lambda f: (f.names[4], answer_of(f, 1)[1]),
}
MORE = {
    "element outside the field": (
        "answer holds a value outside the field",
        lambda f: answer_of(f, 1, _4=(Mark.PAIR, b"\xff" * 32)),
    ),
    "share of a lost site": ("answer is for other survivors", lambda f: answer_of(f, 1, _4=(Mark.SHARE, bytes(32)))),
    "complaint about a lost site": ("answer is for other survivors", lambda f: answer_of(f, 1, _4=(Mark.COMPLAINT, bytes(32)))),
    "no mark": ("answer is for other survivors", wrong_mark),
    "other commitments shown": ("answer is not signed by its site", lambda f: answer_of(f, 1, shown=(bytes(32),) * 4)),
}


@pytest.mark.parametrize("case", [*ANSWERS, *MORE])
def test_answer_is_refused_and_not_counted(kit, case):
    federation = added(prepared(kit), lost=(4,))
    phrase, build = MORE.get(case) or (case, ANSWERS[case])
    name, body = build(federation)
    with pytest.raises(ProtocolError, match=f"{phrase}; field: site; value: {name}"):
        federation.coordinator.add_answer(name, body)
    assert not federation.coordinator._round.answers
    federation.unmask()
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(federation.updates, federation.survivors)


def test_every_refusal_of_an_answer_has_a_test(kit):
    recovered = {
        "self mask cannot be recovered: its dealer's shares do not fit it",
        "backup does not give the pair element: its dealer's shares do not fit it",
    }
    tested = set(ANSWERS) - {"site is not a survivor"}
    assert kit.refusals(answer_module, recovery) == tested | recovered


def test_wrong_share_blames_the_site_that_returned_it_and_the_sum_is_exact_from_t_others(kit):
    federation = added(prepared(kit))
    name, body = answer_of(federation, 1, _2=(Mark.SHARE, bytes(32)))
    with pytest.raises(ProvenFault, match=r"returned share.*; value: site-01; limit: share of site-02") as caught:
        federation.coordinator.add_answer(name, body)
    evidence = caught.value.evidence
    assert evidence.kind == "SHARE" and proves(federation.params, evidence)
    assert accused(federation.params, evidence) == "site-01"
    federation.unmask(silent={name})
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(federation.updates, federation.names)
    assert [fault.sites for fault in federation.coordinator.faults] == [("site-01",)]


def test_wrong_share_with_a_lost_site_is_mended_by_backup(kit):
    federation = added(prepared(kit, 7), lost=(6,))
    name, body = answer_of(federation, 1, _2=(Mark.SHARE, bytes(32)))
    with pytest.raises(ProvenFault):
        federation.coordinator.add_answer(name, body)
    federation.unmask(silent={name})
    assert not federation.coordinator.answered
    federation.relieve()
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(federation.updates, federation.survivors)


def test_evidence_of_a_wrong_share_holds_no_opened_share(kit):
    federation = added(prepared(kit))
    right = [share_of(federation, 1, dealer) for dealer in range(5)]
    name, body = answer_of(federation, 1, _2=(Mark.SHARE, b"\x01" * 32))
    with pytest.raises(ProvenFault) as caught:
        federation.coordinator.add_answer(name, body)
    data = encode(caught.value.evidence)
    assert not any(share in data for share in [*right, b"\x01" * 32])


BAD_DEALS = {
    "another share": {"content": b"\x05" * 32},
    "nothing in the field": {"content": shamir.PRIME.to_bytes(32, "big")},
    "another commitment": {"commitment": b"\x05" * 32},
}


def test_committed_value_outside_the_field_convicts_its_dealer(kit):
    """It fits its own commitment, and is no share for all that."""
    federation = prepared(kit)
    content = shamir.PRIME.to_bytes(32, "big")
    route = Route(context=federation.context, sender=1, recipient=3)
    kit.repacked(federation, 1, 3, content=content, commitment=sealing.commit_share(route, content))
    added(federation)
    federation.unmask()
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(federation.updates, federation.names)
    (fault,) = federation.coordinator.faults
    assert fault.sites == ("site-01",) and proves(federation.params, fault.evidence)


@pytest.mark.parametrize("case", BAD_DEALS)
def test_dealer_of_a_wrong_share_is_convicted_and_silences_nobody(kit, case):
    federation = prepared(kit)
    kit.repacked(federation, 1, 3, **BAD_DEALS[case])
    added(federation)
    federation.unmask()
    assert len(federation.coordinator._round.answers) == 5
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(federation.updates, federation.names)
    (fault,) = federation.coordinator.faults
    assert fault.sites == ("site-01",) and "dealt a share that does not fit" in fault.problem
    assert fault.evidence.kind == "DEALING" and proves(federation.params, fault.evidence)
    assert accused(federation.params, fault.evidence) == "site-01"


def test_seal_that_does_not_open_names_the_pair_and_blames_neither_alone(kit):
    federation = prepared(kit)
    packets = decode(Parts, decode(Upload, federation.sent["site-01"][0]).parts).packets
    blob = packets[3].share.blob
    kit.repacked(federation, 1, 3, blob=blob[:-1] + bytes([blob[-1] ^ 1]))
    added(federation)
    federation.unmask()
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(federation.updates, federation.names)
    (fault,) = federation.coordinator.faults
    assert fault.sites == ("site-01", "site-03") and fault.evidence is None


def test_share_of_a_complaint_without_cause_counts(kit):
    """A server, or a site, that calls a good share bad changes nothing: the key opens the very share."""
    federation = added(prepared(kit))
    vault = Vault(federation.stores["site-03"], federation.params.hash)
    key = sealing.seal_key(vault.chain(1), Route(context=federation.context, sender=1, recipient=3)).reveal()
    for at in (0, 2, 3):
        complaint = {"_1": (Mark.COMPLAINT, key)} if at == 3 else {}
        federation.coordinator.add_answer(*answer_of(federation, at, **complaint))
    assert not federation.coordinator.answered
    federation.coordinator.add_answer(*answer_of(federation, 4))
    assert federation.coordinator.answered and federation.coordinator.faults == ()
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(federation.updates, federation.names)


def test_complaint_with_a_false_key_names_the_pair_and_its_share_is_missing(kit):
    federation = added(prepared(kit))
    federation.coordinator.add_answer(*answer_of(federation, 3, _1=(Mark.COMPLAINT, bytes(32))))
    for at in (0, 1, 2):
        federation.coordinator.add_answer(*answer_of(federation, at))
    assert not federation.coordinator.answered, "three shares of site-01 are fewer than t"
    (fault,) = federation.coordinator.faults
    assert fault.sites == ("site-01", "site-03") and fault.evidence is None
    federation.coordinator.add_answer(*answer_of(federation, 4))
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(federation.updates, federation.names)


def test_dealer_of_too_many_wrong_shares_is_named_and_the_round_gives_no_sum(kit):
    federation = prepared(kit)
    for holder in (2, 3):
        kit.repacked(federation, 1, holder, content=b"\x05" * 32)
    added(federation)
    federation.unmask()
    assert len(federation.coordinator._round.answers) == 5 and not federation.coordinator.answered
    with pytest.raises(ProtocolError, match="too few answers"):
        federation.coordinator.total()
    assert {fault.sites for fault in federation.coordinator.faults} == {("site-01",)}


def test_dealer_whose_shares_give_another_secret_voids_the_round_by_name(kit):
    """All shares fit their commitments, so their holders are innocent; the polynomial is not that of b."""
    federation = prepared(kit)
    for holder in range(5):
        share = bytes([holder]) * 32
        route = Route(context=federation.context, sender=1, recipient=holder)
        kit.repacked(federation, 1, holder, content=share, commitment=sealing.commit_share(route, share))
    added(federation)
    federation.unmask()
    before = federation.coordinator._round.running.copy()
    for _ in range(2):
        with pytest.raises(RoundVoid, match=r"self mask cannot be recovered.*site-01"):
            federation.coordinator.total()
    assert (federation.coordinator._round.running == before).all()
    assert [fault.sites for fault in federation.coordinator.faults] == [("site-01",)]


LIES = [
    "to another site",
    "reflected",
    "of another round",
    "one bit",
    "other commitment",
    "not a field element",
    "backup",
    "none",
]


@pytest.mark.parametrize("lie", LIES)
def test_server_that_lies_about_a_share_gets_the_key_of_that_share_and_nothing_else(kit, lie):
    """The released key opens the dealer's one seal to this site, which the site gives away for this U anyway."""
    federation = prepared(kit)
    added(federation)
    federation.unmask()
    old = read_signed(Unmask, federation.requests["site-00"])[1].shares[1]
    federation.close(1)
    federation.context = read_signed(Start, federation.begin(2))[0].context
    federation.sent = {name: federation.sites[name].upload(2, update) for name, update in federation.updates.items()}
    added(federation)
    signed, body = read_signed(Unmask, federation.requests["site-00"])
    packets = {
        at: decode(Parts, decode(Upload, federation.sent[name][0]).parts).packets for at, name in enumerate(federation.names)
    }
    vault = Vault(federation.stores["site-00"], federation.params.hash)
    route = Route(context=signed.context, sender=1, recipient=0)
    honest = body.shares[1]
    false = {
        "to another site": packets[1][2].share,
        "reflected": packets[0][1].share,
        "of another round": old,
        "one bit": replace(honest, blob=honest.blob[:-1] + bytes([honest.blob[-1] ^ 1])),
        "other commitment": replace(honest, commitment=bytes(32)),
        "not a field element": replace(
            honest, blob=sealing.seal(vault.chain(1), route, shamir.PRIME.to_bytes(32, "big"), lambda count: bytes(count))
        ),
        "backup": packets[1][0].backup,
        "none": replace(honest, blob=b""),
    }[lie]
    request = sign(federation.server, signed.context, replace(body, shares=(body.shares[0], false, *body.shares[2:])))
    length = len(federation.sites["site-02"].unmask(federation.requests["site-02"]))
    reply = federation.sites["site-00"].unmask(request)
    assert len(reply) == length, "a complaint is as long as a share"
    value = decode(Answer, reply).values[1].reveal()
    assert value[0] == Mark.COMPLAINT
    opened = sealing.unseal(Secret(value[1:]), route, honest.blob)
    assert sealing.is_share(route, opened, honest.commitment)
    others = [
        route,
        *(replace(route, **change) for change in ({"kind": "backup"}, {"sender": 0, "recipient": 1}, {"sender": 2})),
    ]
    seals = [packets[1][0].backup.blob, packets[0][1].share.blob, packets[2][0].share.blob, old.blob]
    assert not any(sealing.unseal(Secret(value[1:]), way, blob) for way in others for blob in seals)
    # it is the answer, once and for all: the true request gets the same bytes
    assert federation.sites["site-00"].unmask(federation.requests["site-00"]) == reply
    if false.commitment == honest.commitment:
        federation.coordinator.add_answer("site-00", reply)
        assert federation.coordinator.faults == (), "the true seal opens with this key: nobody is named"
    else:
        with pytest.raises(ProtocolError, match="answer is not signed by its site"):
            federation.coordinator.add_answer("site-00", reply)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_liars_among_holders_and_dealers_are_borne_like_losses_or_named(kit, data):
    """Any one holder that answers rubbish, any one dealer that deals it: exact, or the dealer is named; never wrong."""
    federation = prepared(kit, data.draw(st.integers(4, 7)))
    count = len(federation.names)
    dealer, liar = data.draw(st.permutations(range(count)))[:2]
    holders = data.draw(st.sets(st.integers(0, count - 1)))
    for holder in holders:
        kit.repacked(
            federation, dealer, holder, **data.draw(st.sampled_from([BAD_DEALS["another share"], {"blob": bytes(60)}]))
        )
    added(federation)
    lies = {
        f"_{at}": data.draw(st.sampled_from([(Mark.SHARE, b"\x09" * 32), (Mark.COMPLAINT, bytes(32))])) for at in range(count)
    }
    try:
        federation.coordinator.add_answer(*answer_of(federation, liar, **lies))
    except ProvenFault as fault:
        assert accused(federation.params, fault.evidence) == federation.names[liar]
    federation.unmask(silent={federation.names[liar]})
    if federation.coordinator.answered:
        total = kit.signed_view(federation.coordinator.total())
        assert total == federation.expected(federation.updates, federation.names)
    else:
        assert any(federation.names[dealer] in fault.sites for fault in federation.coordinator.faults)
    convicted = {accused(federation.params, f.evidence) for f in federation.coordinator.faults if f.evidence is not None}
    assert convicted <= {federation.names[dealer], federation.names[liar]}


def test_answer_tells_shares_of_survivors_and_elements_of_the_lost_alone(kit):
    federation = added(prepared(kit), lost=(4,))
    vault = Vault(federation.stores["site-01"], federation.params.hash)
    reply = decode(Answer, federation.sites["site-01"].unmask(federation.requests["site-01"]))
    marks = [value.reveal()[0] for value in reply.values]
    assert marks == [Mark.SHARE] * 4 + [Mark.PAIR]
    elements = [shamir.to_bytes(keys.pair_element(vault.chain(at), federation.context)) for at in range(5)]
    told = [value.reveal()[1:] for value in reply.values]
    assert told[4] == elements[4] and not set(elements[:4]) & set(told)
