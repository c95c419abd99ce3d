"""Weights that make a patient's absence heard are not trained on: the site declines the round and charges nothing for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.exchange import LocalExchange
from server.rounds import run_study
from ssl_core.errors import PrivacyError
from ssl_core.parcel import Parcel
from ssl_core.privacy import absence
from ssl_core.privacy.training import train_round


@pytest.fixture
def approved(make_federation: Callable[..., Any]) -> tuple[Any, str]:
    """A federation of four and the hash of a study that all of them approved."""
    federation = make_federation(4)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    return federation, plan_hash


def test_a_round_with_such_weights_is_not_charged_and_not_trained(
    approved: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, plan_hash = approved
    handlers, starts = federation.services(), [0]

    def second(parcel: Parcel) -> Parcel:
        if parcel.kind == "START":
            starts[0] += 1
            if starts[0] == 2:
                monkeypatch.setattr(absence, "gap", lambda *_: 1.0)
        return handlers["site-b"](parcel)

    with pytest.raises(PrivacyError, match="at the weights of this round"):
        run_study(federation.operator.root, plan_hash, LocalExchange({**handlers, "site-b": second}))
    assert starts[0] == 2 and len(federation.site("site-b").chain.entries("commit")) == 1


def test_what_is_looked_at_are_the_weights_that_the_round_begins_with(
    approved: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, plan_hash = approved
    looked, trained = list[bytes](), list[bytes]()
    honest, train = absence.check_absence, train_round

    def look(model: Any, weights: Any, *rest: Any) -> None:
        looked.append(weights.tobytes())
        honest(model, weights, *rest)

    def watched(**given: Any) -> Any:
        trained.append(given["start"].tobytes())
        return train(**given)

    monkeypatch.setattr("client.local_round.check_absence", look)
    monkeypatch.setattr("client.local_round.train_round", watched)
    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services()))
    assert looked == trained and len(set(looked)) > 1
