"""Before step 3: at the weights that training begins with, does a patient's absence change what the others add?

Comes in: a model, its weights float32 [P], the pace of the round. Goes out: nothing, or `PrivacyError`.
A batch of another size may take another kernel, which rounds otherwise. With weights as they are drawn and trained that moves
others' rows in their last bits. But weights are the server's to choose, and there are some that make whole gradients of last
bits: a Linear after a LayerNorm, each of its weights raised by 10^8, gives nothing else, and with it the sum over six patients
lay 5.6 C beside that over five of them. Since then passes are made in shapes that give equal bits (shapes.py), where no such
weights are known now. This is the second look, at the very weights of a round: sums of a few sizes are compared, the smallest
and those of training: S(all) - S(all but one) - S(this one) is rounding alone, and LIMIT is the most that is let through.
A site of a federation looks before each round, one that pretrains alone at its start: what follows is its own.
It is a look at made-up patients, not at true ones (docs/privacy.md).
What it says is a function of weights that the server has, of the plan and of this machine, never of a patient.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.encoders.vector import load_vector
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import BucketModel, PretextModel, Views
from ssl_core.privacy.engines import Engine, synthetic_views
from ssl_core.privacy.gradients import units_of
from ssl_core.privacy.machine import threads, training_device
from ssl_core.privacy.planner import Pace, out_of_memory
from ssl_core.privacy.shapes import shapes_of

# A few 1e-6 were found, for every task; outside of such shapes, with hostile weights, .05 to 3.
LIMIT = 2.0**-8
_SMALLEST = (2, 3, 4, 6, 8)


def check_absence(
    model: PretextModel, weights: npt.NDArray[np.float32], plan: StudyPlan, nominal_size: int, speed: SpeedSpec, pace: Pace
) -> None:
    """Of `weights` float32 [P], which `model` has afterwards. A bucket of patients is one row: there is nothing to look at."""
    if isinstance(model, BucketModel):
        return
    device = training_device(speed)
    with threads(speed.threads):
        load_vector(model, weights)
        shapes = shapes_of(model, plan, pace, nominal_size)
        model.start_round()
        views = {name: view.to(device) for name, view in synthetic_views(model, plan.data).items()}
        engine, most = pace.within(shapes), shapes[-1] if shapes else pace.size
        usual = round(plan.privacy.sampling_rate * nominal_size)
        for size in sorted({size for size in (*_SMALLEST, usual) if 2 <= size < most} | {most}):
            found = _gap_that_fits(engine, views, size, plan.privacy.max_grad_norm)
            if not found <= LIMIT:
                raise PrivacyError(
                    "at the weights of this round a patient's absence changes what others add to the sum",
                    field="share of C",
                    value=f"{found:.3g}",
                    limit=LIMIT,
                    remedy="such weights are not trained on; tell the other hospitals and the operator",
                )


def _gap_that_fits(engine: Engine, views: Views, size: int, clip_norm: float) -> float:
    """Where memory ends, of half as many units, as in training; never of fewer than `_SMALLEST` has."""
    try:
        return gap(engine, views, size, clip_norm)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or size <= _SMALLEST[-1]:
            raise
    return _gap_that_fits(engine, views, size // 2, clip_norm)


def gap(engine: Engine, views: Views, size: int, clip_norm: float) -> float:
    """|| S(size units) - S(all but the middle one) - S(that one) || / C, units being repeated where there are fewer."""
    place = torch.arange(size, device=next(iter(views.values())).device)
    views = {name: view[place % units_of(views)] for name, view in views.items()}
    alone = place == size // 2
    whole, rest, one = (
        engine.clipped_sum({name: view[some] for name, view in views.items()}, clip_norm).grads
        for some in (place >= 0, ~alone, alone)
    )
    squares = [float((a - b - c).square().sum()) for a, b, c in zip(whole, rest, one, strict=True)]
    return float(np.sqrt(np.sum(squares))) / clip_norm
