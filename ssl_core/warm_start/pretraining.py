"""Before step 1, at the operator: the study's own model is pretrained on public units, by ordinary Adam on the mean loss.

Comes in: a model at its start, `PublicUnits`, a `Schedule`. Goes out: the model, changed in place, and the mean losses of
ten equal parts of the run. No clipping, no noise, no charge: the weights are a function of public data and seeds, so what a
study adds to them keeps the guarantee that it has from any start (docs/warm-start.md). Kingma and Ba, "Adam" (ICLR 2015),
with a linear warm-up and a cosine to zero.

Where the units know what they were made from (generated signals and sounds), a Linear on the encoder's features predicts these
factors beside the task, and is dropped: a multi-task loss as in Caruana, "Multitask Learning" (1997), section 2, the
second task free because the data are synthetic. Tasks with weights that stand still within a round (slow copies, keys of a
public bank) begin one at the first step, so with the weights that were loaded, and then every STEPS_A_ROUND steps, as a study
does. A coupled task (coupled.py) trains the encoder alone; the plan's heads then start from its seed. A task that compares
the units of a batch with each other draws them without replacement, since a record must not be its own negative. Same model,
units and schedule: the same bytes on one machine with one number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ssl_core.errors import ConfigError
from ssl_core.objectives.base import BucketModel, PretextModel, Views
from ssl_core.warm_start.coupled import LEAST, Coupled
from ssl_core.warm_start.public import PublicUnits

# As many as the studies of deploy/studies take (6 to 10), so that the task is here what it is there; a bank of 512, embedded
# once beside the two looks and the backward passes of ten batches of 256, adds some 3 %.
STEPS_A_ROUND = 10
_PARTS = 10
_BETAS = (0.9, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """`steps` of Adam on `batch` units each; the rate rises over `warmup` of the steps. `seed`: of draws and order."""

    steps: int = 600
    batch: int = 256
    learning_rate: float = 1e-3
    warmup: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name, right in (("steps", self.steps >= 1), ("batch", self.batch >= 1), ("learning_rate", self.learning_rate > 0)):
            if not right:
                raise ConfigError("warm start needs a value above 0", field=name, value=getattr(self, name))

    def rate(self, step: int) -> float:
        """The learning rate of step 0 .. steps - 1."""
        rising = max(round(self.steps * self.warmup), 1)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(self.steps - rising, 1)))


@dataclass(frozen=True, slots=True)
class Losses:
    """Mean loss of the task, and of the factors where there are any, over each tenth of the run."""

    task: tuple[float, ...]
    factors: tuple[float, ...]


def check_batch(model: PretextModel, batch: int, units: int | None, coupled: Coupled | None = None) -> None:
    """Refuse a batch in which the task would have nothing to compare, or one of more than the `units`; None: not known yet."""
    if coupled is not None:
        task, least, why = coupled.name.value, LEAST[coupled.name], "nothing is learnt from fewer"
    elif isinstance(model, BucketModel):
        task, least, why = "simclr-buckets", model.bucket_size, "the plan's bucket_size"
    else:
        return
    if batch < least:
        raise ConfigError(
            f"{task} compares the records of a batch with each other, and this one has too few", field="--batch", value=batch,
            limit=f"{least} or more: {why}", remedy=f"--batch {least} or more",
        )  # fmt: skip
    if units is not None and units < batch:
        raise ConfigError(
            f"{task} compares the records of a batch with each other, and there are fewer units than a batch has",
            field="--batch",
            value=batch,
            limit=f"{units} units",
            remedy=f"--batch {units}, or more units" if units >= least else f"more units: {least} at least",
        )


def pretrain(model: PretextModel, public: PublicUnits, schedule: Schedule, coupled: Coupled | None = None) -> Losses:
    """Train `model` in place. `coupled`: in place of the model's own task.

    `ConfigError` when a loss is not finite, or as `check_batch`.
    """
    check_batch(model, schedule.batch, len(public.patients), coupled)
    apart = coupled is not None or isinstance(model, BucketModel)
    factors = public.factors
    head = None if factors is None else _zero_head(model.encoder.feature_width, factors.shape[1])
    own = model if coupled is None else nn.ModuleList([model.encoder, coupled.projector])
    parameters = [*own.parameters(), *([] if head is None else head.parameters())]
    adam = torch.optim.Adam(parameters, lr=schedule.learning_rate, betas=_BETAS)
    rng = np.random.default_rng([schedule.seed, len(public.patients)])
    seen: list[tuple[float, float]] = []
    for step in range(schedule.steps):
        if coupled is None and step % STEPS_A_ROUND == 0:
            model.start_round()
        # With replacement where units do not meet: no order to keep, and a batch may be larger than the corpus.
        count = len(public.patients)
        index = rng.choice(count, schedule.batch, replace=False) if apart else rng.integers(0, count, schedule.batch)
        if coupled is None:
            # (0, 1], as the coins of private training.
            views = model.draw(public.patients, index, 1.0 - rng.random((schedule.batch, model.coins)))
            task = _own_loss(model, views)
        else:
            task = coupled.loss(public.patients, index, rng)
        # The first record of each unit, whole.
        rows = public.patients.offsets[index]
        guess = torch.zeros(())
        if head is not None and factors is not None:
            features = model.encoder.embed(public.patients.records[rows])
            guess = (head(features) - torch.from_numpy(factors[rows])).square().mean()
        seen.append((task.item(), guess.item()))
        if not all(map(math.isfinite, seen[-1])):
            raise ConfigError("warm start diverged", field="step", value=step, remedy="a smaller --learning-rate")
        adam.zero_grad()
        torch.autograd.backward(task + guess)
        for group in adam.param_groups:
            group["lr"] = schedule.rate(step)
        adam.step()
    parts = np.array_split(np.array(seen), min(_PARTS, schedule.steps))
    means = [tuple(float(part[:, column].mean()) for part in parts) for column in range(2)]
    return Losses(means[0], () if head is None else means[1])


def _own_loss(model: PretextModel, views: Views) -> Tensor:
    """The mean loss of the units, or of the buckets into which they are parted as they stand: public units have no order."""
    if not isinstance(model, BucketModel):
        return model.losses(views).mean()
    size, count = model.bucket_size, len(next(iter(views.values())))
    parts = ({name: view[first : first + size] for name, view in views.items()} for first in range(0, count, size))
    return torch.stack([model(part) for part in parts]).mean()


def _zero_head(width: int, factors: int) -> nn.Linear:
    """A Linear that starts at zero, so that it takes no random numbers."""
    head = nn.Linear(width, factors)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    return head
