"""Step 3 of 12: the event transformer: the text transformer, with events for words.

Comes in: int32 [k, events, 2], code and gap of each event, -1 where there is none. Goes out: float32 [k, width], the mean of
the events' tokens. An event enters as the sum of its code's embedding, its gap's and its place's; it sees itself and those
before it. After Li et al., "BEHRT: Transformer for Electronic Health Records" (Scientific Reports 10, 2020), figure 2;
different: the gap since the event before stands for age and visit, and attention is causal.

`table` holds, one below the other, a row for each code, one that no event has, and a row for each gap. An event enters as two
row numbers; an absent one as the row that no event has, and gap 0: it is ignored as a key and in the mean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssl_core.encoders.base import Encoder, Records
from ssl_core.encoders.text_transformer import TextTransformer
from ssl_core.spec.data import EventData
from ssl_core.spec.encoder import TextTransformerSize


class EventTransformer(TextTransformer):
    """At most `data.events` events of a record."""

    def __init__(self, data: EventData, *, size: TextTransformerSize) -> None:
        Encoder.__init__(self)
        # What `TextTransformer` calls codes are the two numbers of an event; `buckets` is the row of an absent one.
        self.codes, self.buckets = 2, data.codes
        self._build(data.codes + 1 + data.gaps, data.events, size, causal=True)

    def prepare(self, records: Records) -> Tensor:
        """Events int32 [k, events, 2] to row numbers int64 [k, events * 2]."""
        codes, gaps = np.moveaxis(np.asarray(records, np.int64), 2, 0)
        rows = np.stack([np.where(codes < 0, self.buckets, codes), np.maximum(gaps, 0) + self.buckets + 1], axis=2)
        return torch.from_numpy(rows.reshape(len(rows), rows.shape[1] * 2))
