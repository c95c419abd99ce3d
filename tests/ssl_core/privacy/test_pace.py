"""At which pace a site trains: engine, precision, and of how many units every pass of a round in bfloat16 has the shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests_engines import IMAGE, VIT, Words, with_weights
from torch import Tensor

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.objectives.base import Views
from ssl_core.objectives.build import build_model
from ssl_core.privacy import planner, shapes, training
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.gradients import ClippedSum, units_of
from ssl_core.privacy.isolation import check_isolation
from ssl_core.privacy.planner import Pace, choose_pace, memory_given, total_memory
from ssl_core.privacy.sampling import group_count, group_room
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.privacy.training import RoundResult, replay_round, train_round

MakePlan = Callable[..., StudyPlan]
CPU = torch.device("cpu")


def bfloat16(chunk: int) -> SpeedSpec:
    return SpeedSpec(chunk=chunk, precision="bfloat16")


def _train(model: Any, plan: StudyPlan, size: int, speed: SpeedSpec, **more: Any) -> RoundResult:
    """A study's first round, of `size` patients at a site that says it has 40."""
    given = {"model": model, "plan": plan, "patients": synthetic_patients(plan.data, size), "nominal_size": 40, "speed": speed}
    start = {"start": to_vector(model), "first_step": 0, "total_steps": plan.total_steps, "state": None}
    return train_round(**(given | start | more))


def _shapes(model: Any) -> set[int]:
    """Of how many units the passes are from here on; in bfloat16 they must be."""
    honest, found = model.losses, set[int]()

    def losses(views: Views) -> Tensor:
        assert torch.is_autocast_enabled("cpu")
        found.add(units_of(views))
        losses: Tensor = honest(views)
        return losses

    model.losses = losses
    return found


def test_the_precision_is_the_sites_and_is_printed(make_plan: MakePlan) -> None:
    plan = make_plan(IMAGE)
    model = build_model(plan)
    for asked, printed in ((None, "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")):
        pace = choose_pace(model, plan.data, SpeedSpec(precision=asked), CPU)  # type: ignore[arg-type]
        assert pace.precision == printed and f"bookkeeping in {printed}" in pace.why
        assert pace.room(0.25, 40) == 13
    with pytest.raises(ConfigError, match=r"vmap computes in float32 alone.*asked for.*speed\.precision"):
        choose_pace(model, plan.data, SpeedSpec(precision="bfloat16", engine="vmap"), CPU)


def test_bfloat16_is_asked_for_and_never_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """No accelerator is there: only the choice is looked at."""
    fast, cuda = BookkeepingEngine(with_weights(Words())), torch.device("cuda")
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has: has)
        for given in (SpeedSpec(), SpeedSpec(precision="float32")):
            assert {planner._precision(fast, given, device) for device in (CPU, cuda)} == {"float32"}
        if has:
            assert planner._precision(fast, SpeedSpec(precision="bfloat16"), cuda) == "bfloat16"
        else:
            with pytest.raises(ConfigError, match=r"no bfloat16.*speed\.precision"):
                planner._precision(fast, SpeedSpec(precision="bfloat16"), cuda)


def test_what_must_stay_as_it_was_checked_tells_engine_precision_and_size(make_plan: MakePlan) -> None:
    plan = make_plan(IMAGE)
    model = build_model(plan)
    speeds = [SpeedSpec(chunk=6), bfloat16(6), bfloat16(3), SpeedSpec(chunk=6, engine="vmap")]
    found = [choose_pace(model, plan.data, speed, CPU).facts for speed in speeds]
    assert all(one != other for at, one in enumerate(found) for other in found[:at])
    assert found[1] == {"engine": "bookkeeping", "precision": "bfloat16", "units": 6}


def test_memory_is_planned_for_engine_and_precision_and_looked_at_once(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(IMAGE | VIT)
    model, looks, honest = build_model(plan), list[int](), planner.peak_bytes

    def looked(work: Callable[[], object]) -> int:
        looks.append(honest(work))
        return looks[-1]

    monkeypatch.setattr(planner, "peak_bytes", looked)
    speeds = [SpeedSpec(), SpeedSpec(precision="bfloat16"), SpeedSpec(engine="vmap")]
    needs = [choose_pace(model, plan.data, speed, CPU).need for speed in speeds]
    assert None not in needs and len(set(needs)) == 3
    before = len(looks)
    assert [choose_pace(model, plan.data, speed, CPU).need for speed in speeds] == needs and len(looks) == before


def test_memory_is_an_eighth_of_a_computers_or_what_the_site_gives() -> None:
    assert memory_given(SpeedSpec(), CPU) == total_memory(CPU) // 8
    assert memory_given(SpeedSpec(memory_gib=2.5), CPU) == 5 << 29


def test_the_room_of_a_batch_is_public_and_few_groups_need_more() -> None:
    generator = np.random.default_rng(0)
    for rate, nominal, size in ((0.25, 40, 64), (0.01, 9000, 64), (0.05, 20000, 64), (0.01, 10, 4096), (0.3, 7000, 256)):
        groups = group_count(rate, nominal, size)
        room = group_room(rate, nominal, groups)
        assert 1 <= room <= size
        drawn = generator.binomial(nominal, rate / groups, 4000)
        assert (drawn > room).mean() < 0.4 and (drawn.mean() > 0.4 * room or room == 1)
    # 28 units in 5 groups: by rounding alone each would have room for 8, which is more than the device was said to take.
    assert group_room(0.035, 800, group_count(0.035, 800, 7)) == 8
    fast = BookkeepingEngine(with_weights(Words()), "bfloat16")
    assert Pace(fast, 7, "", None, "bfloat16").room(0.035, 800) == 7


def test_every_pass_of_a_round_has_one_shape_and_the_round_can_be_replayed(make_plan: MakePlan) -> None:
    plan, seen = make_plan(IMAGE), dict[int, set[int]]()
    for size in (7, 40, 160):
        model, captured = build_model(plan), list[Any]()
        choose_pace(model, plan.data, bfloat16(6), CPU)
        seen[size], start = _shapes(model), to_vector(model)
        found = _train(model, plan, size, bfloat16(6), tap=captured.append)
        again = replay_round(
            model=build_model(plan), plan=plan, gradients=captured, start=start, first_step=0, total_steps=plan.total_steps,
            state=None,
        )  # fmt: skip
        assert found.delta.any() and found.delta.tobytes() == again.delta.tobytes()
    # 0.25 x 40 patients in three groups, of 4.2 units with room; fewer or more patients than the plan says change no shape.
    assert seen == {7: {5}, 40: {5}, 160: {5}}


def test_a_sample_is_parted_by_public_numbers_alone(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, found, honest = make_plan(IMAGE), set[tuple[int, int]](), training.batches

    def watched(*args: Any, groups: int, size: int) -> Any:
        found.add((groups, size))
        return honest(*args, groups=groups, size=size)

    monkeypatch.setattr(training, "batches", watched)
    model = build_model(plan)
    # Of 0.25 x 40 patients, with room; in bfloat16 a part is never of more units than the shape has places.
    for speed, wanted in ((SpeedSpec(chunk=4), (4, 4)), (bfloat16(6), (3, 5))):
        for size in (1, 7, 160):
            _train(model, plan, size, speed)
        assert found == {wanted}
        found.clear()


def test_a_round_trains_at_the_pace_that_it_is_given(make_plan: MakePlan) -> None:
    """Which the isolation check looked at, whatever site.toml says by now."""
    plan = make_plan(IMAGE)
    model = build_model(plan)
    pace = choose_pace(model, plan.data, bfloat16(3), CPU)
    shapes = _shapes(model)
    _train(model, plan, 40, SpeedSpec(chunk=16), pace=pace)
    assert shapes == {3}


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_shape_of_fewer_units_than_are_made_up_trains_and_passes_the_check(make_plan: MakePlan, chunk: int) -> None:
    plan = make_plan(IMAGE)
    model = build_model(plan)
    assert check_isolation(plan, speed=bfloat16(chunk), model=model, nominal_size=40).greatest_change <= 1e-5
    assert _train(model, plan, 40, bfloat16(chunk)).delta.any()


def test_a_round_whose_memory_ends_fails_and_is_not_finished_in_another_precision(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, seen = make_plan(IMAGE), list[int]()

    def short(self: BookkeepingEngine, views: Views, clip_norm: float) -> ClippedSum:
        seen.append(units_of(views))
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = build_model(plan)
    _train(model, plan, 40, bfloat16(6))
    monkeypatch.setattr(BookkeepingEngine, "clipped_sum", short)
    with pytest.raises(ConfigError, match=r"one shape that was looked at.*speed\.chunk"):
        _train(model, plan, 40, bfloat16(6))
    assert len(seen) == 1


def test_training_looks_at_its_own_shape_whatever_was_approved(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, looks = make_plan(IMAGE), list[tuple[int, float]]()
    monkeypatch.setattr(shapes, "check_fixed_shape", lambda _engine, room, _views, norm: looks.append((room, norm)))
    model = build_model(plan)
    for speed in (SpeedSpec(chunk=6), bfloat16(6), bfloat16(6), bfloat16(3)):
        _train(model, plan, 9, speed)
    # Of groups of at most 6 units a sample has three, with room for 5 each.
    assert looks == [(5, plan.privacy.max_grad_norm), (3, plan.privacy.max_grad_norm)]


def test_in_bfloat16_the_shape_is_looked_at_with_what_the_round_begins_with(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with slow copies and a bank of other weights."""
    plan, seen = make_plan(IMAGE), list[str]()
    model = build_model(plan)
    monkeypatch.setattr(model, "start_round", lambda: seen.append("begun"))
    monkeypatch.setattr(shapes, "check_fixed_shape", lambda *_: seen.append("looked"))
    _train(model, plan, 9, bfloat16(6))
    assert seen == ["begun", "looked", "begun"]


def test_a_shape_that_was_refused_is_refused_in_every_round(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(IMAGE)
    model = build_model(plan)
    start = to_vector(model)

    def refused(*_: Any) -> None:
        raise PrivacyError("units of a batch are not kept apart")

    monkeypatch.setattr(shapes, "check_fixed_shape", refused)
    for _ in range(2):
        with pytest.raises(PrivacyError, match="not kept apart"):
            _train(model, plan, 40, bfloat16(6))
    assert np.array_equal(to_vector(model), start)
