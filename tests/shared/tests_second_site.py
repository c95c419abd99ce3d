"""Second decoder, floor 5: all bytes that one site says, made again from its secrets and from what it was told.

A site's randomness is the list of its recorded draws, used in order; a draw of another length than recorded is an error.
Every function gives the bytes that must have been sent.
"""

from __future__ import annotations

import tests_second_primitives as prim
import tests_second_ring as ring
from tests_second_study import (
    ack_of,
    backup_hash,
    backup_leaves,
    chain_salt,
    pair_element,
    parts_hash,
    ratchet,
    route,
    secret_hash,
    share_hash,
    signed,
    survivors_statement,
)
from tests_second_wire import build

SHARE, PAIR, COMPLAINT = 0, 1, 2
NO_BACKUP = {"blob": b"", "commitment": bytes(32)}


class Site:
    """One site: its Ed25519 seed, its draws of randomness in order, its keys."""

    def __init__(self, study, place, seed, draws):
        self.study, self.place, self.seed = study, place, seed
        self.draws = iter(draws)
        self.private = b""
        self.first = {}

    def draw(self, count):
        value = next(self.draws)
        if len(value) != count:
            raise AssertionError(f"site {self.place} drew {len(value)} bytes where {count} are used")
        return value

    def offer(self, epoch):
        self.private = self.draw(32)
        body = build("OFFER", epoch=epoch, site=self.place, key=prim.x25519_public(self.private))
        return signed(self.seed, "OFFER", self.study.hash, body)

    def accept(self, keyset):
        """CK_0 with every member; with itself, a draw."""
        for peer, public in self.study.open_keyset(keyset).items():
            if peer != self.place:
                salt = chain_salt(self.study, keyset, self.place, peer)
                self.first[peer] = prim.hkdf_extract(salt, prim.x25519(self.private, public))
        self.first[self.place] = self.draw(32)

    def chain(self, peer, round):
        return ratchet(self.first[peer], round)

    def element(self, peer, now):
        return pair_element(self.chain(peer, now.number), now.context)

    def seal_key(self, other, now, *, dealt, kind="share"):
        """The key of what this site dealt to `other`, or of what `other` dealt to it."""
        ends = (self.place, other) if dealt else (other, self.place)
        return prim.derive(self.chain(other, now.number), route(now.context, *ends, kind))

    def words(self, now, update, key):
        """w q of one update."""
        turn = self.study.turn(now.context)
        values = update if turn is None else ring.turned(update, *turn)
        return ring.rounded(values, weight=self.study.weight([self.place]), key=key, **self.study.grid())

    def upload(self, now, update, close):
        """(UPLOAD, masked words, words before masking), and all randomness that they take; `close` is START's CLOSE."""
        rounding, own = self.draw(32), prim.wide_element(self.draw(48))
        plain = self.words(now, update, rounding)
        pairs = {peer: self.element(peer, now) for peer in now.others(self.place)}
        add = [ring.self_key(own), *(ring.pair_key(value) for peer, value in pairs.items() if peer < self.place)]
        subtract = [ring.pair_key(value) for peer, value in pairs.items() if peer > self.place]
        vector = ring.masked(plain, self.study.bits, add=add, subtract=subtract)
        parts = self.parts(now, own, pairs)
        hashes = prim.sha256(ring.vector_bytes(vector, self.study.bits)), parts_hash(parts)
        signature = prim.ed25519_sign(self.seed, prim.join("sign/HEADER", now.context, *hashes))
        header = {"vector": hashes[0], "parts": hashes[1], "signature": signature}
        body = {"context": now.context, "header": header, "parts": build("PARTS", **parts)}
        return build("UPLOAD", **body, ack=self.ack(close) if close else b""), vector, plain

    def parts(self, now, own, pairs):
        length = 48 * (self.study.threshold - 1)
        shares = dict(
            zip(now.participants, prim.shares_of(own, self.draw(length), [j + 1 for j in now.participants]), strict=True)
        )
        backups = {holder: [] for holder in now.others(self.place)} if now.backed else {}
        for peer in backups:
            dealt = prim.shares_of(pairs[peer], self.draw(length), [holder + 1 for holder in backups])
            for holder, share in zip(backups, dealt, strict=True):
                backups[holder].append(prim.element_bytes(share))
        packets = []
        for holder in now.participants:
            content = prim.element_bytes(shares[holder])
            share = self.sealed(now, holder, "share", content, share_hash(now.context, self.place, holder, content))
            backup = NO_BACKUP
            if holder in backups:
                leaves = backup_leaves(now.context, self.place, holder, now.others(self.place), backups[holder])
                commitment = backup_hash(now.context, self.place, holder, leaves)
                backup = self.sealed(now, holder, "backup", b"".join(backups[holder]), commitment)
            packets.append({"share": share, "backup": backup})
        values = [own if peer == self.place else pairs[peer] for peer in now.participants]
        return {
            "agreement": prim.ed25519_sign(self.seed, survivors_statement(now.context, now.participants)),
            "commitments": [
                secret_hash(now.context, value, own=peer == self.place)
                for peer, value in zip(now.participants, values, strict=True)
            ],
            "packets": packets,
        }

    def sealed(self, now, holder, kind, content, commitment):
        key, nonce = self.seal_key(holder, now, dealt=True, kind=kind), self.draw(12)
        return {"blob": prim.seal(key, nonce, content, route(now.context, self.place, holder, kind)), "commitment": commitment}

    def agreement(self, now, survivors):
        signature = prim.ed25519_sign(self.seed, survivors_statement(now.context, survivors))
        return build("AGREEMENT", context=now.context, signature=signature)

    def answer(self, now, unmask):
        """A share of b_j for each survivor, or the seal key where it does not fit; e_ij for each lost j."""
        shown = dict(zip(unmask["survivors"], unmask["shares"], strict=True))
        values, digests = [], []
        for peer in now.participants:
            if peer not in shown:
                element = self.element(peer, now)
                values.append(bytes([PAIR]) + prim.element_bytes(element))
                digests.append(secret_hash(now.context, element, own=False))
                continue
            key = self.seal_key(peer, now, dealt=False)
            share = prim.unseal(key, shown[peer]["blob"], route(now.context, peer, self.place, "share"))
            found = None if share is None else share_hash(now.context, peer, self.place, share)
            if found == shown[peer]["commitment"] and prim.element_of(share) is not None:
                values.append(bytes([SHARE]) + share)
                digests.append(found)
            else:
                values.append(bytes([COMPLAINT]) + key)
                digests.append(prim.digest("complaint", now.context, prim.u16(peer), prim.u16(self.place), key))
        shown = [sealed["commitment"] for sealed in unmask["shares"]]
        marks = bytes(value[0] for value in values)
        head = build("ANSWER-HEAD", context=now.context, site=self.place, shown=shown, marks=marks, digests=digests)
        signature = prim.ed25519_sign(self.seed, prim.join("sign/ANSWER-HEAD", head))
        return build("ANSWER", context=now.context, values=values, signature=signature)

    def backup_answer(self, now, request):
        """For each missing k: shares of e_kj for lost j, hashes of them for the survivors."""
        values, digests = [], []
        for dealer, sealed in zip(request["missing"], request["backups"], strict=True):
            peers = now.others(dealer)
            key = self.seal_key(dealer, now, dealt=False, kind="backup")
            opened = prim.unseal(key, sealed["blob"], route(now.context, dealer, self.place, "backup"))
            shares = [] if opened is None else [opened[at : at + 32] for at in range(0, len(opened), 32)]
            fits = len(shares) == len(peers) and all(prim.element_of(share) is not None for share in shares)
            leaves = backup_leaves(now.context, dealer, self.place, peers, shares) if fits else []
            if not fits or backup_hash(now.context, dealer, self.place, leaves) != sealed["commitment"]:
                values.append(bytes([COMPLAINT]) + bytes(32 * len(peers)))
                digests.append(bytes(32))
                continue
            lost = [peer not in request["survivors"] for peer in peers]
            told = [share if gone else leaf for share, leaf, gone in zip(shares, leaves, lost, strict=True)]
            values.append(bytes([SHARE]) + b"".join(told))
            digests.append(sealed["commitment"])
        marks = bytes(value[0] for value in values)
        shown = [sealed["commitment"] for sealed in request["backups"]]
        told = {"context": now.context, "missing": request["missing"]}
        head = build("BACKUP-HEAD", **told, site=self.place, shown=shown, marks=marks, digests=digests)
        signature = prim.ed25519_sign(self.seed, prim.join("sign/BACKUP-HEAD", head))
        return build("BACKUP-ANSWER", **told, values=values, signature=signature)

    def ack(self, close):
        return signed(self.seed, "ACK", self.study.close_hash(close), build("ACK", **ack_of(close)))
