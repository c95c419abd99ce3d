from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.registry import publish
from server.round_state import Closed, RoundState
from ssl_core.card import load_encoder, read_card
from ssl_core.chain import write_durably
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import ConfigError, StateError, TrustError
from ssl_core.model_update import GlobalModel, ServerState


@pytest.fixture
def finished(make_federation: Callable[..., Any]) -> tuple[Any, str, Any]:
    """A study of two rounds whose second of three numbers was void; (federation, plan hash, last weights)."""
    federation = make_federation(3, patients=1)
    plan_hash = federation.launch(rounds__rounds=2)
    state = RoundState(federation.operator.study(plan_hash))
    weights = state.closed().model.weights
    for number, count in ((1, 1), (2, None), (3, 2)):
        state.open_round(number, b"start")
        if count is None:
            state.void_round(number)
            continue
        weights = weights + np.float32(0.25)
        state.close(Closed(number, count, GlobalModel(weights, ServerState.empty()), b"close", weights.view(np.uint32)))
    return federation, plan_hash, weights


def test_a_release_has_the_last_weights_and_a_card_that_the_operator_signed(finished: tuple[Any, str, Any]) -> None:
    federation, plan_hash, weights = finished
    folder = publish(federation.operator, plan_hash)
    assert folder == federation.operator.root / "releases" / f"reports-{plan_hash[:8]}"
    loaded = load_encoder(folder, keys=[federation.operator.operator.public])
    assert to_vector(loaded.model).tobytes() == weights.tobytes()
    card = loaded.card
    assert (card.kind, card.plan_hash, card.rounds_closed, card.rounds_void) == ("federated", plan_hash, 2, 1)
    assert [entry.site for entry in card.site_privacy] == federation.names
    assert {entry.steps for entry in card.site_privacy} == {(2 + 2) * 2}, "of two rounds, and two that may be void"
    with pytest.raises(TrustError, match="card is not signed"):
        read_card(folder, keys=[federation.operator.server.public])
    with pytest.raises(ConfigError, match="not overwritten"):
        publish(federation.operator, plan_hash)


def test_a_study_with_rounds_to_come_gives_no_release(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3, patients=1)
    plan_hash = federation.launch(rounds__rounds=2)
    state = RoundState(federation.operator.study(plan_hash))
    state.open_round(1, b"start")
    model = state.closed().model
    state.close(Closed(1, 1, model, b"close", model.weights.view(np.uint32)))
    with pytest.raises(StateError, match="not finished") as caught:
        publish(federation.operator, plan_hash)
    assert (caught.value.field, caught.value.value, caught.value.limit) == ("rounds closed", 1, 2)
    assert list((federation.operator.root / "releases").iterdir()) == []


def test_a_study_folder_with_another_plan_gives_no_release(finished: tuple[Any, str, Any]) -> None:
    federation, plan_hash, _ = finished
    other: Path = federation.operator.study(federation.launch(seed=9))
    write_durably(federation.operator.study(plan_hash) / "plan.json", (other / "plan.json").read_bytes())
    with pytest.raises(StateError, match="another plan") as caught:
        publish(federation.operator, plan_hash)
    assert caught.value.limit == plan_hash
    assert list((federation.operator.root / "releases").iterdir()) == []
