"""Step 3 of 12: the contract of every pretext task: one unit's records in, one scalar loss of that unit alone out.

Sensitivity (all tasks; private-ssl notes section 1). Let g_i be the gradient of unit i's loss at weights that are
already released. (1) `draw` computes row b from the records of unit index[b] and from uniforms[b] alone, and those
uniforms are a pseudo-random function of (step key, unit id); (2) `forward` sees one row, no buffer, no randomness.
(3) So g_i is a function of unit i, released weights and i's own coins: adding or removing another unit changes no g_i,
and the sum of the clipped g_i changes by at most the clipping norm C when one unit is added or removed.
The isolation check and tests look for breaches of (1) and (2) on tested inputs; these three lines are the guarantee.
A `BucketModel` has another: privacy/buckets.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.func import vmap

from ssl_core.data.patients import Patients
from ssl_core.encoders.base import Encoder
from ssl_core.errors import PrivacyError

Views = dict[str, Tensor]


class PretextModel(nn.Module, ABC):
    """An encoder and the heads of one task.

    Promises, each tested: only float32 parameters, no buffers, no dropout, no batch statistics; `forward` is a pure
    function of parameters and views; all-padding or all-zero records give a finite loss and an exact zero gradient.
    """

    encoder: Encoder
    coins: int
    """How many uniforms in (0, 1] one unit's draw takes."""

    @abstractmethod
    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """Views of the units at `index` int64 [B] by their coins float64 [B, coins]: float32, or int64 numbers, [B, ...]."""

    @abstractmethod
    def forward(self, views: Views) -> Tensor:
        """The loss, float32 scalar, of ONE unit's views (no leading dimension B)."""

    def losses(self, views: Views) -> Tensor:
        """float32 [B]: the losses of B >= 1 units' views [B, ...]; entry b is `forward` of unit b.

        A model may write it as one pass over the batch in which no unit meets another; the bookkeeping engine needs that.
        """
        found: Tensor = vmap(self.forward)(views)
        return found

    def start_round(self) -> None:
        """Called once a round, when the released weights that it begins with are in place, and before any unit is drawn."""

    @abstractmethod
    def init_range(self, name: str) -> tuple[float, float]:
        """Centre and half width of the uniform distribution from which parameter `name` starts."""

    def check_draw(self, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> None:
        """Refuse coins of a wrong shape: broadcasting would let units share them."""
        if index.ndim != 1 or uniforms.shape != (len(index), self.coins):
            raise PrivacyError(
                "coins do not fit the sampled units",
                field="uniforms",
                value=uniforms.shape,
                limit=(len(index), self.coins),
            )


class BucketModel(PretextModel):
    """A task that compares the units of a bucket: `forward` is the one loss of m >= 1 units' views [m, ...], a scalar.

    Promises beside `PretextModel`'s: `draw` still makes row b from unit index[b] and its coins alone; the loss is a function
    of parameters and of this bucket's views, in which anything may meet; nothing is remembered between buckets; the
    loss of one unit has an exact zero gradient. So a unit is in the gradient of its own bucket and in no other's.
    """

    bucket_size: int
    """How many units a bucket has, on the average, at a site of its nominal size."""

    def losses(self, views: Views) -> Tensor:
        """Refused: units of a bucket have no losses of their own, and nothing may take them for such."""
        raise PrivacyError(
            "the units of a bucket have one loss together, none has its own",
            field="objective",
            value=type(self).__name__,
            remedy="take the loss of the whole bucket: forward",
        )


def choose(uniforms: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Uniforms in (0, 1] to whole numbers, each in 0 .. counts - 1 with equal chance; same shape as `uniforms`."""
    chosen = np.ceil(uniforms * counts).astype(np.int64) - 1
    return np.clip(chosen, 0, counts - 1)


def spread_records(
    patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.int64]:
    """Rows int64 [B, count] of `count` records of each unit at `index` [B], by one coin [B] of each: systematic sampling.

    The coin chooses the first, the others follow at equal distances, so that they are distinct where the unit has `count`
    or more and every record has the same chance.
    """
    first, own = patients.offsets[index], patients.offsets[index + 1] - patients.offsets[index]
    steps = np.arange(count) * own[:, None] // count
    rows: npt.NDArray[np.int64] = first[:, None] + (choose(uniforms, own)[:, None] + steps) % own[:, None]
    return rows
