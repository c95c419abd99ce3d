"""The server of a schedule: the round loop with START, survivors and what was closed durable, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from tests_federation import SPEC, Federation
from tests_schedule_sites import Sites

from ssl_core.errors import RoundVoid
from ssl_core.model_update import GlobalModel
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.coordinator import SecureSumCoordinator
from ssl_core.secure_sum.dealing import deals_backup
from ssl_core.secure_sum.history import checkpoint_values
from ssl_core.secure_sum.intake import check_ack
from ssl_core.secure_sum.messages import Ack, Close, Signed
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.statements import close_context, read_signed

COLLECT, AGREE, UNMASK, OVER = "COLLECT", "AGREE", "UNMASK", "OVER"

Send = Callable[[str, str, int, object], None]


@dataclass
class Closed:
    """A closed round, as the server keeps it; `acked` are the sites that recomputed its model."""

    round: int
    close: bytes
    total: Words
    model: GlobalModel
    acked: set[str]
    checkpoint: bytes | None = None


class Server:
    """One round at a time; `send` puts a message for a site on the wire; `seen` counts how rounds went."""

    def __init__(self, base: Federation, sites: Sites, send: Send, seen: Counter[str]) -> None:
        self.params, self.identity, self.keyset = base.params, base.server, base.keyset
        self.sites, self.send, self.seen = sites, send, seen
        self.epoch, self.round, self.phase = 1, 0, OVER
        self.model, self.closed = base.now, list[Closed]()
        self.coordinator = self.make_coordinator()

    def make_coordinator(self) -> SecureSumCoordinator:
        """A new process has nothing but keys."""
        return SecureSumCoordinator(self.params, self.identity, self.keyset)

    def open(self, round: int, invited: tuple[str, ...]) -> None:
        """START is kept, then sent."""
        self.round, self.phase, self.invited = round, COLLECT, invited
        self.survivors: tuple[str, ...] | None = None
        self.counted: dict[str, set[str]] = {"CONSENT": set(), "UNMASK": set()}
        previous = self.closed[-1].close if self.closed else None
        self.start = self.coordinator.start(round, invited, self.model.digest, previous)
        self.resend()

    def renew_keys(self) -> None:
        """All members offer for the next epoch; each takes the set when it comes."""
        self.epoch += 1
        offers = {n: self.sites.surviving(n, self.round, lambda site: site.offer_keys(self.epoch)) for n in self.sites.names}
        self.keyset = SecureSumCoordinator.make_keyset(self.params, offers)
        self.coordinator = self.make_coordinator()
        self.seen["new epoch"] += 1

    def restart(self) -> None:
        """A new process: what the sites sent is gone, they send it again."""
        self._check_faults()
        self.coordinator = self.make_coordinator()
        self.counted = {"CONSENT": set(), "UNMASK": set()}
        if self.phase != OVER:
            self.seen["server restarted in a round"] += 1
            self.coordinator.resume(self.start)
            if self.survivors is not None:
                self.coordinator.fix_survivors(self.survivors)
                self.phase = AGREE

    def resend(self) -> None:
        """All that is still to be answered, once more, and before START what a site may have missed."""
        wanted = set(self.invited if self.survivors is None else self.survivors) - set(self.coordinator.uploaded)
        for name in sorted(wanted):
            if self.epoch > 1:
                self.send("KEYS", name, 0, self.keyset)
            self._catch_up(name)
            self.send("START", name, self.round, (self.start, self.closed[-1].total if self.closed else None))
        if self.ready and self.phase == AGREE:
            self._ask("CONSENT", self.coordinator.consent_requests())
        if self.ready and self.phase == UNMASK:
            self._ask("UNMASK", self.coordinator.unmask_requests())

    def take(self, kind: str, name: str, round: int, body) -> None:
        """A site's reply, and what follows from it."""
        if kind in ("START", "TRAIN"):
            self.coordinator.add_upload(name, *body)
            if self.closed and self.phase != OVER:
                self.closed[-1].acked |= set(self.coordinator.acknowledged)
                self.closed[-1].checkpoint = self.closed[-1].checkpoint or self.coordinator.checkpoint()
        elif kind in ("CLOSE", "CHECKPOINT"):
            self._acknowledged(name, body)
        else:
            add = {"CONSENT": "add_consent", "UNMASK": "add_answer", "BACKUP": "add_backup"}[kind]
            getattr(self.coordinator, add)(name, body)
            if round == self.round and kind in self.counted:
                self.counted[kind].add(name)
        if self.phase != OVER:
            self._advance()

    def fix(self) -> None:
        """Whoever uploaded survives; too few give the round up."""
        limit = self.params.thresholds(len(self.invited)).survivors
        uploaded = self.coordinator.uploaded
        try:
            self.coordinator.fix_survivors()
        except RoundVoid:
            assert len(uploaded) < limit
            self.give_up("void: too few uploads")
            return
        assert len(uploaded) >= limit
        self.survivors, self.phase = uploaded, AGREE
        self._advance()

    def ask_backup(self) -> None:
        """BACKUP to those that answered."""
        if self.ready:
            self._ask("BACKUP", self.coordinator.backup_requests(), again=True)

    def give_up(self, why: str) -> None:
        """VOID, which may never arrive."""
        message = self.coordinator.void()
        self.phase = OVER
        self.seen[why] += 1
        for name in self.invited:
            self.send("VOID", name, self.round, message)

    @property
    def ready(self) -> bool:
        """Whether all uploads of the survivors are here."""
        return self.survivors is not None and set(self.survivors) <= set(self.coordinator.uploaded)

    def check_stuck(self, down: Collection[str]) -> None:
        """Everything was asked again and answered by all who live: the round may be open only if too many are lost."""
        survivors, uploaded = set(self.survivors or ()), set(self.coordinator.uploaded)
        live, everyone = survivors - set(down), survivors == set(self.invited)
        threshold = self.params.thresholds(len(self.invited)).shares
        assert survivors - uploaded <= set(down), "a survivor that lives did not send its upload again"
        if not survivors <= uploaded:
            return
        if not everyone and not self.coordinator.consented:
            told = self.sites.answered
            mute = {n for n in live if ("UNMASK", self.round, n) in told and ("CONSENT", self.round, n) not in told}
            assert len(self.counted["CONSENT"] | (live - mute)) < threshold, "enough live to agree, and they did not"
            self.seen["void: answered before it agreed"] += len(self.counted["CONSENT"] | live) >= threshold
            return
        assert live <= self.counted["UNMASK"], "a survivor that lives did not answer"
        relieved = deals_backup(self.params, len(self.invited)) and len(live) >= threshold
        unheard = set() if everyone else survivors - self.counted["UNMASK"]
        assert len(live) < threshold or (unheard and not relieved), "enough answered, and there is no sum"

    def _advance(self) -> None:
        if self.phase == COLLECT and set(self.coordinator.uploaded) == set(self.invited):
            self.fix()
            return
        if self.phase == AGREE and self.ready:
            if not self.coordinator.consented:
                self._ask("CONSENT", self.coordinator.consent_requests())
                return
            self.phase = UNMASK
            self._ask("UNMASK", self.coordinator.unmask_requests())
        if self.phase == UNMASK and self.ready and self.coordinator.answered:
            self._close()

    def _close(self) -> None:
        survivors = self.survivors or ()
        total = self.coordinator.total()
        found = [int(value) for value in total.view(np.dtype(f"i{total.itemsize}"))]
        assert found == self.sites.expected(self.round, decode(Signed, self.start).context, survivors), "the sum is wrong"
        self.model = self.model.after(self.coordinator.mean(), SPEC)
        close = self.coordinator.close(self.model.digest, self.model.state.digest)
        self.closed.append(Closed(self.round, close, total.copy(), self.model, set()))
        self.phase = OVER
        self.seen["closed"] += 1
        self.seen["closed without all"] += survivors != self.invited
        self.seen["closed by backup"] += survivors != self.invited and not set(survivors) <= self.counted["UNMASK"]
        self._check_faults()
        for name in self.sites.names:
            self.send("CLOSE", name, self.round, (close, self.closed[-1].total))

    def _catch_up(self, name: str) -> None:
        """The closed rounds since the last that this site acknowledged, but the one that rides in START; or a checkpoint."""
        missed = self.closed[:-1]
        while missed and name in missed[0].acked:
            missed = missed[1:]
        vouched = [at for at, closed in enumerate(missed) if closed.checkpoint is not None]
        if vouched:
            closed, missed = missed[vouched[-1]], missed[vouched[-1] + 1 :]
            self.send("CHECKPOINT", name, self.round, (closed.checkpoint, checkpoint_values(closed.model)))
        for closed in missed:
            self.send("CLOSE", name, self.round, (closed.close, closed.total))

    def _acknowledged(self, name: str, ack: bytes) -> None:
        """Every acknowledgement is of the very model that the server has."""
        round = read_signed(Ack, ack)[1].round
        closed = next(closed for closed in self.closed if closed.round == round)
        close = read_signed(Close, closed.close)[1]
        check_ack(close_context(self.params, close), close, self.params.members[self.params.index(name)], ack)
        closed.acked.add(name)

    def _ask(self, kind: str, requests: dict[str, bytes], *, again: bool = False) -> None:
        for name, request in requests.items():
            if again or name not in self.counted[kind]:
                self.send(kind, name, self.round, request)

    def _check_faults(self) -> None:
        assert self.coordinator.faults == (), "an honest site was accused"
