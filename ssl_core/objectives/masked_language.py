"""Step 3 of 12: masked language modelling: hide a share of a record's words, predict each at its place from the others.

Paper: Devlin et al., "BERT" (NAACL 2019), section 3.1, task 1. Different: a hidden word is always replaced by the mask
token (no 10 % random, no 10 % kept); the targets are the word's public hash codes, one softmax per code table, so no
vocabulary is fitted; the head is one Linear that shares no weight with the embeddings; one record is one row, never
packed with another; no next-sentence task.

Sensitivity: K records of the unit are drawn by the unit's own coin, their hidden words by its other coins; the loss is
the mean over those K records, of each over its hidden words, inside the unit, before clipping (K views, still one row).
So the unit's gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units
changes by at most C with one unit.

Shapes for one unit, K records of T words side by side, M = the most words of one that are ever hidden: rows int64
[K * T * codes] (of the encoder's table), places int64 [K * T], real float32 [K * T], targets int64 [K * M, codes], weight
float32 [K * M]. A record's words come hidden ones first, the others after them, so that the head sees its first M tokens
only; their positions are looked up by number, and attention does not see the order. Loss = -sum over K * M of weight *
sum over codes of log softmax at the target; weight is 1 / (K * the record's hidden words), or 0 in a slot beyond them. With
fewer than two words nothing is hidden: loss 0, gradient exactly 0. A patient with fewer than K records shows some again,
other words hidden.
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
from ssl_core.objectives.masked_words import hidden_words
from ssl_core.spec.data import TextData
from ssl_core.spec.encoder import TextTransformerSize


class MaskedLanguageModel(PretextModel):
    """Text transformer and one linear head over all code tables."""

    encoder: TextTransformer

    def __init__(self, data: TextData, *, size: TextTransformerSize, mask_fraction: float) -> None:
        super().__init__()
        self.data = data
        self.mask_fraction = mask_fraction
        self.views = data.records_per_patient
        self.slots = max(int(np.rint(data.words * mask_fraction)), 1)
        self.coins = 1 + self.views * data.words
        self.encoder = TextTransformer(data, size=size)
        self.head = nn.Linear(self.encoder.feature_width, data.codes * data.buckets)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """rows, places, real, targets, weight, each [B, ...]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views).ravel()
        codes = np.asarray(patients.records[rows], np.int32)
        real = codes[:, :, 0] >= 0
        hidden = hidden_words(real, uniforms[:, 1:].reshape(real.shape), self.mask_fraction)
        places = (~hidden).argsort(axis=1, kind="stable")
        codes = np.take_along_axis(codes, places[:, :, None], axis=1)
        real, hidden = np.take_along_axis(real, places, axis=1), np.take_along_axis(hidden, places, axis=1)
        weight = hidden[:, : self.slots] / np.maximum(hidden.sum(axis=1, keepdims=True), 1) / self.views
        units, slots = len(index), self.views * self.slots
        targets = np.maximum(codes[:, : self.slots], 0).astype(np.int64)
        return {
            "rows": torch.from_numpy(table_rows(codes, hidden, self.data.buckets)).view(
                units, self.views * self.data.words * self.data.codes
            ),
            "places": torch.from_numpy(places).view(units, self.views * self.data.words),
            "real": torch.from_numpy(real.astype(np.float32)).view(units, self.views * self.data.words),
            "targets": torch.from_numpy(targets).view(units, slots, self.data.codes),
            "weight": torch.from_numpy(weight.astype(np.float32)).view(units, slots),
        }

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        words = self.encoder.tokens(views["rows"], views["places"], views["real"], self.views)
        records = words.view(*words.shape[:-2], self.views, self.data.words, words.shape[-1])
        tokens = records[..., : self.slots, :].flatten(-3, -2)
        log_chance = self.head(tokens).unflatten(-1, (self.data.codes, self.data.buckets)).log_softmax(dim=-1)
        found = log_chance.gather(-1, views["targets"].unsqueeze(-1)).squeeze(-1).sum(dim=-1)
        loss: Tensor = -(views["weight"] * found).sum(dim=-1)
        return loss

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `start_range`."""
        return start_range(self, name)
