"""Step 3 of 12: contrast of one's own crops: tell two looks at one part of a record from looks at the unit's other parts.

Paper: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR, ICML 2020), section
2.1, equation 1 (NT-Xent). Different: the negatives are the other crops of the unit's own records, never another patient's;
so it learns what tells the parts of a record apart and survives another gain and noise; crops do not overlap, and both looks
at one show the same (own_crops.py); LayerNorm in the projector (projector.py); augmentations as in augment.py. What is lost:
nothing asks two patients to differ, and the negatives are few.

Sensitivity: K records of the unit, S crops of each and two looks at each come from the unit's own coins; every positive and
every negative is a crop of the unit; the loss is one for all of them, before clipping (K views, still one row). So the unit's
gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units changes by at most
C with one unit. In-batch SimCLR has no such argument, and is refused.

Shapes for one unit: shown and real as in own_crops.py. With n >= 2 crops of real records and z the 2 n projections, each of
length 1: loss = mean over them of -log(exp(z_i z_j / t) / sum over m != i of exp(z_i z_m / t)), i and j the looks at one
crop; 0, with a gradient of exactly 0, where n < 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_core.encoders.attention import HIDE
from ssl_core.encoders.base import Encoder
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.base import Views
from ssl_core.objectives.own_crops import OwnCropsModel
from ssl_core.spec.data import ImageData, SignalData

_EPSILON = 1e-6


class CropsContrastModel(OwnCropsModel):
    """Encoder of images or signals and a projector of `projector` numbers."""

    def __init__(
        self,
        data: ImageData | SignalData,
        encoder: Encoder,
        *,
        projector: int,
        crops: int,
        temperature: float,
        how: Augmentation,
    ) -> None:
        super().__init__(data, encoder, projector=projector, crops=crops, how=how)
        self.temperature = temperature

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        made: Tensor = self.project(self.encoder(views["shown"])).float()
        found = made * (made.square().sum(dim=-1, keepdim=True) + _EPSILON).rsqrt()
        scores = found @ found.transpose(-1, -2) / self.temperature
        real = views["real"].repeat_interleave(2 * self.crops, dim=-1)
        hidden = (1.0 - real).unsqueeze(-2) + torch.eye(real.shape[-1], device=scores.device)
        chance = (scores + HIDE * hidden).log_softmax(dim=-1)
        # Looks at one crop stand side by side: the partner of row 2 i is column 2 i + 1, and the other way about.
        ways = chance.diagonal(1, -2, -1)[..., ::2] + chance.diagonal(-1, -2, -1)[..., ::2]
        one = views["real"].repeat_interleave(self.crops, dim=-1)
        count = one.sum(dim=-1)
        weight = torch.where(count >= 2, 1.0 / (2.0 * count.clamp(min=2.0)), 0.0)
        loss: Tensor = -weight * (one * ways).sum(dim=-1)
        return loss
