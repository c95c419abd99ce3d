"""Step 3 of 12: jigsaw: cut an image into a grid of tiles, show them in another order, tell where each came from.

Paper: Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles" (ECCV 2016),
sections 3 and 4. Different: the place of each tile is predicted, by one softmax a tile, not one of a chosen set of
permutations; the tiles pass through the encoder side by side, as one image, and the head sees the mean of the last maps
over each; a tile begins up to `gap` pixels late, down and across, by its own coins, so that two edges that fit together
give less away, as the paper's gaps between tiles do; of a tile of one shade nobody could tell where it came from, and nothing
is asked (segments.py).

Sensitivity: K records of the unit, the order of their tiles and where these begin come from the unit's own coins; the
loss is the mean over those K records inside the unit, before clipping (K views, still one row); no norm sees two images.
So the unit's gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units
changes by at most C with one unit.

Shapes for one unit, a grid of G x G tiles of E x F = height / G - gap x width / G - gap pixels: shown float32
[K, G E * G F], the puzzle row after row; places int64 [K, G^2], the number of the tile that is shown there; weight float32
[K, G^2], 0 for an absent tile, else 1 / (K * how many of the record's are present), 0 where they are fewer than two.
Loss = -sum over k and tiles of weight * log softmax at the tile's number. Of K > 1 records the encoder's layers see B * K
rows, unit after unit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.encoders.convolution import convolution_range
from ssl_core.encoders.resnet import ResNet
from ssl_core.objectives.base import PretextModel, Views, choose, spread_records
from ssl_core.objectives.segments import asked, present
from ssl_core.spec.data import ImageData
from ssl_core.spec.encoder import ResnetSize


class JigsawModel(PretextModel):
    """Residual net, and one Linear from the tiles' features, in the order shown, to G^2 softmaxes."""

    encoder: ResNet

    def __init__(self, data: ImageData, *, size: ResnetSize, grid: int, gap: int) -> None:
        super().__init__()
        self.views, self.grid, self.gap = data.records_per_patient, grid, gap
        self.sides = (data.height // data.pool, data.width // data.pool)
        self.tiles = grid * grid
        self.coins = 1 + self.views * 3 * self.tiles
        self.encoder = ResNet(data, size=size)
        self.head = nn.Linear(self.tiles * self.encoder.feature_width, self.tiles * self.tiles)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, K, G E * G F], places int64 [B, K, G^2], weight [B, K, G^2]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        records = np.asarray(patients.records[rows], np.float32)
        coins = uniforms[:, 1:].reshape(len(index), self.views, 3, self.tiles)
        places = coins[:, :, 0].argsort(axis=2, kind="stable")
        down = self._lines(places // self.grid, coins[:, :, 1], self.sides[0])
        across = self._lines(places % self.grid, coins[:, :, 2], self.sides[1])
        pixels = down[..., :, None] * self.sides[1] + across[..., None, :]
        size = self.tiles * pixels.shape[-2] * pixels.shape[-1]
        taken = np.take_along_axis(records, pixels.reshape(*rows.shape, size), axis=2)
        tiles = taken.reshape(*rows.shape, self.grid, self.grid, *pixels.shape[-2:])
        found = present(tiles.reshape(*rows.shape, self.tiles, 1, size // self.tiles))
        return {
            "shown": torch.from_numpy(np.moveaxis(tiles, 4, 3).reshape(*rows.shape, size)),
            "places": torch.from_numpy(places),
            "weight": torch.from_numpy(asked(found)),
        }

    def _lines(self, numbers: npt.NDArray[np.int64], coins: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.int64]:
        """Rows (or columns) of the image that each tile shows, int64 [B, K, G^2, E]."""
        part = side // self.grid
        begins = numbers * part + choose(coins, np.full(coins.shape, self.gap + 1, np.int64))
        lines: npt.NDArray[np.int64] = begins[..., None] + np.arange(part - self.gap)
        return lines

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        height, width = (self.grid * (side // self.grid - self.gap) for side in self.sides)
        maps = self.encoder.maps(views["shown"].reshape(-1, 1, height, width))
        features = functional.adaptive_avg_pool2d(maps, self.grid).transpose(1, 2).transpose(2, 3)
        logits = self.head(features.reshape(*views["weight"].shape[:-1], -1)).reshape(*views["places"].shape, self.tiles)
        found = logits.log_softmax(dim=-1).gather(-1, views["places"].unsqueeze(-1)).squeeze(-1)
        loss: Tensor = -(views["weight"] * found).sum(dim=(-2, -1))
        return loss

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `convolution_range`."""
        return convolution_range(self, name)
