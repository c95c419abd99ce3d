"""Step 3 of 12: what the transformers on patches share: a record is cut, some patches are looked at, their tokens are pooled.

Comes in: whole records float32 [..., V], or patches [..., records * T, D] with the numbers of their places int64
[..., records * T]. Goes out: features float32 [..., feature_width], or tokens [..., records * T, token_width]. Positions are
learnt and looked up by number, so that the patches of a record may come in any order and some may be absent: attention does not
see the order. Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), section 3.1. Pooled: the mean of the tokens, or
beside it their standard deviation, as over the frames of a voice in Snyder et al., "X-Vectors" (ICASSP 2018), section 2.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from ssl_core.encoders.attention import Transformer
from ssl_core.encoders.base import Encoder, Records
from ssl_core.spec.encoder import Pool

# Of a variance of tokens, which are of size 1; without it the gradient of equal tokens is not finite.
_LEAST_VARIANCE = 1e-6


class PatchTransformer(Encoder):
    """`squares` patches of `parts` x `size` numbers each; a part is what masked autoencoding normalises by itself.

    A token has `token_width` numbers, features have as many or, with "mean-deviation", twice as many.
    """

    squares: int
    parts: int
    size: int
    places: nn.Embedding
    trunk: Transformer

    def __init__(self, token_width: int, pool: Pool) -> None:
        super().__init__()
        self.token_width, self.pool = token_width, pool
        self.feature_width = token_width if pool == "mean" else 2 * token_width

    @abstractmethod
    def cut(self, records: Tensor) -> Tensor:
        """Records [..., V] to their patches [..., squares, parts * size], in the order of their places."""

    @abstractmethod
    def lift(self, patches: Tensor) -> Tensor:
        """Patches [..., parts * size] to tokens [..., width]: one Linear, after functions that nothing is learnt in."""

    def tokens(self, patches: Tensor, places: Tensor, records: int = 1, bias: Tensor | None = None) -> Tensor:
        """Patches [..., records * T, D] at `places` int64 [..., records * T] to [..., records * T, width].

        bias: float32 [..., records * T], `HIDE` for a patch that the others must not see (attention.py), or None.
        """
        out: Tensor = self.trunk(self.lift(patches) + self.places(places), records, bias)
        return out

    def forward(self, records: Tensor) -> Tensor:
        """Whole records float32 [..., V] to features float32 [..., feature_width]."""
        patches = self.cut(records)
        places = torch.arange(self.squares, device=records.device).expand(patches.shape[:-1])
        return self.pooled(self.tokens(patches, places))

    def pooled(self, tokens: Tensor) -> Tensor:
        """Tokens [..., T, width] of one record each to features [..., feature_width]."""
        mean = tokens.mean(dim=-2)
        if self.pool == "mean":
            return mean
        deviation = (tokens.var(dim=-2, correction=0) + _LEAST_VARIANCE).sqrt()
        return torch.cat([mean, deviation], dim=-1)

    def embed(self, records: Records) -> Tensor:
        """Records float32 [k, V] to float32 [k, feature_width]."""
        whole = torch.from_numpy(np.ascontiguousarray(records, np.float32)).to(self.places.weight.device)
        out: Tensor = self(whole)
        return out
