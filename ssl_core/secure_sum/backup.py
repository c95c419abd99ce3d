"""BACKUP: those that answered speak for a survivor that was lost before it answered (secure-sum notes 2.3, step 7).

When a participant j is not in U, every survivor k must tell e_kj, or the masks of that pair stay in the sum. k dealt
shares of its e_kj with its upload; if k is silent, each site that answered U gives its shares of e_kj, for k in U that
the server names and for j outside U only. t of them give exactly what k itself would have released for this U.
Why it tells a malicious server nothing new. A site answers BACKUP only in state ANSWERED and only for the U it answered.
An answer for a W other than C needs t agreements, t - c of them from honest sites, each of which from then on answers
for W alone; so if any honest site answers for W, at most n - t honest ones answer for a set with a j outside W, and with
the c colluders' that is fewer than t shares of b_j, as 2t > n + c. Hence for a pair whose element leaves this way the
lost end's self mask stays closed for ever, its update a uniform vector, and no second such W exists; within W no element
is ever told. k's own mask opens only inside the sum over W.
Nothing new needs a journal: a reply is a function of ANSWERED(U), which is durable, of CK_r, which is kept until CLOSE or
VOID, and of a seal that only k could make. Asked again, in any order and with any subset, a site gives parts of one
fixed set of values. A backup that does not open or fit is answered by a complaint without key: the key would open the
shares of e_kj for j inside U too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import sealing, shamir
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.dealing import others
from ssl_core.secure_sum.evidence import HeadOf, Kind, ProvenFault, evidence_of
from ssl_core.secure_sum.intake import need
from ssl_core.secure_sum.journal import Started
from ssl_core.secure_sum.messages import ELEMENT_BYTES, Backup, BackupAnswer, BackupHead, Mark, Parts, Sealed
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.sealing import BACKUP, Route
from ssl_core.secure_sum.statements import head_statement, is_head_of
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Identity, Secret

Sites = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relief:
    """What one checked BACKUP-ANSWER gave: {missing k: {lost j: share of e_kj}}, and whose backup did not open."""

    shares: Mapping[int, Mapping[int, Secret]]
    complaints: Sites


def make_backup_answer(site: int, identity: Identity, vault: Vault, started: Started, request: Backup) -> bytes:
    """The BACKUP-ANSWER of `site` to a checked BACKUP."""
    context, participants = started.context, started.participants
    lost = set(participants) - set(request.survivors)
    values, digests = [], []
    for dealer, sealed in zip(request.missing, request.backups, strict=True):
        route = Route(context=context, sender=dealer, recipient=site, kind=BACKUP)
        peers = others(participants, dealer)
        shares = _open(sealing.seal_key(vault.chain(dealer), route), route, peers, sealed)
        if shares is None:
            values.append(Secret(bytes([Mark.COMPLAINT]) + bytes(ELEMENT_BYTES * len(peers))))
            digests.append(bytes(32))
            continue
        leaves = sealing.backup_leaves(route, peers, shares)
        told = (share if peer in lost else leaf for peer, share, leaf in zip(peers, shares, leaves, strict=True))
        values.append(Secret(bytes([Mark.SHARE]) + b"".join(told)))
        digests.append(sealed.commitment)
    shown = tuple(sealed.commitment for sealed in request.backups)
    head = backup_head(context, site, request.missing, shown, values, digests)
    signature = identity.sign(head_statement(head))
    return encode(BackupAnswer(context=context, missing=request.missing, values=tuple(values), signature=signature))


def check_backup_answer(
    params: SumParams, context: bytes, participants: Sites, survivors: Sites, site: int, parts: Mapping[int, Parts], body: bytes
) -> Relief:
    """A reply about survivors whose shares of the lost pairs' elements fit what each missing site committed to."""
    member = params.members[site]
    answer = decode(BackupAnswer, body)
    need(answer.context == context, "backup answer is of another round", member.name)
    named = set(answer.missing) <= set(survivors) - {site} and len(set(answer.missing)) == len(answer.missing)
    need(named, "backup answer is about other sites", member.name)
    need(len(answer.values) == len(answer.missing), "backup answer has not one value a missing site", member.name)
    at, lost = participants.index(site), set(participants) - set(survivors)
    shown = tuple(parts[dealer].packets[at].backup.commitment for dealer in answer.missing)
    shares: dict[int, dict[int, Secret]] = {}
    digests = []
    for dealer, value in zip(answer.missing, answer.values, strict=True):
        mark, content = value.reveal()[0], value.reveal()[1:]
        route, peers = Route(context=context, sender=dealer, recipient=site, kind=BACKUP), others(participants, dealer)
        whole = mark in (Mark.SHARE, Mark.COMPLAINT) and len(content) == ELEMENT_BYTES * len(peers)
        need(whole, "backup answer has another form", member.name)
        if mark == Mark.COMPLAINT:
            digests.append(bytes(32))
            continue
        told = dict(zip(peers, _pieces(content), strict=True))
        shares[dealer] = {peer: Secret(told[peer]) for peer in peers if peer in lost}
        fits = all(shamir.is_element(share.reveal()) for share in shares[dealer].values())
        need(fits, "backup answer holds a value outside the field", member.name)
        hashed = dict(zip(peers, sealing.backup_leaves(route, peers, list(told.values())), strict=True))
        digests.append(sealing.commit_backup(route, [hashed[peer] if peer in lost else told[peer] for peer in peers]))
    head = backup_head(context, site, answer.missing, shown, answer.values, digests)
    need(is_head_of(member.identity, head, answer.signature), "backup answer is not signed by its site", member.name)
    for dealer, mark, said, commitment in zip(answer.missing, head.marks, digests, shown, strict=True):
        if mark == Mark.SHARE and said != commitment:
            name = params.members[dealer].name
            error = ProtocolError(
                "returned backup is not the one committed to", field="site", value=member.name, limit=f"backup of {name}"
            )
            spoken = HeadOf(head=encode(head), signature=answer.signature)
            raise ProvenFault(error, evidence_of(member.identity, Kind.BACKUP, spoken))
    complaints = tuple(dealer for dealer in answer.missing if dealer not in shares)
    return Relief(shares=shares, complaints=complaints)


def backup_head(
    context: bytes, site: int, missing: Sites, shown: tuple[bytes, ...], values: Sequence[Secret], digests: Sequence[bytes]
) -> BackupHead:
    """What the signature of a BACKUP-ANSWER covers."""
    marks = bytes(value.reveal()[0] for value in values)
    return BackupHead(context=context, site=site, missing=missing, shown=shown, marks=marks, digests=tuple(digests))


def _open(key: Secret, route: Route, peers: Sites, sealed: Sealed) -> list[bytes] | None:
    opened = sealing.unseal(key, route, sealed.blob)
    if opened is None or len(opened) != ELEMENT_BYTES * len(peers):
        return None
    shares = _pieces(opened)
    fits = sealing.commit_backup(route, sealing.backup_leaves(route, peers, shares)) == sealed.commitment
    return shares if fits and all(shamir.is_element(share) for share in shares) else None


def _pieces(content: bytes) -> list[bytes]:
    return [content[at : at + ELEMENT_BYTES] for at in range(0, len(content), ELEMENT_BYTES)]
