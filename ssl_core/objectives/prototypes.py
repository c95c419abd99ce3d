"""Step 3 of 12: what SwAV and DINO with a public bank share: from one look, the prototypes that the other look belongs to.

Comes in and goes out as in looks.py. The student: encoder, projector, directions of length 1, and `prototypes` trained
directions, one Linear without bias whose rows count as if of length 1 (their lengths enter as constants, as in SwAV's code,
which sets them to 1 after each step). The teacher: slow copies of all these (round_start.py). A look belongs to prototype p by
softmax over p of (the teacher's score / `sharpness` + offset p); the offsets are a function of what the slow copies make of
the public bank alone, once a round: swav_bank.py and dino_bank.py say which. Loss = sum over k of weight * mean over both ways
of the cross entropy of softmax(the student's scores of one look / `temperature`) to what the other look belongs to.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ssl_core.encoders.base import Encoder
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.bank_model import Bank, SlowBankModel
from ssl_core.objectives.base import Views
from ssl_core.objectives.looks import averaged, paired
from ssl_core.spec.data import ImageData, SignalData

_EPSILON = 1e-8


class Softness(NamedTuple):
    """Temperatures of the student's and of the teacher's softmax."""

    temperature: float
    sharpness: float


class PrototypesModel(SlowBankModel):
    """Encoder of images or signals, a projector of `projector` numbers, and `prototypes` directions of as many."""

    def __init__(
        self,
        data: ImageData | SignalData,
        encoder: Encoder,
        *,
        projector: int,
        prototypes: int,
        soft: Softness,
        bank: Bank,
        how: Augmentation,
    ) -> None:
        super().__init__(data, encoder, projector=projector, bank=bank, how=how)
        self.soft = soft
        self.prototypes = nn.Linear(projector, prototypes, bias=False)

    @abstractmethod
    def offsets(self, scores: Tensor) -> Tensor:
        """Of the teacher's scores of the bank / sharpness, float32 [bank, P], what is added to a record's: float32 [P]."""

    def start_round(self) -> None:
        """Slow copies, then the offsets from what these make of the bank."""
        super().start_round()
        self.keep_tensor("prototypes", self.prototypes.weight.clone())
        self.keep_tensor("offsets", self.offsets(self._slow_scores(self.still("keys"))))

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        shown = views["shown"]
        scores = self.prototypes(self.looking(shown)).float() * _lengths(self.prototypes.weight.detach())
        belonging = (self._slow_scores(self.slowly_looking(shown)) + self.still("offsets")).softmax(dim=-1)
        other = paired(belonging, views).flip(-2)
        guessed = paired((scores / self.soft.temperature).log_softmax(dim=-1), views)
        return averaged(-(other * guessed).sum(dim=-1), views)

    def _slow_scores(self, looking: Tensor) -> Tensor:
        """Directions [..., d] to the teacher's scores / sharpness, float32 [..., P]."""
        slow = self.still("prototypes")
        with torch.no_grad():
            found: Tensor = (looking @ slow.t()).float() * _lengths(slow) / self.soft.sharpness
        return found


def _lengths(prototypes: Tensor) -> Tensor:
    """1 / length of each row of [P, d]."""
    return (prototypes.float().square().sum(dim=-1) + _EPSILON).rsqrt()
