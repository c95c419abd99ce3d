"""Step 3 of 12: shuffled order: cut a signal into segments, show them in another order, tell where each came from.

Paper: Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles" (ECCV 2016),
sections 3 and 4, of time as in Lee et al., "Unsupervised Representation Learning by Sorting Sequences" (ICCV 2017).
Different: the place of each segment is predicted, by one softmax a segment, not one of a chosen set of permutations; the
segments pass through the encoder side by side, as one record, and the head sees the mean of the last maps over each; a
segment begins up to `gap` samples late by its own coin, so that two ends that fit together give less away; of a
segment in which nothing changes nobody could tell where it came from, and nothing is asked (segments.py).

Sensitivity: K records of the unit, the order of their segments and where these begin come from the unit's own coins; the
loss is the mean over those K records inside the unit, before clipping (K views, still one row); no norm sees two records.
So the unit's gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units
changes by at most C with one unit.

Shapes for one unit, S segments of E = samples / S - gap samples: shown float32 [K, channels, S * E]; places int64 [K, S],
the number of the segment that is shown there; weight float32 [K, S], 0 for an absent segment, else 1 / (K * how many of the
record's are present), 0 where they are fewer than two. Loss = -sum over k and S of weight * log softmax at the segment's
number. Of K > 1 records the encoder's layers see B * K rows, unit after unit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.encoders.conv_signal import ConvSignal
from ssl_core.encoders.convolution import convolution_range
from ssl_core.objectives.base import PretextModel, Views, spread_records
from ssl_core.objectives.segments import asked, begins, cut, present
from ssl_core.spec.data import SignalData
from ssl_core.spec.encoder import ConvSignalSize


class ShuffledOrderModel(PretextModel):
    """1-D convolutional net, and one Linear from the segments' features, in the order shown, to S softmaxes."""

    encoder: ConvSignal

    def __init__(self, data: SignalData, *, size: ConvSignalSize, segments: int, gap: int) -> None:
        super().__init__()
        self.views, self.channels = data.records_per_patient, data.channels
        self.segments, self.gap = segments, gap
        self.part = data.samples // segments
        self.coins = 1 + self.views * 2 * segments
        self.encoder = ConvSignal(data, size=size)
        self.head = nn.Linear(segments * self.encoder.feature_width, segments * segments)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, K, channels, S * E], places int64 [B, K, S], weight [B, K, S]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        records = np.asarray(patients.records[rows], np.float32)
        coins = uniforms[:, 1:].reshape(len(index), self.views, 2, self.segments)
        places = coins[:, :, 0].argsort(axis=2, kind="stable")
        kept = self.part - self.gap
        parts = cut(records, begins(places, coins[:, :, 1], self.part, self.gap), channels=self.channels, length=kept)
        shown = np.moveaxis(parts, 3, 2).reshape(*rows.shape, self.channels, self.segments * kept)
        return {
            "shown": torch.from_numpy(shown),
            "places": torch.from_numpy(places),
            "weight": torch.from_numpy(asked(present(parts))),
        }

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        maps = self.encoder.frames(views["shown"].flatten(0, -3))
        features = functional.adaptive_avg_pool1d(maps, self.segments).reshape(*views["weight"].shape[:-1], -1)
        logits = self.head(features).reshape(*views["places"].shape, self.segments)
        found = logits.log_softmax(dim=-1).gather(-1, views["places"].unsqueeze(-1)).squeeze(-1)
        loss: Tensor = -(views["weight"] * found).sum(dim=(-2, -1))
        return loss

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `convolution_range`."""
        return convolution_range(self, name)
