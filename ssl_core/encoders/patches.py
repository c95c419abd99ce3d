"""Step 3 of 12: what the transformers on patches share: a record is cut, some patches are looked at, a mean is taken.

Comes in: whole records float32 [..., V], or patches [..., records * T, D] with the numbers of their places int64
[..., records * T]. Goes out: features float32 [..., width], or tokens [..., records * T, width]. Positions are learnt and
looked up by number, so that the patches of a record may come in any order and some may be absent: attention does not
see the order. Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), section 3.1.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from ssl_core.encoders.attention import Transformer
from ssl_core.encoders.base import Encoder, Records


class PatchTransformer(Encoder):
    """`squares` patches of `parts` x `size` numbers each; a part is what masked autoencoding normalises by itself."""

    squares: int
    parts: int
    size: int
    places: nn.Embedding
    trunk: Transformer

    @abstractmethod
    def cut(self, records: Tensor) -> Tensor:
        """Records [..., V] to their patches [..., squares, parts * size], in the order of their places."""

    @abstractmethod
    def lift(self, patches: Tensor) -> Tensor:
        """Patches [..., parts * size] to tokens [..., width]: one Linear."""

    def tokens(self, patches: Tensor, places: Tensor, records: int = 1, bias: Tensor | None = None) -> Tensor:
        """Patches [..., records * T, D] at `places` int64 [..., records * T] to [..., records * T, width].

        bias: float32 [..., records * T], `HIDE` for a patch that the others must not see (attention.py), or None.
        """
        out: Tensor = self.trunk(self.lift(patches) + self.places(places), records, bias)
        return out

    def forward(self, records: Tensor) -> Tensor:
        """Whole records float32 [..., V] to features float32 [..., width]."""
        patches = self.cut(records)
        places = torch.arange(self.squares, device=records.device).expand(patches.shape[:-1])
        return self.tokens(patches, places).mean(dim=-2)

    def embed(self, records: Records) -> Tensor:
        """Records float32 [k, V] to float32 [k, width]."""
        whole = torch.from_numpy(np.ascontiguousarray(records, np.float32)).to(self.places.weight.device)
        out: Tensor = self(whole)
        return out
