"""The arms of bench_objectives.py: weights of one model by no training, by plain training, by private training.

Comes in: a `Task`, a recipe (encoder and pretext task of a plan), a seed, steps. Goes out: the encoder of each arm, then its
`Scores`. All arms begin from the same start weights (the plan's seed) and take the same number of Adam steps at the same
rates on Poisson samples of the same expected size. `none` differs from the private arms in exactly two things: gradients
are not clipped and no noise is added. The private ones are `train_round` itself, unit = patient, sigma by `calibrate` for
the target epsilon of the whole run; their samples and noise are fresh by construction, so that a row is never repeated.
Both run in rounds of ten steps, as studies do: what a task keeps still within a round (slow weights, keys of a bank) is
taken anew from the present weights where one begins, in the private arms through a round's start and optimizer state.

Linear probe: the product's ridge, its strength by leave-one-out; for macro F1 scikit-learn's RidgeClassifierCV with balanced
classes and the same strengths. kNN: cosine, 10 neighbours, votes weighted by exp(similarity / .1) (Wu et al., "Unsupervised
Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018, section 3.4), each class's by 1 / its labels for F1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from objectives_data import Task
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import f1_score

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.evaluation.auroc import macro_auroc
from ssl_core.evaluation.draws import draw_labels
from ssl_core.evaluation.floor import fit_floor
from ssl_core.finetuning.probe import PENALTIES, fit_ridge, standardise
from ssl_core.objectives.base import BucketModel, PretextModel
from ssl_core.objectives.build import build_model
from ssl_core.privacy.accountant import Schedule, calibrate, checked_epsilon
from ssl_core.privacy.descent import Descent
from ssl_core.privacy.training import train_round
from ssl_core.spec.data import TextData
from ssl_core.warm_start.pretraining import STEPS_A_ROUND

Matrix = npt.NDArray[np.float64]
DELTA, CLIP_NORM = 1e-5, 0.1
NEIGHBOURS, TEMPERATURE = 10, 0.1
_SPEED = SpeedSpec(chunk=64, threads=1)


@dataclass(frozen=True)
class Recipe:
    """Encoder and pretext task as a plan writes them, and the one learning rate of all arms; `batch` None: the data's."""

    encoder: dict[str, Any]
    objective: dict[str, Any]
    rate: float = 1e-3
    batch: int | None = None

    @property
    def name(self) -> str:
        """Names of both, with the encoder's size and front end and a task's summary; of a joint task those of its parts."""
        size = f"-{self.encoder['size']}" if "size" in self.encoder else ""
        tasks = " + ".join(task["name"] for task in self.objective.get("tasks", [self.objective]))
        tasks += " with summary" if self.objective.get("summary_weight") else ""
        front = " with front end" if self.encoder.get("front_end") else ""
        return f"{tasks} / {self.encoder['name']}{size}{front}"


def batch_of(task: Task, recipe: Recipe | None) -> int:
    """Units that a sample has on the average at a site of the nominal size."""
    return task.batch if recipe is None or recipe.batch is None else min(task.batch, recipe.batch)


@lru_cache(maxsize=64)
def noise_for(target: float, rate: float, steps: int) -> tuple[float, float]:
    """Sigma for `target`, and the epsilon that two accountants agree on for it."""
    sigma = calibrate(target, DELTA, rate, steps)
    return sigma, checked_epsilon([Schedule(sigma, rate, steps)], DELTA)


def plan_of(task: Task, recipe: Recipe, *, seed: int, steps: int, sigma: float) -> StudyPlan:
    """One site with all of the task's training patients; rounds of ten steps, or of what divides both ten and `steps`."""
    a_round = math.gcd(steps, STEPS_A_ROUND)
    given = {
        "name": "bench", "purpose": "compare pretext tasks under privacy", "alone": True, "seed": seed,
        "data": task.data.model_dump(mode="json"), "encoder": recipe.encoder, "objective": recipe.objective,
        "privacy": {
            "unit": "patient", "adjacency": "add-or-remove-one", "noise": "site",
            "sampling_rate": batch_of(task, recipe) / task.nominal, "noise_multiplier": sigma,
            "max_grad_norm": CLIP_NORM, "delta": DELTA,
        },
        "training": {"optimizer": "adam", "learning_rate": recipe.rate, "betas": [0.9, 0.98]},
        "rounds": {"rounds": steps // a_round, "steps_per_round": a_round, "max_void": 0},
        "aggregation": {"update_range": 1.0},
        "sites": [{"name": "a", "nominal_size": task.nominal}],
    }  # fmt: skip
    return parse(StudyPlan, given, "plan")


def train_plain(model: PretextModel, task: Task, plan: StudyPlan) -> None:
    """The private loop without clipping and noise: Poisson sample, sum of gradients / (q N), one step of the same Adam."""
    steps, rate = plan.total_steps, plan.privacy.sampling_rate
    descent, rng = Descent(model, plan.training, total_steps=steps, state=None), np.random.default_rng([plan.seed, steps])
    for step in range(steps):
        if step % plan.rounds.steps_per_round == 0:
            model.start_round()
        index = np.flatnonzero(rng.random(len(task.train)) < rate).astype(np.int64)
        descent.inner.zero_grad()
        size = model.bucket_size if isinstance(model, BucketModel) else 128
        # In order a bucket would have the patients whose names are alike.
        index = rng.permutation(index) if isinstance(model, BucketModel) else index
        for part in np.array_split(index, max(1, len(index) // size)):
            if len(part):
                views = model.draw(task.train, part, 1.0 - rng.random((len(part), model.coins)))
                loss = model(views) if isinstance(model, BucketModel) else model.losses(views).sum()
                torch.autograd.backward(loss / (rate * task.nominal))
        descent.prepare(step)
        descent.inner.step()


def train_privately(model: PretextModel, task: Task, plan: StudyPlan) -> None:
    """What the site does in a study, round after round; nobody else is in it, so that the sum is the site's own update."""
    weights, state = to_vector(model), None
    for number in range(plan.rounds.rounds):
        done = train_round(
            model=model, patients=task.train, plan=plan, nominal_size=task.nominal, start=weights,
            first_step=number * plan.rounds.steps_per_round, total_steps=plan.total_steps, state=state, speed=_SPEED,
        )  # fmt: skip
        weights, state = weights + done.delta, done.state
    load_vector(model, weights)


def arm_features(task: Task, recipe: Recipe, *, target: float | None, seed: int, steps: int) -> tuple[Matrix, Matrix]:
    """Features of pool and test by the encoder after `steps` steps; 0: random; `target` None: no privacy, else epsilon."""
    sigma = 1.0 if target is None else noise_for(target, batch_of(task, recipe) / task.nominal, steps)[0]
    plan = plan_of(task, recipe, seed=seed, steps=max(1, steps), sigma=sigma)
    model = build_model(plan)
    if steps and target is None:
        train_plain(model, task, plan)
    elif steps:
        train_privately(model, task, plan)
    sides = [side.patients.mean_by_unit(model.encoder.features(side.patients.records)) for side in (task.pool, task.test)]
    scaling = standardise(sides[0])
    return scaling(sides[0]), scaling(sides[1])


def floor_features(task: Task) -> tuple[Matrix, Matrix]:
    """The raw floor of the product; all but texts standardised over the pool, as the encoders' features are."""
    floor = fit_floor(task.pool.raw, task.data)
    pool, test = floor.features(task.pool.raw), floor.features(task.test.raw)
    if isinstance(task.data, TextData):
        return pool, test
    scaling = standardise(pool)
    return scaling(pool), scaling(test)


def score(task: Task, features: tuple[Matrix, Matrix], budgets: Sequence[int], draws: int) -> dict[str, float | None]:
    """`linear_N` and `knn_N`: means over `draws` draws of N labels, the same for all arms; None beyond the pool."""
    pool, test = features
    alike = _unit_rows(test) @ _unit_rows(pool).T
    scores: dict[str, float | None] = {}
    for budget in budgets:
        if budget > len(pool):
            scores |= {f"linear_{budget}": None, f"knn_{budget}": None}
            continue
        index = draw_labels(task.pool.labels, budget, count=draws, seed=0).index
        probed = [_linear(task, pool[rows], test, rows) for rows in index]
        voted = [neighbours(alike[:, rows], task.pool.labels[rows], balanced=task.exclusive) for rows in index]
        for name, found in (("linear", probed), ("knn", voted)):
            scores[f"{name}_{budget}"] = float(np.mean([measure(task, each) for each in found]))
    return scores


def neighbours(alike: Matrix, labels: npt.NDArray[np.int8], *, balanced: bool) -> Matrix:
    """Share of the weighted votes for each label, [n, K], of the 10 rows of `labels` [m, K] most `alike` [n, m]."""
    count = min(NEIGHBOURS, len(labels))
    nearest = np.argpartition(-alike, count - 1, axis=1)[:, :count]
    weights = np.exp(np.take_along_axis(alike, nearest, axis=1) / TEMPERATURE)
    votes = np.einsum("nk,nkc->nc", weights, labels[nearest].astype(np.float64)) / weights.sum(axis=1, keepdims=True)
    shares: Matrix = votes / labels.sum(axis=0) if balanced else votes
    return shares


def measure(task: Task, scores: Matrix) -> float:
    """Macro F1 of the class with the highest score, or macro AUROC."""
    if task.exclusive:
        return float(f1_score(task.test.labels.argmax(axis=1), scores.argmax(axis=1), average="macro"))
    return macro_auroc(scores, task.test.labels)


def _linear(task: Task, known: Matrix, test: Matrix, rows: npt.NDArray[np.int64]) -> Matrix:
    labels = task.pool.labels[rows]
    if not task.exclusive:
        return fit_ridge(known, labels).scores(test)
    size = float(np.square(known - known.mean(axis=0)).sum()) / len(known)
    ridge = RidgeClassifierCV(PENALTIES * size, class_weight="balanced").fit(known, labels.argmax(axis=1))
    found: Matrix = np.full((len(test), labels.shape[1]), -np.inf)
    found[:, ridge.classes_] = ridge.decision_function(test)
    return found


def _unit_rows(features: Matrix) -> Matrix:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    rows: Matrix = features / np.where(length > 0, length, 1.0)
    return rows
