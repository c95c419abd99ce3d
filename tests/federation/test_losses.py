from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from server.exchange import LocalExchange
from server.round_state import RoundState
from server.rounds import run_study
from ssl_core.errors import ProtocolError, StateError, TransportError
from ssl_core.parcel import DECLINED, Parcel


def events(federation: Any, plan_hash: str) -> list[dict[str, Any]]:
    from deploy.event_reader import EventReader

    return list(EventReader(federation.operator.study(plan_hash)).new())


def test_a_site_that_is_lost_before_its_upload_costs_nothing_but_itself(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(5)
    plan_hash = federation.launch(rounds__patience_s=1.0)
    federation.invite_and_approve(plan_hash)
    starts: list[int] = []

    def lost(site: str, parcel: Parcel, attempt: int) -> bool:
        if site == "site-b" and parcel.kind == "START":
            starts.append(attempt)
            return len(starts) <= 3
        return False

    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services(), lost=lost))
    closed = [e for e in events(federation, plan_hash) if e["stage"] == "closed"]
    assert [e["survivors"] for e in closed] == [4, 5, 5]


def test_a_site_that_is_lost_after_its_upload_is_summed_all_the_same(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(4)
    plan_hash = federation.launch(rounds__rounds=1, rounds__patience_s=1.0)
    federation.invite_and_approve(plan_hash)
    exchange = LocalExchange(
        federation.services(), lost=lambda site, parcel, _attempt: site == "site-c" and parcel.kind == "UNMASK"
    )
    run_study(federation.operator.root, plan_hash, exchange)
    closed = [e for e in events(federation, plan_hash) if e["stage"] == "closed"]
    assert [e["survivors"] for e in closed] == [4]


def test_of_three_sites_none_may_be_lost_before_the_upload(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch(rounds__patience_s=1.0, rounds__max_void=1)
    federation.invite_and_approve(plan_hash)
    kinds: list[str] = []

    def lost(site: str, parcel: Parcel, _attempt: int) -> bool:
        kinds.append(parcel.kind)
        return site == "site-a" and parcel.kind == "START"

    with pytest.raises(StateError, match="more void rounds"):
        run_study(federation.operator.root, plan_hash, LocalExchange(federation.services(), lost=lost))
    assert "UNMASK" not in kinds
    state = RoundState(federation.operator.study(plan_hash))
    assert state.closed().count == 0 and state.used() == (2, [1, 2])
    commits = [e.body["round"] for e in federation.site("site-b").chain.entries("commit")]
    assert commits == [1, 2]
    last = events(federation, plan_hash)[-1]
    assert last["stage"] == "failed" and last["final"] is True


def test_what_the_network_ended_may_be_started_again(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch(rounds__patience_s=1.0)
    federation.invite_and_approve(plan_hash)

    class Gone(LocalExchange):
        def ask(self, *_parcels: Any, **_options: Any) -> None:
            raise TransportError("the connection to the SuperLink ended")

    with pytest.raises(TransportError):
        run_study(federation.operator.root, plan_hash, Gone(federation.services()))
    last = events(federation, plan_hash)[-1]
    assert last["stage"] == "failed" and last["final"] is False


def test_answers_that_are_lost_on_the_way_are_given_again_with_the_same_bytes(
    make_federation: Callable[..., Any],
) -> None:
    federation = make_federation(4)
    plan_hash = federation.launch(rounds__rounds=2)
    federation.invite_and_approve(plan_hash)
    said: dict[tuple[str, bytes], Parcel] = {}

    def wrapped(name: str, handler: Callable[[Parcel], Parcel]) -> Callable[[Parcel], Parcel]:
        def handle(parcel: Parcel) -> Parcel:
            answer = handler(parcel)
            if parcel.kind in {"START", "UNMASK"}:
                first = said.setdefault((name, parcel.kind.encode() + parcel.body), answer)
                assert first.body == answer.body
                if answer.vector is not None:
                    assert np.array_equal(first.vector, answer.vector)
            return answer

        return handle

    exchange = LocalExchange(
        {name: wrapped(name, handler) for name, handler in federation.services().items()},
        answer_lost=lambda _site, _parcel, attempt: attempt == 1,
    )
    run_study(federation.operator.root, plan_hash, exchange)
    assert RoundState(federation.operator.study(plan_hash)).closed().count == 2


def test_after_a_void_first_round_the_second_must_still_start_from_the_plans_weights(
    make_federation: Callable[..., Any],
) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch(rounds__patience_s=1.0, rounds__max_void=1)
    federation.invite_and_approve(plan_hash)
    handlers = federation.services()
    initial = federation.operator.study(plan_hash) / "initial.f32"
    refused: list[str] = []

    def handle(name: str, parcel: Parcel) -> Parcel:
        if parcel.kind == "START" and name == "site-a":
            # The first round is lost with this site; before the second the server swaps the model.
            initial.write_bytes((np.frombuffer(initial.read_bytes(), "<f4") * np.float32(2)).tobytes())
            return DECLINED
        try:
            return handlers[name](parcel)
        except ProtocolError as error:
            refused.append(f"{name} {error.field}")
            return DECLINED

    exchange = LocalExchange({name: partial(handle, name) for name in federation.names})
    with pytest.raises(StateError, match="more void rounds"):
        run_study(federation.operator.root, plan_hash, exchange)
    assert refused == ["site-a weights", "site-b model", "site-c model"]
    assert [len(federation.site(name).chain.entries("commit")) for name in federation.names] == [0, 1, 1]
