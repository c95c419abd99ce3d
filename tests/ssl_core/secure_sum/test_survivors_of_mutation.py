"""Checks that `make mutants` once found without a test: each test here fails when its check is left out."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from ssl_core.errors import ConfigError, ProtocolError, RoundVoid, StateError
from ssl_core.secure_sum import sealing
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.evidence import AgreementOf, HeadOf, Kind, evidence_of, proves
from ssl_core.secure_sum.journal import RoundState
from ssl_core.secure_sum.memory import MemoryStore
from ssl_core.secure_sum.messages import BackupAnswer, BackupHead, Mark, Signed, Start
from ssl_core.secure_sum.params import Member
from ssl_core.secure_sum.sealing import Route
from ssl_core.secure_sum.statements import head_statement, read_signed, start_round, survivors_statement
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Secret


@pytest.fixture
def federation(kit):
    """Six sites in round 1, all uploads in."""
    federation = kit.Federation(kit.make_params(6))
    federation.start = federation.begin(1)
    federation.context = read_signed(Start, federation.start)[0].context
    federation.updates = federation.whole_updates(1)
    return federation


def lose_two(federation):
    """The last loses its update, the one before falls silent after its upload."""
    federation.upload(1, {name: federation.updates[name] for name in federation.names[:5]})
    federation.agree(silent=federation.names[4:])
    federation.unmask(silent=federation.names[4:])


def test_server_asks_for_no_agreement_where_all_survive(federation):
    federation.upload(1, federation.updates)
    assert federation.coordinator.fix_survivors() is False
    assert federation.coordinator.consent_requests() == {}


def test_wrong_backup_is_kept_as_a_fault_with_evidence(federation):
    lose_two(federation)
    name = federation.names[0]
    reply = decode(BackupAnswer, federation.sites[name].backup(federation.coordinator.backup_requests()[name]))
    # of the dealer site 4: shares of its elements with 0, 1, 2, 3 as hashes, and with the lost 5 itself
    pieces = [reply.values[0].reveal()[1 + 32 * at : 33 + 32 * at] for at in range(4)] + [bytes(32)]
    route = Route(context=federation.context, sender=4, recipient=0, kind=sealing.BACKUP)
    said = sealing.commit_backup(route, [*pieces[:4], sealing.backup_leaves(route, [5], pieces[4:])[0]])
    shown = federation.coordinator._round.parts[4].packets[0].backup.commitment
    head = BackupHead(context=federation.context, site=0, missing=(4,), shown=(shown,), marks=b"\0", digests=(said,))
    forged = replace(
        reply,
        values=(Secret(bytes([Mark.SHARE]) + b"".join(pieces)),),
        signature=federation.identities[name].sign(head_statement(head)),
    )
    with pytest.raises(ProtocolError, match="returned backup is not the one committed to"):
        federation.coordinator.add_backup(name, encode(forged))
    (fault,) = federation.coordinator.faults
    assert fault.sites == (name,) and proves(federation.params, fault.evidence)


def test_agreements_of_two_rounds_prove_nothing_though_both_signatures_are_of_one(federation):
    round = start_round(federation.params, read_signed(Start, federation.start)[1])
    identity = federation.identities[federation.names[2]]
    first, second = (
        AgreementOf(round=of, survivors=said, signature=identity.sign(survivors_statement(federation.context, said)))
        for of, said in ((round, (0, 1, 2, 3, 4)), (round, (0, 1, 2, 3)))
    )
    assert proves(federation.params, evidence_of(identity.public, Kind.AGREEMENT, first, second))
    other = replace(second, round=replace(round, round=2))
    assert not proves(federation.params, evidence_of(identity.public, Kind.AGREEMENT, first, other))


@pytest.mark.parametrize("field", ["marks", "digests", "shown", "missing"])
def test_backup_head_of_uneven_lengths_proves_nothing(federation, field):
    head = BackupHead(
        context=federation.context,
        site=1,
        missing=(0, 2),
        shown=(bytes(32), b"s" * 32),
        marks=b"\0\0",
        digests=(b"d" * 32,) * 2,
    )
    identity = federation.identities[federation.names[1]]

    def evidence(said):
        return evidence_of(
            identity.public, Kind.BACKUP, HeadOf(head=encode(said), signature=identity.sign(head_statement(said)))
        )

    assert proves(federation.params, evidence(head))
    assert not proves(federation.params, evidence(replace(head, **{field: getattr(head, field)[:1]})))


def test_more_members_than_messages_can_name_are_refused_by_name(kit):
    names = [f"site-{at:04d}" for at in range(1025)]
    members = tuple(Member(name=name, identity=sha256(name.encode()).digest(), weight=1) for name in names)
    with pytest.raises(ConfigError, match="3 to 1024"):
        replace(kit.make_params(4), members=members, corrupt=341, backup=False)


@pytest.mark.parametrize("length", [0, 7, 12, 27])
def test_what_is_shorter_than_a_seal_does_not_open(length):
    route = Route(context=bytes(32), sender=0, recipient=1)
    assert sealing.unseal(Secret(bytes(32)), route, bytes(length)) is None


def test_body_under_another_kind_is_not_read(federation):
    signed = decode(Signed, federation.start)
    with pytest.raises(ProtocolError, match="another kind"):
        read_signed(Start, encode(replace(signed, kind="CLOSE")))


def test_new_site_writes_nothing_before_it_has_something_to_keep(kit, federation):
    store = MemoryStore()
    federation.make_site(federation.names[0], store)
    assert store.read_secrets() is None and store.latest("EPOCH") is None


def test_new_epoch_forgets_the_open_round_at_once(federation):
    federation.upload(1, federation.updates)
    offers = {name: site.offer_keys(2) for name, site in federation.sites.items()}
    keyset = federation.coordinator.make_keyset(federation.params, offers)
    name = federation.names[0]
    federation.sites[name].accept_keys(keyset)
    store = federation.stores[name]
    assert federation.sites[name].state(1) is RoundState.VOID
    assert store.read_vector(1) is None and store.read_parts(1) is None
    assert Vault(store, federation.params.hash).index == 2
    with pytest.raises(RoundVoid):
        federation.sites[name].resend(1)


def test_key_set_is_refused_where_the_log_is_gone_and_the_key_erased(kit, federation):
    """Secrets of epoch 1 beside an empty log: there is no private key any more to take another set with."""
    name = federation.names[0]
    store = MemoryStore()
    store.write_secrets(kit.Federation(federation.params).stores[name].read_secrets())
    other = kit.Federation(federation.params)
    other.randoms = {n: kit.seeded(f"other {n}") for n in other.names}
    offers = {n: other.make_site(n, MemoryStore()).offer_keys() for n in other.names}
    keyset = other.coordinator.make_keyset(other.params, offers)
    with pytest.raises(ProtocolError, match="this site made no offer for this epoch"):
        federation.make_site(name, store).accept_keys(keyset)


def test_vector_that_is_gone_is_not_sent(federation):
    federation.upload(1, federation.updates)
    name = federation.names[0]
    federation.stores[name]._vectors.clear()
    with pytest.raises(StateError, match="kept vector is not the one in the journal"):
        federation.sites[name].resend(1)


def test_answer_that_is_gone_is_not_sent(federation):
    lose_two(federation)
    name = federation.names[0]
    request = federation.coordinator.unmask_requests()[name]
    Vault(federation.stores[name], federation.params.hash).put_answer(b"")
    federation.restart(name)
    with pytest.raises(StateError, match="kept answer is not the one in the journal"):
        federation.sites[name].unmask(request)


def test_upload_whose_start_is_not_in_the_log_is_not_sent(federation, monkeypatch):
    federation.upload(1, federation.updates)
    whole = MemoryStore.records
    monkeypatch.setattr(MemoryStore, "records", lambda *of: [record for record in whole(*of) if record.kind != "STARTED"])
    assert federation.sites[federation.names[0]].resend(1) is None
