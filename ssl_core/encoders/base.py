"""Step 3 of 12: what an encoder is to everybody outside pretraining: records in, features out.

`forward` takes what an objective prepared for ONE unit and is vmap-able; `embed` takes whole records with gradients,
for fine-tuning; `features` takes whole records without, in chunks, for probes and `choral embed`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Records = npt.NDArray[np.int32] | npt.NDArray[np.float32]


class Encoder(nn.Module, ABC):
    """Float32 parameters only: no buffers, no dropout, no batch statistics."""

    feature_width: int

    @abstractmethod
    def embed(self, records: Records) -> Tensor:
        """Whole records [k, ...] (as in `Patients.records`) to features float32 [k, feature_width], with gradients."""

    def features(self, records: Records, *, chunk: int = 1024) -> npt.NDArray[np.float32]:
        """Whole records [k, ...] to float32 [k, feature_width], without gradients, `chunk` records at a time."""
        out = np.empty((len(records), self.feature_width), np.float32)
        with torch.no_grad():
            for begin in range(0, len(records), chunk):
                out[begin : begin + chunk] = self.embed(records[begin : begin + chunk]).cpu().numpy()
        return out
