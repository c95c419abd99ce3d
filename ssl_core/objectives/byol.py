"""Step 3 of 12: BYOL: from one look at a record, predict what a slower encoder makes of another look at it.

Paper: Grill et al., "Bootstrap Your Own Latent" (BYOL, NeurIPS 2020), section 3.1 and algorithm 1; that no batch statistics
are needed: Richemond et al., "BYOL works even without batch statistics" (2020). Different: the slow encoder and projector are
those that the round began with, which everybody has, in place of a moving average of every step, which would be a state of
this site alone; LayerNorm in the heads; 1 - cosine in place of 2 - 2 cosine; augmentations as in augment.py; K records of a
patient make one loss. The rest is simsiam.py, and so is what may be lost: nothing here keeps two patients apart.

Sensitivity: K records of the unit and both looks at each come from the unit's own coins; the slow weights were released
before the round, so the target is a function of the unit and of released weights. So the unit's gradient is a function of the
unit, released weights and its own coins: clipped to C, the sum over units changes by at most C with one unit.

Shapes and loss as in simsiam.py, with the slow projection of the other look as target.
"""

from __future__ import annotations

from torch import Tensor

from ssl_core.encoders.base import Encoder
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.round_start import RoundStart
from ssl_core.objectives.simsiam import SimSiamModel
from ssl_core.spec.data import ImageData, SignalData


class ByolModel(RoundStart, SimSiamModel):
    """SimSiam's model, and the encoder and projector that its round began with, which are no parameters of it."""

    def __init__(
        self, data: ImageData | SignalData, encoder: Encoder, *, projector: int, predictor: int, how: Augmentation
    ) -> None:
        super().__init__(data, encoder, projector=projector, predictor=predictor, how=how)
        self.start_round()

    def start_round(self) -> None:
        """Take the present weights as the slow ones."""
        self.keep_slow(self.encoder, self.project)

    def _target(self, shown: Tensor, projected: Tensor) -> Tensor:
        return self.slowly(shown)
