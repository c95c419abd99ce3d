"""LocalExchange delivers at least once, loses what it is told to lose, and stops when asked."""

from __future__ import annotations

import pytest

from server.exchange import LocalExchange, Patience
from ssl_core.errors import ProtocolError
from ssl_core.parcel import Parcel


def never() -> bool:
    return False


def test_answers_arrive_and_losses_are_repeated() -> None:
    handled: list[tuple[str, bytes]] = []

    def handler(site: str):
        def handle(parcel: Parcel) -> Parcel:
            handled.append((site, parcel.body))
            return Parcel("CLOSE_ACK", parcel.body)

        return handle

    exchange = LocalExchange(
        {site: handler(site) for site in "abcd"},
        lost=lambda site, _parcel, attempt: site == "a" and attempt == 1,
        answer_lost=lambda site, parcel, attempt: site == "b" and parcel.kind == "CLOSE_ACK" and attempt <= 2,
        offline=lambda site: site == "d",
    )
    assert exchange.reachable() == {"a", "b", "c"}
    answers: dict[str, Parcel] = {}
    parcels = {site: Parcel("CLOSE", site.encode()) for site in "abcd"}
    exchange.ask(parcels, patience_s=1, on_reply=answers.__setitem__, done=never)
    assert {site: answer.body for site, answer in answers.items()} == {"a": b"a", "b": b"b", "c": b"c"}
    assert sorted(handled) == [("a", b"a"), ("b", b"b"), ("b", b"b"), ("b", b"b"), ("c", b"c")]


def test_no_patience_is_one_delivery_and_done_stops() -> None:
    exchange = LocalExchange(
        {site: lambda parcel: Parcel("CLOSE_ACK", parcel.body) for site in "abc"},
        lost=lambda site, _parcel, attempt: site == "a" and attempt == 1,
    )
    answers: dict[str, Parcel] = {}
    parcels = {site: Parcel("CLOSE", b"") for site in "abc"}
    exchange.ask(parcels, patience_s=0, on_reply=answers.__setitem__, done=never)
    assert set(answers) == {"b", "c"}
    answers.clear()
    exchange.ask(parcels, patience_s=1, on_reply=answers.__setitem__, done=lambda: len(answers) == 1)
    assert set(answers) == {"b"}


def test_unknown_site_is_refused_before_anything_is_sent() -> None:
    sent: list[Parcel] = []
    exchange = LocalExchange({"a": lambda parcel: (sent.append(parcel), parcel)[1]})
    with pytest.raises(ProtocolError, match="z"):
        exchange.ask(
            {"a": Parcel("CLOSE", b""), "z": Parcel("CLOSE", b"")},
            patience_s=1,
            on_reply=lambda _site, _parcel: None,
            done=never,
        )
    assert sent == []


def test_patience_counts_down_and_pauses_grow() -> None:
    now = [100.0]
    patience = Patience(10.0, clock=lambda: now[0])
    assert patience.may_push("a")
    pauses = []
    for _ in range(8):
        patience.failed("a")
        start = now[0]
        while not patience.may_push("a"):
            now[0] += 0.1
        pauses.append(round(now[0] - start, 1))
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(0.2, abs=0.11)
    assert pauses[-1] == pytest.approx(5.0, abs=0.11)
    assert patience.may_push("b")
    assert patience.left_s == 0.0
