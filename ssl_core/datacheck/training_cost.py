"""Before step 4: what training a study would take of a site's memory and time, measured on its machine with made-up patients.

Comes in: a plan, the site's `SpeedSpec` and name, how many seconds may be spent. Goes out: `TrainingCost`, or a `Finding` that
says why this machine cannot train the study. Engine, physical batch and memory are those that training itself would take
(planner.py). The training loop itself then takes two steps: one that samples nobody, and one on as many made-up patients as the
time allows; what a patient adds is scaled to the expected sample of a step, sampling rate x nominal size. Where a model is so
large that finding engine and batch would take longer than may be spent, it is timed by the plain gradient of one patient alone.

No patient of a hospital has a way in here: there is no source among the arguments, and nothing depends on what was read. The
ledger knows nothing of it: nothing of anybody is released. It is about computing alone, without waiting for other sites,
without the sum, with the plan's number of patients. It stays at the site, as the rest of the check does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.datacheck.findings import Finding, Weight
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.objectives.base import BucketModel, PretextModel
from ssl_core.objectives.build import build_model
from ssl_core.privacy.buckets import BucketEngine, largest_bucket
from ssl_core.privacy.engines import Engine, synthetic_views
from ssl_core.privacy.live_memory import peak_bytes
from ssl_core.privacy.machine import keep_freed_memory, threads, training_device
from ssl_core.privacy.planner import choose_pace, greatest_batch, memory_given, standing_bytes
from ssl_core.privacy.reference import LoopEngine
from ssl_core.privacy.survey import UNITS
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.privacy.training import train_round

# Finding engine and batch took 28 to 55 times the plain clipped sum of one patient, for models of 0.4 to 22 million parameters.
_LOOKS = 50
# Of the seconds that may be spent, so much for the measured step.
_SHARE = 0.3
# Made-up patients have up to four records each.
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """What training takes here: seconds of computing, bytes of memory, and the plan's constants that they follow from.

    engine, batch: None where finding them, in about `search_seconds`, would take too long; `memory` is then what one patient
    takes. memory: at its peak; None where the site's own `speed.chunk` was taken unlooked. sample: patients that a step is
    expected to take, of `patients`, the nominal size of `site`; None: of the plan's largest. void_rounds: those that may fail.
    """

    engine: str | None
    batch: int | None
    memory: int | None
    search_seconds: float
    step_seconds: float
    site: str | None
    patients: int
    sample: float
    steps: int
    rounds: int
    void_rounds: int

    @property
    def round_seconds(self) -> float:
        """The steps of a round."""
        return self.steps * self.step_seconds

    @property
    def study_seconds(self) -> float:
        """All rounds that give a sum."""
        return self.rounds * self.round_seconds

    def to_json(self) -> dict[str, object]:
        """For scripts at the site."""
        return {
            "engine": self.engine, "physical_batch": self.batch, "peak_bytes": self.memory,
            "seconds_to_find_these": self.search_seconds, "patients": self.patients, "expected_sample": self.sample,
            "steps_a_round": self.steps, "rounds": self.rounds, "void_rounds_at_most": self.void_rounds,
            "seconds_a_step": self.step_seconds, "seconds_a_round": self.round_seconds, "seconds_in_all": self.study_seconds,
        }  # fmt: skip


def training_cost(plan: StudyPlan, speed: SpeedSpec, *, seconds: float, site: str | None = None) -> TrainingCost | Finding:
    """About `seconds` are spent; `site`: whose own `speed` this is, None where nobody's is known."""
    sizes = {entry.name: entry.nominal_size for entry in plan.sites}
    named = site if site in sizes else None
    patients = max(sizes.values()) if named is None else sizes[named]
    sample = plan.privacy.sampling_rate * patients
    try:
        device = training_device(speed)
        keep_freed_memory()
        with threads(speed.threads):
            measured = _measured(plan, speed, device, sample, seconds)
    except (ConfigError, PrivacyError) as error:
        said = [f"{name}: {value}" for name in ("field", "value", "limit") if (value := getattr(error, name)) is not None]
        return Finding(
            "training", f"this machine cannot train the study as it is set: {'; '.join([error.problem, *said])}",
            error.remedy or "choose what training may use in site.toml, under [speed]", 0, 0,
            # The approval asks the same of the same machine.
            weight=Weight.WARNING if site is None else Weight.REFUSED,
        )  # fmt: skip
    rounds = plan.rounds
    return TrainingCost(*measured, named, patients, sample, rounds.steps_per_round, rounds.rounds, rounds.max_void)


def _measured(
    plan: StudyPlan, speed: SpeedSpec, device: torch.device, sample: float, seconds: float
) -> tuple[str | None, int | None, int | None, float, float]:
    """Engine, physical batch, memory, seconds of finding them, and of a step of `sample` patients."""
    model = build_model(plan).to(device)
    one = {name: view[:1].to(device) for name, view in synthetic_views(model, plan.data).items()}
    plain: Engine = BucketEngine(model) if isinstance(model, BucketModel) else LoopEngine(model)
    # The first one pays for what a process does once.
    plain.rows(one)
    looks = 2 * largest_bucket(model.bucket_size) if isinstance(model, BucketModel) else _LOOKS
    search = looks * _seconds(lambda: plain.clipped_sum(one, plan.privacy.max_grad_norm), device)
    if search > seconds:
        alone = _seconds(lambda: plain.rows(one), device)
        # What every engine holds at the least; for ViTs and ResNets, bookkeeping was seen to hold 1 % more.
        need = standing_bytes(model) + peak_bytes(lambda: plain.rows(one))
        if speed.chunk is None:
            greatest_batch(lambda _: need, memory_given(speed, device), 1)
        return None, None, need, search, sample * alone
    pace = choose_pace(model, plan.data, speed, device)
    return pace.engine.name, pace.size, pace.need, search, _step_seconds(plan, speed, model, sample, seconds)


def _step_seconds(plan: StudyPlan, speed: SpeedSpec, model: PretextModel, sample: float, seconds: float) -> float:
    """A step of `sample` patients, by the training loop on fewer or as many, every one of whom is sampled."""
    # Unlike the plan itself these are never asked whether they are valid: they only say whom the loop takes.
    everybody = plan.model_copy(
        update={
            "privacy": plan.privacy.model_copy(update={"sampling_rate": 1.0}),
            "rounds": plan.rounds.model_copy(update={"steps_per_round": 1}),
        }
    )
    start, device = to_vector(model), next(model.parameters()).device

    def step_of(count: int) -> float:
        # Of one patient at least, of whom an empty sample takes none.
        patients = synthetic_patients(plan.data, max(1, count)).take(np.arange(count))
        return _seconds(
            lambda: train_round(
                model=model, patients=patients, plan=everybody, nominal_size=max(1, count), start=start, first_step=0,
                total_steps=1, state=None, speed=speed,
            ),
            device,
        )  # fmt: skip

    step_of(UNITS)
    empty = step_of(0)
    one = max(step_of(UNITS) - empty, 1e-9) / UNITS
    record = synthetic_patients(plan.data, 1).records[:1].nbytes
    count = max(1, min(round(sample), int(_SHARE * seconds / one), _MOST_BYTES // (4 * record)))
    return empty + max(step_of(count) - empty, 0.0) * sample / count


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun
