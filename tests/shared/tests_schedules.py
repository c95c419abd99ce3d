"""A federation under a schedule: messages late, lost, twice, out of order; sites and server killed; what must hold then.

A schedule is bytes. Each step takes one or two; where they end nothing goes wrong any more. A shorter schedule is a
quieter one and so is a smaller byte, which is what hypothesis shrinks to. Everybody here is honest. `World.run` asserts
all along: totals are exact, a site uploads once and speaks for one set a round, refusals are of the known kind and carry
no bytes, nobody is accused; and a round whose losses can be borne is closed once everything arrives.
"""

from __future__ import annotations

import re
from collections import Counter

from tests_mortal import Killed
from tests_schedule_server import AGREE, COLLECT, OVER, UNMASK, Server
from tests_schedule_sites import Sites, prepared

from ssl_core.errors import ChoralError

STALE = 6
_BYTES_IN_TEXT = re.compile(r"b'|\\x|[0-9a-fA-F]{20}")

# Of the open round, to a message sent in it: a server that started again and lacks uploads or answers; a site that
# answered before it was asked to agree, that START reaches before its keys or what it missed, or that missed nothing.
EARLY = {
    "CLOSE does not follow the last one that this site took",
    "CLOSE is older than what this site has seen, or another for the same round",
    "checkpoint is older than what this site has seen",
    "survivors have not sent their uploads again",
    "site has not answered for itself",
    "round was answered: no consent any more",
    "round uses another key set than this site accepted",
}
# What an honest site or server may say to a message that comes late, twice or out of order, besides.
LATE = EARLY | {
    "round is void at this site",
    "round is over at this site",
    "round is not open at this site",
    "round is not open at this site, or nothing was uploaded",
    "round number was used before",
    "message is of another round, study, key set or model",
    "this site made no offer for this epoch",
    "upload is of another round",
    "upload is not signed by its site",
    "agreement is of another round",
    "answer is of another round",
    "backup answer is of another round",
    "site is not a survivor",
    "site is not a participant",
    "survivors are not fixed",
    "round is not closed",
    "round is void",
    "acknowledgement is not of this CLOSE by this site",
}


class World:
    """One federation and its network; `seen` counts what happened."""

    def __init__(self, count: int, schedule: bytes) -> None:
        self._schedule, self._at = schedule, 0
        half, bare = self.take(5) == 4, self.take(5) == 4
        self.apart = count == 6 and self.take(4) == 3
        base = prepared(count, 16 if half else 32, not bare, 2 if self.apart else 0)
        self.rounds = 1 + self.take(3)
        self.seen: Counter[str] = Counter({"16 bits": int(half)})
        self.refusals: Counter[str] = Counter()
        self.wire: list[tuple[bool, str, str, int, object]] = []
        self.sites = Sites(base, lambda name, round, life: self.wire.append((False, "TRAIN", name, round, (round, life))))
        send = lambda kind, name, round, body: self.wire.append((False, kind, name, round, body))  # noqa: E731
        self.server = Server(base, self.sites, send, self.seen)

    def take(self, choices: int) -> int:
        """The schedule's next choice, 0 where it has ended."""
        self._at += 1
        return self._schedule[self._at - 1] % choices if self._at <= len(self._schedule) else 0

    def run(self) -> Counter[str]:
        """All rounds of the schedule; what was seen."""
        for round in range(1, self.rounds + 1):
            self._open(round)
            while self.server.phase != OVER:
                if self._at < len(self._schedule):
                    STEPS[self.take(len(STEPS))](self)
                else:
                    self._settle()
        for name in self.sites.names:
            assert self.sites.sites[name].alarms == (), "a site accuses an honest one"
        return self.seen

    def _open(self, round: int) -> None:
        late = [message for message in self.wire if message[1] != "TRAIN"]
        self.wire = late[:: 1 + len(late) // STALE]
        renew = round > 1 and self.take(5) == 4
        for name in sorted(self.sites.down):
            if renew or self.take(4) != 3:
                self._revive(name)
        if renew:
            self.server.renew_keys()
        elif self.take(5) == 4:
            self.server.restart()
        invited = self.sites.names[:4] if self.apart and self.take(2) else self.sites.names
        self.seen["participants changed"] += invited != self.sites.names
        self.server.open(round, invited)

    def _settle(self) -> None:
        """All is asked again and arrives; who is down stays down. Then the round ends as it must."""
        server = self.server
        for store in self.sites.stores.values():
            store.left = 0
        server.resend()
        self._flush()
        if server.phase == COLLECT:
            declined = {name for round, name in self.sites.declined if round == server.round}
            expected = set(server.invited) - self.sites.down - declined
            assert expected <= set(server.coordinator.uploaded), "a site that lost nothing did not upload"
            server.fix()
            self._flush()
        for _ in (AGREE, UNMASK):
            if server.phase != OVER:
                server.resend()
                self._flush()
        if server.phase == UNMASK:
            server.ask_backup()
            self._flush()
        if server.phase != OVER:
            server.check_stuck(self.sites.down)
            server.give_up("void: too many lost")

    def _flush(self) -> None:
        """Everything of this round arrives, in order, and what is said to it."""
        while self.server.phase != OVER:
            current = (at for at, message in enumerate(self.wire) if message[3] in (0, self.server.round))
            at = next(current, None)
            if at is None:
                return
            self._deliver(at)

    def _deliver(self, at: int, *, twice: bool = False, dies: bool = False) -> None:
        to_server, kind, name, round, body = self.wire[at]
        if not twice or kind == "TRAIN":
            del self.wire[at]
        self.seen["late"] += round not in (0, self.server.round)
        self.seen["twice"] += twice
        if not to_server and name in self.sites.down:
            return
        fresh = self.server.phase != OVER and round == self.server.round
        try:
            if to_server:
                self.server.take(kind, name, round, body)
                return
            reply = self.sites.take(kind, name, body)
            self.seen["checkpoint taken"] += kind == "CHECKPOINT"
        except Killed:
            self.seen["killed at a write"] += 1
            self._restart(name)
        except ChoralError as error:
            assert error.problem in (EARLY if fresh else LATE), f"{kind} {name}: {error}"
            assert not _BYTES_IN_TEXT.search(str(error)) and len(str(error)) < 300
            self.refusals[error.problem] += 1
        else:
            if dies:
                self.seen["killed before it was sent"] += 1
                self._restart(name)
            elif reply is not None:
                self.wire.append((True, kind, name, round, reply))

    def _restart(self, name: str) -> None:
        self.seen["site restarted in a round"] += self.server.phase != OVER
        declined = len(self.sites.declined)
        self.sites.restart(name, self.server.round)
        self.seen["declined"] += len(self.sites.declined) > declined

    def _revive(self, name: str) -> None:
        self.sites.down.discard(name)
        self._restart(name)

    # Steps

    def _arrive(self) -> None:
        if self.wire:
            self._deliver(self.take(len(self.wire)))
        else:
            self.server.resend()

    def _arrive_twice(self) -> None:
        if self.wire:
            self._deliver(self.take(len(self.wire)), twice=True)

    def _arrive_and_die(self) -> None:
        if self.wire:
            self._deliver(self.take(len(self.wire)), dies=True)

    def _lose(self) -> None:
        if self.wire:
            at = self.take(len(self.wire))
            if self.wire[at][1] == "TRAIN":
                self._deliver(at)
            else:
                del self.wire[at]

    def _arrive_in_order(self) -> None:
        for _ in range(min(len(self.wire), 1 + self.take(8))):
            if self.wire and self.server.phase != OVER:
                self._deliver(0)

    def _somebody(self) -> str:
        return self.sites.names[self.take(len(self.sites.names))]

    def _site_restarts(self) -> None:
        name = self._somebody()
        if name not in self.sites.down:
            self._restart(name)

    def _site_goes_or_returns(self) -> None:
        name = self._somebody()
        if name in self.sites.down:
            self._revive(name)
        else:
            self.sites.down.add(name)

    def _site_will_die(self) -> None:
        name, when = self._somebody(), self.take(12)
        self.sites.stores[name].left, self.sites.stores[name].reaches = 1 + when // 2, bool(when % 2)

    def _server_restarts(self) -> None:
        self.server.restart()

    def _server_loses_patience(self) -> None:
        server = self.server
        least = server.params.thresholds(len(server.invited)).survivors
        if server.phase == COLLECT and (len(server.coordinator.uploaded) >= least or self.take(8) == 7):
            server.fix()
        elif server.phase == UNMASK:
            server.ask_backup()
        else:
            server.resend()

    def _server_gives_up(self) -> None:
        if self.take(4) == 3:
            self.server.give_up("void: given up")


STEPS = (
    *[World._arrive_in_order] * 7,
    *[World._arrive] * 5,
    World._lose,
    World._arrive_twice,
    World._site_restarts,
    *[World._site_goes_or_returns] * 2,
    World._arrive_and_die,
    World._site_will_die,
    *[World._server_loses_patience] * 3,
    World._server_restarts,
    World._server_gives_up,
)
