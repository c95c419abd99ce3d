"""Before step 1, at the operator: which task suits a plan's data and encoder, ranked where it costs nothing.

Comes in: a plan, a schedule, and units that describe nobody: generated ones with what each was made from, or a public corpus
with public labels. Goes out: `Ranking`: every task that fits the plan's encoder, and the plan's own `joint`, trained by the
schedule at several seeds, each of which has its own data or split, order and start weights; of each the score of its frozen
features on units that it never saw: R squared of the generator's factors, or macro AUROC of the labels; beside it the score of
its start weights and of the raw records. Tasks of one encoder may start it from other ranges (`init_range`), so they are ranked
by what each gained over its own start. Trained without noise: at a study's noise the order may be another. Choosing on
patients would have to be paid for (ruling 22); `server/choose.py` prints the price.

`clear` is the one rule by which a difference counts. Lord, "The Use of Range in Place of Standard Deviation in the t-Test"
(Biometrika 34, 1947): a mean divided by the range. Of three normal numbers around 0 that is above 1 one time in 25.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt

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
from ssl_core.spec.asked import by_default
from ssl_core.spec.data import ImageData, SignalData, SoundData
from ssl_core.spec.fit import TOGETHER
from ssl_core.spec.looks import DinoBank, MocoBank, SimclrBank, SwavBank
from ssl_core.spec.objective import Joint, Objective
from ssl_core.warm_start.pretraining import Schedule, check_batch, pretrain
from ssl_core.warm_start.public import PublicUnits

_PROBED = 1024
_SHARE = 0.3
# So far from the seeds of the units to train on that no run is probed on what another was trained on.
_PROBE_SEED = 1_000_003
_SEEDS = 1 << 63
_RANKINGS = 4000

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Exam:
    """Units to train on; others to probe: `truth` [n, K] stands beside `probed`; `measure` is better when greater.

    `generated`: by the generators that make the records of a public bank, too.
    """

    training: PublicUnits
    probed: Patients
    truth: npt.NDArray[np.generic]
    measure: Callable[[Matrix, npt.NDArray[np.generic]], float]
    name: str
    generated: bool


@dataclass(frozen=True, slots=True)
class Ranked:
    """One task: its scores at the start weights and after training, one a seed."""

    task: str
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def gains(self) -> tuple[float, ...]:
        """What training added, one a seed."""
        return tuple(after - before for before, after in zip(self.before, self.after, strict=True))


@dataclass(frozen=True, slots=True)
class Ranking:
    """Greatest mean gain first. `floor`, one a seed: of raw records, of signals their log-power, of sounds their loudness.

    `unfit`: tasks that the plan cannot have so, and why. `flattered`: ranked tasks with a bank that the exam's generator makes.
    """

    measure: str
    seeds: tuple[int, ...]
    floor: tuple[float, ...]
    tasks: tuple[Ranked, ...]
    unfit: dict[str, str]
    flattered: tuple[str, ...]

    def winners(self) -> tuple[Ranked, ...]:
        """The first task, and all others that its gain is not clear of, seed by seed."""
        best, *others = self.tasks
        leads = ([mine - theirs for mine, theirs in zip(best.gains, other.gains, strict=True)] for other in others)
        return (best, *(other for other, lead in zip(others, leads, strict=True) if not clear(lead)))


def clear(leads: Sequence[float]) -> bool:
    """Is the mean of `leads`, one a seed, greater than the distance from the least to the greatest? Of one nothing is known."""
    return len(leads) > 1 and fmean(leads) > max(leads) - min(leads)


def by_chance(tasks: int, seeds: int) -> float:
    """The share of such rankings in which the best gain is `clear` though no task gains: all gains normal, centred on 0."""
    drawn = np.random.default_rng(0).standard_normal((_RANKINGS, tasks, seeds))
    best = np.take_along_axis(drawn, drawn.mean(axis=2).argmax(axis=1)[:, None, None], axis=1)[:, 0]
    return float(np.mean([clear(gains) for gains in best.tolist()]))


def generated_exam(plan: StudyPlan, units: int, seed: int) -> Exam:
    """Generated images, signals or sounds, and what they were made from; `ConfigError` for data that cannot be generated."""
    data, probe = plan.data.model_copy(update={"records_per_patient": 1}), _PROBE_SEED + seed
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
    training = PublicUnits(training.patients, None, training.origin)
    return Exam(training, probed, truth, explained, "R squared of the factors", generated=True)


def corpus_exams(plan: StudyPlan, source: Path, labels: Path) -> Callable[[int], Exam]:
    """A public corpus, by seed: seven tenths of its units train, those of the others that have labels are probed."""
    corpus, known = PublicUnits.from_corpus(source, plan.data), read_labels(labels)

    def exam(seed: int) -> Exam:
        order = np.random.default_rng(seed).permutation(len(corpus.patients))
        cut = int((1.0 - _SHARE) * len(order))
        rest = corpus.patients.take(np.sort(order[cut:]))
        index, truth = known.align(rest)
        if len(index) < 20:
            raise ConfigError(
                "too few units of the corpus have labels", field="--labels", value=labels.name, limit="20 not trained on"
            )
        training = PublicUnits(corpus.patients.take(np.sort(order[:cut])), None, corpus.origin)
        return Exam(training, rest.take(index), truth, _areas, "macro AUROC of the labels", generated=False)

    return exam


def rank(plan: StudyPlan, exam_of: Callable[[int], Exam], schedule: Schedule, seeds: int) -> Ranking:
    """Train every task that fits the plan's encoder at `seeds` seeds, the first of which are the schedule's and the plan's.

    The plan's own settings count for its own task, of a joint one for each of its parts too; defaults for all others.
    """
    objectives, unfit = _fitting(plan)
    scores: dict[str, list[tuple[float, float]]] = {task: [] for task in objectives}
    floors = []
    for place in range(seeds):
        exam, own = exam_of(schedule.seed + place), replace(schedule, seed=schedule.seed + place)
        begun = plan.model_copy(update={"seed": (plan.seed + place) % _SEEDS})
        for task, objective in objectives.items():
            model = build_model(begun.model_copy(update={"objective": objective}))
            try:
                check_batch(model, schedule.batch, len(exam.training.patients))
            except ConfigError as error:
                unfit[task] = str(error)
                continue
            before = _score(exam, _features(model, exam.probed))
            pretrain(model, exam.training, own)
            scores[task].append((before, _score(exam, _features(model, exam.probed))))
        floors.append(_floor(plan, exam))
    found = [Ranked(task, *zip(*pairs, strict=True)) for task, pairs in scores.items() if pairs]
    ranked = tuple(sorted(found, key=lambda each: -fmean(each.gains)))
    banked = {task for task, objective in objectives.items() if exam.generated and _has_bank(objective)}
    flattered = tuple(sorted(banked & {each.task for each in ranked}))
    return Ranking(exam.name, tuple(range(schedule.seed, schedule.seed + seeds)), tuple(floors), ranked, unfit, flattered)


def _fitting(plan: StudyPlan) -> tuple[dict[str, Objective], dict[str, str]]:
    """Tasks to train by name, and why the others cannot be had."""
    own: dict[str, Objective] = {plan.objective.name: plan.objective}
    if isinstance(plan.objective, Joint):
        own |= {task.name: task for task in plan.objective.tasks}
    fitting, unfit = dict[str, Objective](), dict[str, str]()
    names = {task for kind, encoder, task in TOGETHER if (kind, encoder) == (plan.data.kind, plan.encoder.name)}
    for task in sorted(names | own.keys()):
        try:
            fitting[task] = own[task] if task in own else by_default(task, plan.data, plan.encoder)
        except ValueError as error:
            unfit[task] = str(error)
    return fitting, unfit


def _has_bank(objective: Objective) -> bool:
    parts = objective.tasks if isinstance(objective, Joint) else (objective,)
    return any(isinstance(part, SimclrBank | MocoBank | SwavBank | DinoBank) for part in parts)


def _floor(plan: StudyPlan, exam: Exam) -> float:
    raw = np.asarray(exam.probed.whole, np.float32).reshape(len(exam.probed.records), -1)
    if isinstance(plan.data, SignalData):
        raw = log_power(raw, plan.data)
    elif isinstance(plan.data, SoundData):
        raw = loudness(raw, plan.data)
    return _score(exam, exam.probed.mean_by_unit(raw))


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
