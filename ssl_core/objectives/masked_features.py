"""Step 3 of 12: masked features: hide a share of a row's known columns, predict each from the others.

Papers: Devlin et al., "BERT" (NAACL 2019), section 3.1, task 1, of columns in place of words, on the FT-Transformer of
Gorishniy et al. (NeurIPS 2021), as in Rubachev et al., "Revisiting Pretraining Objectives for Tabular Deep Learning" (2022),
section 3. Different: there a hidden value is replaced by that of another row of the data, which would couple patients; here
always by a code "hidden" of its column. A number is predicted by its Huber distance (Annals of Mathematical Statistics 35,
1964) at 1 typical, so that one slip of the pen pulls no harder than others; a level by a softmax over its column's levels
and "not declared". A value that is missing is never hidden and never a target: nothing is imputed.

Sensitivity: K records of the unit and their hidden columns come from the unit's own coins; the loss is the mean over the
hidden columns of a record, then over those K inside the unit, before clipping (K views, still one row). So the unit's
gradient is a function of the unit, released weights and its own coins: clipped to C, the sum changes by at most C with one.

Shapes for one unit, T = N + C columns, M = the most that are ever hidden: values float32 [K * N], codes int64 [K * T],
hidden int64 [K * M] (column numbers), first, count and target int64 [K * M] (where the answers of a hidden column stand among
the head's outputs, how many, which is right), number float32 [K * M], weight float32 [K * M, 2], of a number and of a level.
Loss = sum over K * M of weight * (huber(output, number), - log softmax at the target). Weights of one record add up to 1 / K;
with fewer than two known columns nothing is hidden: they are 0 and the gradient is exactly 0.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.encoders.attention import HIDE, start_range
from ssl_core.encoders.table_transformer import TableTransformer
from ssl_core.objectives.base import PretextModel, Views, spread_records
from ssl_core.objectives.masked_words import hidden_words
from ssl_core.spec.data import TableData
from ssl_core.spec.encoder import TableTransformerSize


class MaskedFeaturesModel(PretextModel):
    """Table transformer, and one Linear whose outputs are one number a numeric column and a softmax a categorical one."""

    encoder: TableTransformer

    def __init__(self, data: TableData, *, size: TableTransformerSize, mask_fraction: float) -> None:
        super().__init__()
        self.views, self.mask_fraction = data.records_per_patient, mask_fraction
        self.encoder = TableTransformer(data, size=size)
        columns, self.numbers = self.encoder.columns, self.encoder.numbers
        self.slots = min(max(int(np.rint(columns * mask_fraction)), 1), columns - 1)
        self.coins = 1 + self.views * columns
        # A missing value is never an answer, so a number has one output and a level its codes but the first.
        self.answers = np.array([count - 1 for count in self.encoder.counts], np.int64)
        self.first = np.array([0, *accumulate(self.answers[:-1].tolist())], np.int64)
        self.head = nn.Linear(self.encoder.feature_width, int(self.answers.sum()))

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """values, codes, hidden, first, count, target, number, weight, each [B, ...]; see the module docstring."""
        self.check_draw(index, uniforms)
        rows = spread_records(patients, index, uniforms[:, 0], self.views).reshape(-1)
        found = self.encoder.known(torch.from_numpy(np.asarray(patients.records[rows], np.float32)))
        values, codes = (part.numpy() for part in found)
        hidden = hidden_words(codes > 0, uniforms[:, 1:].reshape(codes.shape), self.mask_fraction)
        places = (~hidden).argsort(axis=1, kind="stable")[:, : self.slots]
        real = np.take_along_axis(hidden, places, axis=1)
        target = np.where(real, np.take_along_axis(codes, places, axis=1) - 1, 0)
        number = np.where(real & (places < self.numbers), _at(values, places), 0.0)
        share = real / (np.maximum(real.sum(axis=1, keepdims=True), 1) * self.views)
        weight = np.stack([share * (places < self.numbers), share * (places >= self.numbers)], axis=2)
        views: dict[str, npt.NDArray[np.generic]] = {
            "values": np.where(hidden[:, : self.numbers], 0.0, values).astype(np.float32),
            "codes": np.where(hidden, self.encoder.counts, codes),
            "hidden": places,
            "first": self.first[places],
            "count": self.answers[places],
            "target": self.first[places] + target,
            "number": number.astype(np.float32),
        }
        views["weight"] = weight.astype(np.float32)
        return {
            name: torch.from_numpy(view.reshape(len(index), self.views * view.shape[1], *view.shape[2:]))
            for name, view in views.items()
        }

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        tokens = self.encoder.tokens(views["values"], views["codes"], self.views)
        lead = tokens.shape[:-2]
        grid = tokens.reshape(*lead, self.views, self.encoder.columns, tokens.shape[-1])
        places = views["hidden"].reshape(*lead, self.views, self.slots, 1)
        outputs = self.head(grid.take_along_dim(places, dim=-2).flatten(-3, -2))
        first = views["first"].unsqueeze(-1)
        distance = functional.huber_loss(outputs.gather(-1, first).squeeze(-1), views["number"], reduction="none")
        at = torch.arange(outputs.shape[-1], device=outputs.device)
        others = (at < first) | (at >= first + views["count"].unsqueeze(-1))
        log_chance = outputs.masked_fill(others, HIDE).log_softmax(dim=-1)
        surprise = -log_chance.gather(-1, views["target"].unsqueeze(-1)).squeeze(-1)
        loss: Tensor = (views["weight"] * torch.stack([distance, surprise], dim=-1)).sum(dim=(-2, -1))
        return loss

    def init_range(self, name: str) -> tuple[float, float]:
        """Columns as the encoder says, the others by the kind of layer; see `start_range`."""
        inner = name.removeprefix("encoder.")
        return start_range(self, name) if inner == name else self.encoder.start(inner)


def _at(values: npt.NDArray[np.float32], places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Values [m, N] of the columns at `places` [m, M], 0 for columns that are not numeric."""
    padded = np.concatenate([values, np.zeros((len(values), 1), np.float32)], axis=1)
    return np.take_along_axis(padded, np.minimum(places, values.shape[1]), axis=1)
