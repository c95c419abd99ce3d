"""A server that holds its own key, c colluding sites and every message ever sent, and tries to open what it must not.

It speaks the real messages to real `SecureSumSite`s: it signs any START, CONSENT, UNMASK, BACKUP, CLOSE or VOID with any
fields, begins one round number in several contexts, and signs anything in the corrupt sites' names. A corrupt site is
in every context at once, on a copy of its store, and hands over its chain keys.
`opened` uses nothing that such a server lacks: vectors and packets of uploads, what answers released, the corrupt sites'
keys. It recovers every b_i that enough shares give, takes off every mask that it knows, and returns the sums that stand
alone then. For a known mask counts what fits its owner's commitment. As each unknown mask stands in one vector (b) or
in two (e, with opposite signs), the sums that stand alone are those over whole components of the graph whose edges are
the unknown pair masks, where no member's own mask is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from tests_federation import Federation, signed_view

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import keys, masks, messages, sealing, shamir
from ssl_core.secure_sum.codec import Message, decode
from ssl_core.secure_sum.messages import Header, Parts, Start, Unmask, Upload
from ssl_core.secure_sum.sealing import BACKUP, Route
from ssl_core.secure_sum.site import SecureSumSite
from ssl_core.secure_sum.statements import read_signed, sign, start_context, survivors_statement
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Secret

Sites = tuple[int, ...]


@dataclass
class Overheard:
    """All that the server has of one context; places are those of the members."""

    start: Start
    vectors: dict[int, np.ndarray] = field(default_factory=dict)
    headers: dict[int, Header] = field(default_factory=dict)
    parts: dict[int, Parts] = field(default_factory=dict)
    agreements: dict[tuple[Sites, int], bytes] = field(default_factory=dict)
    shares: dict[int, dict[int, int]] = field(default_factory=dict)
    backups: dict[tuple[int, int], dict[int, int]] = field(default_factory=dict)
    elements: dict[frozenset[int], int] = field(default_factory=dict)
    chains: dict[int, list[Secret]] = field(default_factory=dict)
    corrupt: dict[int, SecureSumSite] = field(default_factory=dict)
    answered: dict[Sites, set[int]] = field(default_factory=dict)

    @property
    def participants(self) -> Sites:
        return self.start.participants


class MaliciousServer:
    """The last `corrupt` members collude; `refused` holds every refusal that it met."""

    def __init__(self, federation: Federation, corrupt: int | None = None) -> None:
        self.federation = federation
        self.params = federation.params
        self.everyone = tuple(range(len(self.params.members)))
        count = self.params.corrupt if corrupt is None else corrupt
        self.honest, self.corrupt = self.everyone[: len(self.everyone) - count], self.everyone[len(self.everyone) - count :]
        self.contexts: dict[bytes, Overheard] = {}
        self.refused: list[ProtocolError] = []

    def name(self, place: int) -> str:
        return self.federation.names[place]

    def site(self, place: int) -> SecureSumSite:
        return self.federation.sites[self.name(place)]

    def say(self, context: bytes, body: Message) -> bytes:
        """Any body, signed by the server for any context."""
        return sign(self.federation.server, context, body)

    def try_(self, call: Callable[[], object]) -> object | None:
        """What a site answered; None where it refused."""
        try:
            return call()
        except ProtocolError as error:
            self.refused.append(error)
            return None

    # START and UPLOAD

    def forge_start(self, round: int = 1, participants: Sites | None = None, **changes: object) -> tuple[bytes, bytes]:
        """(START, context) with any fields changed, under a context that fits."""
        scratch = self.federation.make_coordinator()
        honest = scratch.start(round, self.federation.names, self.federation.model, self.federation.last_close)
        start = replace(read_signed(Start, honest)[1], participants=participants or self.everyone, **changes)
        context = start_context(self.params, start)
        return self.say(context, start), context

    def begin(self, start: bytes, sites: Collection[int] | None = None) -> bytes:
        """Send a START to these honest sites and to all corrupt ones that it names; the context."""
        signed, body = read_signed(Start, start)
        heard = self.contexts.setdefault(signed.context, Overheard(start=body))
        for place in self.honest if sites is None else sites:
            self.try_(lambda place=place: self.site(place).begin(start, self.federation.last_total))
        for place in set(self.corrupt) & set(body.participants) - set(heard.corrupt):
            store = self.federation.stores[self.name(place)].copy()
            twin = self.federation.make_site(self.name(place), store)
            twin.begin(start, self.federation.last_total)
            vault = Vault(store, self.params.hash)
            heard.corrupt[place], heard.chains[place] = twin, [vault.chain(peer) for peer in self.everyone]
        return signed.context

    def take_uploads(self, context: bytes, updates: Mapping[str, np.ndarray], sites: Collection[int] | None = None) -> None:
        """Uploads of these honest sites (all that take part) and of the corrupt ones."""
        heard = self.contexts[context]
        for place in heard.participants if sites is None else sites:
            site = heard.corrupt.get(place) or self.site(place)
            self.overhear(context, place, *site.upload(heard.start.round, updates[self.name(place)]))

    def overhear(self, context: bytes, place: int, body: bytes, vector: np.ndarray) -> None:
        """Keep an upload, however it was come by."""
        heard, upload = self.contexts[context], decode(Upload, body)
        heard.vectors[place], heard.headers[place] = vector, upload.header
        heard.parts[place] = decode(Parts, upload.parts)
        heard.agreements[heard.participants, place] = heard.parts[place].agreement

    def open_round(self, updates: Mapping[str, np.ndarray], round: int = 1, **start: object) -> bytes:
        """Begin at all and take every upload; the context."""
        context = self.begin(self.forge_start(round, **start)[0])
        self.take_uploads(context, updates)
        return context

    # CONSENT, UNMASK, BACKUP

    def ask_consent(self, context: bytes, place: int, survivors: Sites, **changes: object) -> bool:
        """Whether an honest site agreed to these survivors."""
        heard = self.contexts[context]
        headers = tuple(heard.headers[at] for at in survivors if at in heard.headers)
        request = messages.Consent(round=heard.start.round, survivors=survivors, headers=headers)
        message = self.say(context, replace(request, **changes))
        reply = self.try_(lambda: self.site(place).consent(message))
        if reply is not None:
            heard.agreements[survivors, place] = decode(messages.Agreement, reply).signature
        return reply is not None

    def unmask_request(self, context: bytes, place: int, survivors: Sites, **changes: object) -> bytes:
        """UNMASK with every agreement that can be had: those given, and those of the corrupt."""
        heard = self.contexts[context]
        for at in set(self.corrupt) & set(survivors):
            identity = self.federation.identities[self.name(at)]
            heard.agreements[survivors, at] = identity.sign(survivors_statement(context, survivors))
        have = [at for at in survivors if (survivors, at) in heard.agreements]
        request = Unmask(
            round=heard.start.round,
            recipient=place,
            survivors=survivors,
            proof=tuple(messages.Proof(site=at, signature=heard.agreements[survivors, at]) for at in have),
            shares=tuple(self._packet(heard, at, place).share for at in survivors if at in heard.parts),
        )
        return self.say(context, replace(request, **changes))

    def ask_unmask(self, context: bytes, place: int, survivors: Sites, **changes: object) -> bytes | None:
        """The ANSWER of an honest site, whose every secret is kept."""
        message = self.unmask_request(context, place, survivors, **changes)
        reply = self.try_(lambda: self.site(place).unmask(message))
        if reply is not None:
            self.contexts[context].answered.setdefault(survivors, set()).add(place)
            self.hear_answer(context, place, reply)
        return reply

    def hear_answer(self, context: bytes, place: int, reply: bytes) -> None:
        """Keep shares and elements; a complaint's key opens the dealer's real share."""
        heard = self.contexts[context]
        for peer, value in zip(heard.participants, decode(messages.Answer, reply).values, strict=True):
            mark, content = value.reveal()[0], value.reveal()[1:]
            if mark == messages.Mark.COMPLAINT:
                route = Route(context=context, sender=peer, recipient=place)
                content = sealing.unseal(Secret(content), route, self._packet(heard, peer, place).share.blob)
            if mark == messages.Mark.PAIR:
                heard.elements[frozenset((place, peer))] = shamir.from_bytes(content)
            elif content is not None:
                heard.shares.setdefault(peer, {})[place] = shamir.from_bytes(content)

    def ask_backup(self, context: bytes, place: int, survivors: Sites, missing: Sites | None = None) -> bytes | None:
        """The BACKUP-ANSWER of an honest site about `missing` (all survivors but itself)."""
        heard = self.contexts[context]
        missing = tuple(at for at in survivors if at != place) if missing is None else missing
        request = messages.Backup(
            round=heard.start.round,
            recipient=place,
            survivors=survivors,
            missing=missing,
            backups=tuple(self._packet(heard, at, place).backup for at in missing),
        )
        reply = self.try_(lambda: self.site(place).backup(self.say(context, request)))
        if reply is not None:
            for dealer, value in zip(missing, decode(messages.BackupAnswer, reply).values, strict=True):
                peers = [peer for peer in heard.participants if peer != dealer]
                for at, lost in enumerate(peers):
                    if lost not in survivors and value.reveal()[0] == messages.Mark.SHARE:
                        content = int.from_bytes(value.reveal()[1 + 32 * at : 33 + 32 * at], "big")
                        heard.backups.setdefault((dealer, lost), {})[place] = content
        return reply

    def forge_close(self, honest: bytes, **changes: object) -> bytes:
        """A CLOSE like this one with other fields, signed."""
        signed, body = read_signed(messages.Close, honest)
        return self.say(signed.context, replace(body, **changes))

    # opening

    def opened(self) -> dict[frozenset[int], list[int]]:
        """{honest sites: sum of their w_i q_i}, for every sum that can be computed from all that was heard."""
        found: dict[frozenset[int], list[int]] = {}
        for context, heard in self.contexts.items():
            self._collude(context, heard)
            own = {at: secret for at in heard.vectors if (secret := self._own(context, heard, at)) is not None}
            left = set(heard.vectors) - set(self.corrupt)
            while left:
                group = self._joined(context, heard, min(left))
                left -= group
                if group <= own.keys():
                    found[frozenset(group)] = self._sum(context, heard, group, own)
        return found

    def expected(self, updates: Mapping[str, np.ndarray], group: Collection[int]) -> list[int]:
        """What the sum over a group must be if it was really opened."""
        return self.federation.expected(dict(updates), [self.name(place) for place in group])

    @property
    def floor(self) -> int:
        """m - c: the least number of honest sites that a sum is promised to have."""
        return self.params.thresholds(len(self.everyone)).survivors - len(self.corrupt)

    def check_one_sum(self, updates: Mapping[str, np.ndarray]) -> None:
        """What the protocol promises: one sum at most, over enough honest sites; and what is opened is that sum."""
        found = self.opened()
        assert len(found) <= 1, "two sums were opened in one round"
        for group, total in found.items():
            assert len(group) >= self.floor, "a sum over too few honest sites was opened"
            assert total == self.expected(updates, group)

    def _packet(self, heard: Overheard, dealer: int, holder: int):
        return heard.parts[dealer].packets[heard.participants.index(holder)]

    def _collude(self, context: bytes, heard: Overheard) -> None:
        """What the corrupt sites' chain keys give: their pair elements, and every share that was sealed to them."""
        for holder, chains in heard.chains.items():
            for dealer in set(heard.participants) - {holder}:
                heard.elements[frozenset((holder, dealer))] = keys.pair_element(chains[dealer], context)
            for dealer in set(heard.parts):
                packet, route = self._packet(heard, dealer, holder), Route(context=context, sender=dealer, recipient=holder)
                share = sealing.unseal(sealing.seal_key(chains[dealer], route), route, packet.share.blob)
                if share is not None:
                    heard.shares.setdefault(dealer, {})[holder] = int.from_bytes(share, "big")
                route = replace(route, kind=BACKUP)
                backup = sealing.unseal(sealing.seal_key(chains[dealer], route), route, packet.backup.blob)
                peers = [peer for peer in heard.participants if peer != dealer]
                for at, peer in enumerate(peers if backup is not None else []):
                    content = int.from_bytes(backup[32 * at : 32 * at + 32], "big")
                    heard.backups.setdefault((dealer, peer), {})[holder] = content

    def _own(self, context: bytes, heard: Overheard, at: int) -> int | None:
        """b of one site, if the shares give what it committed to."""
        secret = _combine(heard.shares.get(at, {}))
        commitment = heard.parts[at].commitments[heard.participants.index(at)]
        fits = secret is not None and sealing.commit_self(context, shamir.to_bytes(secret)) == commitment
        return secret if fits else None

    def _element(self, context: bytes, heard: Overheard, one: int, other: int) -> int | None:
        """e of a pair: told, or from backup shares of either end; if it fits a commitment of an end that uploaded."""
        shared = [_combine(heard.backups.get(pair, {})) for pair in ((one, other), (other, one))]
        for secret in (heard.elements.get(frozenset((one, other))), *shared):
            for end, peer in ((one, other), (other, one)):
                if secret is not None and end in heard.parts:
                    commitment = heard.parts[end].commitments[heard.participants.index(peer)]
                    if sealing.commit_pair(context, shamir.to_bytes(secret)) == commitment:
                        return secret
        return None

    def _joined(self, context: bytes, heard: Overheard, first: int) -> set[int]:
        """All that hang together with one site by pair masks that are unknown."""
        group, edge = set(), {first}
        while edge:
            group |= edge
            outside = set(heard.participants) - group
            edge = {j for i in edge & heard.vectors.keys() for j in outside if self._element(context, heard, i, j) is None}
        return group

    def _sum(self, context: bytes, heard: Overheard, group: set[int], own: Mapping[int, int]) -> list[int]:
        total = np.zeros(self.params.dimension, self.params.word)
        add, subtract = [], [masks.self_mask(own[at]) for at in group]
        for at in group:
            total += heard.vectors[at]
            for peer in set(heard.participants) - group:
                mask = masks.pair_mask(self._element(context, heard, at, peer))
                (subtract if peer < at else add).append(mask)
        masks.apply(total, add=add, subtract=subtract)
        return signed_view(total)


def _combine(shares: Mapping[int, int]) -> int | None:
    return shamir.combine({shamir.point(holder): share for holder, share in shares.items()}) if shares else None
