"""Step 3 of 12: DINO with a public bank: from one look, what a slower teacher says of the other, centred on made-up records.

Paper: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (DINO, ICCV 2021), section 3.1, equations 1
to 4, algorithm 1: the teacher's output less a centre, sharpened. Different: its centre is a moving mean over the batches'
patients, so each patient's gradient depends on the others, also earlier ones; here it is the mean over `bank` made-up records,
by the weights that the round began with, which are the teacher too; two looks of one size, no small crops; LayerNorm in the
projector; augmentations as in augment.py; K records of a patient make one loss. What is lost by that: a centre of made-up
records keeps one output from winning for these, not for patients, who may all get one output (collapse), and nothing here
sees that; measured as in simclr_bank.py on 600 chest X-rays, the effective rank fell from 13.2 to 9.8, and `apart`
(evaluation/collapse.py) as there from .0056 to .0013. One output for all is one place or nearly, which shows in `apart` and
not in the rank. Rehearse on public data, and watch `apart` (`choral site watch`).

Sensitivity: K records of the unit and both looks at each come from the unit's own coins; a target is a function of the unit's
own other look, of weights released before the round and of public records, without a gradient; the loss is the mean over 2 K
looks inside the unit, before clipping (still one row). So the unit's gradient is a function of the unit, released weights and
its own coins: clipped to C, the sum over units changes by at most C with one unit.

Shapes and loss as in prototypes.py, the offsets being minus the mean of the teacher's scores of the bank / `sharpness`.
"""

from __future__ import annotations

from torch import Tensor

from ssl_core.objectives.prototypes import PrototypesModel


class DinoBankModel(PrototypesModel):
    """Encoder of images or signals, a projector, and outputs that are centred on made-up records."""

    def offsets(self, scores: Tensor) -> Tensor:
        """Minus the centre / sharpness, float32 [P]."""
        return -scores.mean(dim=0)
