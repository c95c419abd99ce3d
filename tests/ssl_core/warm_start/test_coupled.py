"""Coupled losses on public units: against loops written after the papers; no plan may have one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests_plans import IMAGE, ORDER, ROTATION, SIGNAL, plan_of, written

from ssl_core.config import StudyPlan, parse
from ssl_core.data.patients import Patients
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import ConfigError
from ssl_core.objectives.build import build_model
from ssl_core.spec.coupled import CoupledTask
from ssl_core.spec.data import TextData
from ssl_core.spec.refused import REFUSED
from ssl_core.warm_start.coupled import LEAST, LOSSES, Coupled
from ssl_core.warm_start.pretraining import Schedule, check_batch, pretrain
from ssl_core.warm_start.public import PublicUnits

PLANS = {"image": IMAGE, "rotation": ROTATION, "signal": SIGNAL, "order": ORDER}


def _looks() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    first = generator.standard_normal((7, 5)) * np.array([2.0, 0.3, 1, 1, 0.01])
    return first, first + 0.4 * generator.standard_normal((7, 5))


def _simclr(first: np.ndarray, second: np.ndarray) -> float:
    rows = [row / np.linalg.norm(row) for row in [*first, *second]]
    count = len(first)
    total = 0.0
    for place, row in enumerate(rows):
        other = (place + count) % (2 * count)
        chances = {k: math.exp(float(row @ rows[k]) / 0.5) for k in range(2 * count) if k != place}
        total -= math.log(chances[other] / sum(chances.values()))
    return total / (2 * count)


def _vicreg(first: np.ndarray, second: np.ndarray) -> float:
    like = np.mean((first - second) ** 2)
    spread = covariance = 0.0
    for looks in (first, second):
        matrix = np.cov(looks.T)
        spread += np.mean([max(0.0, 1.0 - math.sqrt(v + 1e-4)) for v in np.diag(matrix)]) / 2
        covariance += sum(matrix[a, b] ** 2 for a in range(5) for b in range(5) if a != b) / 5
    return float(25 * like + 25 * spread + covariance)


def _barlow(first: np.ndarray, second: np.ndarray) -> float:
    left, right = ((looks - looks.mean(0)) / (looks.std(0) + 1e-4) for looks in (first, second))
    total = 0.0
    for a in range(5):
        for b in range(5):
            c = float(np.mean(left[:, a] * right[:, b]))
            total += (1 - c) ** 2 if a == b else 5e-3 * c**2
    return total


REFERENCE = {CoupledTask.SIMCLR: _simclr, CoupledTask.VICREG: _vicreg, CoupledTask.BARLOW_TWINS: _barlow}


@pytest.mark.parametrize("task", CoupledTask)
def test_each_loss_is_that_of_a_loop_after_its_paper(task: CoupledTask) -> None:
    first, second = _looks()
    found = LOSSES[task](torch.from_numpy(first), torch.from_numpy(second)).item()
    assert found == pytest.approx(REFERENCE[task](first, second), rel=1e-9)


@pytest.mark.parametrize("task", CoupledTask)
def test_it_couples_records_and_no_plan_may_name_it(task: CoupledTask) -> None:
    looks = [torch.from_numpy(each) for each in _looks()]
    others = [torch.cat([each[:1], each[1:] + 1.0 * torch.arange(5)]) for each in looks]
    gradients = []
    for first, second in (looks, others):
        own = first[:1].clone().requires_grad_()
        gradients += torch.autograd.grad(LOSSES[task](torch.cat([own, first[1:]]), second), own)
    assert (gradients[0] - gradients[1]).norm() > 0.1 * gradients[0].norm()
    assert task.value in REFUSED
    with pytest.raises(ConfigError, match="objective"):
        parse(StudyPlan, written(IMAGE | {"objective": {"name": task.value}}), "plan")


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("task", CoupledTask)
def test_the_loss_falls_and_only_the_encoder_is_trained(task: CoupledTask, name: str) -> None:
    plan = plan_of(PLANS[name])
    model, again = build_model(plan), build_model(plan)
    start = {key: value.detach().clone() for key, value in model.named_parameters()}
    public = PublicUnits.from_seed(1, 24, plan.data)
    schedule = Schedule(steps=300, batch=24, learning_rate=3e-3)
    losses = pretrain(model, public, schedule, Coupled(task, model, plan.data, schedule.seed))
    assert losses.task[-1] < 0.95 * losses.task[0]
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, start[key])}
    assert moved and all(key.startswith("encoder.") for key in moved)
    pretrain(again, public, schedule, Coupled(task, again, plan.data, schedule.seed))
    assert to_vector(again).tobytes() == to_vector(model).tobytes()


@pytest.mark.parametrize("task", CoupledTask)
def test_below_the_least_batch_there_is_nothing_to_learn_and_at_it_there_is(task: CoupledTask) -> None:
    """The gradient by the looks: zero, or no number, of one record fewer."""
    sizes = []
    for count in (LEAST[task] - 1, LEAST[task]):
        first, second = (torch.from_numpy(each[:count]) for each in _looks())
        own = first.clone().requires_grad_()
        sizes.append(torch.autograd.grad(LOSSES[task](own, second), own)[0].norm().item())
    assert not sizes[0] > 1e-2 * sizes[1] and math.isfinite(sizes[1]) and sizes[1] > 1e-3


@pytest.mark.parametrize("task", CoupledTask)
def test_a_batch_too_small_or_larger_than_the_corpus_is_refused(task: CoupledTask) -> None:
    plan = plan_of(IMAGE)
    model, least = build_model(plan), LEAST[task]
    coupled = Coupled(task, model, plan.data, 0)
    before = to_vector(model)
    for batch, units, limit, remedy in (
        (least - 1, None, f"{least} or more: nothing is learnt from fewer", f"--batch {least} or more"),
        (9, 8, "8 units", "--batch 8, or more units"),
        (9, 1, "1 units", f"more units: {least} at least"),
    ):
        with pytest.raises(ConfigError, match=f"{task.value} compares the records of a batch") as caught:
            check_batch(model, batch, units, coupled)
        error = caught.value
        assert (error.field, error.value, error.limit, error.remedy) == ("--batch", batch, limit, remedy)
    check_batch(model, least, least, coupled)
    check_batch(model, 9, 1)
    with pytest.raises(ConfigError, match="fewer units"):
        pretrain(model, PublicUnits.from_seed(1, 8, plan.data), Schedule(steps=1, batch=9), coupled)
    assert np.array_equal(to_vector(model), before)


def test_no_record_is_its_own_negative() -> None:
    plan = plan_of(IMAGE)
    model = build_model(plan)
    coupled = Coupled(CoupledTask.SIMCLR, model, plan.data, 0)
    honest, drawn = coupled.loss, list[np.ndarray]()

    def heard(patients: Patients, index: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        drawn.append(index)
        return honest(patients, index, rng)

    coupled.loss = heard  # type: ignore[method-assign]
    pretrain(model, PublicUnits.from_seed(1, 12, plan.data), Schedule(steps=20, batch=10), coupled)
    assert len(drawn) == 20 and all(len(set(index.tolist())) == 10 for index in drawn)
    assert {place for index in drawn for place in index.tolist()} == set(range(12))


def test_records_without_two_looks_are_refused() -> None:
    model = build_model(plan_of(IMAGE))
    with pytest.raises(ConfigError, match="--task"):
        Coupled(CoupledTask.SIMCLR, model, TextData(kind="text"), 0)
