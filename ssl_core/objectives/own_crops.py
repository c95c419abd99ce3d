"""Step 3 of 12: crops of a unit's own records, each looked at twice, for the tasks that compare them.

Comes in: records of one unit and its own coins. Goes out, for one unit with K records and S crops of each: shown float32
[K * S * 2, V], the two looks at a crop one after the other, which show the same part of the record differently (augment.py);
real float32 [K], 0 for an all-zero record, else 1. Each crop lies in a part of the record of its own, about an S-th of it, so
that no two crops of a record overlap: tasks that push crops apart would push apart what is the same. What is lost by it: what
is larger than such a part. vicreg_own.py, barlow_own.py and crops_contrast.py are the tasks; `crops_of` is for those that take
statistics over the crops of one look, of one unit alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_core.data.patients import Patients
from ssl_core.encoders.base import Encoder
from ssl_core.encoders.convolution import convolution_range
from ssl_core.objectives.augment import LOOK, PLACE, Augmentation, augmented, parts_of_records
from ssl_core.objectives.base import PretextModel, Views, spread_records
from ssl_core.objectives.projector import Projector
from ssl_core.spec.data import ImageData, SignalData


class Crops(NamedTuple):
    """Of the two looks of one unit at n = K S crops, projected to d numbers; bad records' crops are not counted.

    found and centred (less the mean over what counts, 0 for what does not): float32 [..., 2, n, d]; counted [..., 1, n, 1],
    0 or 1; number [..., 1, 1, 1], how many count, but at least 2.
    """

    found: Tensor
    centred: Tensor
    counted: Tensor
    number: Tensor


class OwnCropsModel(PretextModel):
    """Encoder of images or signals and a projector of `projector` numbers; a task adds its `losses`."""

    def __init__(
        self, data: ImageData | SignalData, encoder: Encoder, *, projector: int, crops: int, how: Augmentation
    ) -> None:
        super().__init__()
        self.data, self.how = data, how
        self.views, self.crops = data.records_per_patient, crops
        self.parts = np.tile(parts_of_records(data, crops).repeat(2, axis=0), (self.views, 1, 1))
        self.coins = 1 + self.views * crops * (PLACE + 2 * LOOK)
        self.encoder = encoder
        self.project = Projector(encoder.feature_width, projector, projector, bias=False)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, K * S * 2, V], real [B, K]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        records = np.asarray(patients.records[rows], np.float32)
        own = uniforms[:, 1:].reshape(len(index), self.views * self.crops, PLACE + 2 * LOOK)
        places = own[:, :, :PLACE].repeat(2, axis=1)
        looks = own[:, :, PLACE:].reshape(len(index), self.views * self.crops * 2, LOOK)
        coins = np.concatenate((places, looks), axis=2)
        crops = records.repeat(self.crops * 2, axis=1)
        return {
            "shown": torch.from_numpy(augmented(crops, coins, self.data, self.how, self.parts)),
            "real": torch.from_numpy((records != 0).any(axis=2).astype(np.float32)),
        }

    def crops_of(self, views: Views) -> Crops:
        """What the projector makes of views with any leading dimensions [...]."""
        projected: Tensor = self.project(self.encoder(views["shown"])).float()
        found = projected.reshape(*views["real"].shape[:-1], self.views * self.crops, 2, -1).transpose(-3, -2)
        counted = views["real"].repeat_interleave(self.crops, dim=-1)[..., None, :, None]
        count = counted.sum(dim=-2, keepdim=True).clamp(min=2.0)
        centred = (found - (counted * found).sum(dim=-2, keepdim=True) / count) * counted
        return Crops(found, centred, counted, count)

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `convolution_range`."""
        return convolution_range(self, name)
