"""Step 3 of 12: masked words: hide a share of a record's words, predict their codes from the mean of the others.

Paper: Devlin et al., "BERT" (NAACL 2019), section 3.1, task 1, with the encoder reduced to a mean of embeddings as in
Mikolov et al., "Efficient Estimation of Word Representations in Vector Space" (2013), section 3.1 (CBOW).
Different from both: a whole record is the context window and hidden words are removed, not replaced by a mask token;
the targets are the public hash codes of the hidden words, one softmax per code table, so no vocabulary is fitted.

Sensitivity: K records of the unit are drawn by the unit's own coin, their hidden words by its other coins; the loss is
the mean over those K records, of each over its hidden words, inside the unit, before clipping (K views, still one row).
So the unit's gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units
changes by at most C with one unit.

Shapes for one unit, V = codes * buckets: visible float32 [K, V] (mean bags of the seen words), hidden float32 [K, V] (mean
bags of the hidden words, each table's part sums to 1); features [K, width]; logits [K, V]; loss = mean over K of
-sum(hidden * log softmax), per table. With fewer than two words nothing is hidden: hidden is zero, the loss is 0 and the
gradient exactly 0. A patient with fewer than K records shows some of them again, other words hidden.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.encoders.hashed_words import HashedWords, mean_bag, products
from ssl_core.objectives.base import PretextModel, Views, spread_records
from ssl_core.spec.data import TextData


class MaskedWordsModel(PretextModel):
    """Hashed-words encoder and one linear head over both code tables."""

    encoder: HashedWords

    def __init__(self, data: TextData, *, width: int, mask_fraction: float) -> None:
        super().__init__()
        self.data = data
        self.mask_fraction = mask_fraction
        self.views = data.records_per_patient
        self.coins = 1 + self.views * data.words
        self.encoder = HashedWords(data, width)
        self.head = nn.Parameter(torch.zeros(data.codes * data.buckets, width))
        self.head_bias = nn.Parameter(torch.zeros(data.codes * data.buckets))

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """visible, hidden: float32 [B, K, codes * buckets]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views).ravel()
        codes = np.asarray(patients.records[rows], np.int32)
        real = codes[:, :, 0] >= 0
        hidden = hidden_words(real, uniforms[:, 1:].reshape(real.shape), self.mask_fraction)
        parts = {"visible": real & ~hidden, "hidden": hidden}
        shape = (len(index), self.views, self.data.codes * self.data.buckets)
        return {name: torch.from_numpy(mean_bag(codes, kept, self.data.buckets)).view(shape) for name, kept in parts.items()}

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        logits = products(self.head, self.encoder(views["visible"])) + self.head_bias
        log_chance = functional.log_softmax(logits.view(self.views, self.data.codes, self.data.buckets), dim=-1)
        return -(views["hidden"] * log_chance.flatten(-2)).sum() / self.views

    def init_range(self, name: str) -> tuple[float, float]:
        """Embeddings with standard deviation 0.1, small enough for noised steps to move them; LayerNorm as identity."""
        ranges = {
            "encoder.table": (0.0, 0.1 * math.sqrt(3.0)),
            "encoder.norm.weight": (1.0, 0.0),
            "head": (0.0, 0.1 * math.sqrt(3.0 / self.encoder.feature_width)),
        }
        return ranges.get(name, (0.0, 0.0))


def hidden_words(real: npt.NDArray[np.bool_], uniforms: npt.NDArray[np.float64], fraction: float) -> npt.NDArray[np.bool_]:
    """Which words of each record to hide, bool [B, T]: those of its `real` words with the least of the coins [B, T].

    Of n words round(n * fraction), at least 1 and at most n - 1; none of fewer than two.
    """
    words = real.sum(axis=1)
    wanted = np.clip(np.rint(words * fraction).astype(np.int64), 1, np.maximum(words - 1, 1))
    scores = np.where(real, uniforms, 2.0)
    ranks = scores.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return real & (ranks < np.where(words >= 2, wanted, 0)[:, None])
