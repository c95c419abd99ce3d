"""Each kind of evidence as vectors: two statements that prove a fault, and changes after which they prove nothing."""

from __future__ import annotations

from dataclasses import replace

from tests_federation import repacked, seeded
from tests_vector_records import Recorded, recorded, small_updates
from tests_vector_themes import filled

from ssl_core.secure_sum import keys, sealing
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.evidence import AgreementOf, HeaderOf, HeadOf, Kind, PacketOf, evidence_of
from ssl_core.secure_sum.messages import AnswerHead, Backup, BackupHead, Close, Header, Parts, Start, Unmask, Upload, Void
from ssl_core.secure_sum.sealing import Route
from ssl_core.secure_sum.statements import (
    close_context,
    head_statement,
    header_statement,
    parts_leaves,
    read_signed,
    sign,
    start_context,
    start_round,
    survivors_statement,
)
from ssl_core.secure_sum.vault import Vault

LIAR, HOLDER = 1, 3
"""The site whose faults are shown, and the one to which it deals a bad share."""


class Scene:
    """Four sites, one of them lost before its upload; all that the server said, and what two liars would sign."""

    def __init__(self):
        self.federation: Recorded = recorded(4, dimension=3, backup=False)
        names, self.params, self.server = self.federation.names, self.federation.params, self.federation.server
        self.liar, self.name = self.federation.identities[names[LIAR]], names[LIAR]
        self.start = self.federation.begin(1)
        self.context = read_signed(Start, self.start)[0].context
        updates = small_updates(self.federation, 1)
        self.federation.sent = {name: self.federation.sites[name].upload(1, update) for name, update in updates.items()}
        self.upload = decode(Upload, self.federation.sent[self.name][0])
        self.vault = Vault(self.federation.stores[self.name], self.params.hash)
        for name in names[:3]:
            self.federation.coordinator.add_upload(name, *self.federation.sent[name])
        bad = repacked(self.federation, LIAR, HOLDER, content=bytes(31) + b"\x05")
        self.bad_upload = decode(Upload, bad[1])
        self.federation.agree()
        self.consent = self.federation.coordinator.consent_requests()[names[0]]
        self.unmask = self.federation.coordinator.unmask_requests()[names[0]]
        self.federation.unmask()
        self.close = self.federation.close(1)

    def other_start(self, signer=None, model="another model"):
        body = replace(read_signed(Start, self.start)[1], model=filled(model))
        return sign(signer or self.server, start_context(self.params, body), body)

    def other_close(self, **changes):
        body = replace(read_signed(Close, self.close)[1], **changes)
        return sign(self.server, close_context(self.params, body), body)

    def void(self, context=None):
        return sign(self.server, context or self.context, Void(round=1))

    def other_unmask(self):
        body = replace(read_signed(Unmask, self.unmask)[1], survivors=(0, 1, 3), proof=(), shares=())
        return sign(self.server, self.context, body)

    def empty_backup(self):
        return sign(self.server, self.context, Backup(round=1, recipient=0, survivors=(0, 2, 3), missing=(), backups=()))

    def header(self, vector, context=None):
        context = context or self.context
        signature = self.liar.sign(header_statement(context, vector, bytes(32)))
        return HeaderOf(context=context, header=Header(vector=vector, parts=bytes(32), signature=signature))

    def agreement(self, survivors):
        round = start_round(self.params, read_signed(Start, self.start)[1])
        signature = self.liar.sign(survivors_statement(self.context, survivors))
        return AgreementOf(round=round, survivors=survivors, signature=signature)

    def offer(self, epoch, name):
        private = keys.new_private(seeded(name))
        return keys.make_offer(self.params, self.liar, site=LIAR, epoch=epoch, private=private)

    def spoken(self, head):
        return HeadOf(head=encode(head), signature=self.liar.sign(head_statement(head)))

    def answer(self, said, marks=b"\x00\x02\x00\x01"):
        shown = (filled("0"), filled("1"), filled("2"))
        return self.spoken(AnswerHead(context=self.context, site=LIAR, shown=shown, marks=marks, digests=said))

    def relief(self, said):
        head = {"context": self.context, "site": LIAR, "missing": (0, 2), "shown": (filled("0"), filled("2"))}
        return self.spoken(BackupHead(**head, marks=b"\x00\x02", digests=(said, bytes(32))))

    def dealt(self, upload):
        """One packet of an upload with what proves it, and the key of its seal."""
        parts, route = decode(Parts, upload.parts), Route(context=self.context, sender=LIAR, recipient=HOLDER)
        shown = {"leaves": parts_leaves(parts), "recipient": HOLDER, "packet": parts.packets[HOLDER]}
        dealt = PacketOf(context=self.context, header=upload.header, **shown)
        return dealt, sealing.seal_key(self.vault.chain(HOLDER), route).reveal()


def evidence():
    """The file evidence.json."""
    scene = Scene()
    cases = [case(scene, *told) for told in faults(scene)]
    innocent = [line(what, alarm) for what, alarm in no_faults(scene)]
    return {
        "what": "Evidence: a party's public key, a kind and two statements (ALARM). Each case proves a fault from PARAMS "
        "alone; with one of the changes beside it, it proves nothing. innocent: alarms that look alike and prove nothing.",
        "params": encode(scene.params).hex(),
        "cases": cases,
        "innocent": innocent,
    }


def faults(scene):
    """(what, kind, party, first, second) of every kind."""
    server, liar = scene.server.public, scene.liar.public
    said = (filled("0"), filled("x"), filled("3"), filled("4"))
    yield "two rounds under one number", Kind.ROUND, server, scene.start, scene.other_start()
    yield (
        "a round that was closed under another context",
        Kind.ROUND,
        server,
        scene.start,
        scene.other_close(start_model=bytes(32)),
    )
    yield "two results of a round", Kind.CLOSE, server, scene.close, scene.other_close(total=bytes(32))
    yield "a result of a round that was given up", Kind.VOID, server, scene.void(), scene.close
    yield "CONSENT and UNMASK for two sets", Kind.SURVIVORS, server, scene.consent, scene.other_unmask()
    yield "BACKUP and CLOSE for two sets", Kind.SURVIVORS, server, scene.empty_backup(), scene.close
    yield "two uploads", Kind.UPLOAD, liar, scene.header(filled("a vector")), scene.header(filled("another vector"))
    yield "agreements to two sets", Kind.AGREEMENT, liar, scene.agreement((0, 1, 2)), scene.agreement((0, 1, 3))
    yield "two keys for one epoch", Kind.OFFER, liar, scene.offer(2, "one"), scene.offer(2, "another")
    yield "an answer with another share than was shown", Kind.SHARE, liar, scene.answer((filled("x"), *said[1:])), b""
    yield "a backup answer with another share than was shown", Kind.BACKUP, liar, scene.relief(filled("x")), b""
    yield "a sealed share that does not fit its commitment", Kind.DEALING, liar, *scene.dealt(scene.bad_upload)


def no_faults(scene):
    """(what, alarm) of what an honest party may sign, and of half-true accusations."""
    server, liar = scene.server.public, scene.liar.public
    everybody, some = scene.agreement((0, 1, 2, 3)), scene.agreement((0, 1, 2))
    said = (filled("0"), filled("x"), filled("2"), filled("4"))
    fits, key = scene.dealt(scene.upload)
    bad, bad_key = scene.dealt(scene.bad_upload)
    yield "START and CLOSE of one round", evidence_of(server, Kind.ROUND, scene.start, scene.close)
    yield (
        "two STARTs that a site signed",
        evidence_of(liar, Kind.ROUND, scene.other_start(scene.liar), scene.other_start(scene.liar, "a third model")),
    )
    yield (
        "uploads of two rounds",
        evidence_of(
            liar, Kind.UPLOAD, scene.header(filled("a vector")), scene.header(filled("another vector"), filled("a round"))
        ),
    )
    yield "a result, and another round given up", evidence_of(server, Kind.VOID, scene.void(filled("other")), scene.close)
    yield "CONSENT and UNMASK for one set", evidence_of(server, Kind.SURVIVORS, scene.consent, scene.unmask)
    yield "the agreement that comes with an upload, and one to a set", evidence_of(liar, Kind.AGREEMENT, everybody, some)
    yield "keys of two epochs", evidence_of(liar, Kind.OFFER, scene.offer(2, "one"), scene.offer(3, "another"))
    yield (
        "an answer that complains of one share and fits in the others",
        evidence_of(liar, Kind.SHARE, scene.answer(said, marks=b"\x00\x02\x00\x01")),
    )
    yield "a backup answer that fits", evidence_of(liar, Kind.BACKUP, scene.relief(filled("0")))
    yield "a sealed share that fits, with its true key", evidence_of(liar, Kind.DEALING, fits, key)
    yield "a bad share under another key", evidence_of(liar, Kind.DEALING, bad, bytes(32))
    yield "a packet that the header does not cover", evidence_of(liar, Kind.DEALING, replace(bad, packet=fits.packet), bad_key)
    yield "an unknown kind", evidence_of(server, "TASTE", scene.start, scene.other_start())


def case(scene, what, kind, party, first, second):
    alarm = evidence_of(party, kind, first, second)
    others = [scene.server.public, *(member.identity for member in scene.params.members)]
    changes = [
        {"why": "another party", "party": others[others.index(party) - 1].hex()},
        {"why": "another kind", "kind": str(next(other for other in Kind if other not in (kind, Kind.CLOSE, Kind.ROUND)))},
        {"why": "one half alone", "first": ""},
    ]
    if second and kind != Kind.DEALING:
        changes.append({"why": "the same twice", "second": alarm.first.hex()})
    return line(what, alarm) | {"changes": changes}


def line(what, alarm):
    return {"what": what, "kind": alarm.kind, "alarm": encode(alarm).hex()}
