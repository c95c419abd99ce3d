"""Step 3 of 12: contrastive predictive coding: from the past of a record, tell its next pieces from its other pieces.

Paper: van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding" (2018), sections 2.2 and 2.3,
equations 3 and 4 (InfoNCE). Different: the negatives are the other pieces of the same record, never another patient's (in
its table 2: "current sequence only"); each piece passes through the encoder alone, as in its section 3.2, so that no norm
lets a piece know of later ones; the past is read by causal attention (Vaswani et al., NeurIPS 2017, section 3.2.3), not by a
GRU; scores are divided by the square root of the width, so that they start small; features are the encoder's, the part
that reads the past is not released for use.

Sensitivity: K records of the unit and where their pieces begin come from the unit's own coins; what is to be told apart are
pieces of one record; the loss is the mean over those K records inside the unit, before clipping (K views, still one row). So
the unit's gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units changes by
at most C with one unit.

Shapes for one unit, S pieces of E = samples / S - gap samples, A steps ahead: shown float32 [K, S, channels * E]; present
float32 [K, S], 0 for a piece that never changes (segments.py), which is neither read nor compared with; weight float32
[K, A, S], 1 / (K n) for each of the n pairs (a, t) for which pieces t and t + a + 1 are present, else 0. z_s: features of
piece s; c_t: what the reader says after pieces 0 .. t. Loss = -sum of weight * log(exp(z_(t+a+1) W_a c_t) / sum over present
s of exp(z_s W_a c_t)), scores over sqrt(width). No such pair: loss 0, gradient exactly 0.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.encoders.attention import HIDE, Transformer
from ssl_core.encoders.conv_signal import ConvSignal
from ssl_core.encoders.convolution import convolution_range
from ssl_core.objectives.base import PretextModel, Views, spread_records
from ssl_core.objectives.segments import begins, cut, present
from ssl_core.spec.data import SignalData
from ssl_core.spec.encoder import ConvSignalSize

HEAD_WIDTH = 16
"""Width of a head of the reader."""


class ContrastivePredictiveModel(PretextModel):
    """1-D convolutional net on pieces, one causal block over them, and one Linear to a prediction for each step ahead."""

    encoder: ConvSignal

    def __init__(self, data: SignalData, *, size: ConvSignalSize, pieces: int, gap: int, ahead: int) -> None:
        super().__init__()
        self.views, self.channels = data.records_per_patient, data.channels
        self.pieces, self.gap, self.ahead = pieces, gap, ahead
        self.part = data.samples // pieces
        self.coins = 1 + self.views * pieces
        self.encoder = ConvSignal(data, size=size)
        width = self.encoder.feature_width
        self.places = nn.Embedding(pieces, width)
        self.reader = Transformer(width, 1, width // HEAD_WIDTH, causal=True)
        self.predict = nn.Linear(width, ahead * width)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, K, S, channels * E], present [B, K, S], weight [B, K, A, S]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        records = np.asarray(patients.records[rows], np.float32)
        coins = uniforms[:, 1:].reshape(len(index), self.views, self.pieces)
        numbers = np.broadcast_to(np.arange(self.pieces), coins.shape)
        kept = self.part - self.gap
        parts = cut(records, begins(numbers, coins, self.part, self.gap), channels=self.channels, length=kept)
        found = present(parts)
        asked = np.zeros((*rows.shape, self.ahead, self.pieces), np.bool_)
        for step in range(self.ahead):
            asked[:, :, step, : -step - 1] = found[:, :, : -step - 1] & found[:, :, step + 1 :]
        weight = asked / np.maximum(asked.sum(axis=(2, 3), keepdims=True) * self.views, 1)
        return {
            "shown": torch.from_numpy(parts.reshape(*coins.shape, self.channels * kept)),
            "present": torch.from_numpy(found.astype(np.float32)),
            "weight": torch.from_numpy(weight.astype(np.float32)),
        }

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        absent = HIDE * (1.0 - views["present"])
        features = self.encoder(views["shown"])
        numbers = torch.arange(self.pieces, device=absent.device).repeat(self.views)
        known = features.flatten(-3, -2) + self.places(numbers.expand(absent.flatten(-2).shape))
        said = self.predict(self.reader(known, self.views, absent.flatten(-2)))
        # [..., K, A, S, width], so that the scores are [..., K, A, S, S].
        wanted = said.unflatten(-2, (self.views, self.pieces)).unflatten(-1, (self.ahead, -1)).transpose(-3, -2)
        scores = wanted @ features.unsqueeze(-3).transpose(-1, -2) / math.sqrt(features.shape[-1])
        chance = (scores + absent[..., None, None, :]).log_softmax(dim=-1)
        steps = [functional.pad(chance[..., a, :, :].diagonal(a + 1, -2, -1), (0, a + 1)) for a in range(self.ahead)]
        loss: Tensor = -(views["weight"] * torch.stack(steps, dim=-2)).sum(dim=(-3, -2, -1))
        return loss

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `convolution_range`."""
        return convolution_range(self, name)
