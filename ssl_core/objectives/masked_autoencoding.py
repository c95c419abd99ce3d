"""Step 3 of 12: masked autoencoding: encode some patches of an image or a signal, predict the content of the others.

Paper: He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022), section 3 and appendix A.1: only seen
patches enter the encoder; a small transformer sees their tokens and a mask token for each hidden patch; the error is
taken over hidden patches alone, against values normalised patch by patch; of signals as in Na et al., "Guiding Masked
Representation Learning ..." (ICLR 2024), section 3, but normalised, each channel of a piece by itself. With `target =
"log-power"`, for signals, the power spectrum of the hidden piece is predicted in place of its values (targets.py): the
phase of a hidden wave often cannot be known, its rate and size can. Different: no class token; positions are learnt, not
sines; no crops; one colour; the decoder is smaller; K records of a patient make one loss; the decoder
is that of hidden_patches.py. With `summary_weight` a second task beside it, as of several workers on one encoder in Pascual
et al., "Learning Problem-agnostic Speech Representations ..." (Interspeech 2019), section 2: from the features of the seen
patches alone, pooled as the encoder pools, one Linear predicts a summary of the whole record (summaries.py).

Sensitivity: K records of the unit and the order of their patches come from the unit's own coins; values are normalised
within a patch; a summary is a function of one record and fixed constants; the loss is the mean over those K records inside
the unit, before clipping (K views, still one row), with both tasks in it: one gradient, one clip, one budget. So the unit's
gradient is a function of the unit, released weights and its own coins: clipped to C, the sum over units changes by at most C
with one unit.

Shapes for one unit, N patches of D values, of which V are seen and M hidden, records side by side: seen float32
[K * V, D]; target float32 [K * M, D'], D' = D, or about half of it for log-power; order int64 [K * N], the numbers of
each record's patches, seen ones first; weight float32 [K], 0 for an all-zero record, else 1 / K; where `summary_weight` is
above 0 also summary float32 [K, S]. Loss = sum over k of weight * (mean over M and D' of (prediction - target)^2 +
summary_weight * mean over S of (prediction - summary)^2). Which patches are seen: those with the V least coins of the record.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.data.patients import Patients
from ssl_core.encoders.patches import PatchTransformer
from ssl_core.objectives.base import Views, spread_records
from ssl_core.objectives.hidden_patches import HiddenPatchesModel
from ssl_core.objectives.summaries import summary, summary_size
from ssl_core.objectives.targets import log_power, normalised
from ssl_core.spec.data import Picture, SignalData
from ssl_core.spec.objective import MaskedTarget


class MaskedAutoencodingModel(HiddenPatchesModel):
    """Transformer on patches, its decoder, one Linear to the content of a patch, and perhaps one to a record's summary."""

    def __init__(
        self,
        data: Picture | SignalData,
        encoder: PatchTransformer,
        *,
        mask_fraction: float,
        decoder_width: int,
        decoder_depth: int,
        target: MaskedTarget = "values",
        summary_weight: float = 0.0,
    ) -> None:
        super().__init__(data, encoder, mask_fraction=mask_fraction, decoder_width=decoder_width, decoder_depth=decoder_depth)
        self.coins = 1 + self.views * self.squares
        self.target = log_power if target == "log-power" else normalised
        predicted = self.encoder.size // 2 if target == "log-power" else self.encoder.size
        self.head = nn.Linear(decoder_width, self.encoder.parts * predicted)
        self.data, self.summary_weight = data, summary_weight
        self.summary_head = nn.Linear(encoder.feature_width, summary_size(data, encoder.size)) if summary_weight else None

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """seen [B, K * V, D], target [B, K * M, D'], order int64 [B, K * N], weight [B, K], perhaps summary [B, K, S]."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views)
        whole = np.asarray(patients.records[rows], np.float32)
        records = torch.from_numpy(whole)
        coins = uniforms[:, 1:].reshape(len(index), self.views, self.squares)
        order = torch.from_numpy(coins.argsort(axis=2, kind="stable"))
        squares = self.encoder.cut(records).take_along_dim(order.unsqueeze(-1), dim=2)
        shown = self.squares - self.hidden
        hidden = squares[:, :, shown:].flatten(1, 2)
        parts = hidden.reshape(*hidden.shape[:2], self.encoder.parts, self.encoder.size)
        views = {
            "seen": squares[:, :, :shown].flatten(1, 2),
            "target": self.target(parts).flatten(-2),
            "order": order.flatten(1, 2),
            "weight": (records != 0).any(dim=2).to(torch.float32) / self.views,
        }
        if self.summary_head is not None:
            views["summary"] = torch.from_numpy(summary(whole, self.data, self.encoder.size))
        return views

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        records, order = self.views, views["order"]
        lead = order.shape[:-1]
        seen = order.reshape(*lead, records, self.squares)[..., : self.squares - self.hidden].flatten(-2)
        tokens = self.encoder.tokens(views["seen"], seen, records)
        errors = (self.head(self.filled(tokens, order)) - views["target"]).square().mean(dim=-1)
        each = errors.view(*lead, records, self.hidden).mean(dim=-1)
        if self.summary_head is not None:
            features = self.encoder.pooled(tokens.view(*lead, records, self.squares - self.hidden, -1))
            missed = (self.summary_head(features) - views["summary"]).square().mean(dim=-1)
            each = each + self.summary_weight * missed
        found: Tensor = (views["weight"] * each).sum(dim=-1)
        return found
