"""Step 11 of 12: decoded mean update float64 [P] -> new global weights float32 [P]; the same bytes on any machine.

The server takes this step to publish the model, and every site takes it again to know it (secure_sum/history.py).

FedAvg (McMahan et al. 2017, algorithm 1), FedAvgM (Hsu et al. 2019, section 4.3) and FedAdam (Reddi et al. 2021,
algorithm 2, without bias correction). Only + - x / sqrt in numpy float64, in a fixed order, one last cast to float32
(ruling 12); weights are kept as float64 of the float32 that was published, so no hidden state drifts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.config import AggregationSpec
from ssl_core.errors import ProtocolError

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ServerState:
    """Optimizer state: `first` and `second` moments float64 [P], or empty arrays where the method keeps none."""

    first: Vector
    second: Vector

    @classmethod
    def empty(cls) -> ServerState:
        """No moments."""
        return cls(np.empty(0), np.empty(0))

    @property
    def digest(self) -> bytes:
        """SHA-256 [32] over both moments, each behind its number of bytes."""
        hashed = hashlib.sha256(b"choral/server-state")
        for moment in (self.first, self.second):
            data = np.ascontiguousarray(moment, "<f8")
            hashed.update(data.nbytes.to_bytes(8, "big"))
            hashed.update(data.data)
        return hashed.digest()


@dataclass(frozen=True, slots=True, eq=False)
class GlobalModel:
    """What a server step starts from and ends with: `weights` float32 [P] and the optimizer's state."""

    weights: npt.NDArray[np.float32]
    state: ServerState

    @property
    def digest(self) -> bytes:
        """SHA-256 [32] over the weights' little-endian bytes."""
        return weights_digest(self.weights)

    def after(self, mean: Vector, spec: AggregationSpec) -> GlobalModel:
        """The model one step on with `mean` float64 [P]; raises `ProtocolError` as `apply_update` does."""
        return GlobalModel(*apply_update(self.weights, mean, self.state, spec))


def weights_digest(weights: npt.NDArray[np.float32]) -> bytes:
    """SHA-256 [32] over the little-endian bytes of `weights` float32 [P]: what all machines call "the same weights"."""
    return hashlib.sha256(np.ascontiguousarray(weights, "<f4").data).digest()


def apply_update(
    weights: npt.NDArray[np.float32], mean: Vector, state: ServerState, spec: AggregationSpec
) -> tuple[npt.NDArray[np.float32], ServerState]:
    """One server step from `weights` float32 [P] with `mean` float64 [P]; returns (new weights float32 [P], new state)."""
    if mean.shape != weights.shape or mean.dtype != np.float64 or not np.isfinite(mean).all():
        raise ProtocolError("decoded mean does not fit the weights", field="mean", value=mean.shape, limit=weights.shape)
    for name, moment in (("first", state.first), ("second", state.second)):
        if moment.size and moment.shape != weights.shape:
            raise ProtocolError("moments do not fit the weights", field=name, value=moment.shape, limit=weights.shape)
    start = weights.astype(np.float64)
    rate = np.float64(spec.learning_rate)
    match spec.optimizer:
        case "fedavg":
            step, state = rate * mean, ServerState.empty()
        case "fedavgm":
            first = _moment(state.first, mean) * np.float64(spec.momentum) + mean
            step, state = rate * first, ServerState(first, np.empty(0))
        case "fedadam":
            beta1, beta2 = np.float64(spec.betas[0]), np.float64(spec.betas[1])
            first = _moment(state.first, mean) * beta1 + mean * (np.float64(1.0) - beta1)
            second = _moment(state.second, mean) * beta2 + mean * mean * (np.float64(1.0) - beta2)
            step = rate * first / (np.sqrt(second) + np.float64(spec.epsilon))
            state = ServerState(first, second)
    end = start + step
    if not (np.abs(end) <= np.finfo(np.float32).max).all():
        raise ProtocolError("new weights are beyond float32", field="aggregation.learning_rate", value=spec.learning_rate)
    return end.astype(np.float32), state


def _moment(moment: Vector, like: Vector) -> Vector:
    return moment if moment.size else np.zeros_like(like)
