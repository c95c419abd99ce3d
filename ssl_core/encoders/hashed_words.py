"""Step 3 of 12: the 0-layer text encoder: summed hash embeddings, mean over words, LayerNorm.

Comes in: codes int32 [k, words, codes], -1 where there is no word. Goes out: float32 [k, width].
A set of words enters as its bag of codes, float32 [codes * buckets]: how often each code occurs, divided by the number
of words. The mean embedding is then one product with the table, and its gradient for one unit is an outer product
that is written once; an embedding look-up would scatter under vmap. The table is stored as float32 [width, codes *
buckets], so that these rows of gradients come out contiguous: clipping reads them 4 times faster than transposed.
The order of words is not seen: Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods for Text
Classification" (ACL 2015), section 2, without its layers; tables as in Svenstrup et al., "Hash Embeddings" (NeurIPS
2017), section 3, with fixed code weights.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.encoders.base import Encoder, Records
from ssl_core.spec.data import TextData


def mean_bag(codes: npt.NDArray[np.int32], kept: npt.NDArray[np.bool_], buckets: int) -> npt.NDArray[np.float32]:
    """Codes int32 [k, words, codes] of the `kept` words bool [k, words] to mean bags float32 [k, codes * buckets].

    Code c of a word counts at c * buckets + code. A row without a kept word is zero.
    """
    rows, columns = np.nonzero(kept)
    count = codes.shape[2]
    places = codes[rows, columns].astype(np.int64) + np.arange(count) * buckets + rows[:, None] * (count * buckets)
    bags = np.bincount(places.ravel(), minlength=len(codes) * count * buckets).reshape(len(codes), count * buckets)
    words = np.maximum(kept.sum(axis=1, keepdims=True), 1)
    mean: npt.NDArray[np.float32] = (bags / words).astype(np.float32)
    return mean


def products(table: Tensor, vectors: Tensor) -> Tensor:
    """table [d, p] times each of ONE unit's vectors [K, p], or one vector [p]: [K, d], or [d]."""
    # torch.mv: under vmap its gradient is one outer product; a product of matrices measures up to 3 x slower here.
    if vectors.dim() == 1:
        return torch.mv(table, vectors)
    return torch.mv(table, vectors[0]).unsqueeze(0) if len(vectors) == 1 else vectors @ table.t()


class HashedWords(Encoder):
    """One table float32 [width, codes * buckets], the code tables side by side, and a LayerNorm."""

    def __init__(self, data: TextData, width: int) -> None:
        super().__init__()
        self.buckets = data.buckets
        self.feature_width = width
        self.table = nn.Parameter(torch.zeros(width, data.codes * data.buckets))
        self.norm = nn.LayerNorm(width)

    def forward(self, bags: Tensor) -> Tensor:
        """ONE unit's mean bags float32 [K, codes * buckets], or one of them, to features float32 [K, width], or [width]."""
        normed: Tensor = self.norm(products(self.table, bags))
        return normed

    def embed(self, records: Records) -> Tensor:
        """Codes int32 [k, words, codes] to float32 [k, width]."""
        codes = np.asarray(records, np.int32)
        bags = torch.from_numpy(mean_bag(codes, codes[:, :, 0] >= 0, self.buckets)).to(self.table.device)
        return functional.layer_norm(bags @ self.table.t(), (self.feature_width,), self.norm.weight, self.norm.bias)
