"""Step 3 of 12: latent prediction: encode some patches, predict what the encoder makes of the others, not their content.

Papers: Assran et al., "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture" (I-JEPA, CVPR
2023), section 3: the latents of hidden blocks are predicted from the encoded context by a narrow transformer that knows
their places; Baevski et al., "data2vec" (ICML 2022), section 3.3, for signals. Different: the target is the present
encoder on the whole record, gradient stopped, and not a slow average of it (a choice: an average of released weights
would be post-processing too, but a model keeps no state beside its parameters, so there is none that could pass from one
patient to another); of it the last layer alone, normalised, where data2vec averages the outputs of several blocks; squared
errors; hidden are the M patches nearest to `blocks` points that coins choose, so that every shape is constant; one decoder
pass predicts all blocks; K records of a patient make one loss. A target that moves with the encoder may become easy instead
of telling: 200 steps without privacy on chest X-rays took the features' effective rank from 26 to 21.

Sensitivity: K records of the unit and the points come from the unit's own coins; a target is a function of released weights
and of the same record, normalised within its token and centred over nothing else; the loss is the mean over those K
records inside the unit, before clipping (K views, still one row). So the unit's gradient is a function of the unit,
released weights and its own coins: clipped to C, the sum over units changes by at most C with one unit.

Shapes for one unit, N patches of D values, of which V are seen and M hidden, records side by side: patches float32
[K * N, D] and order int64 [K * N], the numbers of each record's patches, seen ones first; weight float32 [K], 0 for an
all-zero record, else 1 / K. Loss = sum over k of weight * mean over M and width of (prediction - target)^2. Every record
passes through the encoder twice in one call: once with its hidden patches out of the others' sight (their own tokens are not
used), once whole, for the targets; so each layer is called once and every engine fits, at 2 N tokens a record in place of
V + N.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.encoders.attention import HIDE
from ssl_core.encoders.patches import PatchTransformer
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.objectives.base import Views, spread_records
from ssl_core.objectives.hidden_patches import HiddenPatchesModel
from ssl_core.spec.data import Picture, SignalData

_EPSILON = 1e-6


class LatentPredictionModel(HiddenPatchesModel):
    """Transformer on patches, its decoder, and one Linear to the width of the encoder's tokens."""

    def __init__(
        self,
        data: Picture | SignalData,
        encoder: PatchTransformer,
        *,
        mask_fraction: float,
        blocks: int,
        decoder_width: int,
        decoder_depth: int,
    ) -> None:
        super().__init__(data, encoder, mask_fraction=mask_fraction, decoder_width=decoder_width, decoder_depth=decoder_depth)
        self.blocks = blocks
        self.grid: tuple[int, ...] = (self.squares,)
        if isinstance(encoder, VisionTransformer):
            self.grid = (encoder.height // encoder.patch, encoder.width // encoder.patch)
        self.coins = 1 + self.views * blocks * len(self.grid)
        self.head = nn.Linear(decoder_width, encoder.token_width)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """patches [B, K * N, D], order int64 [B, K * N], weight [B, K]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        records = torch.from_numpy(np.asarray(patients.records[rows], np.float32))
        points = uniforms[:, 1:].reshape(len(index), self.views, self.blocks, len(self.grid))
        order = torch.from_numpy(farthest_first(points, self.grid))
        return {
            "patches": self.encoder.cut(records).take_along_dim(order.unsqueeze(-1), dim=2).flatten(1, 2),
            "order": order.flatten(1, 2),
            "weight": (records != 0).any(dim=2).to(torch.float32) / self.views,
        }

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        patches, order = views["patches"], views["order"]
        lead, records, shown = order.shape[:-1], self.views, self.squares - self.hidden
        unseen = patches.new_zeros(2, records, self.squares)
        unseen[0, :, shown:] = HIDE
        tokens = self.encoder.tokens(
            torch.cat((patches, patches), dim=-2),
            torch.cat((order, order), dim=-1),
            2 * records,
            unseen.flatten().expand(*lead, -1),
        ).view(*lead, 2, records, self.squares, -1)
        context = tokens[..., 0, :, :shown, :].flatten(-3, -2)
        latent = tokens[..., 1, :, shown:, :].flatten(-3, -2).detach().float()
        target = functional.layer_norm(latent, latent.shape[-1:], eps=_EPSILON)
        errors = (self.head(self.filled(context, order)) - target).square().mean(dim=-1)
        found: Tensor = (views["weight"] * errors.view(*lead, records, self.hidden).mean(dim=-1)).sum(dim=-1)
        return found


def farthest_first(points: npt.NDArray[np.float64], grid: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Points [..., blocks, axes] in (0, 1] to the numbers of the patches of `grid`, int64 [..., N], farthest first.

    How far a patch is: the greatest of the axes' distances of its middle to the nearest point, in patches; so that what
    lies around a point is a square, or a stretch of time. Equal ones stay in the order of their numbers.
    """
    middles = np.indices(grid).reshape(len(grid), -1).T + 0.5
    apart = np.abs(middles - (points * np.array(grid))[..., None, :]).max(axis=-1).min(axis=-2)
    order: npt.NDArray[np.int64] = (-apart).argsort(axis=-1, kind="stable")
    return order
