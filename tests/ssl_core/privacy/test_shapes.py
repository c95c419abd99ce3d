"""In which shapes passes are made: what a patient adds is made of the same bits there, whoever else is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests_engines import IMAGE, Given, with_weights
from tests_tasks import plan
from torch import Tensor, nn

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.objectives.build import build_model
from ssl_core.privacy import isolation, shapes
from ssl_core.privacy.absence import gap
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import synthetic_views
from ssl_core.privacy.gradients import InShapes, PerUnitGradients, units_of
from ssl_core.privacy.hooks import HooksEngine
from ssl_core.privacy.isolation import check_isolation
from ssl_core.privacy.planner import Pace, choose_pace
from ssl_core.privacy.shapes import candidates, shapes_of
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.privacy.training import train_round

MakePlan = Callable[..., StudyPlan]
CPU = torch.device("cpu")
TASKS = [
    ("events", "event-transformer", "next-event"),
    ("image", "mlp-image", "masked-image"),
    ("image", "resnet", "moco-bank"),
    ("image", "vit", "masked-autoencoding"),
    ("image", "vit", "vicreg-own"),
    ("signal", "conv1d", "vicreg-own"),
    ("signal", "signal-transformer", "simclr-bank"),
    ("table", "table-transformer", "masked-features"),
    ("text", "hashed-words", "masked-words"),
    ("text", "text-transformer", "masked-language"),
]


def take(views: Views, places: Any) -> Views:
    return {name: view[torch.as_tensor(places)] for name, view in views.items()}


@pytest.fixture(params=TASKS, ids="-".join)
def shaped(request: pytest.FixtureRequest) -> tuple[PretextModel, Any, Views, float]:
    """Model, the engine as it trains, views, clipping norm; for groups of 1.6 patients for each of 16 places."""
    given = plan(request.param, 2)
    model = build_model(given)
    pace = choose_pace(model, given.data, SpeedSpec(), CPU)
    found = shapes_of(model, given, pace, 400)
    assert found[-1] == 28 and len(found) > 4
    model.start_round()
    return model, pace.within(found), synthetic_views(model, given.data), given.privacy.max_grad_norm


def hostile(model: PretextModel) -> Iterator[str]:
    """Each layer's weights raised far beyond what they were, one layer at a time."""
    weights = to_vector(model)
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    for name, module in layers:
        for power in (5, 8):
            load_vector(model, weights)
            with torch.no_grad():
                module.weight.add_(10.0**power)
            model.start_round()
            yield f"{name} by 1e{power}"
    load_vector(model, weights)


def test_no_layer_raised_makes_a_patients_absence_change_what_others_add(shaped: Any) -> None:
    model, engine, views, clip_norm = shaped
    for what in hostile(model):
        for size in (2, 5, 6, 23):
            assert gap(engine, views, size, clip_norm) < 1e-4, (what, size)


def test_what_a_patient_adds_is_made_of_the_same_bits_wherever_he_is(shaped: Any) -> None:
    model, engine, views, _ = shaped
    generator = np.random.default_rng(7)
    if isinstance(engine, BookkeepingEngine):
        norms = torch.cat([row.flatten(1) for row in engine.rows(take(views, [0, 1]))], dim=1).double().norm(dim=1)
        divisors = engine.made_of(take(views, [0, 1]))[-1]
        assert bool((divisors > norms).all()) and divisors.dtype == torch.float64
    for what in [*hostile(model), "as drawn"]:
        alone = [engine.made_of(take(views, [unit])) for unit in range(units_of(views))]
        for size in generator.integers(2, 29, 3):
            who = generator.integers(0, len(alone), size)
            for place, unit in enumerate(who):
                for mine, theirs in (
                    zip(engine.made_of(take(views, who)), alone[unit], strict=True) if place == size - 1 else ()
                ):
                    assert torch.equal(mine[place].nan_to_num(), theirs[0].nan_to_num()), (what, size, place)


@pytest.mark.parametrize("engine", [BookkeepingEngine, PerUnitGradients, HooksEngine])
def test_an_engine_passes_the_first_shape_that_holds_the_units_and_refuses_more(engine: Any, make_plan: MakePlan) -> None:
    given = make_plan(IMAGE)
    model = build_model(given)
    views, plain = take(synthetic_views(model, given.data), [0, 1, 2, 0, 1]), engine(model)
    shaped, filled = plain.within((2, 4, 8)), list[int]()
    honest = InShapes._filled

    def watched(self: InShapes, views: Views) -> Views:
        found = honest(self, views)
        filled.append(units_of(found))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InShapes, "_filled", watched)
        for units in (1, 2, 3, 5):
            some = take(views, range(units))
            for mine, theirs in zip(shaped.rows(some), plain.rows(some), strict=True):
                assert mine.shape == theirs.shape
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
            for mine, theirs in zip(shaped.clipped_sum(some, 0.1).grads, plain.clipped_sum(some, 0.1).grads, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert filled == [2, 1, 2, 1, 2, 2, 2, 2, 4, 3, 4, 3, 8, 5, 8, 5]
    with pytest.raises(PrivacyError, match="more units than its shape"):
        plain.within((2, 4)).rows(views)


class Haunted(Given):
    """Nobody, zeros, has a gradient here, or none that is a number."""

    kind = "loud"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def losses(self, views: Views) -> Tensor:
        values = views["values"]
        found = self.layer(values).square().sum(dim=1)
        by = {"loud": 1.0, "infinite": 1.0 / values[:, 0].abs(), "no number": values[:, 0] / values[:, 0]}
        return found * by[self.kind]


@pytest.mark.parametrize("kind", ["loud", "infinite", "no number"])
@pytest.mark.parametrize("engine", [BookkeepingEngine, PerUnitGradients, HooksEngine])
def test_nobody_adds_nothing_whatever_his_gradient_is(engine: Any, kind: str) -> None:
    model = with_weights(Haunted())
    model.kind = kind
    views = {"values": 1.0 + torch.rand(3, 4, generator=torch.Generator().manual_seed(2))}
    engines = [engine(model), *([BookkeepingEngine(model, "bfloat16")] if engine is BookkeepingEngine else [])]
    for one in engines:
        for clip_norm in (0.1, 1e4):
            mine, theirs = (each.clipped_sum(views, clip_norm).grads for each in (one, one.within((8,))))
            for part, other in zip(mine, theirs, strict=True):
                torch.testing.assert_close(part, other, rtol=1e-2 if one is not engines[0] else 1e-5, atol=1e-7)


def passes(model: PretextModel) -> set[int]:
    """Of how many units the passes are from here on."""
    honest, found = model.losses, set[int]()

    def losses(views: Views) -> Tensor:
        found.add(units_of(views))
        losses: Tensor = honest(views)
        return losses

    model.losses = losses  # type: ignore[method-assign]
    return found


def _train(model: PretextModel, given: StudyPlan, size: int, **speed: Any) -> None:
    train_round(
        model=model, patients=synthetic_patients(given.data, size), plan=given, nominal_size=40, start=to_vector(model),
        first_step=0, total_steps=given.total_steps, state=None, speed=SpeedSpec(**speed),
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["auto", "hooks"])
def test_every_pass_of_a_round_is_of_such_a_shape(make_plan: MakePlan, engine: Any) -> None:
    given = make_plan(IMAGE)
    model = build_model(given)
    _train(model, given, 40, engine=engine)
    found = passes(model)
    for size in (3, 40, 160):
        _train(model, given, size, engine=engine)
    # 0.25 x 40 patients in a group, with room.
    assert found and found <= set(candidates(16)) and max(found) == 16


def test_the_isolation_check_looks_at_the_shapes_of_training(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    given = make_plan(IMAGE)
    model = build_model(given)
    choose_pace(model, given.data, SpeedSpec(chunk=8), CPU)
    seen, honest = set[tuple[int, ...]](), BookkeepingEngine.clipped_sum

    def watched(self: BookkeepingEngine, *args: Any) -> Any:
        seen.add(self._shapes)
        return honest(self, *args)

    monkeypatch.setattr(BookkeepingEngine, "clipped_sum", watched)
    assert check_isolation(given, speed=SpeedSpec(chunk=8), model=model, nominal_size=400).greatest_change == 0.0
    (found,) = seen
    assert found[-1] == 8 and set(found) <= set(candidates(8))


def test_what_no_other_look_of_the_isolation_check_finds_is_refused_there_too(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coupled(*_: Any) -> Any:
        raise PrivacyError("by more than rounding")

    monkeypatch.setattr(isolation, "shapes_of", coupled)
    with pytest.raises(PrivacyError, match="by more than rounding"):
        check_isolation(make_plan(IMAGE), speed=SpeedSpec(chunk=8))


def test_engines_that_take_units_one_by_one_have_no_shapes_and_others_look_once(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, looks = make_plan(IMAGE), list[int]()
    model = build_model(given)
    buckets = plan(("image", "resnet", "simclr-buckets"), 2)
    compared = build_model(buckets)
    assert shapes_of(compared, buckets, choose_pace(compared, buckets.data, SpeedSpec(), CPU), 40) == ()
    units = set[int]()

    def looked(_model: PretextModel, _engine: Any, views: Views, most: int) -> tuple[int, ...]:
        looks.append(most)
        units.add(len(torch.unique(views["seen"].flatten(1), dim=0)))
        return (most,)

    monkeypatch.setattr(shapes, "_of_drawn_weights", looked)

    def pace(**speed: Any) -> Pace:
        return choose_pace(model, given.data, SpeedSpec(**speed), CPU)

    assert shapes_of(model, given, pace(engine="reference"), 40) == () and not looks
    for speed in ({}, {}, {"engine": "vmap"}, {"chunk": 6}, {"chunk": 64}):
        shapes_of(model, given, pace(**speed), 40)
    # Of 0.25 x 40 patients; of groups of at most 6 there are three, with room for 5 each.
    assert looks == [16, 16, 6] and units == {7}
    assert [shapes_of(model, given, pace(chunk=chunk), 16) for chunk in (5, 6, 7, 64)] == [(5,), (6,), (7,), (8,)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 7)
        shapes_of(model, given, pace(), 40)
    assert looks == [16, 16, 6, 5, 7, 8, 16]


def test_a_machine_on_which_few_places_agree_trains_in_small_passes_and_says_so(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = make_plan(IMAGE)
    assert "places round differently" not in check_isolation(given, speed=SpeedSpec(chunk=8), nominal_size=400).why
    monkeypatch.setattr(shapes, "_of_drawn_weights", lambda *_: (2, 4))
    report = check_isolation(given, speed=SpeedSpec(chunk=8), nominal_size=400)
    assert report.why.endswith("Of more than 4 at once places round differently here, so no pass has more.")
    model = build_model(given)
    _train(model, given, 40, chunk=8)
    found = passes(model)
    _train(model, given, 40, chunk=8)
    assert found == {2, 4}
