"""Step 3 of 12: text target: turn an image to where a frozen public map of words puts its report.

Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (CLIP, ICML 2021), section 2.3:
cosine over temperature, softmax over the right text and wrong ones. Different: wrong texts are not the reports of the batch's
other patients, which would let each gradient depend on them, but `bank` public directions from a constant key; the text tower
is frozen and public (encoders/two_tower.py), as in locked-image tuning with the sides changed about (Zhai et al., "LiT", CVPR
2022, section 3); the image alone is classified, not the text; the temperature is the plan's; K pairs of a patient make one
loss. Without a bank the loss is 1 - cosine. What is lost by that: public directions are far from all reports, so once images
lie near the mean of the reports little pushes two patients apart; without a bank that pull stays.

Sensitivity: K pairs of the unit and how each image looks come from the unit's own coins; its target is a public function of
its own words; the bank is a public constant, no parameter, and gets no gradient; the loss is the mean over those K pairs
inside the unit, before clipping (K views, still one row). So the unit's gradient is a function of the unit, released weights
and its own coins, and of nobody else's report: clipped to C, the sum over units changes by at most C with one unit.

Shapes for one unit: shown float32 [K, pixels]; target float32 [K, joint], of length 1, or zero for what is no pair; weight
float32 [K], 0 for what is no pair, else 1 / K. Loss = sum over k of weight * -log softmax at the target of cosine /
temperature.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_core.data.patients import Patients
from ssl_core.encoders.two_tower import TwoTower, directions, public_signs
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.base import Views
from ssl_core.objectives.image_reports import ImageReportsModel
from ssl_core.spec.data import PairData

_EPSILON = 1e-8


class TextTargetModel(ImageReportsModel):
    """Two-tower encoder; the loss has no parameter of its own."""

    def __init__(self, data: PairData, encoder: TwoTower, *, bank: int, temperature: float, how: Augmentation) -> None:
        super().__init__(data, encoder, how=how)
        self.bank = directions(public_signs("bank", bank, encoder.joint))
        self.temperature = temperature

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, K, pixels], target [B, K, joint], weight [B, K]; see the module docstring."""
        shown, codes, pairs = self.looks(patients, index, uniforms)
        shape = (len(index), self.views)
        return {
            "shown": shown,
            "target": torch.from_numpy(self.encoder.read(codes)).view(*shape, self.encoder.joint),
            "weight": torch.from_numpy(pairs.astype(np.float32) / np.float32(self.views)).view(shape),
        }

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        placed = self.encoder.placed(views["shown"]).float()
        looking = placed * (placed.square().sum(dim=-1, keepdim=True) + _EPSILON).rsqrt()
        right = (looking * views["target"]).sum(dim=-1, keepdim=True)
        if len(self.bank):
            wrong = looking @ torch.from_numpy(self.bank).to(looking.device).t()
            apart = -(torch.cat([right, wrong], dim=-1) / self.temperature).log_softmax(dim=-1)[..., 0]
        else:
            apart = 1.0 - right.squeeze(-1)
        loss: Tensor = (views["weight"] * apart).sum(dim=-1)
        return loss
