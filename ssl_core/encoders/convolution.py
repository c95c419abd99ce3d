"""Step 3 of 12: what both convolutional encoders are made of: convolution, GroupNorm, and how they start.

GroupNorm sees one record: Wu and He, "Group Normalization" (ECCV 2018), section 3. BatchNorm, which the published nets
have in its place, would let a patient's gradient depend on the others. GELU and means over squares stand for the ReLU and
the greatest value of the published nets: where a gradient jumps, the last bits in which float32 sums of two batches
differ can change a unit's row by more than bits. Comes in and goes out: maps float32
[N, channels, length] or [N, channels, height, width]. Every parameter lies in an nn.Conv1d, nn.Conv2d, nn.GroupNorm or
nn.Linear that is called once a pass with the records in front.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from ssl_core.encoders.attention import start_range

_GROUP = 8


def group_norm(width: int) -> nn.GroupNorm:
    """GroupNorm with eight channels a group."""
    return nn.GroupNorm(width // _GROUP, width)


class Residual(nn.Module):
    """gelu(norm(conv(gelu(norm(conv(x))))) + short(x)), 3 x 3: He et al., "Deep Residual Learning" (CVPR 2016), section 3.3.

    `short` is the identity, or 1 x 1 convolution and norm where stride or width change (option B).
    """

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.first_norm = group_norm(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = group_norm(width)
        self.short = self.short_norm = None
        if stride != 1 or before != width:
            self.short = nn.Conv2d(before, width, 1, stride, bias=False)
            self.short_norm = group_norm(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, before, h, w] to [N, width, ceil(h / stride), ceil(w / stride)]."""
        found = functional.gelu(self.first_norm(self.first(maps)))
        found = self.second_norm(self.second(found))
        if self.short is not None and self.short_norm is not None:
            maps = self.short_norm(self.short(maps))
        return functional.gelu(found + maps)


def convolution_range(model: nn.Module, name: str) -> tuple[float, float]:
    """Centre and half width from which parameter `name` starts, by the layer that it belongs to.

    Convolutions: uniform with variance 2 / inputs: He et al., "Delving Deep into Rectifiers" (ICCV 2015), section 2.2.
    GroupNorm: the identity. Others as in `start_range`.
    """
    layer, _, kind = name.rpartition(".")
    module = model.get_submodule(layer)
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        inputs = module.in_channels * math.prod(module.kernel_size)
        return 0.0, math.sqrt(6.0 / inputs) if kind == "weight" else 0.0
    if isinstance(module, nn.GroupNorm):
        return (1.0, 0.0) if kind == "weight" else (0.0, 0.0)
    return start_range(model, name)
