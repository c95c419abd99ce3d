"""Step 3 of 12: denoising: add noise to a record, blank a block of it, predict the record as it was.

Paper: Vincent et al., "Stacked Denoising Autoencoders" (JMLR 2010), section 3.2 (Gaussian noise); the blank block: Pathak et
al., "Context Encoders: Feature Learning by Inpainting" (CVPR 2016), section 3.3, central region. Different: both at once;
the error is a mean over the whole record; the block is 0 and may lie anywhere; on transformers the prediction is one Linear of
each patch's last token, on `mlp-image` one Linear of the code, no decoder with layers of its own; no adversarial loss. With
`target = "log-power"`, for signals, the power spectrum of each clean piece is predicted in place of its values (targets.py).

Sensitivity: K records of the unit, their noise (one coin each: coin_noise.py) and blocks come from the unit's own coins, the
size of the noise from the plan; the loss is the mean over those K records inside the unit, before clipping (K views, still
one row). So the unit's gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over
units changes by at most C with one unit.

Shapes for one unit, records cut into N patches of D values (`mlp-image`: N = 1, D all pixels): seen float32 [K * N, D];
target float32 [K * N, D'], D' = D, or about half of it for log-power; weight float32 [K], 0 for an all-zero record, else 1 / K.
Loss = sum over k of weight * mean over N and D' of (prediction - target)^2. `noise` is the noise's standard deviation, in the
units of a record: `typical` of a signal, one standard deviation of an image. Of a signal, the block is block * samples
consecutive samples of all channels; of an image, a rectangle of sqrt(block) of either side.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.data.patients import Patients
from ssl_core.encoders.attention import start_range
from ssl_core.encoders.mlp_image import MlpImage
from ssl_core.encoders.patches import PatchTransformer
from ssl_core.objectives.base import PretextModel, Views, choose, spread_records
from ssl_core.objectives.coin_noise import gaussian
from ssl_core.objectives.targets import log_power
from ssl_core.spec.data import ImageData, SignalData
from ssl_core.spec.objective import MaskedTarget


class DenoisingModel(PretextModel):
    """An encoder and one Linear from what it says of a patch to that patch without noise."""

    encoder: PatchTransformer | MlpImage

    def __init__(
        self,
        data: ImageData | SignalData,
        encoder: PatchTransformer | MlpImage,
        *,
        noise: float,
        block: float,
        target: MaskedTarget = "values",
    ) -> None:
        super().__init__()
        self.views, self.noise, self.target = data.records_per_patient, noise, target
        if isinstance(data, SignalData):
            self.sides: tuple[int, ...] = (data.samples,)
        else:
            self.sides = (data.height // data.pool, data.width // data.pool)
        share = block ** (1.0 / len(self.sides))
        self.blank = tuple(math.floor(side * share + 0.5) for side in self.sides)
        self.coins = 1 + self.views * (1 + len(self.sides))
        self.encoder = encoder
        if isinstance(encoder, PatchTransformer):
            self.patches = encoder.squares
            size = encoder.parts * (encoder.size // 2 if target == "log-power" else encoder.size)
            self.head = nn.Linear(encoder.token_width, size)
        else:
            self.patches = 1
            self.head = nn.Linear(encoder.second.out_features, encoder.pixels)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """seen [B, K * N, D], target [B, K * N, D'], weight [B, K]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        records = np.asarray(patients.records[rows], np.float32)
        coins = uniforms[:, 1:].reshape(len(index), self.views, 1 + len(self.sides))
        noised = records + np.float32(self.noise) * gaussian(coins[:, :, 0], records.shape[2])
        seen = np.where(self._blanked(coins[:, :, 1:], records.shape), np.float32(0), noised)
        weight = (records != 0).any(axis=2).astype(np.float32) / np.float32(self.views)
        return {
            "seen": self._cut(torch.from_numpy(seen)).contiguous(),
            "target": self._target(torch.from_numpy(records)).contiguous(),
            "weight": torch.from_numpy(weight),
        }

    def _blanked(self, coins: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Coins [B, K, sides] to bool [B, K, values]: inside the record's block."""
        inside = np.ones((*coins.shape[:2], *[1] * len(self.sides)), np.bool_)
        for axis, (side, blank) in enumerate(zip(self.sides, self.blank, strict=True)):
            begin = choose(coins[:, :, axis], np.full(coins.shape[:2], side - blank + 1, np.int64))[:, :, None]
            place = np.arange(side)
            along = (place >= begin) & (place < begin + blank)
            inside = inside & along.reshape(*coins.shape[:2], *[side if n == axis else 1 for n in range(len(self.sides))])
        channels = shape[2] // math.prod(self.sides)
        return np.repeat(inside[:, :, None], channels, axis=2).reshape(shape)

    def _cut(self, records: Tensor) -> Tensor:
        """Records [B, K, values] to patches [B, K * N, D]."""
        return self.encoder.cut(records).flatten(1, 2) if isinstance(self.encoder, PatchTransformer) else records

    def _target(self, records: Tensor) -> Tensor:
        """Records [B, K, values] to what is predicted of their patches, [B, K * N, D']."""
        patches = self._cut(records)
        if self.target == "values" or not isinstance(self.encoder, PatchTransformer):
            return patches
        return log_power(patches.reshape(*patches.shape[:2], self.encoder.parts, self.encoder.size)).flatten(-2)

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        errors = (self._predicted(views["seen"]) - views["target"]).square().mean(dim=-1)
        each = errors.view(*errors.shape[:-1], self.views, self.patches).mean(dim=-1)
        found: Tensor = (views["weight"] * each).sum(dim=-1)
        return found

    def _predicted(self, seen: Tensor) -> Tensor:
        """Patches [..., K * N, D] to predictions [..., K * N, D']."""
        if isinstance(self.encoder, PatchTransformer):
            places = torch.arange(self.patches, device=seen.device).repeat(self.views).expand(seen.shape[:-1])
            out: Tensor = self.head(self.encoder.tokens(seen, places, self.views))
        else:
            out = self.head(self.encoder(seen)[1])
        return out

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `start_range`."""
        return start_range(self, name)
