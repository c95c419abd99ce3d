"""Step 11 of 12 at a site: published sum, words [P] -> the global model, recomputed and never taken from the server.

Comes in: a CLOSE that closing.py has checked, and the sum [P] whose hash it names; or a checkpoint that t sites vouch
for. Goes out: the model that stands after it, durable in a `ModelStore` before the journal says that the CLOSE was taken.
It starts from the weights whose hash the signed plan names (ruling 12); each CLOSE must follow the last one, so that two
sites with one transcript have one history. What this does not tell: whether the sum is the true one. A server may publish
another; then every later model is what that sum gives, the sites that compare notes see it, and the card of a release
says that the aggregate is not authenticated (ruling 13).
Raises `ProtocolError` for a CLOSE or sum to refuse, `Disputed` where the server's own sum does not give the model that it
signed, `StateError` where this site has no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ssl_core.config import AggregationSpec
from ssl_core.errors import ProtocolError, StateError
from ssl_core.model_update import GlobalModel, ServerState, weights_digest
from ssl_core.secure_sum.checks import need
from ssl_core.secure_sum.messages import Close
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.statements import GENESIS, transcript, vector_hash
from ssl_core.secure_sum.vector import mean_update


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Standing:
    """A global model, and what it stands after: `count` closed rounds, and the last one's transcript [32], else GENESIS."""

    transcript: bytes
    count: int
    model: GlobalModel


class ModelStore(Protocol):
    """Where one site keeps the global model of one session."""

    def read(self) -> Standing | None:
        """What was written last, None before the first write."""

    def write(self, standing: Standing) -> None:
        """Replace it as a whole, durably: a crash leaves the old or the new one."""


class MemoryModels:
    """A `ModelStore` for tests and simulations."""

    def __init__(self) -> None:
        self._kept: Standing | None = None

    def read(self) -> Standing | None:
        """What was written last."""
        return self._kept

    def write(self, standing: Standing) -> None:
        """Replace it."""
        self._kept = standing


class Disputed(ProtocolError):
    """The server signed a model that the sum which it published does not give."""


class History:
    """The global model of one session at one site. `initial` [32] is the digest of the plan's initial weights."""

    def __init__(self, params: SumParams, spec: AggregationSpec, initial: bytes, store: ModelStore) -> None:
        self._params = params
        self._spec = spec
        self._store = store
        self._now = store.read()
        self.initial = initial

    def __repr__(self) -> str:
        return f"History({'empty' if self._now is None else self._now.transcript.hex()[:12]})"

    @property
    def standing(self) -> Standing:
        """Where this site stands; `StateError` while it has no model."""
        if self._now is None:
            raise StateError(
                "this site has no global model of the study",
                field="model",
                remedy="the server sends the initial weights with the key set, or a checkpoint",
            )
        return self._now

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """The global weights, float32 [P]."""
        return self.standing.model.weights

    def need_at(self, previous: bytes) -> None:
        """`StateError` unless the model stands after the CLOSE of this transcript."""
        if self.standing.transcript != previous:
            raise StateError("global model is of another round than the journal", field="model", remedy="send a checkpoint")

    def begin(self, weights: npt.NDArray[np.float32]) -> None:
        """Take the plan's initial weights float32 [P]; once there is a model, they change nothing."""
        need(weights.shape == (self._params.dimension,), "initial weights have another length", field="weights")
        need(weights_digest(weights) == self.initial, "initial weights are not those of the signed plan", field="weights")
        if self._now is None:
            self._keep(Standing(GENESIS, 0, GlobalModel(weights, ServerState.empty())))

    def follow(self, close: Close, context: bytes, total: Words | None) -> None:
        """Recompute the model that `close` names from the sum [P] that it names; again is no change."""
        now = self.standing
        if now.transcript == transcript(close):
            return
        need(
            close.previous == now.transcript,
            "CLOSE does not follow the last one that this site took",
            field="previous",
            remedy="the server sends what this site missed, in order, or a checkpoint",
        )
        need(
            close.count == now.count + 1,
            "CLOSE counts the rounds wrongly",
            field="count",
            value=close.count,
            limit=now.count + 1,
        )
        need(close.start_model == now.model.digest, "round started from another model than this site has", field="start_model")
        if total is None or total.dtype != self._params.word:
            raise ProtocolError("CLOSE came without its sum", field="total")
        need(total.shape == (self._params.dimension,), "sum has another length", field="total")
        need(vector_hash(total) == close.total, "sum is not the one that CLOSE names", field="total")
        mean = mean_update(self._params, context, total, weight=self._params.weight_of(close.survivors))
        model = now.model.after(mean, self._spec)
        if (model.digest, model.state.digest) != (close.model, close.state):
            raise Disputed(
                "the sum does not give the model that CLOSE names",
                field="model",
                remedy="stop, and compare this round's CLOSE with another hospital's",
            )
        self._keep(Standing(transcript(close), close.count, model))

    def jump(self, close: Close, values: npt.NDArray[np.float64]) -> None:
        """Take the model [P] with its moments, weights first, in `values`: the ones that a vouched-for CLOSE names."""
        need(values.dtype == np.float64 and values.ndim == 1, "checkpoint is not a vector of float64", field="values")
        size = self._params.dimension
        need(values.size in (size, 2 * size, 3 * size), "checkpoint has another length", field="values", value=values.size)
        weights = values[:size].astype(np.float32)
        model = GlobalModel(weights, ServerState(values[size : 2 * size].copy(), values[2 * size :].copy()))
        need(bool((weights == values[:size]).all()), "checkpoint's weights are not of float32", field="values")
        need(model.digest == close.model, "checkpoint is not the model that CLOSE names", field="model")
        need(model.state.digest == close.state, "checkpoint is not the optimizer's state that CLOSE names", field="state")
        self._keep(Standing(transcript(close), close.count, model))

    def _keep(self, standing: Standing) -> None:
        self._store.write(standing)
        self._now = standing


def checkpoint_values(model: GlobalModel) -> npt.NDArray[np.float64]:
    """What `History.jump` takes: weights and moments, float64 [P], [2P] or [3P]; float32 weights are exact in it."""
    return np.concatenate([model.weights.astype(np.float64), model.state.first, model.state.second])
