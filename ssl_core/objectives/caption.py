"""Step 3 of 12: caption: from an image, predict the words of its report.

Papers: Joulin et al., "Learning Visual Features from Large Weakly Supervised Data" (ECCV 2016), section 3.2: the words that
stand beside an image, as a softmax over all words whose target is their bag; under differential privacy a caption loss in
place of CLIP's: Sander et al., "Differentially Private Representation Learning via Image Captioning" (ICML 2024), section 4.
Different: the targets are the public hash codes of the words, one softmax per code table as in masked_words.py, so no
vocabulary is fitted; words have no order and no decoder follows them; K pairs of a patient make one loss.

Sensitivity: K pairs of the unit and how each image looks come from the unit's own coins; the targets are the unit's own words;
the loss is the mean over those K pairs, of each over its words, inside the unit, before clipping (K views, still one row). So
the unit's gradient is a function of the unit, released weights and its own coins, and of nobody else's report: clipped to C,
the sum over units changes by at most C with one unit.

Shapes for one unit, V = codes * buckets: shown float32 [K, pixels]; words float32 [K, V], the mean bag of each report, each
table's part sums to 1, or zero for what is no pair: its loss is 0 and its gradient exactly 0. Loss = mean over K of
-sum(words * log softmax(head(GELU(placed image)))), the softmax over each table.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.encoders.hashed_words import mean_bag
from ssl_core.encoders.two_tower import TwoTower
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.base import Views
from ssl_core.objectives.image_reports import ImageReportsModel
from ssl_core.spec.data import PairData


class CaptionModel(ImageReportsModel):
    """Two-tower encoder, of which the text tower is not used, and one Linear over all code tables."""

    def __init__(self, data: PairData, encoder: TwoTower, *, how: Augmentation) -> None:
        super().__init__(data, encoder, how=how)
        self.head = nn.Linear(encoder.joint, data.text.codes * data.text.buckets)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """shown [B, K, pixels], words [B, K, codes * buckets]; see the module docstring."""
        shown, codes, _ = self.looks(patients, index, uniforms)
        bags = mean_bag(codes, codes[:, :, 0] >= 0, self.data.text.buckets)
        return {"shown": shown, "words": torch.from_numpy(bags).view(len(index), self.views, self.head.out_features)}

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        logits = self.head(functional.gelu(self.encoder.placed(views["shown"])))
        chance = logits.unflatten(-1, (self.data.text.codes, self.data.text.buckets)).log_softmax(dim=-1).flatten(-2)
        loss: Tensor = -(views["words"] * chance).sum(dim=(-2, -1)) / self.views
        return loss
