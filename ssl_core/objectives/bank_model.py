"""Step 3 of 12: what the tasks with a public bank share: two looks at a record, a projector, and a bank that stands still.

Comes in and goes out as in looks.py. `start_round` has the bank (public_bank.py) embedded by the weights that the round begins
with, once, without a gradient: its keys, float32 [bank, d], are what simclr_bank.py and moco_bank.py compare with, and of
which prototypes.py makes one number a prototype. So what a patient is compared with is a function of weights that were
released before the round and of public constants, and of no other patient. In a batch the encoder's layers meet the units'
looks alone.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ssl_core.encoders.base import Encoder
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.looks import TwoLooksModel, direction
from ssl_core.objectives.projector import Projector
from ssl_core.objectives.public_bank import embedded, public_bank
from ssl_core.objectives.round_start import RoundStart
from ssl_core.spec.data import ImageData, SignalData


class Bank(NamedTuple):
    """How many made-up records, and their seed: public constants of the plan."""

    bank: int
    bank_seed: int


class BankModel(RoundStart, TwoLooksModel):
    """Encoder of images or signals and a projector of `projector` numbers; a task says what it keeps of the bank."""

    def __init__(
        self, data: ImageData | SignalData, encoder: Encoder, *, projector: int, bank: Bank, how: Augmentation
    ) -> None:
        super().__init__(data, encoder, how=how)
        self.project = Projector(encoder.feature_width, projector, projector)
        # How many records are drawn of a patient says nothing of the bank: one array serves all.
        self.bank = public_bank(data.model_copy(update={"records_per_patient": 1}), *bank, how)

    def looking(self, shown: Tensor) -> Tensor:
        """Looks [..., 2 K, V] to directions float32 [..., 2 K, d], by the weights in training."""
        return direction(self.project(self.encoder(shown)))

    def start_round(self) -> None:
        """What the present weights make of the bank, float32 [bank, d], is kept as `keys`."""
        self.keep_tensor("keys", embedded(self.bank, self.looking, next(self.parameters()).device))


class SlowBankModel(BankModel):
    """One that also looks at a patient's records by the weights that the round began with."""

    def slowly_looking(self, shown: Tensor) -> Tensor:
        """`looking` by the slow copies of encoder and projector, without a gradient."""
        return direction(self.slowly(shown))

    def start_round(self) -> None:
        """The keys, and slow copies of what made them."""
        super().start_round()
        self.keep_slow(self.encoder, self.project)
