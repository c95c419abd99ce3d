"""Step 3 of 12: the vision transformer on grey images: squares -> tokens -> blocks -> features.

Comes in: standardised pooled pixels float32 [k, pixels]. Goes out: float32 [k, feature_width]. Paper: Dosovitskiy et al., "An
Image is Worth 16x16 Words" (ICLR 2021), section 3.1; tiny and small as in Touvron et al., "Training data-efficient image
transformers" (ICML 2021), table 1; base as in Dosovitskiy et al., table 1; `nano` (for tests) and `micro` are ours.
Different from both: one channel; no class token, features are the mean of the last tokens (as good under masked
autoencoding: He et al., CVPR 2022, appendix A.1). Positions are learnt, as in the first paper.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ssl_core.encoders.attention import Transformer
from ssl_core.encoders.patches import PatchTransformer
from ssl_core.spec.data import Picture
from ssl_core.spec.encoder import Pool, VitSize


class Shape(NamedTuple):
    """Width of a token, number of blocks, heads of each."""

    width: int
    depth: int
    heads: int


SHAPES: dict[VitSize, Shape] = {
    "nano": Shape(32, 2, 2),
    "micro": Shape(64, 3, 4),
    "tiny": Shape(192, 12, 3),
    "small": Shape(384, 12, 6),
    "base": Shape(768, 12, 12),
}


class VisionTransformer(PatchTransformer):
    """`squares` tokens of `patch` x `patch` pixels each."""

    def __init__(self, data: Picture, *, size: VitSize, patch: int, pool: Pool = "mean") -> None:
        shape = SHAPES[size]
        super().__init__(shape.width, pool)
        self.height, self.width, self.patch = data.height // data.pool, data.width // data.pool, patch
        self.squares = (self.height // patch) * (self.width // patch)
        self.parts, self.size = 1, patch * patch
        self.pixels = nn.Linear(patch * patch, shape.width)
        self.places = nn.Embedding(self.squares, shape.width)
        self.trunk = Transformer(*shape)

    def cut(self, images: Tensor) -> Tensor:
        """Images [..., pixels] to their squares [..., squares, patch * patch], row by row."""
        rows, columns, patch = self.height // self.patch, self.width // self.patch, self.patch
        grid = images.reshape(*images.shape[:-1], rows, patch, columns, patch).transpose(-3, -2)
        return grid.reshape(*images.shape[:-1], self.squares, patch * patch)

    def lift(self, patches: Tensor) -> Tensor:
        """Squares [..., patch * patch] to tokens [..., width]."""
        out: Tensor = self.pixels(patches)
        return out
