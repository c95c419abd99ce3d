"""Second decoder, floor 7: a study of round.json or upload.json replayed; every byte made again and every sum opened.

`replay` reads each message as the server would (tests_second_decoder.py) and, beside it, makes what its sender must have
said from that sender's secrets (tests_second_site.py). A difference raises `Differs`.
"""

from __future__ import annotations

import tests_second_primitives as prim
from tests_second_decoder import Conversation, kind_of
from tests_second_model import Model
from tests_second_site import Site
from tests_second_study import GENESIS, Study, signed, transcript
from tests_second_wire import build, parse, parse_signed


class Differs(AssertionError):
    """The file says something else than this implementation."""


def same(found, told, what):
    if found != told:
        raise Differs(f"{what}: {found!r:.200} is not {told!r:.200}")


def unhex(values):
    return [bytes.fromhex(value) for value in values]


class Replay:
    """One study, round by round; `made` counts the messages that were made again, by type."""

    def __init__(self, told):
        self.study = Study(bytes.fromhex(told["params"]))
        self.server = bytes.fromhex(told["server_seed"])
        seeds, draws = unhex(told["site_seeds"]), [unhex(values) for values in told["draws"]]
        self.sites = [Site(self.study, place, *secrets) for place, secrets in enumerate(zip(seeds, draws, strict=True))]
        same(prim.ed25519_public(self.server), self.study.params["server"], "server key")
        for site in self.sites:
            same(prim.ed25519_public(site.seed), self.study.public(site.place), f"identity {site.place}")
        self.talk = Conversation(self.study)
        self.closed, self.count = b"", 0
        self.model = Model(told["aggregation"], told["initial"])
        self.made = {}

    def play(self, told):
        """One round of the file."""
        self.plain = {}
        if "keyset" in told:
            self._keys_are(told["epoch"], bytes.fromhex(told["keyset"]))
        for line in told["messages"]:
            data, vector = bytes.fromhex(line["message"]), line.get("vector")
            self.asked = line.get("to")
            kind = kind_of(data)
            if line["from"] != "server" and not line.get("dishonest"):
                self._made_by_site(kind, line["from"], data, vector, told["updates"])
            self.talk.take(line["from"], data, vector)
            if kind == "CHECKPOINT":
                self._made_checkpoint(data, line["values"])
            elif line["from"] == "server":
                self._made_by_server(kind, data)
            self.made[kind] = self.made.get(kind, 0) + 1
        if "total" in told:
            self._sum_is(told)

    def _keys_are(self, epoch, keyset):
        """The epoch that begins with a round: every site offers, then derives its chains anew."""
        self.keyset = build("KEYSET", epoch=epoch, offers=[site.offer(epoch) for site in self.sites])
        same(self.keyset.hex(), keyset.hex(), "key set")
        for site in self.sites:
            site.accept(self.keyset)
        self.talk.renew(keyset)

    def _sum_is(self, told):
        same(self.talk.open_sum(), told["total"], "sum opened from the server's view")
        survivors = self.talk.survivors
        honest = [self.plain[site] for site in survivors if site in self.plain]
        if len(honest) == len(survivors):
            words = [sum(column) % (1 << self.study.bits) for column in zip(*honest, strict=True)]
            same(words, told["total"], "sum of the updates themselves")
        same(self.talk.mean(), told["mean"], "mean")
        same(transcript(self.talk.close).hex(), told["transcript"], "transcript")

    def _made_by_site(self, kind, place, data, vector, updates):
        site, now = self.sites[place], self.talk.now
        if kind == "UPLOAD":
            body, words, self.plain[place] = site.upload(now, updates[place], self.talk.close)
            same(words, vector, f"masked words of {place}")
        elif kind == "AGREEMENT":
            body = site.agreement(now, self.request["survivors"])
        elif kind == "ANSWER":
            body = site.answer(now, self.unmasks[place])
        elif kind == "BACKUP-ANSWER":
            body = site.backup_answer(now, self.requests[place])
        else:
            body = site.ack(self.talk.close)
        same(body.hex(), data.hex(), f"{kind} of {place}")

    def _made_by_server(self, kind, data):
        """The same message from what the server had heard, and its signature."""
        talk, now = self.talk, self.talk.now
        wrapper, told = parse_signed(kind, data)
        self.request = told
        if kind == "START":
            self.unmasks, self.requests = {}, {}
            previous = transcript(parse_signed("CLOSE", self.closed)[1]) if self.closed else GENESIS
            body = told | {"keyset": prim.digest("keyset", self.keyset), "previous": previous, "close": self.closed}
            body["model"] = self.model.digest
        elif kind == "CONSENT":
            body = told | {"headers": [self._header(site) for site in told["survivors"]]}
        elif kind == "UNMASK":
            proofs = {site: parse("PARTS", upload["parts"])["agreement"] for site, upload in self._uploads().items()}
            if told["survivors"] != now.participants:
                proofs = talk.agreed
            self.unmasks[told["recipient"]] = told
            body = told | {"proof": [{"site": site, "signature": proofs[site]} for site in sorted(proofs)]}
            body["shares"] = [self._packets(site)[now.at(told["recipient"])]["share"] for site in told["survivors"]]
            same(self.asked, [told["recipient"]], "recipient of UNMASK")
        elif kind == "BACKUP":
            self.requests[told["recipient"]] = told
            body = told | {"backups": [self._packets(site)[now.at(told["recipient"])]["backup"] for site in told["missing"]]}
        elif kind == "CLOSE":
            self.closed, self.model = data, self.model.after(talk.mean())
            body = told | {"headers": [self._header(site) for site in told["survivors"]]}
            self.count += 1
            body |= {"count": self.count, "model": self.model.digest, "state": self.model.state}
        else:
            body = told
        same(signed(self.server, kind, wrapper["context"], build(kind, **body)).hex(), data.hex(), kind)

    def _made_checkpoint(self, data, values):
        acks = [{"site": site, "ack": ack} for site, ack in sorted(self.talk.acks.items())]
        same(build("CHECKPOINT", close=self.closed, acks=acks).hex(), data.hex(), "CHECKPOINT")
        same(values, self.model.values, "weights and moments beside CHECKPOINT")

    def _uploads(self):
        kept = self.talk.uploads
        return {site: {"parts": build("PARTS", **upload["all"])} for site, upload in kept.items()}

    def _packets(self, site):
        return self.talk.uploads[site]["all"]["packets"]

    def _header(self, site):
        return {name: value for name, value in self.talk.uploads[site].items() if name != "all"}
