"""The public stage: ordinary Adam on the mean loss, the same bytes again, and nothing of the factors' head left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests_plans import IMAGE, ORDER, ROTATION, SIGNAL, plan_of
from tests_tasks import plan as task_plan

from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.errors import ConfigError
from ssl_core.objectives.build import build_model
from ssl_core.warm_start.pretraining import STEPS_A_ROUND, Losses, Schedule, check_batch, pretrain
from ssl_core.warm_start.public import PublicUnits

ALL = {"image": IMAGE, "rotation": ROTATION, "signal": SIGNAL, "order": ORDER}


def trained(parts: dict[str, Any], schedule: Schedule, *, factors: bool = True) -> tuple[np.ndarray, Losses]:
    plan = plan_of(parts)
    model, public = build_model(plan), PublicUnits.from_seed(1, 24, plan.data)
    if not factors:
        public = PublicUnits(public.patients, None, public.origin)
    losses = pretrain(model, public, schedule)
    return to_vector(model), losses


@pytest.mark.parametrize("parts", ALL.values(), ids=ALL)
def test_the_first_step_is_adams_on_the_mean_of_the_single_units_losses(parts: dict[str, Any]) -> None:
    """Adam's first step is rate x g / (|g| + eps): its sign and size follow from a loop over units, written out here."""
    plan, batch, rate = plan_of(parts), 5, 1e-3
    model, public = build_model(plan), PublicUnits.from_seed(1, 24, plan.data)
    rng = np.random.default_rng([7, 24])
    index, coins = rng.integers(0, 24, batch), 1.0 - rng.random((batch, model.coins))
    views = model.draw(public.patients, index, coins)
    start = to_vector(model)
    losses = [model({name: view[row] for name, view in views.items()}) for row in range(batch)]
    gradients = torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters()))
    expected = np.concatenate([gradient.numpy().ravel() for gradient in gradients]).astype(float)

    schedule = Schedule(steps=1, batch=batch, learning_rate=rate, seed=7)
    found, _ = trained(parts, schedule, factors=False)
    step = found.astype(float) - start
    clear = np.abs(expected) > 1e-5
    assert clear.any()
    assert np.abs(step[clear] + rate * np.sign(expected[clear])).max() < 0.02 * rate
    assert np.abs(step).max() < 1.01 * rate


def test_a_task_with_buckets_is_the_mean_over_buckets_of_public_units() -> None:
    """19 units in buckets of 8: two of 8 and one of 3, by Adam's first step, which is the sign of their mean gradient."""
    plan, rate = task_plan(("image", "resnet", "simclr-buckets"), 1), 1e-3
    plan = plan.model_copy(update={"objective": plan.objective.model_copy(update={"bucket_size": 8})})
    model, public = build_model(plan), PublicUnits.from_seed(1, 24, plan.data)
    rng = np.random.default_rng([7, 24])
    index, coins = rng.choice(24, 19, replace=False), 1.0 - rng.random((19, model.coins))
    views = model.draw(public.patients, index, coins)
    start, total = to_vector(model), np.zeros(len(to_vector(model)))
    for begin, end in ((0, 8), (8, 16), (16, 19)):
        loss = model({name: view[begin:end] for name, view in views.items()})
        total += np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, list(model.parameters()))]) / 3
    losses = pretrain(model, PublicUnits(public.patients, None, public.origin), Schedule(steps=1, batch=19, seed=7))
    step, clear = to_vector(model).astype(float) - start, np.abs(total) > 1e-5
    assert clear.sum() > 100 and np.abs(step[clear] + rate * np.sign(total[clear])).max() < 0.02 * rate
    assert 0 < losses.task[0] < 10


def test_a_batch_that_fills_no_bucket_or_is_larger_than_the_corpus_is_refused_for_a_task_with_buckets() -> None:
    model = build_model(task_plan(("image", "resnet", "simclr-buckets"), 1))
    with pytest.raises(ConfigError, match="simclr-buckets compares") as caught:
        check_batch(model, 15, None)
    error = caught.value
    assert (error.field, error.value, error.limit) == ("--batch", 15, "16 or more: the plan's bucket_size")
    assert error.remedy == "--batch 16 or more"
    with pytest.raises(ConfigError, match="fewer units than a batch has"):
        check_batch(model, 32, 31)
    check_batch(model, 16, 16)


@pytest.mark.parametrize("parts", ALL.values(), ids=ALL)
def test_the_same_run_gives_the_same_bytes_and_every_seed_another(parts: dict[str, Any]) -> None:
    schedule = Schedule(steps=3, batch=8, seed=2)
    first, losses = trained(parts, schedule)
    assert first.tobytes() == trained(parts, schedule)[0].tobytes()
    assert not np.array_equal(first, trained(parts, Schedule(steps=3, batch=8, seed=3))[0])
    assert len(losses.task) == 3 and len(losses.factors) == (3 if parts in (SIGNAL, ORDER) else 0)


def test_the_loss_falls() -> None:
    for parts in (IMAGE, SIGNAL):
        _, losses = trained(parts, Schedule(steps=60, batch=24, learning_rate=3e-3))
        assert losses.task[-1] < losses.task[0] * 0.95


def test_the_factors_teach_the_encoder_and_leave_nothing_in_the_model() -> None:
    plan = plan_of(SIGNAL)
    names = [name for name, _ in build_model(plan).named_parameters()]
    schedule = Schedule(steps=80, batch=24, learning_rate=3e-3)
    with_factors, losses = trained(SIGNAL, schedule)
    without, _ = trained(SIGNAL, schedule, factors=False)
    assert losses.factors[-1] < losses.factors[0] * 0.9
    assert with_factors.shape == without.shape and not np.array_equal(with_factors, without)
    model = build_model(plan)
    pretrain(model, PublicUnits.from_seed(1, 24, plan.data), Schedule(steps=1, batch=2))
    assert [name for name, _ in model.named_parameters()] == names


@pytest.mark.parametrize(
    "task", [{"name": "byol"}, {"name": "swav-bank", "bank": 64, "prototypes": 8}], ids=["byol", "swav-bank"]
)
def test_a_round_begins_with_the_loaded_weights_and_then_every_so_many_steps(task: dict[str, Any]) -> None:
    """As after a transplant: what stands still within a round is never left at the plan's seed."""
    plan = plan_of(ROTATION | {"objective": task})
    model: Any = build_model(plan)
    loaded = to_vector(model) + np.float32(0.01)
    load_vector(model, loaded)
    honest, begun = model.start_round, list[np.ndarray]()

    def heard() -> None:
        begun.append(to_vector(model))
        honest()

    model.start_round = heard
    public = PublicUnits.from_seed(1, 24, plan.data)
    pretrain(model, public, Schedule(steps=2 * STEPS_A_ROUND + 1, batch=4))
    assert len(begun) == 3 and np.array_equal(begun[0], loaded)
    assert not np.array_equal(begun[1], begun[0]) and not np.array_equal(begun[2], begun[1])
    slow = np.concatenate([p.numpy().ravel() for part in model.__dict__["slow"] for p in part.parameters()])
    names = dict(model.named_parameters())
    count = sum(names[name].numel() for name in names if name.startswith(("encoder.", "project.")))
    assert len(slow) == count and np.array_equal(slow, begun[2][:count])


def test_the_rate_rises_and_falls_to_nothing() -> None:
    schedule = Schedule(steps=100, learning_rate=2.0, warmup=0.1)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) * 0.2) and rates[10] == pytest.approx(2.0)
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 < rates[-1] < 0.001


@pytest.mark.parametrize("changes", [{"steps": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}])
def test_a_schedule_that_trains_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="above 0") as caught:
        Schedule(**changes)
    assert caught.value.field == next(iter(changes))


def test_a_run_that_diverges_says_so() -> None:
    with pytest.raises(ConfigError, match=r"diverged.*--learning-rate"):
        trained(IMAGE, Schedule(steps=20, batch=8, learning_rate=1e25))
