"""BACKUP: exact after a second loss, the same bytes whenever asked, and never more than the lost site would have told."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import backup as backup_module
from ssl_core.secure_sum import keys, sealing, shamir
from ssl_core.secure_sum.backup import backup_head
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.evidence import ProvenFault, accused, proves
from ssl_core.secure_sum.journal import RoundState
from ssl_core.secure_sum.messages import Backup, BackupAnswer, Mark, Parts, Start, Upload
from ssl_core.secure_sum.sealing import BACKUP, Route
from ssl_core.secure_sum.statements import head_statement, read_signed, sign
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Secret


def stand(kit, count=7, *, lost=(6,), silent=(1,), spoil=None, **changes):
    """Round 1: `lost` sites did not upload in time, `silent` ones did not answer, the others did.

    `spoil(federation)` changes the upload of site 1, which then has another one in its journal and does not consent.
    """
    federation = kit.Federation(kit.make_params(count, **changes))
    federation.context = read_signed(Start, federation.begin(1))[0].context
    federation.updates = federation.whole_updates(1)
    federation.sent = {name: federation.sites[name].upload(1, update) for name, update in federation.updates.items()}
    if spoil is not None:
        spoil(federation)
    for at, name in enumerate(federation.names):
        if at not in lost:
            federation.coordinator.add_upload(name, *federation.sent[name])
    federation.agree(silent=() if spoil is None else federation.names[1:2])
    federation.unmask(silent={federation.names[at] for at in silent})
    federation.survivors = [name for at, name in enumerate(federation.names) if at not in lost]
    return federation


def exact(kit, federation):
    total = federation.coordinator.total()
    return kit.signed_view(total) == federation.expected(federation.updates, federation.survivors)


def test_every_survivor_may_be_the_second_loss(kit):
    for silent in range(6):
        federation = stand(kit, silent=(silent,))
        assert not federation.coordinator.answered
        federation.relieve()
        assert federation.coordinator.answered and federation.coordinator.faults == ()
        assert exact(kit, federation)
        federation.close(1)


@pytest.mark.parametrize("count", [6, 10, 13])
def test_as_many_losses_as_t_bears_in_any_mix(kit, count):
    """Corruption and losses share n - t; BACKUP bears any split of it between before and after the upload."""
    spare = count - kit.make_params(count).thresholds(count).survivors
    for early in range(1, spare + 1):
        late = spare - early
        federation = stand(kit, count, lost=tuple(range(early)), silent=tuple(range(early, early + late)))
        federation.relieve()
        assert exact(kit, federation)


def test_backup_needs_t_answers_and_then_t_backups(kit):
    federation = stand(kit, silent=(1, 2))
    assert federation.coordinator.backup_requests() == {}, "four answers are fewer than t"
    federation = stand(kit)
    requests = federation.coordinator.backup_requests()
    for count, (name, request) in enumerate(requests.items(), 1):
        assert not federation.coordinator.answered
        federation.coordinator.add_backup(name, federation.sites[name].backup(request))
        assert federation.coordinator.answered == (count == 5)
    assert federation.coordinator.backup_requests() == {}


def test_late_answer_of_the_missing_site_is_as_good(kit):
    federation = stand(kit)
    requests = list(federation.coordinator.backup_requests().items())
    for name, request in requests[:3]:
        federation.coordinator.add_backup(name, federation.sites[name].backup(request))
    late = federation.names[1]
    federation.coordinator.add_answer(late, federation.sites[late].unmask(federation.coordinator.unmask_requests()[late]))
    assert exact(kit, federation)
    name, request = requests[3]
    federation.coordinator.add_backup(name, federation.sites[name].backup(request))
    assert exact(kit, federation)


def test_no_backup_is_asked_when_nobody_was_lost_before(kit):
    federation = stand(kit, 5, lost=(), silent=(2,))
    assert federation.coordinator.answered and federation.coordinator.backup_requests() == {}
    assert exact(kit, federation)


def told(federation, reply):
    """[(missing k, j, 32 bytes)] of a reply."""
    body = decode(BackupAnswer, reply)
    for dealer, value in zip(body.missing, body.values, strict=True):
        content = value.reveal()[1:]
        peers = [at for at in range(len(federation.names)) if at != dealer]
        for at, peer in enumerate(peers):
            yield dealer, peer, content[32 * at : 32 * at + 32]


def dealt(federation, dealer, holder):
    """{j: the share of e_dealer,j that `holder` was dealt}."""
    packet = decode(Parts, decode(Upload, federation.sent[federation.names[dealer]][0]).parts).packets[holder]
    vault = Vault(federation.stores[federation.names[holder]], federation.params.hash)
    route = Route(context=federation.context, sender=dealer, recipient=holder, kind=BACKUP)
    opened = sealing.unseal(sealing.seal_key(vault.chain(dealer), route), route, packet.backup.blob)
    peers = [at for at in range(len(federation.names)) if at != dealer]
    return {peer: opened[32 * at : 32 * at + 32] for at, peer in enumerate(peers)}


def request_of(federation, holder, missing, **changes):
    """A BACKUP to `holder` about any survivors, as a malicious server would make it."""
    packets = {
        at: decode(Parts, decode(Upload, federation.sent[name][0]).parts).packets for at, name in enumerate(federation.names)
    }
    body = Backup(
        round=1,
        recipient=holder,
        survivors=federation.coordinator._round.survivors,
        missing=missing,
        backups=tuple(packets[dealer][holder].backup for dealer in missing),
    )
    return sign(federation.server, federation.context, replace(body, **changes))


def test_all_that_can_ever_be_asked_tells_what_the_missing_would_have_told_and_no_more(kit):
    """Every site, every subset of survivors, in any order: shares of e_kj with k in U and j lost; hashes for the rest."""
    federation = stand(kit, silent=())
    survivors = range(6)
    opened = {}
    for holder in survivors:
        others = [at for at in survivors if at != holder]
        for size in range(1, 6):
            for missing in combinations(others, size):
                reply = federation.sites[federation.names[holder]].backup(request_of(federation, holder, missing))
                for dealer, peer, content in told(federation, reply):
                    assert opened.setdefault((dealer, peer, holder), content) == content
    shares = {}
    for (dealer, peer, holder), content in opened.items():
        share = dealt(federation, dealer, holder)[peer]
        assert (content == share) == (peer == 6)
        if peer == 6:
            shares.setdefault(dealer, {})[shamir.point(holder)] = shamir.from_bytes(content)
    for dealer in survivors:
        vault = Vault(federation.stores[federation.names[dealer]], federation.params.hash)
        assert shamir.combine(shares[dealer]) == keys.pair_element(vault.chain(6), federation.context)
    assert set(shares) == set(survivors)


def test_reply_is_the_same_bytes_again_after_restart_and_writes_nothing(kit):
    federation = stand(kit)
    for name, request in federation.coordinator.backup_requests().items():
        store = federation.stores[name]
        before = store._secrets, list(store._log), dict(store._parts)
        reply = federation.sites[name].backup(request)
        assert federation.sites[name].backup(request) == reply
        federation.restart(name)
        assert federation.sites[name].backup(request) == reply
        assert (store._secrets, store._log, store._parts) == before
        assert federation.sites[name].state(1) is RoundState.ANSWERED
        assert federation.sites[name].unmask(federation.coordinator.unmask_requests()[name])


def test_length_depends_on_participants_and_on_how_many_are_asked_about(kit):
    lengths = set()
    for lost, silent in (((6,), (1,)), ((0,), (5,)), ((3,), (2,))):
        federation = stand(kit, lost=lost, silent=silent)
        for name, request in federation.coordinator.backup_requests().items():
            lengths.add(len(federation.sites[name].backup(request)))
    assert len(lengths) == 1


LIES = ["one bit", "another holder's", "the share", "another dealer's", "other commitment", "cut", "none", "another length"]


@pytest.mark.parametrize("lie", LIES)
def test_backup_that_does_not_fit_is_complained_of_without_a_key(kit, lie):
    federation = stand(kit)
    name = federation.names[0]
    packets = {at: decode(Parts, decode(Upload, federation.sent[n][0]).parts).packets for at, n in enumerate(federation.names)}
    honest = packets[1][0].backup
    chain = Vault(federation.stores[name], federation.params.hash).chain(1)
    route = Route(context=federation.context, sender=1, recipient=0, kind=BACKUP)
    false = {
        "one bit": replace(honest, blob=honest.blob[:-1] + bytes([honest.blob[-1] ^ 1])),
        "another holder's": packets[1][2].backup,
        "the share": packets[1][0].share,
        "another dealer's": packets[2][0].backup,
        "other commitment": replace(honest, commitment=bytes(32)),
        "cut": replace(honest, blob=honest.blob[:-32]),
        "none": replace(honest, blob=b""),
        "another length": replace(honest, blob=sealing.seal(chain, route, bytes(32 * 5), lambda count: bytes(count))),
    }[lie]
    true = federation.sites[name].backup(request_of(federation, 0, (1,)))
    reply = federation.sites[name].backup(request_of(federation, 0, (1,), backups=(false,)))
    assert len(reply) == len(true)
    (value,) = decode(BackupAnswer, reply).values
    assert value.reveal() == bytes([Mark.COMPLAINT]) + bytes(32 * 6)


BAD_BACKUPS = {
    "does not open": {"blob": bytes(28 + 32 * 9)},
    "does not fit": {"commitment": b"x" * 32},
    "outside the field": {"content": b"\xff" * 32 * 9},
}


@pytest.mark.parametrize("case", BAD_BACKUPS)
def test_bad_backup_names_the_pair_and_the_others_are_enough(kit, case):
    def spoil(federation):
        changes = dict(BAD_BACKUPS[case])
        if "content" in changes:  # what is sealed fits its commitment, and is no share of anything
            route = Route(context=federation.context, sender=1, recipient=0, kind=BACKUP)
            peers = [at for at in range(10) if at != 1]
            changes["commitment"] = sealing.commit_backup(route, sealing.backup_leaves(route, peers, [b"\xff" * 32] * 9))
        kit.repacked(federation, 1, 0, kind="backup", **changes)

    federation = stand(kit, 10, lost=(9,), silent=(1,), spoil=spoil)
    federation.relieve()
    assert exact(kit, federation)
    (fault,) = federation.coordinator.faults
    assert fault.sites == ("site-01", "site-00") and fault.evidence is None


def test_dealer_whose_backups_give_another_element_is_named_and_only_its_own_answer_helps(kit):
    def spoil(federation):
        for holder in (0, 2, 3, 4, 5, 6):
            shares = [bytes([holder]) * 32] * 6
            route = Route(context=federation.context, sender=1, recipient=holder, kind=BACKUP)
            peers = [at for at in range(7) if at != 1]
            commitment = sealing.commit_backup(route, sealing.backup_leaves(route, peers, shares))
            kit.repacked(federation, 1, holder, kind="backup", content=b"".join(shares), commitment=commitment)

    federation = stand(kit, spoil=spoil)
    federation.relieve()
    assert not federation.coordinator.answered and federation.coordinator.backup_requests() == {}
    (fault,) = federation.coordinator.faults
    assert fault.sites == ("site-01",) and "backup does not give the pair element" in fault.problem
    late = federation.names[1]
    federation.coordinator.add_answer(late, federation.sites[late].unmask(federation.coordinator.unmask_requests()[late]))
    assert exact(kit, federation)


def reply_of(federation, at=0, *, signer=None, context=None, missing=None, signed=True, digests=None, **changes):
    """Member `at`'s BACKUP-ANSWER, changed and signed again."""
    name = federation.names[at]
    request = federation.coordinator.backup_requests()[name]
    body = decode(BackupAnswer, federation.sites[name].backup(request))
    shown = tuple(sealed.commitment for sealed in read_signed(Backup, request)[1].backups)
    values = changes.get("values", body.values)
    head = backup_head(federation.context, at, body.missing, shown, values, shown if digests is None else digests)
    signature = (signer or federation.identities[name]).sign(head_statement(head))
    changed = replace(
        body, context=context or body.context, missing=body.missing if missing is None else missing, values=values
    )
    return name, encode(replace(changed, signature=signature))


def value_of(federation, content, mark=Mark.SHARE):
    return (Secret(bytes([mark]) + content),)


def lost_share(federation, content):
    """The reply with `content` in the place of its share of e_1,6, and the digest that follows from it."""
    name = federation.names[0]
    reply = decode(BackupAnswer, federation.sites[name].backup(federation.coordinator.backup_requests()[name]))
    route = Route(context=federation.context, sender=1, recipient=0, kind=BACKUP)
    pieces = [content if peer == 6 else piece for _, peer, piece in told(federation, encode(reply))]
    leaf = sealing.backup_leaves(route, [6], [content])[0]
    digest = sealing.commit_backup(route, [*pieces[:-1], leaf])
    return {"values": value_of(federation, b"".join(pieces)), "digests": (digest,)}


BACKUPS = {
    "backup answer is of another round": lambda f: reply_of(f, context=bytes(32)),
    "backup answer is about other sites": lambda f: reply_of(f, missing=(6,)),
    "backup answer has not one value a missing site": lambda f: reply_of(f, values=()),
    "backup answer has another form": lambda f: reply_of(f, values=value_of(f, bytes(32 * 5))),
    "backup answer holds a value outside the field": lambda f: reply_of(f, **lost_share(f, b"\xff" * 32)),
    "backup answer is not signed by its site": lambda f: reply_of(f, signer=f.server),
    "returned backup is not the one committed to": lambda f: reply_of(f, **lost_share(f, bytes(32))),
}
MORE = {
    "of itself": ("backup answer is about other sites", lambda f: reply_of(f, missing=(0,))),
    "twice": ("backup answer is about other sites", lambda f: reply_of(f, missing=(1, 1))),
    "mark of an element": ("backup answer has another form", lambda f: reply_of(f, values=value_of(f, bytes(192), Mark.PAIR))),
    "changed behind the signature": ("backup answer is not signed", lambda f: reply_of(f, values=value_of(f, bytes(192)))),
    "not a survivor": ("site is not a survivor", lambda f: (f.names[6], reply_of(f)[1])),
    "not answered": ("site has not answered for itself", lambda f: (f.names[1], reply_of(f)[1])),
}


@pytest.mark.parametrize("case", [*BACKUPS, *MORE])
def test_reply_is_refused_and_not_counted(kit, case):
    federation = stand(kit)
    phrase, build = MORE.get(case) or (case, BACKUPS[case])
    name, body = build(federation)
    with pytest.raises(ProtocolError, match=f"{phrase}.*field: site; value: {name}"):
        federation.coordinator.add_backup(name, body)
    assert not federation.coordinator._round.backups
    federation.relieve()
    assert exact(kit, federation)


def test_every_refusal_of_a_reply_has_a_test(kit):
    assert kit.refusals(backup_module) == set(BACKUPS)


def test_wrong_backup_share_convicts_the_site_that_returned_it(kit):
    federation = stand(kit, 10, lost=(9,), silent=(1,))
    name = federation.names[0]
    reply = federation.sites[name].backup(federation.coordinator.backup_requests()[name])
    route = Route(context=federation.context, sender=1, recipient=0, kind=BACKUP)
    pieces = [b"\x07" * 32 if peer == 9 else piece for _, peer, piece in told(federation, reply)]
    digest = sealing.commit_backup(route, [*pieces[:-1], sealing.backup_leaves(route, [9], [pieces[-1]])[0]])
    _, body = reply_of(federation, values=value_of(federation, b"".join(pieces)), digests=(digest,))
    with pytest.raises(ProvenFault, match="value: site-00; limit: backup of site-01") as caught:
        federation.coordinator.add_backup(name, body)
    evidence = caught.value.evidence
    assert evidence.kind == "BACKUP" and proves(federation.params, evidence)
    assert accused(federation.params, evidence) == name
    right = [piece for _, peer, piece in told(federation, reply) if peer == 9]
    assert not any(piece in encode(evidence) for piece in [*right, b"\x07" * 32])
    federation.relieve(silent={name})
    assert exact(kit, federation)


def test_reply_to_an_earlier_request_counts(kit):
    """Two were missing; one of them answers late, and the replies about both are still on their way."""
    federation = stand(kit, 10, lost=(9,), silent=(1, 2))
    requests = federation.coordinator.backup_requests()
    late = federation.names[2]
    federation.coordinator.add_answer(late, federation.sites[late].unmask(federation.coordinator.unmask_requests()[late]))
    for name, request in requests.items():
        federation.coordinator.add_backup(name, federation.sites[name].backup(request))
    assert exact(kit, federation)


def test_packets_hold_no_backup_in_a_study_without(kit):
    federation = stand(kit, 5, lost=(), silent=(), backup=False)
    packets = decode(Parts, decode(Upload, federation.sent["site-00"][0]).parts).packets
    assert all(packet.backup.blob == b"" and packet.backup.commitment == bytes(32) for packet in packets)


def test_round_that_needs_all_its_participants_deals_no_backup_and_is_exact(kit):
    """t counts the members of the study: of six, four invited ones are t, and three others could not speak for one."""
    federation = kit.Federation(kit.make_params(6, max_churn=2))
    invited = federation.names[:4]
    updates = {name: update for name, update in federation.whole_updates(1).items() if name in invited}
    federation.begin(1, participants=invited)
    federation.upload(1, updates)
    packets = federation.coordinator._round.parts[0].packets
    enough_others = federation.params.thresholds(4).shares < 4
    assert [packet.backup.blob != b"" for packet in packets] == [False, *[enough_others] * 3]
    federation.agree()
    federation.unmask()
    assert federation.coordinator.backup_requests() == {}
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(updates, invited)
