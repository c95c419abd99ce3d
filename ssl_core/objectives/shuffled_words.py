"""Step 3 of 12: shuffled order of words: cut a text into segments, show them in another order, tell where each came from.

Papers: as shuffled_order.py, of sentences as in Lewis et al., "BART" (ACL 2020), section 2.2, sentence permutation. Different:
segments are stretches of equally many words, not sentences; the place of each is told by one softmax a segment from the mean
of its words' tokens, where BART writes the text anew; words are public hash codes; one record is one row, never packed with
another. The transformer is told where a word stands in what is shown, so that the order within a segment is kept, and lost
only between them.

Sensitivity: K records of the unit and the order of their segments come from the unit's own coins, how long a segment is from
the record itself; the loss is the mean over those K records inside the unit, before clipping (K views, still one row). So
the unit's gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units changes by
at most C with one unit.

Shapes for one unit, K records of S segments with M = T // S slots each; of a record with n words a segment has L = n // S, the
n - S L last words are left out, the slots beyond L are empty: rows int64 [K * S * M * codes] (of the encoder's table), places
int64 [K * S * M], s * L + j for word j of the segment that is shown as number s; real float32 [K * S * M], 1 for a word and 0
for none; origins int64 [K, S], the number of the segment that is shown there; weight float32 [K], 1 / K, or 0 for a record of
fewer words than segments. Loss = -sum over k of weight * mean over S of log softmax at the segment's number. With no record of
S words or more: loss 0, gradient exactly 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.data.patients import Patients
from ssl_core.encoders.attention import start_range
from ssl_core.encoders.text_transformer import TextTransformer, table_rows
from ssl_core.objectives.base import PretextModel, Views, spread_records
from ssl_core.spec.data import TextData
from ssl_core.spec.encoder import TextTransformerSize


class ShuffledWordsModel(PretextModel):
    """Text transformer, and one Linear from a segment's features to S logits."""

    encoder: TextTransformer

    def __init__(self, data: TextData, *, size: TextTransformerSize, segments: int) -> None:
        super().__init__()
        self.data, self.segments, self.slots = data, segments, data.words // segments
        self.views = data.records_per_patient
        self.coins = 1 + self.views * segments
        self.encoder = TextTransformer(data, size=size)
        self.head = nn.Linear(self.encoder.feature_width, segments)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """rows, places, real, origins, weight, each [B, ...]; see the module docstring."""
        self.check_draw(index, uniforms)
        units, records = len(index), len(index) * self.views
        rows = spread_records(patients, index, uniforms[:, 0], self.views).ravel()
        codes = np.asarray(patients.records[rows], np.int32)
        origins = uniforms[:, 1:].reshape(records, self.segments).argsort(axis=1, kind="stable")
        length = (codes[:, :, 0] >= 0).sum(axis=1)[:, None, None] // self.segments
        slot, shape = np.arange(self.slots), (records, self.segments * self.slots)
        real = np.broadcast_to(slot < length, (records, self.segments, self.slots)).reshape(shape)
        taken = (origins[:, :, None] * length + slot).reshape(shape)
        shown = np.take_along_axis(codes, np.where(real, taken, 0)[:, :, None], axis=1)
        places = (np.arange(self.segments)[:, None] * length + slot).reshape(shape)
        words = self.views * self.segments * self.slots
        weight = (length[:, 0, 0] > 0).astype(np.float32) / np.float32(self.views)
        return {
            "rows": torch.from_numpy(table_rows(shown, ~real, self.data.buckets)).view(units, words * self.data.codes),
            "places": torch.from_numpy(np.where(real, places, 0)).view(units, words),
            "real": torch.from_numpy(real.astype(np.float32)).view(units, words),
            "origins": torch.from_numpy(origins).view(units, self.views, self.segments),
            "weight": torch.from_numpy(weight).view(units, self.views),
        }

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        words = self.encoder.tokens(views["rows"], views["places"], views["real"], self.views)
        shape = (*views["origins"].shape, self.slots)
        real = views["real"].reshape(*shape, 1)
        summed = (words.reshape(*shape, words.shape[-1]) * real).sum(dim=-2)
        features = summed / real.sum(dim=-2).clamp(min=1.0)
        chance = self.head(features).float().log_softmax(dim=-1)
        found = chance.gather(-1, views["origins"].unsqueeze(-1)).squeeze(-1)
        loss: Tensor = -(views["weight"] * found.mean(dim=-1)).sum(dim=-1)
        return loss

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `start_range`."""
        return start_range(self, name)
