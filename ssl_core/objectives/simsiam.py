"""Step 3 of 12: siamese prediction: two looks at one record; from each, what the encoder makes of the other is predicted.

Papers: Chen and He, "Exploring Simple Siamese Representation Learning" (SimSiam, CVPR 2021), algorithm 1: encoder,
projector, predictor, minus cosine to the other look with the gradient stopped, both ways; Grill et al., "Bootstrap Your
Own Latent" (BYOL, NeurIPS 2020). Different: LayerNorm in the projector and predictor and GroupNorm or LayerNorm in the
encoder where SimSiam has BatchNorm, which would couple patients; that no batch statistics are needed is in Richemond et
al., "BYOL works even without batch statistics" (2020); the target is the present encoder, not a slow average; 1 - cosine
in place of minus cosine; augmentations as in augment.py; K records of a patient make one loss. What is lost by that: nothing
in this loss keeps two patients apart. Without privacy, one seed each on chest X-rays and single-lead ECG at a learning rate
of 1e-3, the loss fell to 0.001 or less within 200 steps, as it does when all projections become alike, and a linear probe
moved by -.05 to +.01 from that of a random encoder. Rehearse on public data before patients are spent on it.

Sensitivity: K records of the unit and both looks at each come from the unit's own coins; a stopped target is a function of
released weights and of the same look; the loss is the mean over 2 K predictions inside the unit, before clipping (still one
row: clipped one by one, the looks would add up to 2 C). So the unit's gradient is a function of the unit, released
weights and its own coins: clipped to C, the sum over units changes by at most C with one unit.

Shapes for one unit: shown float32 [2 K, V], the two looks at a record one after the other; weight float32 [K], 0 for an
all-zero record, else 1 / K. Loss = sum over k of weight * mean over both ways of (1 - cos(predicted from one look, stopped
projection of the other)). The encoder's layers see all looks of a unit together in one call, so that every engine fits.
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
from ssl_core.objectives.projector import Projector
from ssl_core.spec.data import ImageData, SignalData

_EPSILON = 1e-8


class SimSiamModel(PretextModel):
    """Encoder of images or signals, a projector of `projector` and a predictor with a waist of `predictor` numbers."""

    def __init__(
        self, data: ImageData | SignalData, encoder: Encoder, *, projector: int, predictor: int, how: Augmentation
    ) -> None:
        super().__init__()
        self.data, self.how = data, how
        self.views = data.records_per_patient
        self.coins = 1 + self.views * 2 * COINS
        self.encoder = encoder
        self.project = Projector(encoder.feature_width, projector, projector, normed=True)
        self.predict = Projector(projector, predictor, projector)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, 2 K, V], weight [B, K]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        records = np.asarray(patients.records[rows], np.float32)
        coins = uniforms[:, 1:].reshape(len(index), self.views * 2, COINS)
        return {
            "shown": torch.from_numpy(augmented(records.repeat(2, axis=1), coins, self.data, self.how)),
            "weight": torch.from_numpy((records != 0).any(axis=2).astype(np.float32) / np.float32(self.views)),
        }

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        projected = self.project(self.encoder(views["shown"]))
        pairs = (*views["weight"].shape, 2, -1)
        predicted = _direction(self.predict(projected)).reshape(pairs)
        target = _direction(self._target(views["shown"], projected)).reshape(pairs).flip(-2)
        apart = 1.0 - (predicted * target).sum(dim=-1)
        loss: Tensor = (views["weight"] * apart.mean(dim=-1)).sum(dim=-1)
        return loss

    def _target(self, shown: Tensor, projected: Tensor) -> Tensor:
        """What is to be predicted, of the shape of `projected`, without a gradient."""
        return projected.detach()

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `convolution_range`."""
        return convolution_range(self, name)


def _direction(vectors: Tensor) -> Tensor:
    """Vectors [..., d] at length 1, float32; a zero vector stays zero and has a finite gradient."""
    wide = vectors.float()
    return wide * (wide.square().sum(dim=-1, keepdim=True) + _EPSILON).rsqrt()
