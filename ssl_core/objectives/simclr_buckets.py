"""Step 3 of 12: SimCLR in buckets: tell the other look at a record from looks at the other patients of a small bucket.

Paper: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR, ICML 2020), section 2.1,
equation 1 (NT-Xent) and the projection that is thrown away. Different: the negatives are the patients of one bucket of
about `bucket_size`, not all of the batch; other records of the patient himself are no negatives; LayerNorm in the projector
(projector.py); augmentations as in augment.py.

Sensitivity: the loss couples the patients of a bucket, so no patient has a gradient of his own to clip: the bucket's is clipped
to C, and one patient more or less changes the sum by up to 2 C, which is what the noise is for: privacy/buckets.py has the
argument. A row of `draw` comes from its unit's records and coins alone; nothing is kept from one bucket to the next.

Shapes for a bucket of m units with K records each: shown float32 [m, 2 K, V], the two looks at a record one after the other;
real float32 [m, K], 0 for a record that is all zero or not finite, which counts for nothing, else 1. With z the projections,
each of length 1, and n units that have a real record: loss = mean over these units, over a unit's real records and over both
looks i of -log(exp(z_i z_j / t) / (exp(z_i z_j / t) + sum over real looks k of other units of exp(z_i z_k / t))), j the other
look at i's record; 0, with a gradient of exactly 0, where n < 2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_core.data.patients import Patients
from ssl_core.encoders.attention import HIDE
from ssl_core.encoders.base import Encoder
from ssl_core.encoders.convolution import convolution_range
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.base import BucketModel, Views, spread_records
from ssl_core.objectives.looks import coins_of_looks, looked_at
from ssl_core.objectives.projector import Projector
from ssl_core.spec.data import ImageData, SignalData

_EPSILON = 1e-6


class SimclrBucketsModel(BucketModel):
    """Encoder of images or signals and a projector of `projector` numbers."""

    def __init__(
        self,
        data: ImageData | SignalData,
        encoder: Encoder,
        *,
        bucket_size: int,
        projector: int,
        temperature: float,
        how: Augmentation,
    ) -> None:
        super().__init__()
        self.data, self.how = data, how
        self.bucket_size, self.temperature = bucket_size, temperature
        self.views = data.records_per_patient
        self.coins = 1 + coins_of_looks(self.views)
        self.encoder = encoder
        self.project = Projector(encoder.feature_width, projector, projector)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, 2 K, V], real [B, K]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        records = np.asarray(patients.records[rows], np.float32)
        # One that is not finite would make the row of its whole bucket zero.
        finite = np.isfinite(records).all(axis=2, keepdims=True)
        shown, real = looked_at(np.where(finite, records, np.float32(0)), uniforms[:, 1:], self.data, self.how)
        return {"shown": shown, "real": real}

    def forward(self, views: Views) -> Tensor:
        """The loss of ONE bucket, float32 scalar."""
        made: Tensor = self.project(self.encoder(views["shown"])).float()
        found = (made * (made.square().sum(dim=-1, keepdim=True) + _EPSILON).rsqrt()).flatten(0, 1)
        number = torch.arange(len(found), device=found.device)
        # Looks at one record stand side by side: the partner of row 2 i is column 2 i + 1, and the other way about.
        partner, unit = number ^ 1, number // (2 * self.views)
        real = views["real"]
        shown = real.repeat_interleave(2, dim=1).flatten()
        hidden = ((unit[:, None] == unit) | (shown == 0)) & (partner[:, None] != number)
        scores = found @ found.t() / self.temperature
        ways = (scores + HIDE * hidden).log_softmax(dim=1)[number, partner]
        counted = real.sum(dim=1, keepdim=True)
        units = (counted > 0).sum()
        # A mean over units of means over records, in which a unit without a real record has no part.
        weight = real / (2.0 * counted.clamp(min=1.0) * units.clamp(min=1)) * (units >= 2)
        loss: Tensor = -(weight.repeat_interleave(2, dim=1).flatten() * ways).sum()
        return loss

    def init_range(self, name: str) -> tuple[float, float]:
        """By the kind of layer; see `convolution_range`."""
        return convolution_range(self, name)
