"""Target: the server's side, at any stage of a round, given any bytes as any message of any site, signed by it or not.

First byte: the stage. Second: the message. Third: the site. Fourth: odd for bytes that this site signs as they are; beyond
that, which vector comes with an upload. Property: a refusal is a `ProtocolError` that changes nothing but `faults`, and a
fault that comes with evidence is proved by it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
from tests_federation import Federation, make_params

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum.answer import answer_head
from ssl_core.secure_sum.codec import decode, encode, join
from ssl_core.secure_sum.coordinator import SecureSumCoordinator
from ssl_core.secure_sum.evidence import proves
from ssl_core.secure_sum.messages import Ack, Agreement, Answer, Close, Header, Mark, Parts, Signed, Start, Upload
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.server_round import ServerRound
from ssl_core.secure_sum.statements import (
    head_statement,
    header_statement,
    parts_hash,
    parts_leaves,
    read_signed,
    survivors_statement,
    vector_hash,
)
from ssl_core.trust.identity import Secret

STAGES = ("collect", "agree", "unmask", "backup", "closed")
KINDS = ("upload", "consent", "answer", "backup", "ack")


@dataclass(frozen=True)
class Past:
    """Six sites, the server's round at each stage, and what the sites sent: {kind: {site: bytes}}."""

    federation: Federation
    context: bytes
    rounds: dict[str, ServerRound]
    sent: dict[str, dict[str, bytes]]
    vectors: dict[str, Words]
    closed: bytes


@cache
def past() -> Past:
    """Round 2, so that uploads acknowledge a CLOSE; one lost before the upload, one after."""
    federation = Federation(make_params(6, dimension=3))
    names, updates = federation.names, federation.whole_updates(2)
    federation.run(1, updates)
    closed = federation.close(1)
    sites, coordinator = federation.sites, federation.coordinator
    acks = {name: sites[name].close(closed, federation.last_total) for name in names}
    start = federation.begin(2)
    uploads = {name: sites[name].upload(2, updates[name]) for name in names}
    rounds = {}
    for name in names[:3]:
        coordinator.add_upload(name, *uploads[name])
    rounds["collect"] = copied(coordinator._round)
    for name in names[3:5]:
        coordinator.add_upload(name, *uploads[name])
    coordinator.fix_survivors()
    rounds["agree"] = copied(coordinator._round)
    agreements = {name: sites[name].consent(request) for name, request in coordinator.consent_requests().items()}
    for name, agreement in agreements.items():
        coordinator.add_consent(name, agreement)
    answers = {name: sites[name].unmask(request) for name, request in coordinator.unmask_requests().items()}
    rounds["unmask"] = copied(coordinator._round)
    for name in names[:4]:
        coordinator.add_answer(name, answers[name])
    rounds["backup"] = copied(coordinator._round)
    backups = {name: sites[name].backup(request) for name, request in coordinator.backup_requests().items()}
    for name, reply in backups.items():
        coordinator.add_backup(name, reply)
    federation.finish()
    rounds["closed"] = copied(coordinator._round)
    bodies = {name: body for name, (body, _) in uploads.items()}
    sent = dict(zip(KINDS, (bodies, agreements, answers, backups, acks), strict=True))
    context = read_signed(Start, start)[0].context
    return Past(federation, context, rounds, sent, {name: vector for name, (_, vector) in uploads.items()}, closed)


def copied(value: Any) -> Any:
    """A round of its own: everything in it that changes is copied."""
    if isinstance(value, ServerRound):
        return replace(value, **{field.name: copied(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    return value.copy() if isinstance(value, list | set | np.ndarray) else value


def image(value: Any) -> Any:
    """What can be compared of a round, secrets too; faults are left out, and whether pairs were compared already."""
    if isinstance(value, ServerRound):
        names = {field.name for field in fields(value)} - {"faults", "paired"}
        return {name: image(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {key: image(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return value.reveal() if isinstance(value, Secret) else id(value) if type(value).__eq__ is object.__eq__ else value


def seeds() -> list[bytes]:
    """Each reply, as it is and to be signed again, at every stage."""
    found = []
    for stage in range(len(STAGES)):
        for kind, word in enumerate(KINDS):
            for site, name in enumerate(past().federation.names[:5:2]):
                body = past().sent[word].get(name)
                if body is not None:
                    found += [bytes([stage, kind, 2 * site, signs]) + body for signs in (0, 1)]
            if word == "ack":
                found.append(bytes([stage, kind, 0, 1]) + decode(Signed, past().sent["ack"]["site-00"]).body)
    return found


def run(data: bytes) -> None:
    """One input."""
    stage, kind, site, how = (*data[:4], 0, 0, 0, 0)[:4]
    federation, body, word = past().federation, data[4:], KINDS[kind % len(KINDS)]
    name = federation.names[site % len(federation.names)]
    coordinator: SecureSumCoordinator = federation.make_coordinator()
    coordinator._round = now = copied(past().rounds[STAGES[stage % len(STAGES)]])
    vector = (past().vectors[name], np.zeros(3, np.uint32), np.zeros(4, np.uint32), np.zeros(3, np.uint16))[how // 2 % 4]
    if how % 2:
        body = _signed(word, name, body, vector, now)
    before, faults = image(now), len(now.faults)
    try:
        if word == "upload":
            coordinator.add_upload(name, body, vector)
        elif word == "ack":
            federation.last_close = past().closed
            federation.take(name, body)
        else:
            getattr(coordinator, f"add_{word}")(name, body)
    except ProtocolError as error:
        assert image(now) == before, "a refused message changed the round"
        assert len(str(error)) < 400, "an error repeats the message"
    for fault in now.faults[faults:]:
        assert fault.evidence is None or proves(federation.params, fault.evidence), "evidence that proves nothing"


def _signed(kind: str, name: str, body: bytes, vector: Words, now: ServerRound) -> bytes:
    """The body as this site would sign it, whatever it says; as it is where it has no form to sign."""
    identity, context, place = past().federation.identities[name], past().context, past().federation.params.index(name)
    try:
        if kind == "upload":
            upload = decode(Upload, body)
            hashes = vector_hash(vector), parts_hash(parts_leaves(decode(Parts, upload.parts)))
            signature = identity.sign(header_statement(context, *hashes))
            header = Header(vector=hashes[0], parts=hashes[1], signature=signature)
            return encode(replace(upload, context=context, header=header))
        if kind == "consent":
            survivors = tuple(body[:8])
            return encode(Agreement(context=context, signature=identity.sign(survivors_statement(context, survivors))))
        if kind == "answer":
            answer, survivors = decode(Answer, body), now.survivors or ()
            if len(answer.values) != len(now.start.participants) or any(v.reveal()[0] not in set(Mark) for v in answer.values):
                return body
            shown = tuple(now.parts[dealer].packets[place].share.commitment for dealer in survivors)
            head = answer_head(context, place, now.start.participants, shown, answer.values)
            return encode(replace(answer, context=context, signature=identity.sign(head_statement(head))))
    except ProtocolError:
        return body
    if kind == "ack":
        closed = read_signed(Close, past().closed)[0].context
        return encode(Signed(kind=Ack.TAG, context=closed, body=body, signature=identity.sign(join("sign/ACK", closed, body))))
    return body
