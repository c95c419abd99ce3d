"""Step 3 of 12: rotation: turn an image by a multiple of 90 degrees, tell by which.

Paper: Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations" (ICLR 2018), section 2.
Different: one view shows one rotation; the K views of a unit begin with the rotation of a coin and go on by 90 degrees
each, so that K = 4 shows all four, as the paper does, whether of one image or of four.

Sensitivity: K records of the unit and the first rotation come from the unit's own coins; pixels are standardised per
image; the loss is the mean over those K views inside the unit, before clipping (still one row); no norm sees two images.
So the unit's gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units
changes by at most C with one unit.

Shapes for one unit, square images of D pixels: shown float32 [K, D]; turns int64 [K], quarters of a turn, anticlockwise;
weight float32 [K], 0 for an all-zero record, else 1 / K. Loss = -sum over k of weight * log softmax at the turn. Of
K > 1 views the encoder's layers see B * K rows, unit after unit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.data.patients import Patients
from ssl_core.encoders.convolution import convolution_range
from ssl_core.encoders.resnet import ResNet
from ssl_core.objectives.base import PretextModel, Views, choose, spread_records
from ssl_core.spec.data import ImageData
from ssl_core.spec.encoder import ResnetSize

TURNS = 4


class RotationModel(PretextModel):
    """Residual net and one Linear to four classes."""

    encoder: ResNet

    def __init__(self, data: ImageData, *, size: ResnetSize) -> None:
        super().__init__()
        self.views = data.records_per_patient
        self.side = data.height // data.pool
        self.coins = 2
        self.encoder = ResNet(data, size=size)
        self.head = nn.Linear(self.encoder.feature_width, TURNS)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, K, D], turns int64 [B, K], weight [B, K]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        records = np.asarray(patients.records[rows], np.float32)
        turns = choose(uniforms[:, 1:], np.full((len(index), 1), TURNS, np.int64)) + np.arange(self.views)
        turns %= TURNS
        images = records.reshape(*rows.shape, self.side, self.side)
        turned = np.stack([np.rot90(images, turn, axes=(2, 3)) for turn in range(TURNS)], axis=2)
        shown = np.take_along_axis(turned, turns[:, :, None, None, None], axis=2).reshape(records.shape)
        return {
            "shown": torch.from_numpy(shown),
            "turns": torch.from_numpy(turns),
            "weight": torch.from_numpy((records != 0).any(axis=2).astype(np.float32) / np.float32(self.views)),
        }

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        chance = self.head(self.encoder(views["shown"])).log_softmax(dim=-1)
        found = chance.gather(-1, views["turns"].unsqueeze(-1)).squeeze(-1)
        loss: Tensor = -(views["weight"] * found).sum(dim=-1)
        return loss

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `convolution_range`."""
        return convolution_range(self, name)
