"""Step 3 of 12: the transformer on signals: pieces of all channels -> tokens -> blocks -> mean of the tokens.

Comes in: scaled signals float32 [k, channels * samples], channel after channel. Goes out: float32 [k, width]. The vision
transformer (vit.py, its sizes too) with `patch` consecutive samples of all channels in place of a square, as a patch of
time is cut in Nie et al., "A Time Series is Worth 64 Words" (ICLR 2023), section 3.1, and as ViT on ECG in Na et al.,
"Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship of Electrocardiogram" (ICLR 2024).
Different from both: they make a token of one channel; here one token sees all channels of its time, so the number of
tokens does not grow with them, and a channel is known by its place in the token. No class token.

Parameters, one channel, 3,000 samples in 60 pieces of 50: nano 29,024, micro 157,184, tiny 5,360,064, small 21,336,960,
base 85,141,248; each further channel adds patch x width.
"""

from __future__ import annotations

from torch import Tensor, nn

from ssl_core.encoders.attention import Transformer
from ssl_core.encoders.patches import PatchTransformer
from ssl_core.encoders.vit import SHAPES
from ssl_core.spec.data import SignalData
from ssl_core.spec.encoder import VitSize


class SignalTransformer(PatchTransformer):
    """`squares` tokens of `patch` samples of all channels."""

    def __init__(self, data: SignalData, *, size: VitSize, patch: int) -> None:
        super().__init__()
        self.parts, self.size = data.channels, patch
        self.squares = data.samples // patch
        shape = SHAPES[size]
        self.feature_width = shape.width
        self.waves = nn.Linear(data.channels * patch, shape.width)
        self.places = nn.Embedding(self.squares, shape.width)
        self.trunk = Transformer(*shape)

    def cut(self, records: Tensor) -> Tensor:
        """Signals [..., channels * n * patch] to their n pieces [..., n, channels * patch], in the order of time."""
        count = records.shape[-1] // (self.parts * self.size)
        pieces = records.reshape(*records.shape[:-1], self.parts, count, self.size).transpose(-3, -2)
        return pieces.flatten(-2)

    def lift(self, patches: Tensor) -> Tensor:
        """Pieces [..., channels * patch] to tokens [..., width]."""
        out: Tensor = self.waves(patches)
        return out
