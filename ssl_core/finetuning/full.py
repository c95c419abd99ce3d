"""Step 13: train a whole encoder and a linear head on a site's few labels, from any start weights.

Comes in: an encoder, patients, D label draws of n patients each (index int64 [D, n]) and labels 0/1 [n_patients, K].
Goes out: `Tuned`, D models that were trained at once, each on its own draw alone (their losses are added, so no
gradient of one enters another). Loss: logistic for each finding, softmax for exclusive classes. Full batch, AdamW
(Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019), cosine to zero, fixed steps.
The step length of a parameter is `rate` times its root mean square at the start (You et al., "Large Batch Training of
Convolutional Networks", 2017, section 4, fixed at the start), so that one setting serves texts and images.
No privacy: the model knows its patients and never leaves the site (ruling 27). A step sees one record of
each patient, the records of a patient taking turns; `Tuned.scores` takes the mean of a patient's features over all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.encoders.base import Encoder
from ssl_core.errors import DataError
from ssl_core.finetuning.batched import Parameters, encode, prepare, stack

_LEAST_SIZE = 0.02
_CHUNK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneSettings:
    """Fixed before any label is seen; `shrink`: the part of every matrix that is taken away each step."""

    rate: float
    shrink: float
    head_rate: float = 3e-3
    steps: int = 60


# Each the best of one small grid on label-pool patients of the reports, so neither start is given the other's settings;
# not tuned again for images.
FROM_SCRATCH = TuneSettings(rate=0.1, shrink=0.03)
FROM_PRETRAINED = TuneSettings(rate=0.05, shrink=0.0)


@dataclass(frozen=True, slots=True)
class Tuned:
    """D models: encoder parameters [D, ...], head weight float32 [D, F, K] and bias [D, 1, K]."""

    encoder: Encoder
    parameters: Parameters
    weight: Tensor
    bias: Tensor

    def scores(self, patients: Patients, inputs: Tensor) -> npt.NDArray[np.float64]:
        """float64 [D, n, K]; `inputs` = `prepare(encoder, patients.whole)`, taken from the caller to be shared."""
        out = []
        with torch.no_grad():
            for d in range(len(self.weight)):
                own = {name: stacked[d : d + 1] for name, stacked in self.parameters.items()}
                # In parts: a transformer holds some hundred kilobytes a record on the way.
                encoded = torch.cat([encode(self.encoder, own, part[None])[0] for part in torch.split(inputs, _CHUNK)])
                features = patients.mean_by_unit(encoded.numpy())
                out.append(features @ self.weight[d].numpy() + self.bias[d].numpy())
        return np.stack(out).astype(np.float64)


def fit_full(
    encoder: Encoder,
    patients: Patients,
    index: npt.NDArray[np.int64],
    labels: npt.NDArray[np.integer],
    *,
    exclusive: bool,
    settings: TuneSettings,
    inputs: Tensor | None = None,
) -> Tuned:
    """Train one model a row of `index` [D, n]; `labels` [n_patients, K]; the encoder itself is not changed."""
    if index.ndim != 2 or len(labels) != len(patients) or labels.ndim != 2:
        raise DataError("draws or labels do not fit the patients", field="labels", value=labels.shape, limit="[patients, K]")
    ready = prepare(encoder, patients.whole) if inputs is None else inputs
    counts = patients.counts()[index]
    targets = torch.from_numpy(np.asarray(labels[index], np.float32))
    parameters = stack(encoder, len(index))
    mean = targets.mean(dim=1, keepdim=True).clamp(0.02, 0.98)
    bias = (mean.log() if _softmax(exclusive, targets) else torch.logit(mean)).clone()
    weight = torch.zeros(len(index), encoder.feature_width, targets.shape[2])
    groups = [
        *({"params": [p], **_group(encoder, name, settings)} for name, p in parameters.items()),
        {"params": [weight, bias], "lr": settings.head_rate, "weight_decay": 0.01},
    ]
    for tensor in (*parameters.values(), weight, bias):
        tensor.requires_grad_(True)
    optimizer = torch.optim.AdamW(groups, lr=settings.head_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / settings.steps)))
    batch = ready[torch.from_numpy(patients.offsets[index])]
    for step in range(settings.steps):
        if step and counts.max() > 1:
            batch = ready[torch.from_numpy(patients.offsets[index] + step % counts)]
        optimizer.zero_grad(set_to_none=True)
        logits = torch.baddbmm(bias, encode(encoder, parameters, batch), weight)
        _loss(logits, targets, exclusive).backward()  # type: ignore[no-untyped-call]  # torch has no types for backward
        optimizer.step()
        schedule.step()
    return Tuned(encoder, {name: p.detach() for name, p in parameters.items()}, weight.detach(), bias.detach())


def _group(encoder: Encoder, name: str, settings: TuneSettings) -> dict[str, float]:
    """Step length and decay of one encoder parameter; AdamW multiplies decay by the step length."""
    start = encoder.get_parameter(name).detach()
    rate = settings.rate * max(float(start.square().mean().sqrt()), _LEAST_SIZE)
    return {"lr": rate, "weight_decay": settings.shrink / rate if start.ndim > 1 else 0.0}


def _softmax(exclusive: bool, targets: Tensor) -> bool:
    return exclusive and targets.shape[-1] > 1


def _loss(logits: Tensor, targets: Tensor, exclusive: bool) -> Tensor:
    """Sum over draws of the mean loss of each."""
    if _softmax(exclusive, targets):
        return -(targets * functional.log_softmax(logits, dim=-1)).sum(dim=-1).mean(dim=1).sum()
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=(1, 2)).sum()
