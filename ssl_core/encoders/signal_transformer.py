"""Step 3 of 12: the transformer on signals: pieces of all channels -> tokens -> blocks -> features.

Comes in: scaled signals float32 [k, channels * samples], channel after channel. Goes out: float32 [k, feature_width]. The
vision transformer (vit.py, its sizes too) with `patch` consecutive samples of all channels in place of a square, as a patch of
time is cut in Nie et al., "A Time Series is Worth 64 Words" (ICLR 2023), section 3.1, and as ViT on ECG in Na et al.,
"Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship of Electrocardiogram" (ICLR 2024).
Different from both: they make a token of one channel; here one token sees all channels of its time, so the number of
tokens does not grow with them, and a channel is known by its place in the token. No class token.

With `front_end` a token is made of more than its samples x_1 .. x_p, for each channel: of ln(0.01 + |F_f|^2 / p) / 2, f = 1 ..
p // 2, F the Fourier sum, and of ln(0.01 + s), s the mean of |x_(n+1) - x_n| over five steps, p // 5 of them: rate, size and
sharpness of a wave, which a small model does not find in its samples. Nothing is fitted; a record's are a function of it alone.

Parameters, one channel, 3,000 samples in 60 pieces of 50: nano 29,024, micro 157,184, tiny 5,360,064, small 21,336,960,
base 85,141,248; each further channel adds patch x width. With `front_end` a channel adds (p // 2 + p // 5) x width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_core.encoders.attention import Transformer
from ssl_core.encoders.patches import PatchTransformer
from ssl_core.encoders.vit import SHAPES
from ssl_core.spec.data import SignalData
from ssl_core.spec.encoder import Pool, VitSize

_LEAST = 0.01
_STEPS = 5


class SignalTransformer(PatchTransformer):
    """`squares` tokens of `patch` samples of all channels."""

    def __init__(self, data: SignalData, *, size: VitSize, patch: int, pool: Pool = "mean", front_end: bool = False) -> None:
        shape = SHAPES[size]
        super().__init__(shape.width, pool)
        self.parts, self.size, self.front_end = data.channels, patch, front_end
        self.squares = data.samples // patch
        seen = patch + (patch // 2 + patch // _STEPS if front_end else 0)
        self.waves = nn.Linear(data.channels * seen, shape.width)
        self.places = nn.Embedding(self.squares, shape.width)
        self.trunk = Transformer(*shape)

    def cut(self, records: Tensor) -> Tensor:
        """Signals [..., channels * n * patch] to their n pieces [..., n, channels * patch], in the order of time."""
        count = records.shape[-1] // (self.parts * self.size)
        pieces = records.reshape(*records.shape[:-1], self.parts, count, self.size).transpose(-3, -2)
        return pieces.flatten(-2)

    def lift(self, patches: Tensor) -> Tensor:
        """Pieces [..., channels * patch] to tokens [..., width]."""
        out: Tensor = self.waves(self._seen(patches) if self.front_end else patches)
        return out

    def _seen(self, patches: Tensor) -> Tensor:
        """Pieces [..., channels * patch] and what the module docstring says of them, [..., inputs of `waves`]."""
        pieces = patches.reshape(*patches.shape[:-1], self.parts, self.size)
        waves = torch.fft.rfft(pieces, dim=-1)[..., 1:]
        power = (_LEAST + (waves.real.square() + waves.imag.square()) / self.size).log() / 2.0
        steps = (pieces[..., 1:] - pieces[..., :-1]).abs()
        # As many steps as samples: the last one counts twice where p is a multiple of five.
        windows = torch.cat([steps, steps[..., -1:]], dim=-1)[..., : self.size // _STEPS * _STEPS]
        slopes = (_LEAST + windows.reshape(*pieces.shape[:-1], self.size // _STEPS, _STEPS).mean(dim=-1)).log()
        return torch.cat([patches, power.flatten(-2), slopes.flatten(-2)], dim=-1)
