"""Before step 1, at the operator: which task suits a plan's data and encoder, ranked where it costs nothing.

Comes in: a plan, a schedule, and units that describe nobody: generated ones with what each was made from, or a public corpus
with public labels. Goes out: `Ranking`: every task that fits the plan's encoder, trained by the schedule from the plan's seed,
with the score of its frozen features on units that it never saw: R squared of the generator's factors, or macro AUROC of the
labels; beside it the score of the start weights and of the raw records. Trained without noise: at a study's noise the
order may be another. Choosing on patients would have to be paid for (ruling 22); `server/choose.py` prints the price.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationError

from ssl_core.config import StudyPlan
from ssl_core.data.labels import read_labels
from ssl_core.data.patients import Patients
from ssl_core.errors import ConfigError
from ssl_core.evaluation.auroc import macro_auroc
from ssl_core.evaluation.floor import log_power, loudness
from ssl_core.finetuning.probe import fit_ridge, standardise
from ssl_core.objectives.base import PretextModel
from ssl_core.objectives.build import build_model
from ssl_core.procedural.images import made_images
from ssl_core.procedural.signals import procedural_signals
from ssl_core.procedural.sounds import procedural_sounds
from ssl_core.spec.data import ImageData, SignalData, SoundData
from ssl_core.spec.fit import TOGETHER, check_fit
from ssl_core.spec.objective import Objective
from ssl_core.warm_start.pretraining import Schedule, pretrain
from ssl_core.warm_start.public import PublicUnits

_PROBED = 1024
_SHARE = 0.3
_DEFAULTS: TypeAdapter[Objective] = TypeAdapter(Annotated[Objective, Field(discriminator="name")])

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Exam:
    """Units to train on; others to probe: `truth` [n, K] stands beside `probed`; `measure` is better when greater."""

    training: PublicUnits
    probed: Patients
    truth: npt.NDArray[np.generic]
    measure: Callable[[Matrix, npt.NDArray[np.generic]], float]
    name: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """One task: its score at the start weights and after training."""

    task: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Best first. `floor`: of raw records, of signals their log-power, of sounds their loudness.

    `unfit`: tasks that the plan cannot have so, and why.
    """

    measure: str
    floor: float
    tasks: tuple[Ranked, ...]
    unfit: dict[str, str]


def generated_exam(plan: StudyPlan, units: int, seed: int) -> Exam:
    """Generated images, signals or sounds, and what they were made from; `ConfigError` for data that cannot be generated."""
    data, probe = plan.data.model_copy(update={"records_per_patient": 1}), seed + 1
    training = PublicUnits.from_seed(seed, units, data)
    probed = PublicUnits.from_seed(probe, _PROBED, data).patients
    if isinstance(data, ImageData):
        truth = made_images(probe, _PROBED, data).factors
    elif isinstance(data, SignalData):
        truth = procedural_signals(probe, _PROBED, data).factors
    elif isinstance(data, SoundData):
        truth = procedural_sounds(probe, _PROBED, data).factors
    else:
        raise ConfigError("there are no generated records of this kind", field="data.kind", value=data.kind)
    # The factors must not teach here: the tasks alone are compared.
    return Exam(PublicUnits(training.patients, None, training.origin), probed, truth, explained, "R squared of the factors")


def corpus_exam(plan: StudyPlan, source: Path, labels: Path) -> Exam:
    """A public corpus: seven tenths of its units train, those of the others that have labels are probed."""
    corpus = PublicUnits.from_corpus(source, plan.data)
    order = np.random.default_rng(0).permutation(len(corpus.patients))
    cut = int((1.0 - _SHARE) * len(order))
    rest = corpus.patients.take(np.sort(order[cut:]))
    index, truth = read_labels(labels).align(rest)
    if len(index) < 20:
        raise ConfigError(
            "too few units of the corpus have labels", field="--labels", value=labels.name, limit="20 not trained on"
        )
    training = PublicUnits(corpus.patients.take(np.sort(order[:cut])), None, corpus.origin)
    return Exam(training, rest.take(index), truth, _areas, "macro AUROC of the labels")


def rank(plan: StudyPlan, exam: Exam, schedule: Schedule) -> Ranking:
    """Train every task that fits the plan's encoder; a plan's own settings count for its own task, defaults for others."""
    found, unfit = [], dict[str, str]()
    for task in sorted(task for kind, encoder, task in TOGETHER if (kind, encoder) == (plan.data.kind, plan.encoder.name)):
        try:
            objective = plan.objective if plan.objective.name == task else _DEFAULTS.validate_python({"name": task})
            check_fit(plan.data, plan.encoder, objective)
        except ValidationError as error:
            unfit[task] = f"it has no default for {', '.join(str(fault['loc'][-1]) for fault in error.errors())}"
            continue
        except ValueError as error:
            unfit[task] = str(error)
            continue
        model = build_model(plan.model_copy(update={"objective": objective}))
        before = _score(exam, _features(model, exam.probed))
        pretrain(model, exam.training, schedule)
        found.append(Ranked(task, before, _score(exam, _features(model, exam.probed))))
    raw = np.asarray(exam.probed.whole, np.float32).reshape(len(exam.probed.records), -1)
    if isinstance(plan.data, SignalData):
        raw = log_power(raw, plan.data)
    elif isinstance(plan.data, SoundData):
        raw = loudness(raw, plan.data)
    ranked = tuple(sorted(found, key=lambda each: -each.after))
    return Ranking(exam.name, _score(exam, exam.probed.mean_by_unit(raw)), ranked, unfit)


def explained(guess: Matrix, truth: npt.NDArray[np.generic]) -> float:
    """Mean over the columns of `truth` [n, K] of R squared, 1 - SSE / SST; columns that never change are left out."""
    wide = np.asarray(truth, np.float64)
    spread = np.square(wide - wide.mean(axis=0)).sum(axis=0)
    error = np.square(wide - guess).sum(axis=0)
    return float(np.mean(1.0 - error[spread > 0] / spread[spread > 0]))


def _areas(guess: Matrix, truth: npt.NDArray[np.generic]) -> float:
    return macro_auroc(guess, truth.astype(np.int8))


def _features(model: PretextModel, patients: Patients) -> npt.NDArray[np.float32]:
    return patients.mean_by_unit(model.encoder.features(patients.whole))


def _score(exam: Exam, features: npt.NDArray[np.float32]) -> float:
    """A ridge fitted on every other probed unit, measured on the rest."""
    scaled = standardise(features[::2])
    head = fit_ridge(scaled(features[::2]), exam.truth[::2])
    return exam.measure(head.scores(scaled(features[1::2])), exam.truth[1::2])
