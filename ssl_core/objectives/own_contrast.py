"""Step 3 of 12: own contrast: tell two views of one part of a record from views of the record's other parts.

Paper: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML 2020), section 2.1,
equation 1 (NT-Xent) and the two-layer projection that is thrown away. Different: the negatives are other parts of the same
record, never another patient's: so it learns what sets one part of a record apart from the others (of signals: rate, shape
and noise of the moment), and what is the same all along a record is of no use to it; the two views of a part begin at
different samples and differ in size; no norm in the projection.

Sensitivity: K records of the unit, where their windows begin and how large they are come from the unit's own coins; every
positive and every negative is a window of the same record; the loss is the mean over those K records inside the unit, before
clipping (K views, still one row). So the unit's gradient is a function of the unit, released weights and its own coins: clipped
to C, the sum over units changes by at most C with one unit. In-batch SimCLR has no such argument, and is refused.

Shapes for one unit, S segments of E = samples / S - gap samples, each shown twice: shown float32 [K, 2, S, channels * E];
begin int64 [K, 2, S], the place of a window's first patch as a transformer is told, by a coin, so that it gives nothing away;
present float32 [K, S], 0 for a segment that never changes (segments.py), whose windows nobody is compared with; weight
float32 [K, S], 1 / (2 K n) for each of n >= 2 present segments, else 0. z: the 2 S projections, each of length 1. Loss =
-sum of weight * log(exp(z_i z_j / t) / sum over present m != i of exp(z_i z_m / t)), i and j the two views of a segment, both
ways. A record with fewer than two segments that change: loss 0, gradient exactly 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.encoders.attention import HIDE
from ssl_core.encoders.conv_signal import ConvSignal
from ssl_core.encoders.convolution import convolution_range
from ssl_core.encoders.signal_transformer import SignalTransformer
from ssl_core.objectives.base import PretextModel, Views, choose, spread_records
from ssl_core.objectives.segments import begins, cut, present
from ssl_core.spec.data import SignalData

_EPSILON = 1e-6
_LARGER = 1.25
"""A window's size is multiplied by 1 / 1.25 .. 1.25."""


class OwnContrastModel(PretextModel):
    """An encoder of signals, and a projection Linear, GELU, Linear that is not released for use."""

    encoder: ConvSignal | SignalTransformer

    def __init__(
        self,
        data: SignalData,
        encoder: ConvSignal | SignalTransformer,
        *,
        segments: int,
        gap: int,
        temperature: float,
        projection: int,
    ) -> None:
        super().__init__()
        self.views, self.channels = data.records_per_patient, data.channels
        self.segments, self.gap, self.temperature = segments, gap, temperature
        self.part = data.samples // segments
        self.coins = 1 + self.views * 6 * segments
        self.encoder = encoder
        self.widen = nn.Linear(encoder.feature_width, encoder.feature_width)
        self.project = nn.Linear(encoder.feature_width, projection)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, K, 2, S, channels * E], begin, present, weight; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        records = np.asarray(patients.records[rows], np.float32)
        coins = uniforms[:, 1:].reshape(len(index), self.views, 3, 2, self.segments)
        late, larger, place = coins[:, :, 0], coins[:, :, 1], coins[:, :, 2]
        numbers = np.broadcast_to(np.arange(self.segments), late.shape)
        kept = self.part - self.gap
        windows = cut(records, begins(numbers, late, self.part, self.gap), channels=self.channels, length=kept)
        found = present(windows).all(axis=2)
        count = found.sum(axis=2, keepdims=True)
        weight = np.where(count >= 2, found / np.maximum(2 * count * self.views, 1), 0.0)
        # Beyond float32 it becomes infinite, and the unit's row zero.
        with np.errstate(over="ignore"):
            windows *= np.power(_LARGER, 2.0 * larger - 1.0).astype(np.float32)[..., None, None]
        return {
            "shown": torch.from_numpy(windows.reshape(*late.shape, self.channels * kept)),
            "begin": torch.from_numpy(choose(place, np.full(place.shape, self._starts(), np.int64))),
            "present": torch.from_numpy(found.astype(np.float32)),
            "weight": torch.from_numpy(weight.astype(np.float32)),
        }

    def _starts(self) -> int:
        """At how many places the first patch of a window may be said to lie."""
        if isinstance(self.encoder, ConvSignal):
            return 1
        return self.encoder.squares - (self.part - self.gap) // self.encoder.size + 1

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        made = self.project(functional.gelu(self.widen(self._features(views))))
        found = (made * (made.square().sum(dim=-1, keepdim=True) + _EPSILON).rsqrt()).flatten(-3, -2)
        scores = found @ found.transpose(-1, -2) / self.temperature
        absent = 1.0 - views["present"]
        hidden = torch.cat((absent, absent), dim=-1).unsqueeze(-2) + torch.eye(2 * self.segments, device=scores.device)
        chance = (scores + HIDE * hidden).log_softmax(dim=-1)
        ways = chance.diagonal(self.segments, -2, -1) + chance.diagonal(-self.segments, -2, -1)
        loss: Tensor = -(views["weight"] * ways).sum(dim=(-2, -1))
        return loss

    def _features(self, views: Views) -> Tensor:
        """Features of the windows, float32 [..., K, 2, S, width]."""
        shown = views["shown"]
        if isinstance(self.encoder, ConvSignal):
            found: Tensor = self.encoder(shown)
            return found
        patches = self.encoder.cut(shown)
        count = patches.shape[-2]
        places = views["begin"].unsqueeze(-1) + torch.arange(count, device=shown.device)
        windows = self.views * 2 * self.segments
        tokens = self.encoder.tokens(patches.flatten(-5, -2), places.flatten(-4), windows)
        return self.encoder.pooled(tokens.view(*shown.shape[:-1], count, tokens.shape[-1]))

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `convolution_range`."""
        return convolution_range(self, name)
