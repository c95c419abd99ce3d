"""Step 3 of 12: MoCo with a public bank: find what a slower encoder makes of the other look, among made-up records.

Paper: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning" (MoCo, CVPR 2020), section 3.2, equation
1 and algorithm 1; both ways as in Chen, Xie and He, "An Empirical Study of Training Self-Supervised Vision Transformers" (MoCo
v3, ICCV 2021), section 3. Different: its queue holds earlier patients' keys, and shows them to others even in steps for which
they were not drawn; here it is `bank` made-up records; the slow encoder is the one that the round began with, not a moving
average of every step (as in byol.py). The rest is simclr_bank.py, and so is what is lost: a bank of made-up records is easy,
nothing keeps two patients apart, and all of them may fall together: then `apart` (`choral site watch`) falls to 0. Measured as
there: of chest X-rays it fell from .0056 to .0006 and the effective rank from 12.7 to 5.6; the rank of made-up images stayed
(14.5 to 13.6).

Sensitivity: as in simclr_bank.py; the positive key is a function of the unit's own other look and of weights released before
the round, without a gradient. So the unit's gradient is a function of the unit, released weights and its own coins: clipped to
C, the sum over units changes by at most C with one unit.

Shapes and loss as in simclr_bank.py, with z' the slow direction of the other look.
"""

from __future__ import annotations

from torch import Tensor

from ssl_core.objectives.bank_model import SlowBankModel
from ssl_core.objectives.base import Views
from ssl_core.objectives.simclr_bank import SimclrBankModel


class MocoBankModel(SlowBankModel, SimclrBankModel):
    """Encoder of images or signals and a projector of `projector` numbers."""

    def _partner(self, views: Views, looking: Tensor) -> Tensor:
        return super()._partner(views, self.slowly_looking(views["shown"]))
