"""Step 3 of 12: the small image encoder: pixels -> hidden -> code, two linear layers.

Comes in: standardised pooled pixels float32 [k, pixels]. Goes out: [hidden | code] float32 [k, hidden + code];
`forward` gives both parts of it for any leading dimensions. Layers: Linear, GELU, LayerNorm, Linear, GELU. LayerNorm
sees one record; BatchNorm would let a patient's gradient depend on the others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.encoders.base import Encoder, Records
from ssl_core.spec.data import ImageData


class MlpImage(Encoder):
    """`pixels` = (height / pool) * (width / pool) of the plan's images."""

    def __init__(self, data: ImageData, hidden: int, code: int) -> None:
        super().__init__()
        self.pixels = (data.height // data.pool) * (data.width // data.pool)
        self.feature_width = hidden + code
        self.first = nn.Linear(self.pixels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.second = nn.Linear(hidden, code)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images float32 [..., pixels] to hidden [..., hidden] and code [..., code]."""
        hidden: Tensor = self.norm(functional.gelu(self.first(images)))
        return hidden, functional.gelu(self.second(hidden))

    def embed(self, records: Records) -> Tensor:
        """Images float32 [k, pixels] to float32 [k, hidden + code]."""
        images = torch.from_numpy(np.ascontiguousarray(records, np.float32)).to(self.first.weight.device)
        return torch.cat(self(images), dim=1)
