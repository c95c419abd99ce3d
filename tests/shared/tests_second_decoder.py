"""Second decoder, floor 6: a conversation between server and sites -> the sum that the server could open, and its mean.

Reads messages in the order in which they were sent. Every signature is verified with the public key that PARAMS names,
every hash, commitment and place is checked, and the sum is opened from what the server was told alone: answers and backup
answers, no site's secret. Written from the protocol's description; no line is shared with the product.
"""

from __future__ import annotations

import tests_second_primitives as prim
import tests_second_ring as ring
from tests_second_site import COMPLAINT, PAIR, SHARE
from tests_second_study import (
    GENESIS,
    Round,
    ack_of,
    backup_hash,
    backup_leaves,
    parts_hash,
    route,
    secret_hash,
    share_hash,
    survivors_statement,
    transcript,
    verifies,
)
from tests_second_wire import MESSAGES, Malformed, build, parse, parse_signed


class Refused(ValueError):
    """A message that the protocol does not allow."""


def need(held, problem):
    if not held:
        raise Refused(problem)


def kind_of(data):
    """The type of a message; of a signed one, the type of its body."""
    size = int.from_bytes(data[:4], "big")
    kind = data[4 : 4 + size].decode("ascii", "replace")
    if kind == "SIGNED":
        kind = parse("SIGNED", data)["kind"]
    if kind not in MESSAGES:
        raise Malformed("message of an unknown type")
    return kind


class Conversation:
    """Rounds of one study, as the server sees them."""

    def __init__(self, study):
        self.study, self.keyset = study, b""
        self.close = None
        self.now = None

    def renew(self, keyset):
        """A key set, every offer checked, for the rounds that follow."""
        self.study.open_keyset(keyset)
        self.keyset = prim.digest("keyset", keyset)

    def take(self, sender, data, vector=None):
        """Check one message; `sender` is the place of a site or "server", `vector` the words beside an UPLOAD."""
        kind = kind_of(data)
        reader = getattr(self, "_" + kind.lower().replace("-", "_"))
        if kind == "CHECKPOINT":
            reader(parse(kind, data))
        elif sender == "server":
            wrapper, body = parse_signed(kind, data)
            need(verifies(self.study.params["server"], wrapper), f"{kind} is not signed by the server")
            reader(wrapper, body)
        elif vector is None:
            reader(sender, data)
        else:
            reader(sender, data, vector)
        return kind

    def _start(self, wrapper, body):
        if body["close"]:
            last = parse_signed("CLOSE", body["close"])
            need(verifies(self.study.params["server"], last[0]), "CLOSE in START is not signed by the server")
            need(self.close is None or last[1] == self.close, "START carries another CLOSE")
            self.close = last[1]
        previous = transcript(self.close) if self.close else GENESIS
        model = self.close["model"] if self.close else body["model"]
        need((body["previous"], body["model"]) == (previous, model), "START does not follow the last CLOSE")
        need(body["keyset"] == self.keyset, "START is of another key set")
        self.now = Round(self.study, body)
        need(wrapper["context"] == self.now.context, "START is of another round")
        self.survivors, self.agreed, self.acks = None, {}, {}
        self.uploads, self.vectors = {}, {}
        self.shares, self.pairs, self.backups = {}, {}, {}
        self.total = None

    def _upload(self, site, data, vector):
        upload, now = parse("UPLOAD", data), self.now
        parts = parse("PARTS", upload["parts"])
        header = upload["header"]
        need(upload["context"] == now.context, "UPLOAD is of another round")
        need(self._header_of(site, header), "UPLOAD is not signed by its site")
        need(header["vector"] == prim.sha256(ring.vector_bytes(vector, self.study.bits)), "vector is not the one signed")
        need(header["parts"] == parts_hash(parts), "parts are not those signed")
        need(self._agrees(site, now.participants, parts["agreement"]), "UPLOAD does not agree to all participants")
        size = len(now.participants)
        need(len(parts["packets"]) == len(parts["commitments"]) == size, "not one packet and commitment a participant")
        need(len(vector) == self.study.params["dimension"], "vector has another length")
        need((upload["ack"] == b"") == (self.close is None), "UPLOAD acknowledges without a CLOSE, or not at all")
        if upload["ack"]:
            self._ack(site, upload["ack"])
            self.acks[site] = upload["ack"]
        self.uploads[site], self.vectors[site] = header | {"all": parts}, vector

    def _consent(self, wrapper, body):
        self._survivors_are(wrapper, body)
        need(body["survivors"] != self.now.participants, "CONSENT to all participants")
        for site, header in zip(body["survivors"], body["headers"], strict=True):
            need(header == self._kept_header(site), "CONSENT shows another header")

    def _agreement(self, site, data):
        body = parse("AGREEMENT", data)
        need(body["context"] == self.now.context, "AGREEMENT is of another round")
        need(self._agrees(site, self.survivors, body["signature"]), "AGREEMENT is not to these survivors")
        self.agreed[site] = body["signature"]

    def _unmask(self, wrapper, body):
        self._survivors_are(wrapper, body)
        everybody = body["survivors"] == self.now.participants
        sites = [proof["site"] for proof in body["proof"]]
        need(sites == sorted(set(sites)) and set(sites) <= set(body["survivors"]), "UNMASK has proofs of others")
        enough = sites == self.now.participants if everybody else len(sites) >= self.study.threshold
        need(enough, "UNMASK has too few agreements")
        for proof in body["proof"]:
            need(self._agrees(proof["site"], body["survivors"], proof["signature"]), "UNMASK has a false agreement")
        for dealer, sealed in zip(body["survivors"], body["shares"], strict=True):
            need(sealed == self._packet(dealer, body["recipient"])["share"], "UNMASK shows another share")

    def _answer(self, site, data):
        body, now = parse("ANSWER", data), self.now
        need(body["context"] == now.context, "ANSWER is of another round")
        digests, shares, pairs = [], {}, {}
        for peer, value in zip(now.participants, body["values"], strict=True):
            mark, content = value[0], value[1:]
            sealed = self._packet(peer, site)["share"] if peer in self.survivors else None
            if mark == PAIR:
                need(sealed is None, "ANSWER tells the element of a pair inside U")
                digests.append(secret_hash(now.context, self._element(content), own=False))
                need(digests[-1] == self._commitment(site, peer), "ANSWER tells another pair element")
                pairs[site, peer] = self._element(content)
            elif mark == SHARE:
                need(sealed is not None, "ANSWER tells a share of a lost site")
                digests.append(share_hash(now.context, peer, site, content))
                need(digests[-1] == sealed["commitment"], "ANSWER tells another share")
                shares[peer] = self._element(content)
            else:
                need(mark == COMPLAINT and sealed is not None, "ANSWER has an unknown mark")
                digests.append(prim.digest("complaint", now.context, prim.u16(peer), prim.u16(site), content))
                opened = prim.unseal(content, sealed["blob"], route(now.context, peer, site, "share"))
                fits = opened is not None and share_hash(now.context, peer, site, opened) == sealed["commitment"]
                need(not fits, "ANSWER complains of a share that fits")
        shown = [self._packet(dealer, site)["share"]["commitment"] for dealer in self.survivors]
        marks = bytes(value[0] for value in body["values"])
        head = build("ANSWER-HEAD", context=now.context, site=site, shown=shown, marks=marks, digests=digests)
        self._head_signed(site, "ANSWER-HEAD", head, body["signature"])
        self.pairs |= pairs
        for dealer, share in shares.items():
            self.shares.setdefault(dealer, {})[site + 1] = share

    def _backup(self, wrapper, body):
        self._survivors_are(wrapper, body)
        need(set(body["missing"]) <= set(self.survivors) - {body["recipient"]}, "BACKUP is about other sites")
        for dealer, sealed in zip(body["missing"], body["backups"], strict=True):
            need(sealed == self._packet(dealer, body["recipient"])["backup"], "BACKUP shows another seal")

    def _backup_answer(self, site, data):
        body, now = parse("BACKUP-ANSWER", data), self.now
        need(body["context"] == now.context, "BACKUP-ANSWER is of another round")
        shown, digests = [], []
        for dealer, value in zip(body["missing"], body["values"], strict=True):
            peers, content = now.others(dealer), value[1:]
            shown.append(self._packet(dealer, site)["backup"]["commitment"])
            need(len(content) == 32 * len(peers) and value[0] in (SHARE, COMPLAINT), "BACKUP-ANSWER has another form")
            if value[0] == COMPLAINT:
                digests.append(bytes(32))
                continue
            told = [content[at : at + 32] for at in range(0, len(content), 32)]
            hashed = backup_leaves(now.context, dealer, site, peers, told)
            lost = [peer not in self.survivors for peer in peers]
            leaves = [leaf if gone else part for leaf, part, gone in zip(hashed, told, lost, strict=True)]
            digests.append(backup_hash(now.context, dealer, site, leaves))
            need(digests[-1] == shown[-1], "BACKUP-ANSWER tells another share")
            for peer, share, gone in zip(peers, told, lost, strict=True):
                if gone:
                    self.backups.setdefault((dealer, peer), {})[site + 1] = self._element(share)
        marks = bytes(value[0] for value in body["values"])
        head = {"context": now.context, "site": site, "missing": body["missing"], "shown": shown}
        self._head_signed(site, "BACKUP-HEAD", build("BACKUP-HEAD", **head, marks=marks, digests=digests), body["signature"])

    def _close(self, wrapper, body):
        now = self.now
        need(wrapper["context"] == now.context == self.study.close_hash(body), "CLOSE is of another round")
        expected = {name: now.start[name] for name in ("round", "participants", "keyset", "previous")}
        expected |= {"survivors": self.survivors, "start_model": now.start["model"]}
        expected["count"] = 1 + (self.close["count"] if self.close else 0)
        expected["headers"] = [self._kept_header(site) for site in self.survivors]
        expected["total"] = prim.sha256(ring.vector_bytes(self.open_sum(), self.study.bits))
        need({name: body[name] for name in expected} == expected, "CLOSE is of another sum")
        self.close = body

    def _ack(self, site, data):
        wrapper, body = parse_signed("ACK", data)
        need(verifies(self.study.public(site), wrapper), "ACK is not signed by its site")
        need(wrapper["context"] == self.study.close_hash(self.close), "ACK is of another round")
        need(body == ack_of(self.close), "ACK is of another CLOSE")

    def _checkpoint(self, body):
        wrapper, close = parse_signed("CLOSE", body["close"])
        need(verifies(self.study.params["server"], wrapper), "CLOSE in CHECKPOINT is not signed by the server")
        need(close == self.close, "CHECKPOINT is of another CLOSE")
        sites = [acked["site"] for acked in body["acks"]]
        need(sites == sorted(set(sites)) and len(sites) >= self.study.threshold, "CHECKPOINT has too few acknowledgements")
        for acked in body["acks"]:
            self._ack(acked["site"], acked["ack"])

    def _void(self, wrapper, body):
        need(wrapper["context"] == self.now.context and body["round"] == self.now.number, "VOID is of another round")
        self.now = None

    def open_sum(self):
        """The survivors' sum as words, with t shares of each b_i and every element that dangles; `Refused` when one lacks."""
        if self.total is None:
            own = {site: self._recover(self.shares.get(site, {}), site, site) for site in self.survivors}
            pairs = dict(self.pairs)
            for site in self.survivors:
                for lost in set(self.now.participants) - set(self.survivors):
                    if (site, lost) not in pairs:
                        pairs[site, lost] = self._recover(self.backups.get((site, lost), {}), site, lost)
            words = [sum(column) % (1 << self.study.bits) for column in zip(*self._survivors_vectors(), strict=True)]
            add = [ring.pair_key(value) for (site, lost), value in pairs.items() if lost > site]
            subtract = [ring.pair_key(value) for (site, lost), value in pairs.items() if lost < site]
            subtract += [ring.self_key(value) for value in own.values()]
            self.total = ring.masked(words, self.study.bits, add=add, subtract=subtract)
        return self.total

    def mean(self):
        weight, turn = self.study.weight(self.survivors), self.study.turn(self.now.context)
        return ring.mean_of(self.open_sum(), weight=weight, turn_back=turn, **self.study.grid())

    def _recover(self, shares, site, peer):
        need(len(shares) >= self.study.threshold, f"too few shares of {site}, {peer}")
        found = prim.secret_of(dict(sorted(shares.items())[: self.study.threshold]))
        fits = secret_hash(self.now.context, found, own=site == peer) == self._commitment(site, peer)
        need(fits, f"shares of {site}, {peer} give another secret")
        return found

    def _survivors_are(self, wrapper, body):
        need(wrapper["context"] == self.now.context, "message is of another round")
        need(body["round"] == self.now.number, "message names another round")
        need(self.survivors in (None, body["survivors"]), "message names other survivors")
        self.survivors = body["survivors"]
        need(self.survivors == sorted(set(self.survivors) & set(self.now.participants)), "survivors are not participants")
        need(len(self.survivors) >= self.study.least, "too few survivors")

    def _survivors_vectors(self):
        return [self.vectors[site] for site in self.survivors]

    def _packet(self, dealer, holder):
        return self.uploads[dealer]["all"]["packets"][self.now.at(holder)]

    def _commitment(self, site, peer):
        return self.uploads[site]["all"]["commitments"][self.now.at(peer)]

    def _kept_header(self, site):
        return {name: value for name, value in self.uploads[site].items() if name != "all"}

    def _header_of(self, site, header):
        statement = prim.join("sign/HEADER", self.now.context, header["vector"], header["parts"])
        return prim.ed25519_verifies(self.study.public(site), statement, header["signature"])

    def _agrees(self, site, survivors, signature):
        return prim.ed25519_verifies(self.study.public(site), survivors_statement(self.now.context, survivors), signature)

    def _head_signed(self, site, kind, head, signature):
        held = prim.ed25519_verifies(self.study.public(site), prim.join("sign/" + kind, head), signature)
        need(held, f"{kind} is not signed by its site")

    def _element(self, data):
        value = prim.element_of(data)
        need(value is not None, "value is outside the field")
        return value
