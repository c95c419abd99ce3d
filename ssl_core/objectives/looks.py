"""Step 3 of 12: two looks at each of a unit's records, for the tasks that ask what both have in common.

Comes in: records of one unit and its own coins. Goes out, for one unit with K records: shown float32 [2 K, V], the two looks at
a record one after the other (augment.py); weight float32 [K], 0 for an all-zero record, else 1 / K. The encoder's layers see
all looks of a unit together in one call, so that every engine fits. simsiam.py, byol.py and the tasks with a public bank
(bank_model.py) add their `losses`: a number for each look, of which `averaged` makes the unit's one loss, before clipping.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_core.data.patients import Patients
from ssl_core.encoders.base import Encoder
from ssl_core.encoders.convolution import convolution_range
from ssl_core.objectives.augment import COINS, Augmentation, augmented
from ssl_core.objectives.base import PretextModel, Views, spread_records
from ssl_core.spec.data import ImageData, SignalData

_EPSILON = 1e-8


class TwoLooksModel(PretextModel):
    """Encoder of images or signals; a task adds its heads and its `losses`."""

    def __init__(self, data: ImageData | SignalData, encoder: Encoder, *, how: Augmentation) -> None:
        super().__init__()
        self.data, self.how = data, how
        self.views = data.records_per_patient
        self.coins = 1 + coins_of_looks(self.views)
        self.encoder = encoder

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, 2 K, V], weight [B, K]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        shown, real = looked_at(np.asarray(patients.records[rows], np.float32), uniforms[:, 1:], self.data, self.how)
        return {"shown": shown, "weight": real / self.views}

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `convolution_range`."""
        return convolution_range(self, name)


def coins_of_looks(records: int) -> int:
    """How many coins two looks at each of so many records take."""
    return records * 2 * COINS


def looked_at(
    records: npt.NDArray[np.float32], coins: npt.NDArray[np.float64], data: ImageData | SignalData, how: Augmentation
) -> tuple[Tensor, Tensor]:
    """Records [B, K, V] by coins [B, coins_of_looks(K)] to shown float32 [B, 2 K, V] and real [B, K], 0 if all zero, else 1."""
    own = coins.reshape(len(records), records.shape[1] * 2, COINS)
    shown = augmented(records.repeat(2, axis=1), own, data, how)
    return torch.from_numpy(shown), torch.from_numpy((records != 0).any(axis=2).astype(np.float32))


def paired(rows: Tensor, views: Views) -> Tensor:
    """Rows of looks [..., 2 K, d] to [..., K, 2, d]: `flip(-2)` of it puts the other look in a look's place."""
    return rows.reshape(*views["weight"].shape, 2, -1)


def averaged(each: Tensor, views: Views) -> Tensor:
    """Numbers of looks [..., K, 2] to losses [...]: the mean over both, weighted over records."""
    loss: Tensor = (views["weight"] * each.mean(dim=-1)).sum(dim=-1)
    return loss


def direction(vectors: Tensor) -> Tensor:
    """Vectors [..., d] at length 1, float32; a zero vector stays zero and has a finite gradient."""
    wide = vectors.float()
    return wide * (wide.square().sum(dim=-1, keepdim=True) + _EPSILON).rsqrt()
