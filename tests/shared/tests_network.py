"""A federation on disk whose messages a test may lose, change or answer itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from server.exchange import LocalExchange
from server.round_state import RoundState
from server.rounds import run_study
from ssl_core.card import read_card
from ssl_core.chain import Chain
from ssl_core.encoders.vector import weights_hash
from ssl_core.errors import ChoralError
from ssl_core.parcel import DECLINED, Parcel
from ssl_core.secure_sum.journal import Started


def begun_rounds(chain: Chain, plan_hash: str) -> list[int]:
    """The rounds of a study that a site says it began, whatever became of them."""
    return [entry.body["round"] for entry in chain.entries(f"sum/{plan_hash}") if entry.body["event"] == Started.TAG]


class Network:
    """`meddle(site, parcel)` declines a parcel (None), changes it, or acts before it is delivered; `answer` what comes back."""

    def __init__(self, federation: Any, **changes: Any) -> None:
        self.federation = federation
        self.plan_hash: str = federation.launch(**({"rounds__patience_s": 1.0, "rounds__max_void": 1} | changes))
        federation.invite_and_approve(self.plan_hash)
        self.state = RoundState(federation.operator.study(self.plan_hash))
        self.services = federation.services()
        self.asked: list[tuple[str, str]] = []
        self.away: Callable[[str], bool] = lambda _name: False
        self.meddle: Callable[[str, Parcel], Parcel | None] = lambda _name, parcel: parcel
        self.answer: Callable[[str, Parcel, Parcel], Parcel] = lambda _name, _question, reply: reply

    def run(self) -> None:
        handlers = {name: self._handler(name) for name in self.federation.names}
        exchange = LocalExchange(handlers, offline=lambda name: self.away(name))
        run_study(self.federation.operator.root, self.plan_hash, exchange)

    def restart(self, name: str) -> None:
        self.services[name] = self.federation.services()[name]

    def kinds(self, name: str) -> list[str]:
        return [kind for asked, kind in self.asked if asked == name]

    def events(self, stage: str) -> list[dict[str, Any]]:
        lines = (self.state.folder / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["stage"] == stage]

    def all_ended_alike(self) -> None:
        expected = weights_hash(self.state.closed().model.weights)
        for name in self.federation.names:
            (folder,) = (self.federation.site(name).root / "encoders").iterdir()
            assert read_card(folder).weights == expected

    def _handler(self, name: str) -> Callable[[Parcel], Parcel]:
        def handle(parcel: Parcel) -> Parcel:
            self.asked.append((name, parcel.kind))
            changed = self.meddle(name, parcel)
            if changed is None:
                return DECLINED
            try:
                reply = self.services[name](changed)
            except ChoralError:
                reply = DECLINED
            return self.answer(name, parcel, reply)

        return handle
