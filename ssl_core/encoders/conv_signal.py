"""Step 3 of 12: the 1-D convolutional net on signals: strided convolutions, GroupNorm, GELU, mean over time.

Comes in: scaled signals float32 [k, channels * samples], channel after channel. Goes out: float32 [k, width]. Wang, Yan
and Oates, "Time Series Classification from Scratch with Deep Neural Networks" (IJCNN 2017), section 3.2: convolution,
norm, ReLU, three times over, then the mean over time. Different: GroupNorm and GELU (convolution.py), strides (4, then
2), kernels of 7, more layers. Any number of samples can enter, so that an objective may show parts of a record. The first
norm takes most of a record's amplitude away.

Parameters, one channel: nano 1,000, small 72,352, base 288,064; each further channel adds 7 x the first width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.encoders.base import Encoder, Records
from ssl_core.encoders.convolution import group_norm
from ssl_core.spec.data import SignalData
from ssl_core.spec.encoder import ConvSignalSize

WIDTHS: dict[ConvSignalSize, tuple[int, ...]] = {"nano": (8, 16), "small": (32, 64, 64, 64), "base": (64, 128, 128, 128)}
_KERNEL = 7


class ConvSignal(Encoder):
    """One convolution and norm for each of WIDTHS[size]."""

    def __init__(self, data: SignalData, *, size: ConvSignalSize) -> None:
        super().__init__()
        self.channels = data.channels
        widths = WIDTHS[size]
        self.feature_width = widths[-1]
        layers = zip((data.channels, *widths), widths, (4, *[2] * len(widths)), strict=False)
        self.layers = nn.ModuleList(
            nn.Conv1d(before, width, _KERNEL, stride, _KERNEL // 2, bias=False) for before, width, stride in layers
        )
        self.norms = nn.ModuleList(group_norm(width) for width in widths)

    def frames(self, signals: Tensor) -> Tensor:
        """Signals [N, channels, samples] to maps [N, width, ceil(samples / stride)], stride 4 x 2 for each later layer."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            signals = functional.gelu(norm(layer(signals)))
        return signals

    def forward(self, records: Tensor) -> Tensor:
        """Whole records float32 [..., channels * samples] to features float32 [..., width]."""
        signals = records.reshape(-1, self.channels, records.shape[-1] // self.channels)
        return self.frames(signals).mean(dim=-1).reshape(*records.shape[:-1], self.feature_width)

    def embed(self, records: Records) -> Tensor:
        """Records float32 [k, channels * samples] to float32 [k, width]."""
        whole = torch.from_numpy(np.ascontiguousarray(records, np.float32)).to(next(self.parameters()).device)
        out: Tensor = self(whole)
        return out
