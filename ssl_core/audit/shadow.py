"""Audit 2, the shadow site: synthetic patients, of whom a part took part in a private study; nobody real is near it.

Goes out: patients, the coins that say who was in, and each patient's loss difference, before - after a study. Trained is
the product's own hashed-words study (`train_round`, plan and model as a site has them), for 16 steps at q = 0.5, worth
epsilon = 4 at delta = 1e-5.

canaries   notes that repeat one code of the hash table which nobody else has: the product's model on the inputs whose
           gradients are nearest to orthogonal, so that a loss difference sees almost what a white box would
ordinary   notes of one rarer code, which tells what the note is about, and of frequent ones (Zipf)
Each is in by a fair coin of its own. The losses before and after are taken under the same public coins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ssl_core.audit.canary import DELTA, NOMINAL_SIZE
from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.data.patients import Patients, group
from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.errors import ConfigError
from ssl_core.objectives.base import PretextModel
from ssl_core.objectives.build import build_model
from ssl_core.privacy.accountant import Schedule
from ssl_core.privacy.training import train_round

SCHEDULE = Schedule(2.396, 0.5, 16)
WORDS = 8

_LOOKS = 4
_CHUNK = 64
_FREQUENT = 64
_ABOUT = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSite:
    """`patients`: the canaries first, then the ordinary ones; `inside` bool [n], the coins."""

    patients: Patients
    inside: npt.NDArray[np.bool_]
    canaries: int


def shadow_plan(buckets: int, *, schedule: Schedule = SCHEDULE) -> StudyPlan:
    """A study of one site on short notes with so many hash buckets."""
    return parse(
        StudyPlan,
        {
            "name": "shadow",
            "purpose": "audit on synthetic patients",
            "alone": True,
            "data": {"kind": "text", "words": WORDS, "codes": 1, "buckets": buckets},
            "encoder": {"name": "hashed-words", "width": 16},
            "objective": {"name": "masked-words"},
            "privacy": {
                "unit": "patient",
                "adjacency": "add-or-remove-one",
                "noise": "site",
                "sampling_rate": schedule.sampling_rate,
                "noise_multiplier": schedule.noise_multiplier,
                "max_grad_norm": 0.5,
                "delta": DELTA,
            },
            "training": {"optimizer": "sgd", "learning_rate": 20.0, "warmup_fraction": 0.0, "final_fraction": 1.0},
            "rounds": {"rounds": 1, "steps_per_round": schedule.steps},
            "aggregation": {"update_range": 100.0},
            "sites": [{"name": "shadow", "nominal_size": NOMINAL_SIZE}],
        },
        "shadow plan",
    )


def make_site(buckets: int, *, canaries: int, ordinary: int) -> ShadowSite:
    """New patients and new coins each time; the last `canaries` codes of the table belong to the canaries."""
    source = np.random.default_rng()
    first = buckets - canaries
    if first <= _FREQUENT:
        raise ConfigError("hash table is too small", field="buckets", value=buckets, limit=f"above {canaries + _FREQUENT}")
    own = np.broadcast_to(np.arange(first, buckets)[:, None], (canaries, WORDS))
    shares = 1.0 / np.arange(1, _FREQUENT + 1)
    mixed = source.choice(_FREQUENT, (ordinary, WORDS), p=shares / shares.sum())
    about = source.integers(_FREQUENT, first, (ordinary, 1))
    notes = np.where(source.random((ordinary, WORDS)) < _ABOUT, about, mixed)
    records = np.concatenate([own, notes]).astype(np.int32)[:, :, None]
    names = [f"synthetic-{number:06d}" for number in range(canaries + ordinary)]
    return ShadowSite(patients=group(names, records), inside=source.random(len(names)) < 0.5, canaries=canaries)


def loss_differences(site: ShadowSite, plan: StudyPlan, scored: Patients) -> npt.NDArray[np.float64]:
    """Loss before - after one private study of `plan` on those inside `site`, of every patient of `scored`, float64 [n]."""
    model = build_model(plan)
    start = to_vector(model)
    before = _losses(model, scored)
    trained = train_round(
        model=model,
        patients=site.patients.take(np.flatnonzero(site.inside)),
        plan=plan,
        nominal_size=NOMINAL_SIZE,
        start=start,
        first_step=0,
        total_steps=plan.rounds.steps_per_round,
        state=None,
        speed=SpeedSpec(chunk=_CHUNK),
    )
    load_vector(model, start + trained.delta)
    return before - _losses(model, scored)


def _losses(model: PretextModel, patients: Patients) -> npt.NDArray[np.float64]:
    """Mean loss of each patient over a few looks, whose coins are public and the same every time, float64 [n]."""
    source = np.random.default_rng(0)
    total = np.zeros(len(patients))
    with torch.no_grad():
        for _ in range(_LOOKS):
            for index in np.array_split(np.arange(len(patients)), max(1, len(patients) // 512)):
                coins = 1.0 - source.random((len(index), model.coins))
                total[index] += model.losses(model.draw(patients, index, coins)).numpy()
    return total / _LOOKS
