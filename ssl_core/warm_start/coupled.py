"""Before step 1, at the operator: losses that compare the records of a batch with each other, legal on public units alone.

Comes in: what a projector makes of two looks at each of B public records, float32 [B, d] each. Goes out: a scalar. In a study
each of them would make one patient's gradient depend on the others', so a plan cannot name them (ssl_core/spec/refused.py) and
no hospital's code can import this package (import-linter). Here nobody is to be protected.
  simclr        Chen et al., "A Simple Framework for Contrastive Learning" (ICML 2020), section 2.1: NT-Xent, temperature .5
  vicreg        Bardes et al., "VICReg" (ICLR 2022), section 4.1, equations 1 to 6: weights 25, 25, 1
  barlow-twins  Zbontar et al., "Barlow Twins" (ICML 2021), section 2.2: off-diagonal weight 5e-3
Different: looks as in ssl_core/objectives/augment.py, and its Projector, with LayerNorm.
Below LEAST records in a batch they teach nothing; pretraining.py refuses such a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.errors import ConfigError
from ssl_core.objectives.augment import COINS, Augmentation, augmented
from ssl_core.objectives.base import PretextModel
from ssl_core.objectives.projector import Projector
from ssl_core.spec.coupled import CoupledTask
from ssl_core.spec.data import Data, ImageData, SignalData

_WIDTH = 256
_TEMPERATURE = 0.5
_SPREAD, _LIKENESS, _COVARIANCE = 25.0, 25.0, 1.0
_REDUNDANCY = 5e-3
_EPSILON = 1e-4
_HOW = Augmentation(crop=0.4, gain=0.3, noise=0.1, flip=False)


class Coupled:
    """A coupled task over the encoder of `model`; `projector` is trained with it and dropped."""

    def __init__(self, name: CoupledTask, model: PretextModel, data: Data, seed: int) -> None:
        if not isinstance(data, ImageData | SignalData):
            raise ConfigError(
                f"task {name} needs two looks at a record, which are known for images and signals",
                field="--task",
                value=data.kind,
                remedy="leave it out: the plan's own task trains on any data",
            )
        self.name, self._loss, self._model, self._data = name, LOSSES[name], model, data
        self.projector = Projector(model.encoder.feature_width, _WIDTH, _WIDTH)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in self.projector.modules():
                if isinstance(layer, nn.Linear):
                    bound = 1.0 / math.sqrt(layer.in_features)
                    layer.weight.copy_((2.0 * torch.rand(layer.weight.shape, generator=generator) - 1.0) * bound)
                    layer.bias.zero_()

    def loss(self, patients: Patients, index: npt.NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Of two looks at the first record of each unit at `index` int64 [B], none twice, B >= LEAST."""
        records = np.asarray(patients.records[patients.offsets[index]], np.float32)
        looks = [augmented(records, 1.0 - rng.random((len(index), COINS)), self._data, _HOW) for _ in range(2)]
        first, second = (self.projector(self._model.encoder.embed(look)) for look in looks)
        return self._loss(first, second)


def simclr(first: Tensor, second: Tensor) -> Tensor:
    """NT-Xent over 2 B looks: the other look of a record against all other looks of the batch."""
    rows = functional.normalize(torch.cat([first, second]), dim=1)
    logits = rows @ rows.T / _TEMPERATURE
    itself = torch.eye(len(rows), dtype=torch.bool)
    partner = torch.arange(len(rows)).roll(len(first))
    return functional.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)


def vicreg(first: Tensor, second: Tensor) -> Tensor:
    """Looks alike, every dimension with a standard deviation of 1 over the batch, dimensions uncorrelated."""
    spread = torch.zeros(())
    covariance = torch.zeros(())
    for looks in (first, second):
        centred = looks - looks.mean(dim=0)
        spread = spread + functional.relu(1.0 - (centred.square().sum(dim=0) / (len(looks) - 1) + _EPSILON).sqrt()).mean() / 2
        products = centred.T @ centred / (len(looks) - 1)
        off = products - torch.diag(products.diagonal())
        covariance = covariance + off.square().sum() / looks.shape[1]
    return _LIKENESS * functional.mse_loss(first, second) + _SPREAD * spread + _COVARIANCE * covariance


def barlow_twins(first: Tensor, second: Tensor) -> Tensor:
    """The cross-correlation of the two looks' dimensions over the batch, towards the identity."""
    left, right = ((looks - looks.mean(dim=0)) / (looks.std(dim=0, unbiased=False) + _EPSILON) for looks in (first, second))
    correlation = left.T @ right / len(first)
    diagonal = correlation.diagonal()
    off = correlation - torch.diag(diagonal)
    return (1.0 - diagonal).square().sum() + _REDUNDANCY * off.square().sum()


LOSSES: dict[CoupledTask, Callable[[Tensor, Tensor], Tensor]] = {
    CoupledTask.SIMCLR: simclr,
    CoupledTask.VICREG: vicreg,
    CoupledTask.BARLOW_TWINS: barlow_twins,
}

# One record has no negative and no variance. Two, standardised, are -1 and 1 whatever they are, so that every correlation of
# them is -1 or 1 and no step changes it; VICReg's variances and covariances are not standardised.
LEAST: dict[CoupledTask, int] = {CoupledTask.SIMCLR: 2, CoupledTask.VICREG: 2, CoupledTask.BARLOW_TWINS: 3}
