"""Step 3 of 12: VICReg of one's own crops: looks at one part of a record agree, the parts of the record stay apart.

Paper: Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization" (ICLR 2022), section 4.1, equations 1
to 6. Different: its variances and covariances are over a batch, so one patient's gradient depends on the others; here they
are over the crops of the unit's own records. So what is learnt is what tells the parts of a record (and the records of a
patient) apart and survives another gain and noise; nothing asks two patients to differ. Both looks at a crop show the same
part of the record, differently; the hinge of equation 2 is bent, as its gradient jumps (encoders/convolution.py);
LayerNorm in the projector, which has two layers; augmentations as in augment.py.

Sensitivity: K records of the unit, S crops of each and two looks at each crop come from the unit's own coins, K and S are
public constants; mean, variance and covariance are over those K S crops, inside the unit, before clipping (still one row).
So the unit's gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units
changes by at most C with one unit.

Shapes for one unit: shown float32 [K * S * 2, V], the two looks at a crop one after the other; real float32 [K], 0 for an
all-zero record, else 1. With n crops of real records and projections z, z' of d numbers: loss = invariance * mean over n and
d of (z - z')^2 + variance * the mean over both looks and d of softplus(10 (1 - sqrt(var + 1e-4))) / 10 + covariance * the
sum over both looks of (sum over i != j of cov_ij^2) / d, var and cov dividing by n - 1; 0 when no record is real. Means
where the paper's equations 5 and 6 have sums are those of its authors' code, with which its weights 25, 25, 1 belong.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssl_core.encoders.base import Encoder
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.base import Views
from ssl_core.objectives.own_crops import OwnCropsModel
from ssl_core.spec.data import ImageData, SignalData

_EPSILON = 1e-4
_BEND = 10.0


class Terms(NamedTuple):
    """Weights of the three terms; 25, 25, 1 in the paper."""

    invariance: float
    variance: float
    covariance: float


class VicregOwnModel(OwnCropsModel):
    """Encoder of images or signals and a projector of `projector` numbers."""

    def __init__(
        self, data: ImageData | SignalData, encoder: Encoder, *, projector: int, crops: int, terms: Terms, how: Augmentation
    ) -> None:
        super().__init__(data, encoder, projector=projector, crops=crops, how=how)
        self.terms = terms

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        found, centred, counted, count = self.crops_of(views)
        width = found.shape[-1]
        covariances = centred.transpose(-2, -1) @ centred / (count - 1.0)
        variances = covariances.diagonal(dim1=-2, dim2=-1)
        apart = counted[..., 0, :, :] * (found[..., 0, :, :] - found[..., 1, :, :]).square()
        invariance = apart.sum(dim=(-2, -1)) / (count[..., 0, 0, 0] * width)
        bent = _BEND * (1.0 - (variances + _EPSILON).sqrt())
        # Not torch's softplus, whose vector code and code for what is left of a tensor round otherwise (privacy/shapes.py).
        variance = torch.stack((bent, torch.zeros_like(bent)), dim=-1).logsumexp(dim=-1).mean(dim=(-2, -1)) / _BEND
        covariance = (covariances.square().sum(dim=(-2, -1)) - variances.square().sum(dim=-1)).sum(dim=-1) / width
        terms = self.terms
        loss: Tensor = terms.invariance * invariance + terms.variance * variance + terms.covariance * covariance
        return loss * views["real"].amax(dim=-1)
