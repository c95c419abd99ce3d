"""Step 3 of 12: what tasks on images with reports share: which pairs of a unit are shown, and how their images look.

Comes in: units with pairs float32 [m, pixels + words * codes], and their coins. Goes out: looks at K images of each, float32
[B, K, pixels], and the codes of the words of their reports. A look is as in augment.py, from the unit's own coins; a record
that is no pair (data/pair_rows.py) is shown as zeros, has no word, and so must give no gradient.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_core.data.pair_rows import parted
from ssl_core.data.patients import Patients
from ssl_core.encoders.attention import start_range
from ssl_core.encoders.two_tower import TwoTower
from ssl_core.objectives.augment import COINS, Augmentation, augmented
from ssl_core.objectives.base import PretextModel, Views, spread_records
from ssl_core.spec.data import PairData


class ImageReportsModel(PretextModel):
    """A two-tower encoder; each task adds its head and its loss."""

    encoder: TwoTower

    def __init__(self, data: PairData, encoder: TwoTower, *, how: Augmentation) -> None:
        super().__init__()
        self.data, self.how = data, how
        self.views = data.records_per_patient
        self.coins = 1 + self.views * COINS
        self.encoder = encoder

    def looks(
        self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]
    ) -> tuple[Tensor, npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Looks [B, K, pixels]; codes int32 [B * K, words, codes]; which are pairs, bool [B * K]."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views).ravel()
        pixels, codes, pairs = parted(np.asarray(patients.records[rows], np.float32), self.data)
        shown = augmented(pixels, uniforms[:, 1:].reshape(len(rows), COINS), self.data.pixels, self.how)
        return torch.from_numpy(shown).view(len(index), self.views, self.encoder.pixels), codes, pairs

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `start_range`."""
        return start_range(self, name)
