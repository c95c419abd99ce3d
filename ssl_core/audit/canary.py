"""Audit, the probe: patients whose gradients are chosen, sent through the product's own `train_round`.

Comes in: records float32 [n, P], a privacy setting, a number of steps. Goes out: what every step released, and whom it
sampled. The loss of a canary is linear in the weights, <weights, record>, so that its gradient IS its record at all
weights: the worst case is written down, not searched for. Everything from the sampler to the released gradient is the
product's: per-unit gradients, clipping, Opacus' optimizer, noise; nothing is computed here a second time.
The weights lie in two layers, so that a norm which is taken layer by layer shows as too large a contribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.config import Precision, SpeedSpec, StudyPlan, parse
from ssl_core.data.patients import Patients, group
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.privacy.engines import Choice
from ssl_core.privacy.training import train_round

DELTA = 1e-5
NOMINAL_SIZE = 1000
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Observed:
    """T steps of one or more rounds.

    sums: float64 [T, P], released gradient times q N: clipped sum + noise, in units of C.
    sampled: int64 [T, n], how often each unit was in the step's sample, 0 or 1.
    """

    sums: npt.NDArray[np.float64]
    sampled: npt.NDArray[np.int64]


class Watching(PretextModel):
    """`size` weights in two layers; it notes in `asked` whom of `watched` it was asked to draw, and for nobody else."""

    coins = 0

    def __init__(self, size: int, watched: Patients) -> None:
        super().__init__()
        self.watched = watched
        self.middle = size // 2
        self.first = nn.Linear(self.middle, 1, bias=False)
        self.second = nn.Linear(size - self.middle, 1, bias=False)
        self.asked: list[npt.NDArray[np.int64]] = []

    def note(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> bool:
        """What every `draw` begins with; True where `patients` are those that are watched."""
        self.check_draw(index, uniforms)
        if patients is self.watched:
            self.asked.append(index)
        return patients is self.watched

    def init_range(self, name: str) -> tuple[float, float]:
        """Zeros: the gradient is the same everywhere."""
        return 0.0, 0.0


class CanaryModel(Watching):
    """A loss whose gradient is the unit's first record."""

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """record: float32 [B, P]."""
        self.note(patients, index, uniforms)
        return {"record": torch.from_numpy(np.asarray(patients.records[patients.offsets[index]], np.float32))}

    def forward(self, views: Views) -> Tensor:
        """ONE unit's <weights, record>, float32 scalar."""
        return self.losses(views)

    def losses(self, views: Views) -> Tensor:
        """Views with any leading dimensions [...] to losses float32 [...], in one pass."""
        record = views["record"]
        found: Tensor = (self.first(record[..., : self.middle]) + self.second(record[..., self.middle :])).squeeze(-1)
        return found


def canary_plan(*, size: int, sampling_rate: float, noise_multiplier: float, steps: int) -> StudyPlan:
    """A plan whose images have `size` pixels (a square number), clipping norm 1; encoder and objective are not used."""
    side = math.isqrt(size)
    return parse(
        StudyPlan,
        {
            "name": "canaries",
            "purpose": "audit of the private step",
            "alone": True,
            "data": {"kind": "image", "height": side, "width": size // side},
            "encoder": {"name": "mlp-image"},
            "objective": {"name": "masked-image", "patch": 1},
            "privacy": {
                "unit": "patient",
                "adjacency": "add-or-remove-one",
                "noise": "site",
                "sampling_rate": sampling_rate,
                "noise_multiplier": noise_multiplier,
                "max_grad_norm": 1.0,
                "delta": DELTA,
            },
            "training": {"optimizer": "sgd", "learning_rate": 1e-6},
            "rounds": {"rounds": 1, "steps_per_round": steps},
            "aggregation": {"update_range": 1.0},
            "sites": [{"name": "shadow", "nominal_size": NOMINAL_SIZE}],
        },
        "audit plan",
    )


def canaries(records: npt.NDArray[np.float32]) -> Patients:
    """One patient for each row of `records` [n, P], in that order; n may be 0."""
    if len(records):
        return group([f"canary-{number:06d}" for number in range(len(records))], records)
    return Patients((), np.zeros((0, 16), np.uint8), np.zeros(1, np.int64), records)


def observe(
    plan: StudyPlan,
    patients: Patients,
    *,
    rounds: int = 1,
    engine: Choice = "auto",
    precision: Precision | None = None,
    kind: type[Watching] = CanaryModel,
) -> Observed:
    """`rounds` rounds of the product's training of a `kind` on `patients`, each with a noise source of its own."""
    size = patients.records.shape[1]
    released: list[npt.NDArray[np.float32]] = []
    steps: list[npt.NDArray[np.int64]] = []
    for _ in range(rounds):
        model = kind(size, patients)

        def tap(gradient: npt.NDArray[np.float32], asked: list[npt.NDArray[np.int64]] = model.asked) -> None:
            released.append(gradient)
            steps.append(np.bincount(np.concatenate([np.zeros(0, np.int64), *asked]), minlength=len(patients)))
            asked.clear()

        train_round(
            model=model,
            patients=patients,
            plan=plan,
            nominal_size=NOMINAL_SIZE,
            start=np.zeros(size, np.float32),
            first_step=0,
            total_steps=plan.rounds.steps_per_round,
            state=None,
            speed=SpeedSpec(chunk=_CHUNK, engine=engine, precision=precision),
            tap=tap,
        )
    scale = plan.privacy.sampling_rate * NOMINAL_SIZE / plan.privacy.max_grad_norm
    return Observed(np.stack(released).astype(np.float64) * scale, np.stack(steps))
