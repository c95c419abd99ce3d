"""Step 3 of 12: Barlow Twins of one's own crops: both looks at a crop say the same, and no two numbers say it twice.

Paper: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction" (ICML 2021), section 2.1, equations 1
and 2, algorithm 1. Different: its cross-correlations are over the patients of a batch, so one patient's gradient depends on the
others; here they are over the crops of the unit's own records. So what is learnt is what tells the parts of a record (and the
records of a patient) apart and survives another gain and noise; nothing asks two patients to differ. What is lost by that:
the paper has thousands of rows, a unit has K S; correlations of so few are rough, and those of n rows in d > n - 1 dimensions
cannot all vanish. LayerNorm in the projector, which has two layers; augmentations as in augment.py. The two looks and the
statistics are those of own_crops.py. Watch how far apart patients lie (0: all in one place) and the effective rank (few
directions): `choral site watch`.

Sensitivity: K records of the unit, S crops of each and two looks at each crop come from the unit's own coins, K and S are
public constants; means, variances and correlations are over those K S crops, inside the unit, before clipping (still one
row). So the unit's gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units
changes by at most C with one unit.

Shapes for one unit as in own_crops.py. With n crops of real records, projections z, z' of d numbers centred over them, and
C_ij = sum z_i z'_j / sqrt((sum z_i^2 + n e)(sum z'_j^2 + n e)), e = 0.01: loss = sum over i of (1 - C_ii)^2 + redundancy * sum
over i != j of C_ij^2; 0 when no record is real.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_core.encoders.base import Encoder
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.base import Views
from ssl_core.objectives.own_crops import OwnCropsModel
from ssl_core.spec.data import ImageData, SignalData

# Greater than in the paper's norm: what hardly differs between crops would bring the rounding of float32 into the gradient.
_EPSILON = 1e-2


class BarlowOwnModel(OwnCropsModel):
    """Encoder of images or signals and a projector of `projector` numbers."""

    def __init__(
        self,
        data: ImageData | SignalData,
        encoder: Encoder,
        *,
        projector: int,
        crops: int,
        redundancy: float,
        how: Augmentation,
    ) -> None:
        super().__init__(data, encoder, projector=projector, crops=crops, how=how)
        self.redundancy = redundancy

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        _, centred, _, count = self.crops_of(views)
        spread = centred.square().sum(dim=-2, keepdim=True) / count + _EPSILON
        first, second = (centred * spread.rsqrt()).unbind(dim=-3)
        correlations = first.transpose(-2, -1) @ second / count[..., 0, :, :]
        own = correlations.diagonal(dim1=-2, dim2=-1)
        others = correlations.square().sum(dim=(-2, -1)) - own.square().sum(dim=-1)
        loss = (1.0 - own).square().sum(dim=-1) + self.redundancy * others
        return torch.where(views["real"].sum(dim=-1) > 0, loss, 0.0)
