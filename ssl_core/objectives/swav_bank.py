"""Step 3 of 12: SwAV with a public bank: from one look, which prototypes the other look is assigned to.

Paper: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (SwAV, NeurIPS 2020),
section 3.1, equations 1 to 5. Different: its assignment shares the prototypes out equally among the records of a batch, so
each patient's target depends on the others; here they are shared out among `bank` made-up records (sinkhorn.py), by the
weights that the round began with, and a patient is assigned by the factors that came of it; two looks of one size, no small
crops, no queue; LayerNorm in the projector; augmentations as in augment.py; K records of a patient make one loss. What is lost
by that: the shares are equal for made-up records, not for patients, who may all be assigned to few prototypes, or to one
(collapse): nothing here sees that; measured as in simclr_bank.py on 600 chest X-rays, the effective rank fell from 13.2 to
10.6, and `apart` (evaluation/collapse.py) as there from .0056 to .0016. One prototype for all is one place or nearly, which
shows in `apart`; few of them in the effective rank. Rehearse on public data, and watch both (`choral site watch`).

Sensitivity: K records of the unit and both looks at each come from the unit's own coins; a target is a function of the unit's
own other look, of weights released before the round and of public records, without a gradient; the loss is the mean over 2 K
looks inside the unit, before clipping (still one row). So the unit's gradient is a function of the unit, released weights and
its own coins: clipped to C, the sum over units changes by at most C with one unit.

Shapes and loss as in prototypes.py, the offsets being Sinkhorn's factors of the bank at epsilon = `sharpness`.
"""

from __future__ import annotations

from torch import Tensor

from ssl_core.objectives.prototypes import PrototypesModel
from ssl_core.objectives.sinkhorn import prototype_factors

# The paper takes 3 in every step; once a round there is time to come near the end.
_ITERATIONS = 50


class SwavBankModel(PrototypesModel):
    """Encoder of images or signals, a projector, and prototypes that made-up records share equally."""

    def offsets(self, scores: Tensor) -> Tensor:
        """Sinkhorn's factors, float32 [P]."""
        return prototype_factors(scores, _ITERATIONS)
