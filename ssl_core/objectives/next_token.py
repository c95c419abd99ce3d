"""Step 3 of 12: next token: predict each word of a record from the words before it.

Paper: Radford et al., "Improving Language Understanding by Generative Pre-Training" (2018), section 3.1, equation 1.
Different: the targets are the word's public hash codes, one softmax per code table, so no vocabulary is fitted; the head is
one Linear that shares no weight with the embeddings; one record is one row, never packed with another, and none is cut
into windows; the first word is read, not predicted (there is no word that begins a record); LayerNorm stands before each
block.

Sensitivity: K records of the unit are drawn by the unit's own coin; the loss is the mean over those K records, of each over
its predicted words, inside the unit, before clipping (K views, still one row), never over a batch. So the unit's gradient
is a function of the unit, released weights and its own coins: clipped to C, the sum over units changes by at most C with
one unit.

Shapes for one unit, K records of T words side by side: rows int64 [K * T * codes] (of the encoder's table), real float32
[K * T], targets int64 [K * (T - 1), codes], weight float32 [K * (T - 1)]. Slot t of a record stands for its word t + 1, and
its logits are those of token t, which sees the words 0 .. t. Loss = -sum over slots of weight * sum over codes of log softmax
at the target; weight is 1 / (K * the record's predicted words), or 0 where no word follows a word. With fewer than two words
nothing is predicted: loss 0, gradient exactly 0. A patient with fewer than K records shows some of them again.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.data.patients import Patients
from ssl_core.encoders.attention import start_range
from ssl_core.encoders.text_transformer import TextTransformer
from ssl_core.objectives.base import PretextModel, Views, spread_records
from ssl_core.spec.data import TextData
from ssl_core.spec.encoder import TextTransformerSize


class NextModel(PretextModel):
    """What next-token and next-event share: records of `words` entries of `codes` numbers each, read and predicted in order."""

    encoder: TextTransformer

    def __init__(self, encoder: TextTransformer, outputs: int, *, shape: tuple[int, int], views: int) -> None:
        super().__init__()
        self.words, self.codes = shape
        self.views = views
        self.coins = 1
        self.encoder = encoder
        self.head = nn.Linear(encoder.feature_width, outputs)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """rows, real, targets, weight, each [B, ...]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views).ravel()
        codes = np.asarray(patients.records[rows], np.int32)
        real = codes[:, :, 0] >= 0
        predicted = real[:, :-1] & real[:, 1:]
        weight = predicted / np.maximum(predicted.sum(axis=1, keepdims=True), 1) / self.views
        units, words, slots = len(index), self.views * self.words, self.views * (self.words - 1)
        targets = np.maximum(codes[:, 1:], 0).astype(np.int64)
        return {
            "rows": self.encoder.prepare(codes).view(units, words * self.codes),
            "real": torch.from_numpy(real.astype(np.float32)).view(units, words),
            "targets": torch.from_numpy(targets).view(units, slots, self.codes),
            "weight": torch.from_numpy(weight.astype(np.float32)).view(units, slots),
        }

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        loss: Tensor = -(views["weight"] * self.log_likelihood(views)).sum(dim=-1)
        return loss

    @abstractmethod
    def log_likelihood(self, views: Views) -> Tensor:
        """float32 [..., K * (T - 1)]: the logarithm of the chance of what follows, added up over its `codes` numbers."""

    def following(self, views: Views) -> Tensor:
        """float32 [..., K * (T - 1), outputs]: what the head says of the entry after each."""
        real = views["real"]
        places = torch.arange(self.words, device=real.device).repeat(self.views).expand(real.shape)
        tokens = self.encoder.tokens(views["rows"], places, real, self.views)
        records = tokens.view(*tokens.shape[:-2], self.views, self.words, tokens.shape[-1])
        found: Tensor = self.head(records[..., :-1, :].flatten(-3, -2))
        return found

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `start_range`."""
        return start_range(self, name)


class NextTokenModel(NextModel):
    """Text transformer with causal attention and one linear head over all code tables."""

    def __init__(self, data: TextData, *, size: TextTransformerSize) -> None:
        encoder = TextTransformer(data, size=size, causal=True)
        super().__init__(encoder, data.codes * data.buckets, shape=data.shape, views=data.records_per_patient)

    def log_likelihood(self, views: Views) -> Tensor:
        """float32 [..., K * (T - 1)]."""
        return self.log_chances(views).gather(-1, views["targets"].unsqueeze(-1)).squeeze(-1).sum(dim=-1)

    def log_chances(self, views: Views) -> Tensor:
        """float32 [..., K * (T - 1), codes, buckets]: the logarithm of the chance of each code of each following word."""
        found = self.following(views)
        logits: Tensor = found.view(*found.shape[:-1], self.codes, found.shape[-1] // self.codes)
        return logits.log_softmax(dim=-1)
