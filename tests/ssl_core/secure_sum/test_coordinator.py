"""The server refuses what does not fit, names the site, and never gives a wrong sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ssl_core.errors import ConfigError, ProtocolError, RoundVoid
from ssl_core.secure_sum import coordinator as coordinator_module
from ssl_core.secure_sum import intake, opening, starting
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.evidence import ProvenFault, accused, proves
from ssl_core.secure_sum.messages import Ack, Agreement, Close, Parts, Start, Upload
from ssl_core.secure_sum.statements import read_signed, sign


def prepared(kit, lost=(), **changes):
    """Round 1 began; every site's upload is made, none but those of the first sites is added."""
    federation = kit.Federation(kit.make_params(5, **changes))
    federation.kit = kit
    federation.context = read_signed(Start, federation.begin(1))[0].context
    federation.updates = federation.whole_updates(1)
    federation.sent = {n: federation.sites[n].upload(1, u) for n, u in federation.updates.items()}
    federation.lost = {federation.names[at] for at in lost}
    return federation


def added(kit, lost=()):
    federation = prepared(kit, lost)
    for name, upload in federation.sent.items():
        if name not in federation.lost:
            federation.coordinator.add_upload(name, *upload)
    federation.coordinator.fix_survivors()
    return federation


def parts_of(federation, at):
    return decode(Parts, decode(Upload, federation.sent[federation.names[at]][0]).parts)


def swapped(body, **changes):
    return encode(replace(decode(Upload, body), **changes))


UPLOADS = {
    "upload is of another round": lambda f: f.kit.altered(f, 1, context=bytes(32)),
    "upload is not signed by its site": lambda f: f.kit.altered(f, 1, signer=f.server),
    "upload's parts are not those signed": lambda f: (
        f.names[1],
        swapped(f.sent[f.names[1]][0], parts=decode(Upload, f.sent[f.names[2]][0]).parts),
        f.sent[f.names[1]][1],
    ),
    "masked vector is not of the ring's words": lambda f: f.kit.altered(f, 1, vector=f.sent[f.names[1]][1].astype(np.uint64)),
    "masked vector has another length": lambda f: f.kit.altered(f, 1, vector=f.sent[f.names[1]][1][:-1]),
    "masked vector is not the one signed": lambda f: (
        f.names[1],
        f.sent[f.names[1]][0],
        f.sent[f.names[1]][1] ^ np.uint32(1),
    ),
    "upload has not one packet a participant": lambda f: f.kit.altered(f, 1, parts={"packets": parts_of(f, 1).packets[:-1]}),
    "upload's seals have another length": lambda f: f.kit.repacked(f, 1, 2, blob=bytes(59)),
    "upload has not one commitment a participant": lambda f: f.kit.altered(
        f, 1, parts={"commitments": parts_of(f, 1).commitments * 2}
    ),
    "upload carries no agreement to all participants": lambda f: f.kit.altered(
        f, 1, parts={"agreement": parts_of(f, 2).agreement}
    ),
}


@pytest.mark.parametrize("phrase", UPLOADS)
def test_upload_is_refused_and_not_added(kit, phrase):
    federation = prepared(kit)
    name, body, vector = UPLOADS[phrase](federation)
    with pytest.raises(ProtocolError, match=f"{phrase}; field: site; value: {name}"):
        federation.coordinator.add_upload(name, body, vector)
    assert federation.coordinator.uploaded == ()
    assert not federation.coordinator._round.running.any()


def test_upload_of_a_member_that_was_not_invited_is_refused(kit):
    federation = kit.Federation(kit.make_params(9, max_churn=2))
    federation.begin(1, participants=federation.names[:7])
    upload = federation.sites[federation.names[0]].upload(1, federation.whole_updates(1)[federation.names[0]])
    with pytest.raises(ProtocolError, match="site is not a participant; field: site; value: site-08"):
        federation.coordinator.add_upload(federation.names[8], *upload)


@pytest.mark.parametrize(
    ("holder", "changes"),
    [
        (2, {"kind": "share", "blob": bytes(61)}),
        (2, {"kind": "backup", "blob": b""}),
        (2, {"kind": "backup", "blob": bytes(28 + 32 * 5)}),
        (1, {"kind": "backup", "blob": bytes(28 + 32 * 4)}),
        (1, {"kind": "backup", "commitment": b"x" * 32}),
    ],
)
def test_seals_of_another_length_are_refused(kit, holder, changes):
    federation = prepared(kit)
    name, body, vector = kit.repacked(federation, 1, holder, **changes)
    with pytest.raises(ProtocolError, match="upload's seals have another length; field: site; value: site-01"):
        federation.coordinator.add_upload(name, body, vector)


@pytest.mark.parametrize("blob", [b"", bytes(28 + 32 * 4)])
def test_backup_in_a_study_without_is_refused(kit, blob):
    federation = prepared(kit, backup=False)
    upload = kit.repacked(federation, 1, 2, kind="backup", blob=blob)
    if blob:
        with pytest.raises(ProtocolError, match="upload's seals have another length; field: site; value: site-01"):
            federation.coordinator.add_upload(*upload)
    else:
        assert federation.coordinator.add_upload(*upload)
        assert federation.coordinator.add_upload(*upload) is False


def test_second_different_upload_is_refused_with_evidence(kit):
    federation = added(kit)
    name, body, vector = kit.altered(federation, 1, vector=federation.sent[federation.names[1]][1] + np.uint32(1))
    for _ in range(2):
        with pytest.raises(ProvenFault, match="site uploaded twice, differently") as caught:
            federation.coordinator.add_upload(name, body, vector)
    evidence = caught.value.evidence
    assert evidence.kind == "UPLOAD" and proves(federation.params, evidence)
    assert accused(federation.params, evidence) == name
    assert [(fault.sites, fault.evidence) for fault in federation.coordinator.faults] == [((name,), evidence)]


def test_second_upload_that_its_site_did_not_sign_convicts_nobody(kit):
    federation = added(kit)
    vector = federation.sent[federation.names[1]][1] + np.uint32(1)
    name, body, vector = kit.altered(federation, 1, vector=vector, signer=federation.server)
    with pytest.raises(ProtocolError, match="upload is not signed by its site") as caught:
        federation.coordinator.add_upload(name, body, vector)
    assert not isinstance(caught.value, ProvenFault) and federation.coordinator.faults == ()


def consent_of(federation, at, **changes):
    name = federation.names[at]
    agreement = decode(Agreement, federation.sites[name].consent(federation.coordinator.consent_requests()[name]))
    return name, encode(replace(agreement, **changes))


CONSENTS = {
    "agreement is of another round": lambda f: consent_of(f, 1, context=bytes(32)),
    "agreement is not to these survivors": lambda f: consent_of(f, 1, signature=parts_of(f, 1).agreement),
    "site is not a survivor": lambda f: (f.names[4], consent_of(f, 1)[1]),
}


@pytest.mark.parametrize("phrase", CONSENTS)
def test_agreement_is_refused_and_not_counted(kit, phrase):
    federation = added(kit, lost=(4,))
    name, body = CONSENTS[phrase](federation)
    with pytest.raises(ProtocolError, match=f"{phrase}; field: site; value: {name}"):
        federation.coordinator.add_consent(name, body)
    assert not federation.coordinator.consented and not federation.coordinator._round.agreements


@pytest.mark.parametrize("fault", ["signer", "model", "state", "round", "context", "missing"])
def test_upload_that_does_not_acknowledge_the_last_close_is_refused(kit, fault):
    federation = prepared(kit)
    for name, sent in federation.sent.items():
        federation.coordinator.add_upload(name, *sent)
    federation.agree()
    federation.unmask()
    federation.close(1)
    federation.begin(2)
    name = federation.names[1]
    body, vector = federation.sites[name].upload(2, federation.updates[name])
    upload = decode(Upload, body)
    signed, ack = read_signed(Ack, upload.ack)
    signer = federation.identities[federation.names[2 if fault == "signer" else 1]]
    changes = {"model": bytes(32), "state": bytes(32), "round": 2}
    ack = replace(ack, **{fault: changes[fault]}) if fault in changes else ack
    wrong = b"" if fault == "missing" else sign(signer, bytes(32) if fault == "context" else signed.context, ack)
    with pytest.raises(ProtocolError, match="acknowledgement is not of this CLOSE by this site"):
        federation.coordinator.add_upload(name, encode(replace(upload, ack=wrong)), vector)
    assert federation.coordinator.uploaded == () and federation.coordinator.acknowledged == ()
    assert federation.coordinator.add_upload(name, body, vector)
    assert federation.coordinator.acknowledged == (name,) and federation.coordinator.checkpoint() is None


def test_first_upload_acknowledges_nothing(kit):
    federation = prepared(kit)
    name = federation.names[1]
    body, vector = federation.sent[name]
    with pytest.raises(ProtocolError, match="upload acknowledges a CLOSE that there was not"):
        federation.coordinator.add_upload(name, encode(replace(decode(Upload, body), ack=b"x")), vector)


def test_pair_whose_commitments_differ_voids_the_round_by_name(kit):
    federation = prepared(kit)
    commitments = list(parts_of(federation, 1).commitments)
    commitments[3] = bytes(32)
    name, body, vector = federation.kit.altered(federation, 1, parts={"commitments": tuple(commitments)})
    for other in federation.names:
        upload = (body, vector) if other == name else federation.sent[other]
        federation.coordinator.add_upload(other, *upload)
    federation.coordinator.fix_survivors()
    for _ in range(2):
        with pytest.raises(RoundVoid, match="different keys for their pair; field: sites; value: site-01, site-03"):
            federation.coordinator.unmask_requests()
    assert [fault.sites for fault in federation.coordinator.faults] == [("site-01", "site-03")]


def test_every_refusal_of_the_intake_has_a_test(kit):
    elsewhere = {
        "acknowledgement is not of this CLOSE by this site",
        "upload acknowledges a CLOSE that there was not",
        "two sites hold different keys for their pair",
        "site uploaded twice, differently",
        "site is not a participant",
        "site has not answered for itself",
        "too few survivors",
        "round is void",
        "an upload outside these survivors is in the sum",
        "survivors are fixed already",
        "survivors have not sent their uploads again",
        "too few agreements",
        "too few answers for a sum",
        "round was closed with another model",
        "round was closed",
    }
    named_by_its_ring = "masked vector is not of uint32"
    tested = {*UPLOADS, *CONSENTS, *ORDER} - {named_by_its_ring}
    assert kit.refusals(intake, coordinator_module, opening, starting) == tested | elsewhere


ORDER = {
    "no round was started": lambda f: f.fresh.void(),
    "the last round is still open": lambda f: f.coordinator.start(2, f.names, f.model, None),
    "survivors are not fixed": lambda f: f.coordinator.unmask_requests(),
}


@pytest.mark.parametrize("phrase", ORDER)
def test_calls_out_of_order_are_refused(kit, phrase):
    federation = prepared(kit)
    federation.fresh = federation.make_coordinator()
    with pytest.raises(ProtocolError, match=phrase):
        ORDER[phrase](federation)


def test_sum_is_not_given_before_enough_answers(kit):
    federation = added(kit)
    requests = federation.coordinator.unmask_requests()
    for count, name in enumerate(federation.names, 1):
        federation.coordinator.add_answer(name, federation.sites[name].unmask(requests[name]))
        assert federation.coordinator.answered == (count >= 4)
        if count < 4:
            for call in (federation.coordinator.total, federation.coordinator.mean):
                with pytest.raises(ProtocolError, match="too few answers"):
                    call()
    total = federation.coordinator.total()
    assert kit.signed_view(total) == federation.expected(federation.updates, federation.names)
    with pytest.raises(ValueError, match="read-only"):
        total[:] = 0
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(federation.updates, federation.names)


def test_void_round_answers_nothing(kit):
    federation = added(kit)
    federation.coordinator.void()
    for call in (
        federation.coordinator.unmask_requests,
        federation.coordinator.total,
        federation.coordinator.fix_survivors,
        lambda: federation.coordinator.close(bytes(32), bytes(32)),
        lambda: federation.coordinator.add_upload(federation.names[0], *federation.sent[federation.names[0]]),
    ):
        with pytest.raises(RoundVoid):
            call()


def test_closed_round_is_neither_void_nor_closed_otherwise(kit):
    federation = added(kit)
    federation.unmask()
    close = federation.finish()
    assert federation.coordinator.close(federation.now.digest, federation.now.state.digest) == close
    with pytest.raises(ProtocolError, match="closed with another model"):
        federation.coordinator.close(bytes(32), bytes(32))
    with pytest.raises(ProtocolError, match="round was closed"):
        federation.coordinator.void()


def test_survivors_are_fixed_once(kit):
    federation = added(kit, lost=(4,))
    assert federation.coordinator.fix_survivors() is True
    with pytest.raises(ProtocolError, match="survivors are fixed already"):
        federation.coordinator.fix_survivors(federation.names)


def test_given_survivors_must_hold_all_that_is_summed(kit):
    federation = prepared(kit)
    for name in federation.names:
        federation.coordinator.add_upload(name, *federation.sent[name])
    with pytest.raises(ProtocolError, match="an upload outside these survivors is in the sum"):
        federation.coordinator.fix_survivors(federation.names[:4])


def test_given_survivors_count_once(kit):
    federation = prepared(kit)
    with pytest.raises(ProtocolError, match="survivors are not sorted, each once"):
        federation.coordinator.fix_survivors([*federation.names[:3], federation.names[2]])


def test_given_survivors_are_waited_for(kit):
    federation = prepared(kit)
    assert federation.coordinator.fix_survivors(federation.names[:4])
    with pytest.raises(ProtocolError, match=r"survivors have not sent their uploads again.*site-00, site-01"):
        federation.coordinator.consent_requests()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"round": 0}, "round number was used before"),
        ({"round": 21}, "round is not in the plan"),
        ({"participants": ["site-00", "site-01", "site-02"]}, "too few participants"),
        ({"participants": ["site-00"] * 5}, "participants are not sorted"),
        ({"model_hash": b"short"}, "does not fit its form"),
    ],
)
def test_server_refuses_its_own_bad_start(kit, changes, message):
    federation = kit.Federation(kit.make_params(5))
    arguments = {"round": 1, "participants": federation.names, "model_hash": federation.model, "previous_close": None}
    with pytest.raises(ProtocolError, match=message):
        federation.coordinator.start(**(arguments | changes))


def test_server_starts_from_its_own_last_close_only(kit):
    federation = kit.Federation(kit.make_params(5))
    federation.run(1, federation.whole_updates(1))
    federation.close(1)
    with pytest.raises(ProtocolError, match="not the plan's initial one, or the last CLOSE's"):
        federation.coordinator.start(2, federation.names, bytes(32), federation.last_close)
    federation.coordinator.start(2, federation.names, federation.model, federation.last_close)


STARTS = {
    "round is not in the plan": {"round": 21},
    "round uses another key set": {"keyset": bytes(32)},
    "participants are not sorted": {"participants": (1, 0, 2, 3, 4)},
    "a participant is not a member": {"participants": (0, 1, 2, 3, 9)},
    "too few participants for the corrupt sites of the roster": {"participants": (0, 1, 2)},
    "too few participants for a sum": {"participants": (0, 1, 2, 3)},
    "START does not bind the CLOSE": {"previous": bytes(32)},
    "START carries the CLOSE of a later round": {"round": 1},
    "model in START is not the plan's initial one, or the last CLOSE's": {"model": bytes(32)},
}
CHURN = {
    "participants differ from the last round's by exactly one site": (0, 1, 2, 3, 4, 5, 6, 7),
    "participants differ from the last round's by too many sites": (0, 1, 2, 3, 4, 5, 6),
}


@pytest.mark.parametrize("phrase", CHURN)
def test_start_with_other_participants_is_not_made(kit, phrase):
    federation = kit.Federation(kit.make_params(9))
    with pytest.raises(ProtocolError, match=phrase):
        federation.coordinator.start(1, [federation.names[at] for at in CHURN[phrase]], federation.model, None)


def test_churn_at_the_server_is_counted_from_the_last_round_that_it_knows(kit):
    federation = kit.Federation(kit.make_params(9, max_churn=2))
    federation.run(1, federation.whole_updates(1))
    federation.close(1)
    federation.begin(2, participants=federation.names[:7])
    federation.coordinator.void()
    with pytest.raises(ProtocolError, match="by too many sites; field: participants; value: 4; limit: 2"):
        federation.coordinator.start(3, federation.names[2:], federation.model, federation.last_close)
    federation.coordinator.start(3, federation.names, federation.model, federation.last_close)


def test_churn_at_a_restarted_server_is_counted_from_the_close_that_start_carries(kit):
    federation = kit.Federation(kit.make_params(9, max_churn=2))
    invited = federation.names[:7]
    federation.begin(1, participants=invited)
    federation.upload(1, {name: update for name, update in federation.whole_updates(1).items() if name in invited})
    federation.agree()
    federation.unmask()
    federation.close(1)
    for participants, phrase in ((federation.names[2:], "by too many sites"), (federation.names[:8], "exactly one site")):
        with pytest.raises(ProtocolError, match=phrase):
            federation.make_coordinator().start(2, participants, federation.model, federation.last_close)
    assert federation.make_coordinator().start(2, invited, federation.model, federation.last_close)


@pytest.mark.parametrize("phrase", STARTS)
def test_damaged_start_is_not_resumed(kit, phrase):
    federation = kit.Federation(kit.make_params(5, min_sites=5))
    federation.run(1, federation.whole_updates(1))
    federation.close(1)
    signed, body = read_signed(Start, federation.begin(2))
    start = sign(federation.server, signed.context, replace(body, **STARTS[phrase]))
    coordinator = federation.make_coordinator()
    with pytest.raises(ProtocolError, match=phrase):
        coordinator.resume(start)
    with pytest.raises(ProtocolError, match="no round was started"):
        coordinator.unmask_requests()


def test_close_of_another_server_is_not_started_from(kit):
    federation = kit.Federation(kit.make_params(5))
    federation.run(1, federation.whole_updates(1))
    signed, body = read_signed(Close, federation.close(1))
    forged = sign(federation.identities[federation.names[0]], signed.context, body)
    with pytest.raises(ProtocolError, match="not signed by the server"):
        federation.coordinator.start(2, federation.names, federation.model, forged)


def test_server_checks_its_key_set(kit):
    federation = kit.Federation(kit.make_params(5))
    federation.keyset = kit.Federation(kit.make_params(4)).keyset
    with pytest.raises(ProtocolError, match="not one offer for each member"):
        federation.make_coordinator()


def test_start_of_another_server_is_not_resumed(kit):
    federation = kit.Federation(kit.make_params(5))
    signed, body = read_signed(Start, federation.begin(1))
    forged = sign(federation.identities[federation.names[0]], signed.context, body)
    with pytest.raises(ProtocolError, match="not signed by the server"):
        federation.make_coordinator().resume(forged)


def test_identity_must_be_the_rosters_server(kit):
    federation = kit.Federation(kit.make_params(3))
    federation.server = federation.identities[federation.names[0]]
    with pytest.raises(ConfigError, match="identity is not the server"):
        federation.make_coordinator()
