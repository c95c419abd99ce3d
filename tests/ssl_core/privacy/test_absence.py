"""Weights under which one patient's absence changes what the others add: a round that begins with them is not trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests_tasks import plan
from torch import Tensor

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.objectives.build import build_model
from ssl_core.privacy import absence
from ssl_core.privacy.absence import LIMIT, check_absence, gap
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import choose_engine, synthetic_views
from ssl_core.privacy.isolation import check_isolation
from ssl_core.privacy.machine import training_device
from ssl_core.privacy.planner import choose_pace

PLAN = plan(("image", "mlp-image", "masked-image"), 2)


def look_at(model: PretextModel, weights: np.ndarray, given: StudyPlan = PLAN, nominal_size: int = 1000, **speed: Any) -> None:
    site = SpeedSpec(**speed)
    check_absence(model, weights, given, nominal_size, site, choose_pace(model, given.data, site, training_device(site)))


@pytest.mark.parametrize(
    "speed", [{}, {"engine": "vmap"}, {"engine": "hooks"}, {"engine": "reference"}, {"precision": "bfloat16"}, {"chunk": 1}]
)
def test_weights_as_they_are_drawn_pass_in_every_engine_and_are_those_that_were_given(speed: dict[str, Any]) -> None:
    model = build_model(PLAN)
    weights = (1.5 * to_vector(model)).astype(np.float32)
    look_at(model, weights, **speed)
    assert to_vector(model).tobytes() == weights.tobytes()


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> PretextModel:
    """Its losses depend on the size of the batch where the first weight is beyond 100, as last bits do by large weights."""
    model = build_model(PLAN)
    honest = type(model).losses

    def losses(self: PretextModel, views: Views) -> Tensor:
        found = honest(self, views)
        return found * (1.0 + 0.01 * found.numel() * (next(self.parameters()).flatten()[0].detach() > 100.0))

    monkeypatch.setattr(type(model), "losses", losses)
    return model


@pytest.mark.parametrize("engine", ["bookkeeping", "hooks"])
def test_a_gate_that_the_isolation_check_does_not_see_is_seen_at_the_weights_that_open_it(gated: Any, engine: Any) -> None:
    opened = to_vector(gated).copy()
    opened[0] = 101.0
    check_isolation(PLAN, speed=SpeedSpec(engine=engine), nominal_size=1000)
    # Clipping would hide a change of lengths alone.
    views = synthetic_views(gated, PLAN.data)
    look_at(gated, opened, chunk=1, engine=engine)
    longest = max(float(row.norm()) for row in rows_of(gated, views))
    wide = PLAN.model_copy(update={"privacy": PLAN.privacy.model_copy(update={"max_grad_norm": 2 * longest})})
    look_at(gated, to_vector(build_model(PLAN)), wide, engine=engine)
    with pytest.raises(PrivacyError, match="absence changes what others add"):
        look_at(gated, opened, wide, engine=engine)


def rows_of(model: PretextModel, views: Views) -> Tensor:
    return torch.cat([row.flatten(1) for row in choose_engine(model, views, "vmap").rows(views)], dim=1)


@pytest.mark.parametrize(
    ("speed", "nominal_size", "wanted"),
    [
        ({"chunk": 64}, 1000, [2, 3, 4, 6, 8, 50, 64]),
        ({"chunk": 64}, 200, [2, 3, 4, 6, 8, 10, 16]),
        ({"chunk": 64, "engine": "reference"}, 200, [2, 3, 4, 6, 8, 10, 64]),
        ({"chunk": 64}, 100_000, [2, 3, 4, 6, 8, 64]),
        ({"chunk": 4}, 1000, [2, 3, 4]),
        ({"chunk": 1}, 1000, [1]),
        ({"chunk": 64, "precision": "bfloat16"}, 200, [2, 3, 4, 6, 8, 10, 13]),
    ],
)
def test_the_smallest_sizes_the_usual_and_the_greatest_are_looked_at(
    speed: dict[str, Any], nominal_size: int, wanted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.05 of the patients are sampled; in bfloat16 the greatest is the room of a group."""
    sizes: list[int] = []

    def watched(engine: Any, views: Views, size: int, clip_norm: float) -> float:
        sizes.append(size)
        return gap(engine, views, size, clip_norm)

    monkeypatch.setattr(absence, "gap", watched)
    model = build_model(PLAN)
    look_at(model, to_vector(model), nominal_size=nominal_size, **speed)
    assert sizes == wanted


@pytest.mark.parametrize(("found", "passes"), [(0.9 * LIMIT, True), (1.1 * LIMIT, False), (float("nan"), False)])
def test_what_is_not_below_the_limit_is_refused(found: float, passes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "gap", lambda *_: found)
    model = build_model(PLAN)
    if passes:
        look_at(model, to_vector(model))
    else:
        with pytest.raises(PrivacyError, match="absence"):
            look_at(model, to_vector(model))


def test_where_memory_ends_fewer_are_looked_at_and_never_fewer_than_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def short(_engine: Any, _views: Views, size: int, _clip_norm: float) -> float:
        sizes.append(size)
        if size > limit:
            raise torch.OutOfMemoryError
        return 0.0

    monkeypatch.setattr(absence, "gap", short)
    model = build_model(PLAN)
    limit = 20
    look_at(model, to_vector(model), chunk=64)
    assert sizes[-3:] == [64, 32, 16]
    limit = 2
    with pytest.raises(torch.OutOfMemoryError):
        look_at(model, to_vector(model), chunk=64)


def test_a_gap_is_what_the_sum_of_all_lies_beside_those_of_its_parts() -> None:
    """Of rows that are what they are, rounding; of rows as long as their batch is large, by hand."""

    class BySize:
        name, gamma, reason = "by size", 0.0, "a test"

        def clipped_sum(self, views: Views, clip_norm: float) -> Any:
            total = (views["x"] * len(views["x"])).sum(dim=0).double()
            return type("Sum", (), {"grads": (total,)})()

    # Five units of 1, 2, 3, 1, 2: 5 x 9 for all, 4 x 6 without the middle one, 1 x 3 for it alone; C is 2.
    views = {"x": torch.tensor([[1.0], [2.0], [3.0]])}
    assert gap(BySize(), views, 5, 2.0) == pytest.approx((45 - 24 - 3) / 2)  # type: ignore[arg-type]


def test_a_bucket_of_patients_is_one_row() -> None:
    given = plan(("image", "resnet", "simclr-buckets"), 2)
    model = build_model(given)
    look_at(model, to_vector(model), given)


def test_it_looks_in_the_shapes_of_training_with_what_the_round_begins_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shapes are looked at with other weights before."""
    model = build_model(PLAN)
    weights = (1.5 * to_vector(model)).astype(np.float32)
    shapes, begun, honest = set[tuple[int, ...]](), list[bytes](), BookkeepingEngine.clipped_sum

    def watched(self: BookkeepingEngine, *args: Any) -> Any:
        shapes.add(self._shapes)
        return honest(self, *args)

    monkeypatch.setattr(BookkeepingEngine, "clipped_sum", watched)
    monkeypatch.setattr(model, "start_round", lambda: begun.append(to_vector(model).tobytes()))
    choose_pace(model, PLAN.data, SpeedSpec(chunk=8), torch.device("cpu"))
    shapes.clear()
    look_at(model, weights, chunk=8)
    assert len(shapes) == 1 and max(shapes)[-1] == 8
    assert begun[-1] == weights.tobytes() and begun[:-1] and weights.tobytes() not in begun[:-1]
