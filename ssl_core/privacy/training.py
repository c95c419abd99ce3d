"""Steps 2 to 5 of 12 as one loop: a round of private training at one site.

Comes in: model, patients, plan, global weights float32 [P]. Goes out: delta = end - start, float32 [P], and the
optimizer's state. Exactly `steps_per_round` steps run, whatever the patients are. Both results are functions of
(start, public constants, noised gradients) alone: `replay_round` computes them from captured gradients without any
data, and a test demands equal bits (ruling 18). DP-SGD: Abadi et al. (CCS 2016), algorithm 1.
The shapes of a round's passes are looked at before its first step (shapes.py), on made-up units, whatever was approved:
site.toml may have changed since. Nothing is logged here: losses, norms and sample sizes are not noised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.data.patients import Patients
from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import BucketModel, PretextModel, Views
from ssl_core.privacy.ahead import drawn_ahead
from ssl_core.privacy.descent import Descent, OptimizerState
from ssl_core.privacy.gradients import ClippedSum, reach_of
from ssl_core.privacy.machine import keep_freed_memory, threads, training_device
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.privacy.optimizer import PrivateOptimizer
from ssl_core.privacy.planner import (
    Index,
    Pace,
    choose_pace,
    clipped_sum_in_halves,
    fixed_shape_sum,
    whole_bucket_sum,
)
from ssl_core.privacy.sampling import batches, bucket_count, buckets, draw_coins, group_count, poisson_sample
from ssl_core.privacy.shapes import shapes_of
from ssl_core.trust.random import UnitCoins

__all__ = ["OptimizerState", "RoundResult", "replay_round", "train_round"]

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a round gave; the state stays at the site."""

    delta: Vector
    state: OptimizerState


def train_round(
    *,
    model: PretextModel,
    patients: Patients,
    plan: StudyPlan,
    nominal_size: int,
    start: Vector,
    first_step: int,
    total_steps: int,
    state: OptimizerState | None,
    speed: SpeedSpec,
    pace: Pace | None = None,
    tap: Callable[[Vector], None] | None = None,
) -> RoundResult:
    """One round from `start`. COMMIT it in the ledger first: its noise is spent whether or not it ends.

    nominal_size: the plan's, never len(patients). first_step: number of the round's first step in the study, from 0.
    pace: what `choose_pace` gave for this very model, where the isolation check is known to have looked at it; else found here.
    tap: is given the noised gradient float32 [P] of each step; meant for `replay_round`.
    """
    privacy = plan.privacy
    device = training_device(speed)
    keep_freed_memory()
    with threads(speed.threads), ThreadPoolExecutor(1, thread_name_prefix="choral-draw") as thread:
        load_vector(model, start)
        pace = pace or choose_pace(model, plan.data, speed, device)
        shapes = shapes_of(model, plan, pace, nominal_size)
        model.start_round()
        descent = _descent(model, plan, total_steps, state)
        noise, reach = GaussianNoise(device=device), reach_of(model)
        optimizer = PrivateOptimizer(descent, privacy, nominal_size=nominal_size, noise=noise, reach=reach)
        engine = pace.within(shapes)
        parts_of, summed = _parting(model, plan, nominal_size, pace.size, shapes)

        def draw(coins: UnitCoins, index: Index) -> Views:
            views = model.draw(patients, index, draw_coins(patients.tags[index], coins, model.coins))
            return {name: view.to(device) for name, view in views.items()}

        def sum_of(views: Callable[[Index], Views], index: Index) -> ClippedSum:
            return engine.clipped_sum(views(index), privacy.max_grad_norm)

        for number in range(first_step, first_step + plan.rounds.steps_per_round):
            coins = UnitCoins.fresh()
            sample = poisson_sample(patients.tags, privacy.sampling_rate, coins)
            for index, views in drawn_ahead(parts_of(sample, patients.tags[sample], coins), partial(draw, coins), thread):
                optimizer.add(summed(index, partial(sum_of, views)))
            optimizer.release(number, tap)
        if optimizer.releases != plan.rounds.steps_per_round:
            raise PrivacyError("round took another number of steps", field="steps", value=optimizer.releases)
        return RoundResult(to_vector(model) - start, descent.state())


def replay_round(
    *,
    model: PretextModel,
    plan: StudyPlan,
    gradients: Sequence[Vector],
    start: Vector,
    first_step: int,
    total_steps: int,
    state: OptimizerState | None,
) -> RoundResult:
    """The same result from the noised `gradients` (float32 [P] per step, as `tap` saw them), without any patients."""
    load_vector(model, start)
    descent = _descent(model, plan, total_steps, state)
    for number, gradient in enumerate(gradients, start=first_step):
        begin = 0
        for parameter in model.parameters():
            part = torch.from_numpy(np.array(gradient[begin : begin + parameter.numel()]))
            parameter.grad = part.view_as(parameter).to(parameter.device)
            begin += parameter.numel()
        descent.prepare(number)
        descent.inner.step()
    return RoundResult(to_vector(model) - start, descent.state())


Parts = Callable[[Index, npt.NDArray[np.uint8], UnitCoins], Iterator[Index]]
Summed = Callable[[Index, Callable[[Index], ClippedSum]], ClippedSum]


def _parting(
    model: PretextModel, plan: StudyPlan, nominal_size: int, size: int, shapes: tuple[int, ...]
) -> tuple[Parts, Summed]:
    """How a sample is parted, and how a part is summed: in physical batches of at most `size`, or in whole buckets.

    shapes: of how many units the passes can be, where it is not whatever there is.
    """
    rate = plan.privacy.sampling_rate
    if not isinstance(model, BucketModel):
        most = shapes[-1] if shapes else size
        parted = partial(batches, groups=group_count(rate, nominal_size, most), size=most)
        return parted, fixed_shape_sum if len(shapes) == 1 else clipped_sum_in_halves
    count = bucket_count(rate, nominal_size, model.bucket_size)

    def whole(index: Index, tags: npt.NDArray[np.uint8], coins: UnitCoins) -> Iterator[Index]:
        return (part for _, part in buckets(index, tags, coins, count=count))

    return whole, whole_bucket_sum


def _descent(model: PretextModel, plan: StudyPlan, total_steps: int, state: OptimizerState | None) -> Descent:
    kept = state if plan.training.keep_state else None
    return Descent(model, plan.training, total_steps=total_steps, state=kept)
