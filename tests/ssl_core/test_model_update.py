"""The server's step against plain Python floats, and against frozen vectors that this arithmetic once gave."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_core.config import AggregationSpec, parse
from ssl_core.errors import ProtocolError
from ssl_core.model_update import ServerState, apply_update

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "model_update.json").read_text())
METHODS = ["fedavg", "fedavgm", "fedadam"]


def spec(optimizer: str, **changes: Any) -> AggregationSpec:
    base = {"update_range": 1.0, "optimizer": optimizer, "learning_rate": 0.7, "momentum": 0.9, "betas": [0.9, 0.99]}
    return parse(AggregationSpec, base | changes, "aggregation")


def single(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


class PlainServer:
    """The three methods on Python floats (IEEE 754 binary64), one coordinate after another, as the papers write them."""

    def __init__(self, weights: list[float], how: AggregationSpec) -> None:
        self.weights, self.how = weights, how
        self.m = [0.0] * len(weights)
        self.v = [0.0] * len(weights)

    def step(self, mean: list[float]) -> list[float]:
        how = self.how
        for i, delta in enumerate(mean):
            match how.optimizer:
                case "fedavg":
                    change = how.learning_rate * delta
                case "fedavgm":
                    self.m[i] = how.momentum * self.m[i] + delta
                    change = how.learning_rate * self.m[i]
                case "fedadam":
                    self.m[i] = how.betas[0] * self.m[i] + (1.0 - how.betas[0]) * delta
                    self.v[i] = how.betas[1] * self.v[i] + (1.0 - how.betas[1]) * (delta * delta)
                    change = how.learning_rate * self.m[i] / (math.sqrt(self.v[i]) + how.epsilon)
            self.weights[i] = single(self.weights[i] + change)
        return self.weights


floats = st.floats(-1.0, 1.0, allow_subnormal=False)


@pytest.mark.parametrize("method", METHODS)
@given(
    weights=st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3),
    means=st.lists(st.lists(floats, min_size=3, max_size=3), max_size=4),
)
def test_it_agrees_with_plain_python_bit_by_bit(method: str, weights: list[float], means: list[list[float]]) -> None:
    how = spec(method)
    plain, vector, state = PlainServer(list(weights), how), np.array(weights, np.float32), ServerState.empty()
    for mean in means:
        vector, state = apply_update(vector, np.array(mean), state, how)
        assert vector.dtype == np.float32
        assert vector.tobytes() == struct.pack("<3f", *plain.step(mean))
        # The moments are resumed from disk, so they too must be the same on any machine.
        for moment, expected in ((state.first, plain.m), (state.second, plain.v)):
            assert moment.size == 0 or moment.tobytes() == struct.pack("<3d", *expected)
    assert (state.first.size, state.second.size) == {"fedavg": (0, 0), "fedavgm": (3, 0), "fedadam": (3, 3)}[
        method
    ] or not means


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["spec"]["optimizer"])
def test_the_frozen_vectors(case: dict[str, Any]) -> None:
    how = parse(AggregationSpec, case["spec"], "aggregation")
    weights = np.frombuffer(bytes.fromhex(VECTORS["weights"]), "<f4").astype(np.float32)
    state = ServerState.empty()
    for mean, after in zip(VECTORS["means"], case["after"], strict=True):
        weights, state = apply_update(weights, np.frombuffer(bytes.fromhex(mean), "<f8").astype(np.float64), state, how)
        assert weights.astype("<f4").tobytes().hex() == after


def test_every_method_has_a_frozen_vector() -> None:
    assert [case["spec"]["optimizer"] for case in VECTORS["cases"]] == METHODS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "mean",
    [
        np.zeros(2), np.zeros((1, 3)), np.float64(0.0), np.zeros(3, np.float32),
        np.array([0.0, np.nan, 0.0]), np.array([0.0, np.inf, 0.0]),
    ],
    ids=["short", "matrix", "scalar", "float32", "nan", "inf"],
)  # fmt: skip
def test_a_mean_that_does_not_fit_is_refused(method: str, mean: Any) -> None:
    with pytest.raises(ProtocolError, match="does not fit"):
        apply_update(np.zeros(3, np.float32), mean, ServerState.empty(), spec(method))


@pytest.mark.parametrize("state", [ServerState(np.zeros(1), np.empty(0)), ServerState(np.zeros(3), np.zeros(2))])
def test_moments_of_another_study_are_refused(state: ServerState) -> None:
    with pytest.raises(ProtocolError, match="moments do not fit"):
        apply_update(np.zeros(3, np.float32), np.zeros(3), state, spec("fedadam"))


@pytest.mark.parametrize("weights", [np.array([3e38, 0.0], np.float32), np.array([0.0, np.nan], np.float32)])
def test_weights_that_float32_cannot_hold_are_refused(weights: Any) -> None:
    with pytest.raises(ProtocolError, match="beyond float32") as caught:
        apply_update(weights, np.array([1.0, 0.0]), ServerState.empty(), spec("fedavg", learning_rate=1e38))
    assert caught.value.field == "aggregation.learning_rate"


def test_what_was_given_stays_as_it_was() -> None:
    weights, mean = np.ones(3, np.float32), np.full(3, 0.5)
    _, state = apply_update(weights, mean, ServerState.empty(), spec("fedadam"))
    kept = state.first.copy(), state.second.copy()
    apply_update(weights, mean, state, spec("fedadam"))
    assert (weights == 1).all() and (mean == 0.5).all()
    assert np.array_equal(state.first, kept[0]) and np.array_equal(state.second, kept[1])
