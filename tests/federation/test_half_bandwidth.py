from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from server.exchange import LocalExchange
from server.round_state import RoundState
from server.rounds import run_study
from ssl_core.errors import ConfigError
from ssl_core.parcel import OutgoingKind, Parcel


def test_a_study_at_half_bandwidth_sends_two_bytes_a_parameter(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(4)
    plan_hash = federation.launch(aggregation__bandwidth="half", aggregation__update_range=0.5)
    federation.invite_and_approve(plan_hash)
    sent: list[Parcel] = []

    def listening(handle: Callable[[Parcel], Parcel]) -> Callable[[Parcel], Parcel]:
        def heard(question: Parcel) -> Parcel:
            answer = handle(question)
            sent.append(answer)
            return answer

        return heard

    services = {name: listening(handle) for name, handle in federation.services().items()}
    run_study(federation.operator.root, plan_hash, LocalExchange(services))
    state = RoundState(federation.operator.study(plan_hash))
    closed = state.closed()
    assert (closed.count, closed.round) == (3, 3)
    vectors = [parcel.vector for parcel in sent if parcel.kind == OutgoingKind.UPLOAD]
    assert len(vectors) == 3 * 4
    assert {(vector.dtype, vector.shape) for vector in vectors} == {(np.dtype(np.uint16), closed.model.weights.shape)}
    initial = np.frombuffer((state.folder / "initial.f32").read_bytes(), "<f4")
    moved = np.abs(closed.model.weights - initial)
    assert 0 < np.median(moved) and moved.max() < 2


def test_weights_that_are_too_fine_for_half_bandwidth_are_refused_at_launch(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    sizes = [{"name": name, "nominal_size": size} for name, size in zip(federation.names, (9, 10, 20), strict=True)]
    with pytest.raises(ConfigError, match=r"Q is too small.*at most 31, or set bandwidth to \"full\""):
        federation.launch(sites=sizes, aggregation__bandwidth="half")
    federation.launch(sites=sizes, aggregation__bandwidth="full")
