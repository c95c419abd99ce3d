"""Step 3 of 12: the residual net on grey images, with GroupNorm.

Comes in: standardised pooled pixels float32 [k, pixels]. Goes out: float32 [k, width], the mean of the last maps. He et al.,
"Deep Residual Learning for Image Recognition" (CVPR 2016), table 1; `18` is its ResNet-18. GroupNorm in place of
BatchNorm as in Wu and He (ECCV 2018) and, under privacy, De et al., "Unlocking High-Accuracy Differentially Private
Image Classification through Scale" (2022), section 3.1; GELU and mean pooling (convolution.py). `nano` (for tests) and
`10` (one block a width) are ours. Different: one colour; the first convolution of `nano` and `10` is 3 x 3 with stride
1 and no pooling follows, for small images, as in He et al., section 4.2.

Parameters: nano 4,952, 10 1,225,824, 18 11,170,240.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.encoders.base import Encoder, Records
from ssl_core.encoders.convolution import Residual, group_norm
from ssl_core.spec.data import ImageData
from ssl_core.spec.encoder import ResnetSize


class Stages(NamedTuple):
    """Width of each stage, blocks in each, and whether the first convolution is 7 x 7, strided and pooled."""

    widths: tuple[int, ...]
    blocks: int
    large: bool


STAGES: dict[ResnetSize, Stages] = {
    "nano": Stages((8, 16), 1, False),
    "10": Stages((32, 64, 128, 256), 1, False),
    "18": Stages((64, 128, 256, 512), 2, True),
}


class ResNet(Encoder):
    """A first convolution, `blocks` residual blocks for each width, of which later widths begin with stride 2."""

    def __init__(self, data: ImageData, *, size: ResnetSize) -> None:
        super().__init__()
        self.height, self.width = data.height // data.pool, data.width // data.pool
        widths, blocks, self.large = STAGES[size]
        self.feature_width = widths[-1]
        kernel, stride = (7, 2) if self.large else (3, 1)
        self.first = nn.Conv2d(1, widths[0], kernel, stride, kernel // 2, bias=False)
        self.norm = group_norm(widths[0])
        made = []
        before = widths[0]
        for width in widths:
            for number in range(blocks):
                made.append(Residual(before, width, 2 if number == 0 and width != widths[0] else 1))
                before = width
        self.blocks = nn.Sequential(*made)

    def maps(self, images: Tensor) -> Tensor:
        """Images of any size float32 [N, 1, h, w] to the last maps [N, width, h', w']."""
        maps = functional.gelu(self.norm(self.first(images)))
        found: Tensor = self.blocks(functional.avg_pool2d(maps, 3, 2, 1) if self.large else maps)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Whole images float32 [..., pixels] to features float32 [..., width]."""
        maps = self.maps(images.reshape(-1, 1, self.height, self.width))
        return maps.mean(dim=(-2, -1)).reshape(*images.shape[:-1], self.feature_width)

    def embed(self, records: Records) -> Tensor:
        """Images float32 [k, pixels] to float32 [k, width]."""
        images = torch.from_numpy(np.ascontiguousarray(records, np.float32)).to(self.first.weight.device)
        out: Tensor = self(images)
        return out
