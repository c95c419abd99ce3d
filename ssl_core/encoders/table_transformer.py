"""Step 3 of 12: the table transformer: a token for each column -> blocks -> mean of the columns' tokens.

Comes in: rows of a table float32 [k, 2 N + C], as the reader makes them (data/columns.py). Goes out: float32 [k, width].
Paper: Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data" (NeurIPS 2021), section 3.3, FT-Transformer: a
number x of column j enters as b_j + x w_j, a level as its own row; `tiny` and `small` have the widths of the authors' code for
one and three blocks, with 8 heads; `nano` is ours, for tests. Different: blocks as in attention.py (LayerNorm before each
part of every block, GELU, four times the width, no dropout); no class token, features are the mean over the columns; a
missing value is not imputed but enters as a code of its own column, as does a hidden one and a level that is not declared.

`table` holds for each column, one below the other, a row for each of its codes and one more for "hidden"; `scales` holds
w_j of the numeric columns. Both are read by row number, so that each parameter is of a layer that is called once.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.columns import LARGEST
from ssl_core.encoders.attention import Transformer, start_range
from ssl_core.encoders.base import Encoder, Records
from ssl_core.encoders.vit import Shape
from ssl_core.spec.data import TableData
from ssl_core.spec.encoder import TableTransformerSize

SHAPES: dict[TableTransformerSize, Shape] = {
    "nano": Shape(32, 2, 2),
    "tiny": Shape(96, 1, 8),
    "small": Shape(192, 3, 8),
}


class TableTransformer(Encoder):
    """One token a column."""

    def __init__(self, data: TableData, *, size: TableTransformerSize) -> None:
        super().__init__()
        self.counts, self.numbers = data.codes, len(data.numeric)
        self.columns = len(self.counts)
        rows = [0, *accumulate(count + 1 for count in self.counts)]
        self.first, shape = rows[:-1], SHAPES[size]
        self.feature_width = shape.width
        self.table = nn.Embedding(rows[-1], shape.width)
        self.scales = nn.Embedding(self.numbers, shape.width) if self.numbers else None
        self.trunk = Transformer(*shape)

    def known(self, records: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [..., 2 N + C] to values float32 [..., N], 0 where missing, and codes int64 [..., N + C].

        What no reader gives (a code that there is not, a value not finite or beyond all bounds) is missing.
        """
        values, found = records[..., : self.numbers], records[..., self.numbers :]
        counts = torch.tensor(self.counts, device=records.device)
        real = (found >= 0) & (found < counts) & (found == found.floor())
        bounded = functional.pad(values.abs(), (0, self.columns - self.numbers)) <= LARGEST
        codes = torch.where(real & bounded, found, 0.0).long()
        return torch.where(codes[..., : self.numbers] > 0, values, 0.0), codes

    def tokens(self, values: Tensor, codes: Tensor, records: int = 1) -> Tensor:
        """K rows of one unit side by side to tokens [..., K * columns, width].

        values: float32 [..., K * N], 0 where missing or hidden; codes: int64 [..., K * columns], a column's count of codes
        where it is hidden.
        """
        lead = codes.shape[:-1]
        first = torch.tensor(self.first * records, device=codes.device)
        found = self.table(codes + first).unflatten(-2, (records, self.columns))
        if self.scales is not None:
            which = torch.arange(self.numbers, device=codes.device).repeat(records).expand(*lead, records * self.numbers)
            scaled = (values.unsqueeze(-1) * self.scales(which)).unflatten(-2, (records, self.numbers))
            found = found + functional.pad(scaled, (0, 0, 0, self.columns - self.numbers))
        out: Tensor = self.trunk(found.flatten(-3, -2), records)
        return out

    def forward(self, record: Tensor) -> Tensor:
        """Whole rows float32 [..., 2 N + C], nothing hidden, to features float32 [..., width]."""
        return self.tokens(*self.known(record)).mean(dim=-2)

    def embed(self, records: Records) -> Tensor:
        """Rows float32 [k, 2 N + C] to float32 [k, width]."""
        ready = torch.from_numpy(np.ascontiguousarray(records, np.float32))
        out: Tensor = self(ready.to(self.table.weight.device))
        return out

    def start(self, name: str) -> tuple[float, float]:
        """Centre and half width from which parameter `name` starts: columns as in the authors' code, 1 / sqrt(width)."""
        if name in ("table.weight", "scales.weight"):
            return 0.0, float(self.feature_width**-0.5)
        return start_range(self, name)
