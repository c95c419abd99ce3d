"""In which shapes passes are made: there what a patient adds is bit by bit the same, whoever else is there, at any weights."""

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
from ssl_core.privacy import shapes
from ssl_core.privacy.absence import gap
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import synthetic_views
from ssl_core.privacy.gradients import InShapes, PerUnitGradients, units_of
from ssl_core.privacy.hooks import HooksEngine
from ssl_core.privacy.isolation import check_isolation
from ssl_core.privacy.planner import Pace, choose_pace
from ssl_core.privacy.shapes import agreeing, candidates, shapes_of
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


def test_no_weights_make_a_patients_absence_change_what_others_add(shaped: Any) -> None:
    model, engine, views, clip_norm = shaped
    for what in hostile(model):
        for size in (2, 5, 6, 23):
            assert gap(engine, views, size, clip_norm) < 1e-4, (what, size)


def test_what_a_patient_adds_is_made_of_the_same_bits_wherever_he_is(shaped: Any) -> None:
    model, engine, views, _ = shaped
    generator = np.random.default_rng(7)
    for what in [*hostile(model), "as drawn"]:
        alone = [engine.made_of(take(views, [unit])) for unit in range(units_of(views))]
        for size in generator.integers(2, 29, 3):
            who = generator.integers(0, len(alone), size)
            for place, unit in enumerate(who):
                for mine, theirs in (
                    zip(engine.made_of(take(views, who)), alone[unit], strict=True) if place == size - 1 else ()
                ):
                    assert torch.equal(mine[place].nan_to_num(), theirs[0].nan_to_num()), (what, size, place)


class Kernel(InShapes):
    """An engine of one number a unit, to which `rest` of (places, size) is added, as by other code for some of them."""

    def __init__(self, rest: Callable[[Tensor, int], Tensor]) -> None:
        self.rest = rest
        self.sizes = list[int]()

    def made_of(self, views: Views) -> list[Tensor]:
        self.sizes.append(units_of(views))
        return [views["x"] * (1.0 + 2.0**-23 * self.rest(torch.arange(units_of(views)), units_of(views)))]


VIEWS = {"x": torch.tensor([1.5, -0.75, 3.25])}


@pytest.mark.parametrize(
    ("rest", "wanted"),
    [
        (lambda place, size: 0.0 * place, (2, 4, 6, 8)),
        (lambda place, size: torch.full(place.shape, float(size in {2, 6})), (4, 8)),
        (lambda place, size: torch.full(place.shape, float(size != 8)), (8,)),
        (lambda place, size: (place == 1) & (size == 4), (2, 6, 8)),
        (lambda place, size: (place == size - 1) & (size == 8), ()),
        (lambda place, size: (place == 0) & (size == 8), ()),
    ],
)
def test_shapes_are_those_whose_every_place_is_as_every_place_of_the_greatest(rest: Any, wanted: tuple[int, ...]) -> None:
    assert agreeing(Kernel(rest), VIEWS, (2, 4, 6, 8)) == wanted


def test_no_number_is_no_number_whatever_its_bits_and_zeros_have_signs() -> None:
    nan = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        assert shapes._same_bits(nan.to(kind), nan[1].to(kind))
        assert not shapes._same_bits(torch.tensor([1.0, torch.nan], dtype=kind), torch.tensor(1.0, dtype=kind))
        assert not shapes._same_bits(torch.tensor([0.0], dtype=kind), torch.tensor(-0.0, dtype=kind))
    assert shapes._same_bits(torch.tensor([[3, 4]] * 2), torch.tensor([3, 4]))
    assert not shapes._same_bits(torch.tensor([True, False]), torch.tensor(True))


def test_shapes_are_few_and_even() -> None:
    for most in range(1, 600):
        found = candidates(most)
        assert found[-1] == most and list(found) == sorted(set(found)) and len(found) <= 16
        step = max(4, 1 << max(0, (most - 1).bit_length() - 4))
        assert found[:-1] == tuple(range(step, most, step))
    assert candidates(64) == tuple(range(4, 65, 4)) and candidates(1) == (1,)


class Placed(Given):
    """Its loss depends on the place beyond `most` units, or its memory ends there."""

    most, ends, by = 64, False, 1e-6

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def losses(self, views: Views) -> Tensor:
        found = self.layer(views["values"]).square().sum(dim=1)
        if len(found) > self.most:
            if self.ends:
                raise torch.OutOfMemoryError
            return found * (1.0 + self.by * torch.arange(len(found)))
        return found


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize(("most", "wanted"), [(64, 50), (49, 32), (31, 16), (3, 2), (1, 1)])
def test_where_the_greatest_does_not_agree_or_does_not_fit_a_smaller_one_is_taken(ends: bool, most: int, wanted: int) -> None:
    model = with_weights(Placed())
    model.most, model.ends = most, ends
    views = {"values": torch.randn(3, 4, generator=torch.Generator().manual_seed(2))}
    before = to_vector(model)
    found = shapes._of_drawn_weights(model, BookkeepingEngine(model), views, 50)
    assert found[-1] == wanted and to_vector(model).tobytes() == before.tobytes()


@pytest.mark.parametrize(("by", "refused"), [(2e-5, False), (1e-3, True), (1.0, True), (float("nan"), True)])
def test_what_no_rounding_does_is_refused(by: float, refused: bool) -> None:
    """Place 49 is moved by up to 49 times as much; at loud weights nothing is refused."""
    model, views = with_weights(Placed()), {"values": torch.randn(3, 4, generator=torch.Generator().manual_seed(2))}
    model.most, model.by = 20, by
    if refused:
        with pytest.raises(PrivacyError, match="by more than rounding"):
            shapes._of_drawn_weights(model, BookkeepingEngine(model), views, 50)
    else:
        assert shapes._of_drawn_weights(model, BookkeepingEngine(model), views, 50)[-1] == 16


def test_what_is_no_lack_of_memory_is_not_swallowed() -> None:
    model = with_weights(Placed())
    before = to_vector(model)

    def broken(_: Views) -> Any:
        raise RuntimeError("something else")

    engine = Kernel(lambda place, size: 0.0 * place)
    engine.made_of = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="something else"):
        shapes._of_drawn_weights(model, engine, {"values": torch.zeros(3, 4)}, 8)
    assert to_vector(model).tobytes() == before.tobytes()


def test_the_servers_weights_have_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros give equal bits everywhere; so what agrees is looked at with weights of our own, small and large."""
    model = with_weights(Placed())
    load_vector(model, np.zeros_like(to_vector(model)))
    model.most, views, seen = 20, {"values": torch.randn(3, 4)}, list[float]()
    honest = Placed.losses

    def losses(self: Placed, given: Views) -> Tensor:
        seen.append(float(self.layer.weight.detach().norm()))
        return honest(self, given)

    monkeypatch.setattr(Placed, "losses", losses)
    assert shapes._of_drawn_weights(model, BookkeepingEngine(model), views, 32)[-1] == 16
    assert 1.0 < min(seen) and max(seen) == pytest.approx(32 * min(seen))


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


def test_engines_that_take_units_one_by_one_have_no_shapes_and_others_look_once(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, looks = make_plan(IMAGE), list[int]()
    model = build_model(given)
    buckets = plan(("image", "resnet", "simclr-buckets"), 2)
    compared = build_model(buckets)
    assert shapes_of(compared, buckets, choose_pace(compared, buckets.data, SpeedSpec(), CPU), 40) == ()
    monkeypatch.setattr(shapes, "_of_drawn_weights", lambda _model, _engine, _views, most: looks.append(most) or (most,))

    def pace(**speed: Any) -> Pace:
        return choose_pace(model, given.data, SpeedSpec(**speed), CPU)

    assert shapes_of(model, given, pace(engine="reference"), 40) == () and not looks
    for speed in ({}, {}, {"engine": "vmap"}, {"chunk": 6}, {"chunk": 64}):
        shapes_of(model, given, pace(**speed), 40)
    # Of 0.25 x 40 patients; of groups of at most 6 there are three, with room for 5 each.
    assert looks == [16, 16, 6]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 7)
        shapes_of(model, given, pace(), 40)
    assert looks == [16, 16, 6, 16]
