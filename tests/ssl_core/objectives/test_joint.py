"""Several tasks at once: one encoder, the weighted sum of their losses, one clip; for every encoder that has two tasks."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from tests_tasks import plan

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.objectives.build import MODELS, build_model
from ssl_core.objectives.joint import JointModel
from ssl_core.privacy.engines import choose_engine, synthetic_views
from ssl_core.privacy.isolation import TOLERANCE, check_isolation
from ssl_core.privacy.reference import loop_rows
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.spec.fit import TOGETHER


def _pairs() -> list[tuple[str, str, tuple[str, ...]]]:
    tasks: dict[tuple[str, str], list[str]] = defaultdict(list)
    for data, encoder, task in sorted(TOGETHER):
        # One reads in another way than the other tasks of its encoder, one clips buckets; both are refused beside them.
        if task not in {"next-token", "simclr-buckets"}:
            tasks[data, encoder].append(task)
    found = [(*kinds, tuple(names[:3])) for kinds, names in tasks.items() if len(names) > 1]
    # Two with something that stands still within a round, beside one without; one that predicts a summary too.
    summarised = ("signal", "signal-transformer", ("masked-autoencoding summary", "denoising"))
    return [*found, ("image", "resnet", ("jigsaw", "moco-bank", "swav-bank")), summarised]


PAIRS = pytest.mark.parametrize("kinds", _pairs(), ids=lambda kinds: " ".join((*kinds[:2], *kinds[2])))


def _joint(kinds: tuple[str, str, tuple[str, ...]], records: int, weights: tuple[float, ...] = (1.0, 0.5, 2.0)) -> StudyPlan:
    data, encoder, names = kinds
    first = plan((data, encoder, *names[0].split()), records).model_dump(mode="json")
    tasks = [plan((data, encoder, *name.split()), records).objective.model_dump(mode="json") for name in names]
    return parse(StudyPlan, first | {"objective": {"name": "joint", "tasks": tasks, "weights": weights[: len(names)]}}, "plan")


@PAIRS
@pytest.mark.parametrize("records", [1, 4])
def test_the_loss_is_the_weighted_sum_of_the_tasks_each_by_itself(
    kinds: tuple[str, str, tuple[str, ...]], records: int
) -> None:
    given = _joint(kinds, records)
    model = build_model(given)
    assert isinstance(model, JointModel)
    patients = synthetic_patients(given.data, 6)
    uniforms = 1.0 - np.random.default_rng(1).random((6, model.coins))
    views = model.draw(patients, np.arange(6), uniforms)
    expected, begin = torch.zeros(6), 0
    weights = dict(model.named_parameters())
    for number, (name, weight) in enumerate(zip(kinds[2], model.weights, strict=True)):
        single = build_model(plan((kinds[0], kinds[1], *name.split()), records))
        with torch.no_grad():
            for own, parameter in single.named_parameters():
                parameter.copy_(weights[own if own.startswith("encoder.") else f"tasks.{number}.{own}"])
        single.start_round()
        own_views = single.draw(patients, np.arange(6), uniforms[:, begin : begin + single.coins])
        begin += single.coins
        expected = expected + weight * single.losses(own_views)
    assert begin == model.coins
    assert torch.allclose(model.losses(views), expected, rtol=1e-5, atol=1e-6)
    one = model({name: view[2] for name, view in views.items()})
    assert torch.allclose(one, expected[2], rtol=1e-5, atol=1e-6)


@PAIRS
def test_the_engine_gives_single_gradients_and_the_isolation_check_passes(kinds: tuple[str, str, tuple[str, ...]]) -> None:
    given = _joint(kinds, 2)
    model = build_model(given)
    views = synthetic_views(model, given.data)
    engine = choose_engine(model, views, "auto")
    assert engine.name == "vmap", engine.reason
    for fast, slow in zip(engine.rows(views), loop_rows(model, views), strict=True):
        assert float((fast - slow).norm()) <= 1e-4 * float(slow.norm()) + 1e-6
    report = check_isolation(given, speed=SpeedSpec(chunk=4))
    assert report.greatest_change <= TOLERANCE


def test_the_encoder_is_shared_and_released_once() -> None:
    given = _joint(("image", "resnet", ("jigsaw", "rotation")), 1)
    model = build_model(given)
    names = [name for name, _ in model.named_parameters()]
    assert len(set(names)) == len(names) and sum(name.startswith("encoder.") for name in names) == len(
        list(model.encoder.parameters())
    )
    assert all(task.encoder is model.encoder for task in model.tasks)
    again = build_model(given)
    assert to_vector(again).tobytes() == to_vector(model).tobytes()
    load_vector(again, np.zeros_like(to_vector(model)))
    assert not any(parameter.any() for parameter in again.encoder.parameters())


@pytest.mark.parametrize(
    ("tasks", "weights", "words"),
    [
        ([{"name": "rotation"}], [1.0], "at least 2"),
        ([{"name": "rotation"}, {"name": "rotation"}], [1.0, 1.0], "each task may stand once"),
        ([{"name": "rotation"}, {"name": "jigsaw"}], [1.0, 1.0, 1.0], "one entry a task"),
        ([{"name": "rotation"}, {"name": "jigsaw"}], [1.0, 0.0], "greater than 0"),
        ([{"name": "rotation"}, {"name": "masked-autoencoding"}], [1.0, 1.0], "do not fit together"),
        ([{"name": "rotation"}, {"name": "simclr"}], [1.0, 1.0], "couples patients"),
        ([{"name": "rotation"}, {"name": "simclr-buckets"}], [1.0, 1.0], "one gradient for a bucket of patients"),
    ],
)
def test_what_cannot_be_joined_is_refused(tasks: list[dict[str, Any]], weights: list[float], words: str) -> None:
    body = plan(("image", "resnet", "rotation"), 1).model_dump(mode="json")
    with pytest.raises(ConfigError, match=words):
        parse(StudyPlan, body | {"objective": {"name": "joint", "tasks": tasks, "weights": weights}}, "plan")


@pytest.mark.parametrize("task", ["masked-language", "shuffled-order"])
def test_two_ways_of_reading_a_text_are_not_joined(task: str) -> None:
    with pytest.raises(ConfigError, match=f"{task} sees all words"):
        _joint(("text", "text-transformer", (task, "next-token")), 1)


def test_a_module_under_two_names_is_refused() -> None:
    """What the check before approval found of the first way in which the tasks shared their encoder."""
    given = _joint(("image", "resnet", ("jigsaw", "rotation")), 1)
    model = build_model(given)
    model.tasks[0].encoder_again = model.encoder
    with pytest.raises(PrivacyError, match="under two names"):
        choose_engine(model, synthetic_views(model, given.data), "auto")


def test_every_task_of_a_joint_plan_is_one_that_may_stand_alone() -> None:
    assert {(data, encoder, name.split()[0]) for data, encoder, names in _pairs() for name in names} <= set(MODELS)
