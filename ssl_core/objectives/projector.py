"""Step 3 of 12: the small perceptron between an encoder's features and the loss of a task on several looks at a record.

Comes in: features float32 [..., before]. Goes out: float32 [..., after]. Linear, norm, GELU, Linear, after Chen and He,
"Exploring Simple Siamese Representation Learning" (CVPR 2021), section 3, with fewer layers, GELU, and LayerNorm, which sees
one look, where they have BatchNorm, which would couple patients.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ssl_core.encoders.attention import layer_norm


class Projector(nn.Module):
    """Linear, LayerNorm, GELU, Linear (without `bias`, where a loss cannot see it); with `normed`, one more LayerNorm."""

    def __init__(self, before: int, hidden: int, after: int, *, normed: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(before, hidden), layer_norm(hidden)
        self.second = nn.Linear(hidden, after, bias=bias)
        self.last = layer_norm(after) if normed else None

    def forward(self, features: Tensor) -> Tensor:
        """Features [..., before] to [..., after]."""
        found: Tensor = self.second(functional.gelu(self.norm(self.first(features))))
        return found if self.last is None else self.last(found)
