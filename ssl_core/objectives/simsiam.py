"""Step 3 of 12: siamese prediction: two looks at one record; from each, what the encoder makes of the other is predicted.

Papers: Chen and He, "Exploring Simple Siamese Representation Learning" (SimSiam, CVPR 2021), algorithm 1: encoder,
projector, predictor, minus cosine to the other look with the gradient stopped, both ways; Grill et al., "Bootstrap Your
Own Latent" (BYOL, NeurIPS 2020). Different: LayerNorm in the projector and predictor and GroupNorm or LayerNorm in the
encoder where SimSiam has BatchNorm, which would couple patients; that no batch statistics are needed is in Richemond et
al., "BYOL works even without batch statistics" (2020); the target is the present encoder, not a slow average; 1 - cosine
in place of minus cosine; augmentations as in augment.py; K records of a patient make one loss. What is lost by that: nothing
in this loss keeps two patients apart. Without privacy, one seed each on chest X-rays and single-lead ECG at a learning rate
of 1e-3, the loss fell to 0.001 or less within 200 steps, as it does when all projections become alike, and a linear probe
moved by -.05 to +.01 from that of a random encoder. Rehearse on public data before patients are spent on it.

Sensitivity: K records of the unit and both looks at each come from the unit's own coins; a stopped target is a function of
released weights and of the same look; the loss is the mean over 2 K predictions inside the unit, before clipping (still one
row: clipped one by one, the looks would add up to 2 C). So the unit's gradient is a function of the unit, released
weights and its own coins: clipped to C, the sum over units changes by at most C with one unit.

Shapes for one unit as in looks.py. Loss = sum over k of weight * mean over both ways of (1 - cos(predicted from one look,
stopped projection of the other)).
"""

from __future__ import annotations

from torch import Tensor

from ssl_core.encoders.base import Encoder
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.base import Views
from ssl_core.objectives.looks import TwoLooksModel, averaged, direction, paired
from ssl_core.objectives.projector import Projector
from ssl_core.spec.data import ImageData, SignalData


class SimSiamModel(TwoLooksModel):
    """Encoder of images or signals, a projector of `projector` and a predictor with a waist of `predictor` numbers."""

    def __init__(
        self, data: ImageData | SignalData, encoder: Encoder, *, projector: int, predictor: int, how: Augmentation
    ) -> None:
        super().__init__(data, encoder, how=how)
        self.project = Projector(encoder.feature_width, projector, projector, normed=True)
        self.predict = Projector(projector, predictor, projector)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        projected = self.project(self.encoder(views["shown"]))
        predicted = paired(direction(self.predict(projected)), views)
        target = paired(direction(self._target(views["shown"], projected)), views).flip(-2)
        return averaged(1.0 - (predicted * target).sum(dim=-1), views)

    def _target(self, shown: Tensor, projected: Tensor) -> Tensor:
        """What is to be predicted, of the shape of `projected`, without a gradient."""
        return projected.detach()
