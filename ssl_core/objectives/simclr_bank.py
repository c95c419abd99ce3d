"""Step 3 of 12: SimCLR with a public bank: tell the other look at a record from made-up records.

Paper: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR, ICML 2020), section 2.1,
equation 1 (NT-Xent) and the projection that is thrown away. Different: its negatives are the other patients of the batch, so
each patient's gradient depends on theirs; here they are `bank` made-up records, embedded by the weights that the round began
with; LayerNorm in the projector; augmentations as in augment.py; K records of a patient make one loss. What is lost by that:
nothing in this loss keeps two patients apart. The bank is easy: generated pictures and waves look like no patient's; and its
keys stand still while both looks move, so that all patients may leave them behind and lie in one place (collapse), though
they were of the bank's own kind. Without privacy, one seed, chest X-rays, `resnet` nano, 100 steps of 64 at 1e-3, keys anew
every 10 steps: the effective rank of the features fell from 12.7 to 9.5, and two patients' mean cosine is .999. So this
collapse shows in `apart` (evaluation/collapse.py), which fell from .0056 to .0006, and hardly in the effective rank. In
moco_bank.py the positive stands still too. Rehearse on public data, and watch `apart` (`choral site watch`): 0 is one place.

Sensitivity: K records of the unit and both looks at each come from the unit's own coins; the negatives are functions of
public records and of weights released before the round, and get no gradient; the loss is the mean over 2 K looks inside the
unit, before clipping (still one row). So the unit's gradient is a function of the unit, released weights and its own coins:
clipped to C, the sum over units changes by at most C with one unit.

Shapes for one unit as in looks.py; z: the 2 K directions [d], keys [bank, d]. Loss = sum over k of weight * mean over both
ways of -log(exp(z z' / t) / (exp(z z' / t) + sum over keys of exp(z key / t))), z' the other look.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_core.encoders.base import Encoder
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.bank_model import Bank, BankModel
from ssl_core.objectives.base import Views
from ssl_core.objectives.looks import averaged, paired
from ssl_core.spec.data import ImageData, SignalData


class SimclrBankModel(BankModel):
    """Encoder of images or signals and a projector of `projector` numbers."""

    def __init__(
        self,
        data: ImageData | SignalData,
        encoder: Encoder,
        *,
        projector: int,
        temperature: float,
        bank: Bank,
        how: Augmentation,
    ) -> None:
        super().__init__(data, encoder, projector=projector, bank=bank, how=how)
        self.temperature = temperature

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        looking = self.looking(views["shown"])
        right = (looking * self._partner(views, looking)).sum(dim=-1, keepdim=True)
        wrong = looking @ self.still("keys").t()
        chance = (torch.cat((right, wrong), dim=-1) / self.temperature).log_softmax(dim=-1)
        return averaged(-paired(chance[..., :1], views).squeeze(-1), views)

    def _partner(self, views: Views, looking: Tensor) -> Tensor:
        """Of each look the other one, [..., 2 K, d]."""
        return paired(looking, views).flip(-2).reshape(looking.shape)
