"""Step 3 of 12: masked image: hide a share of the squares of an image, predict all pixels from the rest.

Paper: He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022), section 3, with a small perceptron in
place of the transformer, as in Vincent et al., "Stacked Denoising Autoencoders" (JMLR 2010), section 3.
Different from both: hidden squares are set to 0 (the image's own mean) and seen pixels multiplied by 1 / (1 - share),
as in dropout; the error is taken over all pixels, not the hidden ones alone; the image is first moved by a few pixels.

Sensitivity: K records of the unit, their masks and shifts come from the unit's own coins; the loss is the mean over
those K records inside the unit, before clipping (K views, still one row); standardisation is per image. So the unit's
gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units changes by at
most C with one unit.

Shapes for one unit, D pixels: seen float32 [K, D], target float32 [K, D], weight float32 [K] (0 for an all-zero record,
else 1 / K); loss = sum over k of weight * mean over D of (prediction - target)^2.
The K records are drawn by `spread_records`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.data.patients import Patients
from ssl_core.encoders.mlp_image import MlpImage
from ssl_core.objectives.base import PretextModel, Views, choose, spread_records
from ssl_core.spec.data import ImageData


class MaskedImageModel(PretextModel):
    """Small perceptron encoder and one linear decoder."""

    encoder: MlpImage

    def __init__(self, data: ImageData, *, hidden: int, code: int, patch: int, mask_fraction: float, shift: int) -> None:
        super().__init__()
        self.height, self.width = data.height // data.pool, data.width // data.pool
        self.patch, self.mask_fraction, self.shift = patch, mask_fraction, shift
        self.views = data.records_per_patient
        self.squares = (self.height // patch) * (self.width // patch)
        self.coins = 1 + self.views * (2 + self.squares)
        self.encoder = MlpImage(data, hidden, code)
        self.decoder = nn.Linear(code, self.height * self.width)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """seen, target: float32 [B, K, D]; weight: float32 [B, K]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        coins = uniforms[:, 1:].reshape(len(index), self.views, 2 + self.squares)
        target = self._shifted(np.asarray(patients.records[rows], np.float32), coins[:, :, :2])
        seen = np.where(self._hidden(coins[:, :, 2:]), 0.0, target / (1.0 - self.mask_fraction))
        weight = (target != 0).any(axis=2) / self.views
        return {
            "seen": torch.from_numpy(seen.astype(np.float32)),
            "target": torch.from_numpy(target),
            "weight": torch.from_numpy(weight.astype(np.float32)),
        }

    def _shifted(self, images: npt.NDArray[np.float32], coins: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Images [B, K, D] moved by -shift .. shift pixels each way by their two coins; edge pixels repeat."""
        moves = choose(coins, np.full(coins.shape, 2 * self.shift + 1, np.int64)) - self.shift
        rows = np.clip(np.arange(self.height) + moves[:, :, :1], 0, self.height - 1)
        columns = np.clip(np.arange(self.width) + moves[:, :, 1:], 0, self.width - 1)
        places = rows[:, :, :, None] * self.width + columns[:, :, None, :]
        return np.take_along_axis(images, places.reshape(images.shape), axis=2)

    def _hidden(self, coins: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Squares' coins [B, K, squares] to hidden pixels bool [B, K, D]: the round(share * squares) least coins."""
        count = min(max(round(self.squares * self.mask_fraction), 1), self.squares - 1)
        hidden = coins.argsort(axis=2, kind="stable").argsort(axis=2, kind="stable") < count
        grid = hidden.reshape(*hidden.shape[:2], self.height // self.patch, self.width // self.patch)
        pixels = grid.repeat(self.patch, axis=2).repeat(self.patch, axis=3)
        return pixels.reshape(*hidden.shape[:2], self.height * self.width)

    def losses(self, views: Views) -> Tensor:
        """float32 [B] for views with leading dimension B; without one, ONE unit's loss, float32 scalar."""
        _, code = self.encoder(views["seen"])
        errors = (self.decoder(code) - views["target"]).square().mean(dim=-1)
        found: Tensor = (views["weight"] * errors).sum(dim=-1)
        return found

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def init_range(self, name: str) -> tuple[float, float]:
        """Linear weights uniform within 1 / sqrt(inputs), no bias, LayerNorm as identity."""
        if name == "encoder.norm.weight":
            return 1.0, 0.0
        inputs = {
            "encoder.first.weight": self.encoder.first.in_features,
            "encoder.second.weight": self.encoder.second.in_features,
            "decoder.weight": self.decoder.in_features,
        }
        return 0.0, 1.0 / math.sqrt(inputs[name]) if name in inputs else 0.0
