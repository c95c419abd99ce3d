"""Checkpoints at a site and at the server; and checks of keys, epochs and evidence that `make mutants` found without a test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ssl_core.errors import ProtocolError, TrustError
from ssl_core.secure_sum.codec import encode
from ssl_core.secure_sum.evidence import HeadOf, Kind, ProvenFault, evidence_of, proves
from ssl_core.secure_sum.history import checkpoint_values
from ssl_core.secure_sum.journal import RoundState
from ssl_core.secure_sum.messages import Acked, BackupHead, Checkpoint, Close, Start, Void
from ssl_core.secure_sum.statements import (
    ack_of,
    close_context,
    head_statement,
    read_signed,
    sign,
)
from ssl_core.secure_sum.vault import Vault


@pytest.fixture
def federation(kit):
    """Five sites; round 1 is closed at all but the first, which saw nothing of it."""
    federation = kit.Federation(kit.make_params(5))
    federation.away = federation.names[0]
    federation.begin(1, away={federation.away})
    federation.upload(1, {n: u for n, u in federation.whole_updates(1).items() if n != federation.away})
    federation.agree()
    federation.unmask()
    federation.close(1, lost={federation.away})
    return federation


def checkpoint(federation, close):
    signed, body = read_signed(Close, close)
    acks = [sign(federation.identities[name], signed.context, ack_of(body)) for name in federation.names[1:]]
    return encode(Checkpoint(close=close, acks=tuple(Acked(site=at, ack=ack) for at, ack in enumerate(acks, 1))))


def test_a_checkpoint_is_in_the_log_and_not_only_in_the_model(federation):
    values = checkpoint_values(federation.now)
    federation.sites[federation.away].checkpoint(checkpoint(federation, federation.last_close), values)
    federation.restart(federation.away)
    site = federation.sites[federation.away]
    assert site.state(1) is RoundState.CLOSED
    start = federation.coordinator.start(2, federation.names, federation.model, federation.last_close)
    forgetful = replace(read_signed(Start, start)[1], close=b"", previous=b"\0" * 32)
    with pytest.raises(ProtocolError, match="START forgets the rounds that were closed"):
        site.begin(sign(federation.server, b"\0" * 32, forgetful), None)


def test_a_checkpoint_that_contradicts_what_the_server_said_is_evidence(federation):
    site = federation.sites[federation.names[1]]
    body = replace(read_signed(Close, federation.last_close)[1], total=bytes(32))
    other = sign(federation.server, close_context(federation.params, body), body)
    with pytest.raises(ProvenFault) as caught:
        site.checkpoint(checkpoint(federation, other), checkpoint_values(federation.now))
    assert caught.value.evidence.kind == Kind.CLOSE and site.alarms == (caught.value.evidence,)


@pytest.mark.parametrize("shape", [(1, 22), (22, 1)])
def test_a_checkpoint_of_another_shape_is_refused(federation, shape):
    values = checkpoint_values(federation.now).reshape(shape)
    with pytest.raises(ProtocolError, match="checkpoint is not a vector of float64"):
        federation.sites[federation.away].checkpoint(checkpoint(federation, federation.last_close), values)


def test_an_epoch_far_ahead_is_not_offered_for(federation):
    site = federation.sites[federation.away]
    with pytest.raises(ProtocolError, match="epoch is too far ahead; field: epoch; value: 18; limit: 17"):
        site.offer_keys(18)
    assert site.offer_keys(17)


def test_void_and_close_convict_the_server_alone_and_only_by_its_own_signatures(federation):
    signed, _ = read_signed(Close, federation.last_close)
    server, other = federation.server, federation.identities[federation.names[1]]
    void = sign(server, signed.context, Void(round=1))
    assert proves(federation.params, evidence_of(server.public, Kind.VOID, void, federation.last_close))
    forged = sign(other, signed.context, Void(round=1))
    closed = sign(other, signed.context, read_signed(Close, federation.last_close)[1])
    for party, first, second in (
        (server, forged, federation.last_close),
        (server, void, closed),
        (other, forged, closed),
        (server, sign(server, bytes(32), Void(round=1)), federation.last_close),
        (server, void, void),
    ):
        assert not proves(federation.params, evidence_of(party.public, Kind.VOID, first, second))


def test_a_backup_head_whose_parts_have_other_lengths_proves_nothing(federation):
    own = federation.identities[federation.names[1]]
    context = read_signed(Close, federation.last_close)[0].context

    def said(shown, digests, marks, missing):
        head = BackupHead(context=context, site=1, missing=missing, shown=shown, marks=marks, digests=digests)
        spoken = HeadOf(head=encode(head), signature=own.sign(head_statement(head)))
        return proves(federation.params, evidence_of(own.public, Kind.BACKUP, spoken))

    one, two = b"1" * 32, b"2" * 32
    assert said((one,), (two,), b"\0", (2,))
    assert not said((one, one), (two,), b"\0", (2, 3))
    assert not said((one,), (two, two), b"\0\0", (2,))
    assert not said((one,), (two,), b"\0", (2, 3))


def test_a_member_with_a_key_of_small_order_is_refused(kit):
    params = kit.make_params(4)
    weak = replace(params.members[1], identity=(1).to_bytes(32, "little"))
    with pytest.raises(TrustError, match="public key has small order"):
        replace(params, members=(params.members[0], weak, *params.members[2:]))


def test_there_is_no_checkpoint_before_the_first_close(kit):
    federation = kit.Federation(kit.make_params(4))
    federation.run(1, federation.whole_updates(1))
    assert federation.coordinator.checkpoint() is None and federation.coordinator.acknowledged == ()


def test_a_checkpoint_erases_the_chains_of_the_rounds_before(federation):
    assert Vault(federation.stores[federation.away], federation.params.hash).index == 0
    values = checkpoint_values(federation.now)
    federation.sites[federation.away].checkpoint(checkpoint(federation, federation.last_close), values)
    assert Vault(federation.stores[federation.away], federation.params.hash).index == 2
