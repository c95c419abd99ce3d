"""Step 3 of 12: next event: predict each event of a record, its code and the gap before it, from the events before it.

Paper: as next_token.py, whose model this is, with events for words; predicting what happens next and when: Du et al.,
"Recurrent Marked Temporal Point Processes" (KDD 2016), section 4. Different: a transformer instead of a recurrent net, the time
as one of the plan's buckets, by a softmax, instead of a density, and code and gap independent of each other given the past.

Sensitivity: that of next_token.py, line by line: K records of the unit by its own coin, the mean over them inside the unit,
before clipping; a function of the unit, released weights and its own coins, so clipped to C it adds at most C to the sum.

Shapes for one unit, K records of T events side by side: rows int64 [K * T * 2] (of the encoder's table), real float32 [K * T],
targets int64 [K * (T - 1), 2], code and gap, weight float32 [K * (T - 1)]. Loss = -sum over slots of weight * (log softmax over
codes at the code + log softmax over gaps at the gap). With fewer than two events nothing is predicted: loss 0, gradient
exactly 0. Gap 0, of a record's first event, is read and never a target.
"""

from __future__ import annotations

from torch import Tensor

from ssl_core.encoders.event_transformer import EventTransformer
from ssl_core.objectives.base import Views
from ssl_core.objectives.next_token import NextModel
from ssl_core.spec.data import EventData
from ssl_core.spec.encoder import TextTransformerSize


class NextEventModel(NextModel):
    """Event transformer with one linear head, of codes and of gaps side by side."""

    def __init__(self, data: EventData, *, size: TextTransformerSize) -> None:
        super().__init__(
            EventTransformer(data, size=size), data.codes + data.gaps, shape=data.shape, views=data.records_per_patient
        )
        self.count = data.codes

    def log_likelihood(self, views: Views) -> Tensor:
        """float32 [..., K * (T - 1)]."""
        code, gap = self.log_chances(views)
        targets = views["targets"]
        found: Tensor = code.gather(-1, targets[..., :1]) + gap.gather(-1, targets[..., 1:])
        return found.squeeze(-1)

    def log_chances(self, views: Views) -> tuple[Tensor, Tensor]:
        """float32 [..., K * (T - 1), codes] and [..., K * (T - 1), gaps]: of the event after each."""
        found = self.following(views)
        return found[..., : self.count].log_softmax(dim=-1), found[..., self.count :].log_softmax(dim=-1)
