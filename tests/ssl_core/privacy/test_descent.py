"""What is done with a noised gradient: rates by the number of the step, and a state that goes on as if never stopped."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from ssl_core.config import StudyPlan
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import ConfigError, StateError
from ssl_core.privacy.descent import Descent, OptimizerState, learning_rate
from ssl_core.privacy.training import replay_round

MakePlan = Callable[..., StudyPlan]
ADAM, MOMENTUM, SGD = (
    {"optimizer": "adam", "learning_rate": 0.05},
    {"optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.9},
    {"optimizer": "sgd", "learning_rate": 0.5},
)


def test_the_learning_rate_is_a_function_of_the_step_alone(make_plan: MakePlan) -> None:
    training = make_plan(
        training={"optimizer": "adam", "learning_rate": 2.0, "warmup_fraction": 0.1, "final_fraction": 0.25}
    ).training
    rates = [learning_rate(training, step, 100) for step in range(120)]
    assert rates[:10] == pytest.approx([0.2 * k for k in range(1, 11)])
    assert rates[10] == 2.0 and rates[55] == pytest.approx(2.0 * (0.25 + 0.75 * 0.5))
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[100:] == pytest.approx([0.5] * 20)
    assert rates[32] == pytest.approx(2.0 * (0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi * 22 / 90))))


@pytest.mark.parametrize("training", [ADAM, MOMENTUM])
def test_a_restored_optimizer_goes_on_as_if_never_stopped(tiny: Any, make_plan: MakePlan, training: Any) -> None:
    plan, start = make_plan(training=training), to_vector(tiny)
    gradients = list(np.random.default_rng(0).standard_normal((8, len(start))).astype(np.float32))
    descent = Descent(tiny, plan.training, total_steps=8, state=None)
    halfway = None
    for number, gradient in enumerate(gradients):
        begin = 0
        for parameter in tiny.parameters():
            part = torch.from_numpy(gradient[begin : begin + parameter.numel()].copy())
            parameter.grad, begin = part.view_as(parameter), begin + parameter.numel()
        if number == 4:
            halfway = (to_vector(tiny), descent.state())
        descent.prepare(number)
        descent.inner.step()
    wanted = to_vector(tiny)
    assert halfway is not None
    rest = replay_round(
        model=tiny, plan=plan, gradients=gradients[4:], start=halfway[0], first_step=4, total_steps=8, state=halfway[1]
    )
    assert np.array_equal(to_vector(tiny), wanted) and rest.state.steps == 8


@pytest.mark.parametrize("training", [ADAM, MOMENTUM, SGD])
def test_a_state_is_what_was_when_it_was_taken_and_stays_so(tiny: Any, make_plan: MakePlan, training: Any) -> None:
    """Before the first step there is nothing in it; later steps, of who took it or of who was given it, change it no more."""
    plan = make_plan(training=training)
    descent = Descent(tiny, plan.training, total_steps=8, state=None)
    nothing = descent.state()
    assert (nothing.steps, nothing.moments) == (0, {})
    descent = Descent(tiny, plan.training, total_steps=8, state=nothing)
    taken = []
    for number in range(3):
        for parameter in tiny.parameters():
            parameter.grad = torch.ones_like(parameter)
        descent.prepare(number)
        descent.inner.step()
        state = descent.state()
        taken.append((state, {name: moment.tobytes() for name, moment in state.moments.items()}))
        descent = Descent(tiny, plan.training, total_steps=8, state=state)
    assert [state.steps for state, _ in taken] == [1, 2, 3]
    for state, bytes_of in taken:
        assert {name: moment.tobytes() for name, moment in state.moments.items()} == bytes_of


def test_a_state_of_another_optimizer_or_of_another_shape_is_refused(tiny: Any, make_plan: MakePlan) -> None:
    adam, sgd = (make_plan(training=training).training for training in (ADAM, SGD))
    size = len(to_vector(tiny))
    for training, state in (
        (sgd, OptimizerState("adam", 0, {})),
        (adam, OptimizerState("adam", 3, {})),
        (adam, OptimizerState("adam", 0, {"exp_avg": np.zeros(size, np.float32)})),
        (adam, OptimizerState("adam", 3, {name: np.zeros(size - 1, np.float32) for name in ("exp_avg", "exp_avg_sq")})),
    ):
        with pytest.raises(ConfigError, match="not of this study"):
            Descent(tiny, training, total_steps=8, state=state)
    arrays = OptimizerState("adam", 3, {"exp_avg": np.zeros(size, np.float32)}).to_arrays()
    for wrong in (np.zeros((1, size), np.float32), np.zeros(size)):
        with pytest.raises(StateError, match="wrong type"):
            OptimizerState.from_arrays(arrays | {"adam.exp_avg": wrong})
