"""The hospitals of a schedule: what a site's daemon does with each message, and what no site may ever say twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import numpy as np
from tests_federation import SPEC, Federation, make_params, seeded
from tests_mortal import Killed, MortalModels, MortalStore

from ssl_core.model_update import weights_digest
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.history import History
from ssl_core.secure_sum.journal import RoundState
from ssl_core.secure_sum.messages import Checkpoint, Consent, Unmask
from ssl_core.secure_sum.site import SecureSumSite
from ssl_core.secure_sum.statements import read_signed, round_of
from ssl_core.secure_sum.vector import quantise
from ssl_core.trust.identity import Secret


@cache
def prepared(count: int, bits: int, backup: bool, churn: int) -> Federation:
    """Keys of the first epoch, agreed once for all schedules; only copies of its stores are used."""
    return Federation(make_params(count, dimension=3, bits=bits, backup=backup, max_churn=churn))


class Sites:
    """All sites. `down` are dead for now, `declined` lost their update between START and upload, and say so."""

    def __init__(self, base: Federation, train: Callable[[str, int, int], None]) -> None:
        self.params, self.names, self.identities = base.params, base.names, base.identities
        self.initial = base.initial
        self.stores = {name: MortalStore(store) for name, store in base.stores.items()}
        self.models = {name: MortalModels(models, self.stores[name]) for name, models in base.models.items()}
        self.lives = dict.fromkeys(self.names, 0)
        self.draws: dict[str, list[bytes]] = {name: [] for name in self.names}
        self.sites = {name: self.make_site(name) for name in self.names}
        self.down: set[str] = set()
        self.declined: set[tuple[int, str]] = set()
        self.answered: set[tuple[str, int, str]] = set()
        self._train = train
        self._promises: dict[tuple[object, ...], object] = {}
        self._tried: dict[tuple[int, str], tuple[np.ndarray, bytes]] = {}

    def make_site(self, name: str) -> SecureSumSite:
        """A process of this site: fresh randomness, whose first draws are noted."""
        draw, noted = seeded(f"{name} {self.lives[name]}"), self.draws[name]

        def random(count: int) -> bytes:
            noted.append(draw(count))
            return noted[-1]

        history = History(self.params, SPEC, weights_digest(self.initial), self.models[name])
        return SecureSumSite(self.params, name, self.identities[name], self.stores[name], history, random)

    def take(self, kind: str, name: str, body: Any) -> object | None:
        """The reply to a message, or None."""
        site = self.sites[name]
        if kind == "KEYS":
            return site.accept_keys(body)
        if kind == "START":
            start, total = body
            round = round_of(start)
            if site.state(round) is None:
                site.begin(start, total)
                self._train(name, round, self.lives[name])
                return None
            site.recognise(start)
            kept = site.resend(round)
            return None if kept is None else self._upload(name, round, kept)
        if kind == "TRAIN":
            round, life = body
            return self._upload(name, round, self._trained(name, round)) if life == self.lives[name] else None
        if kind == "CLOSE":
            return self._say(("ACK", name, body[0]), site.close(*body))
        if kind == "CHECKPOINT":
            return self._say(("ACK", name, decode(Checkpoint, body[0]).close), site.checkpoint(*body))
        if kind == "VOID":
            return site.void(body)
        reply = getattr(site, kind.lower())(body)
        if kind == "BACKUP":
            return self._say((kind, name, body), reply)
        request = read_signed(Consent if kind == "CONSENT" else Unmask, body)[1]
        self._say((kind, name, request.round), (request.survivors, reply))
        self.answered.add((kind, request.round, name))
        return reply

    def restart(self, name: str, round: int) -> None:
        """A new process over the same store, until one lives; an update that it had not kept is lost."""
        while True:
            self.lives[name] += 1
            try:
                self.sites[name] = self.make_site(name)
                break
            except Killed:
                continue
        if self.sites[name].state(round) is RoundState.STARTED:
            self.declined.add((round, name))

    def surviving(self, name: str, round: int, call: Callable[[SecureSumSite], bytes]) -> bytes:
        """What the site says to something that is asked again after each death."""
        while True:
            try:
                return call(self.sites[name])
            except Killed:
                self.restart(name, round)

    def expected(self, round: int, context: bytes, survivors: Collection[str]) -> list[int]:
        """The weighted sum in Python's own integers: of the whole numbers, or of what the 16-bit ring rounds them to."""
        total = [0] * self.params.dimension
        for place, member in enumerate(self.params.members):
            if member.name not in survivors:
                continue
            update, key = self._tried[round, member.name]
            if self.params.bits == 16:
                words = quantise(self.params, context, place, update, Secret(key)).view(np.int16)
                added = [int(word) for word in words]
            else:
                added = [member.weight * int(value) for value in update]
            total = [one + other for one, other in zip(total, added, strict=True)]
        return total

    def _trained(self, name: str, round: int):
        assert (round, name) not in self._tried, "a second update was masked for one round"
        mark = hashlib.sha256(f"update {round} {name} {self.lives[name]}".encode()).digest()
        size = min(10**6, self.params.levels)
        whole = (int.from_bytes(mark[4 * at : 4 * at + 4], "big") for at in range(self.params.dimension))
        update = np.array([value % (2 * size + 1) - size for value in whole], np.float32)
        self.draws[name].clear()
        try:
            return self.sites[name].upload(round, update)
        finally:
            self._tried[round, name] = update, b"".join(self.draws[name][:1])

    def _upload(self, name: str, round: int, upload):
        self._say(("UPLOAD", name, round), (upload[0], upload[1].tobytes()))
        return upload

    def _say(self, promise: tuple[object, ...], said):
        """What is said once is said again the same, byte for byte, and for the same set."""
        assert self._promises.setdefault(promise, said) == said, f"{promise[0]} of {promise[1]} is not what it was"
        return said
