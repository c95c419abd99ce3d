"""A batch as full as training's: what couples patients from some size on is refused, in every engine; honest tasks pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests_engines import IMAGE, TABLE, TEXT
from torch import Tensor

from ssl_core.config import StudyPlan
from ssl_core.data.patients import Patients
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import Views
from ssl_core.objectives.build import build_model
from ssl_core.privacy import full_batch
from ssl_core.privacy.engines import Engine, choose_engine, synthetic_views
from ssl_core.privacy.full_batch import check_full_batch
from ssl_core.privacy.gradients import ClippedSum, PerUnitGradients
from ssl_core.privacy.hooks import HooksEngine
from ssl_core.privacy.reference import LoopEngine
from ssl_core.privacy.synthetic import synthetic_patients

MakePlan = Callable[..., StudyPlan]
SIZE, CLIP_NORM = 12, 0.01


def engine_of(model: Any, plan: StudyPlan) -> Engine:
    return choose_engine(model, synthetic_views(model, plan.data), "auto")


@pytest.mark.parametrize("kind", [IMAGE, TABLE, TEXT], ids=["image", "table", "text"])
def test_our_objectives_pass_in_every_engine(make_plan: MakePlan, kind: dict[str, Any]) -> None:
    plan = make_plan(kind)
    model, patients = build_model(plan), synthetic_patients(plan.data, 4)
    engines = [engine_of(model, plan), PerUnitGradients(model), LoopEngine(model)]
    if engines[0].name == "bookkeeping":
        engines.append(HooksEngine(model))
    for engine in engines:
        check_full_batch(model, engine, patients, SIZE, CLIP_NORM)


def test_a_draw_in_which_patients_meet_in_a_large_batch_alone_is_refused(make_plan: MakePlan, tiny: Any) -> None:
    honest = tiny.draw

    def centred(patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
        views = honest(patients, index, uniforms)
        return {name: view - view.mean(dim=0) if len(view) >= SIZE else view for name, view in views.items()}

    tiny.draw = centred
    patients = synthetic_patients(make_plan().data, 4)
    check_full_batch(tiny, PerUnitGradients(tiny), patients, SIZE - 1, CLIP_NORM)
    with pytest.raises(PrivacyError, match="field: views, patients replaced by another; limit: bit by bit"):
        check_full_batch(tiny, PerUnitGradients(tiny), patients, SIZE, CLIP_NORM)


PLACES = [0, 1, 4, SIZE // 2 + 1, SIZE - 2, SIZE - 1, -1, -2]


@pytest.mark.parametrize("place", PLACES)
def test_a_draw_in_which_one_place_alone_changes_all_others_is_refused(make_plan: MakePlan, tiny: Any, place: int) -> None:
    honest = tiny.draw

    def centred(patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
        views = honest(patients, index, uniforms)
        return {name: view - view[place] if len(view) >= SIZE else view for name, view in views.items()}

    tiny.draw = centred
    with pytest.raises(PrivacyError, match="field: views, patients replaced by another; limit: bit by bit"):
        check_full_batch(tiny, PerUnitGradients(tiny), synthetic_patients(make_plan().data, 4), SIZE, CLIP_NORM)


@pytest.mark.parametrize("place", PLACES)
def test_losses_in_which_one_place_alone_changes_all_others_are_refused(make_plan: MakePlan, tiny: Any, place: int) -> None:
    honest = tiny.losses

    def compared(views: Views) -> Tensor:
        found: Tensor = honest(views)
        return found + 1e-3 * found[place].detach() if len(found) >= SIZE else found

    tiny.losses = compared
    with pytest.raises(PrivacyError, match="field: losses, patients replaced by another"):
        check_full_batch(tiny, PerUnitGradients(tiny), synthetic_patients(make_plan().data, 4), SIZE, CLIP_NORM)


@pytest.mark.parametrize("place", [0, SIZE // 2, -1])
def test_what_only_extreme_records_in_the_first_middle_or_last_place_change_is_refused(
    make_plan: MakePlan, tiny: Any, place: int
) -> None:
    honest = tiny.losses

    def compared(views: Views) -> Tensor:
        found: Tensor = honest(views)
        return found + (1.0 if len(found) >= SIZE and found[place].isnan() else 0.0)

    tiny.losses = compared
    with pytest.raises(PrivacyError, match="field: losses, patients replaced by what is no number"):
        check_full_batch(tiny, PerUnitGradients(tiny), synthetic_patients(make_plan().data, 4), SIZE, CLIP_NORM)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_in_small_batches_somebody_is_left_to_look_at(make_plan: MakePlan, tiny: Any, size: int) -> None:
    honest = tiny.losses
    patients = synthetic_patients(make_plan().data, 4)
    check_full_batch(tiny, PerUnitGradients(tiny), patients, size, CLIP_NORM)
    for place in range(size):

        def compared(views: Views, place: int = place) -> Tensor:
            found: Tensor = honest(views)
            return found + 1e-3 * found[place].detach() if len(found) == size else found

        tiny.losses = compared
        with pytest.raises(PrivacyError, match="field: losses, "):
            check_full_batch(tiny, PerUnitGradients(tiny), patients, size, CLIP_NORM)


class _Reaches(torch.autograd.Function):
    """Leaves the losses as they are; in a batch of `SIZE` or more, those at `places` reach all others' gradients."""

    @staticmethod
    def forward(context: Any, values: Tensor, places: slice) -> Tensor:
        context.places = places
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] + (1e-3 * grads[0][context.places].mean(dim=0) if len(grads[0]) >= SIZE else 0.0), None


@pytest.mark.parametrize("places", [slice(None), slice(3), slice(1, 2), slice(-1, None)])
def test_what_meets_in_the_gradients_alone_is_refused(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, places: slice
) -> None:
    plan = make_plan(IMAGE)
    model, patients = build_model(plan), synthetic_patients(plan.data, 4)
    engine = engine_of(model, plan)
    assert engine.name == "bookkeeping"
    honest = model.encoder.forward

    def forward(seen: Tensor) -> tuple[Tensor, Tensor]:
        parts, code = honest(seen)
        return parts, _Reaches.apply(code, places)

    monkeypatch.setattr(model.encoder, "forward", forward)
    check_full_batch(model, engine, patients, SIZE - 1, CLIP_NORM)
    with pytest.raises(PrivacyError, match="field: what is kept for rows, patients replaced by another"):
        check_full_batch(model, engine, patients, SIZE, CLIP_NORM)


@pytest.mark.parametrize("name", ["vmap", "hooks", "reference"])
def test_a_clipping_that_is_too_weak_in_a_full_batch_alone_is_refused(
    make_plan: MakePlan, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(IMAGE)
    model, patients = build_model(plan), synthetic_patients(plan.data, 4)
    engine: Any = choose_engine(model, synthetic_views(model, plan.data), name)  # type: ignore[arg-type]
    honest = type(engine).clipped_sum

    def weak(self: Any, views: Views, clip_norm: float) -> ClippedSum:
        full = len(next(iter(views.values()))) >= SIZE - 1
        return ClippedSum(honest(self, views, (2.05 if full else 1.0) * clip_norm).grads, clip_norm)

    monkeypatch.setattr(type(engine), "clipped_sum", weak)
    check_full_batch(model, engine, patients, SIZE - 2, CLIP_NORM)
    with pytest.raises(PrivacyError, match="more than its sensitivity"):
        check_full_batch(model, engine, patients, SIZE, CLIP_NORM)


def test_marks_tell_small_changes_apart_and_are_of_the_norm() -> None:
    generator = torch.Generator().manual_seed(1)
    part = torch.randn(200, 7, 31, generator=generator)
    marks = full_batch._marks([part, torch.arange(200)[:, None]])
    assert [mark.shape for mark in marks] == [(200, 16)] * 2 and marks[0].dtype == torch.float64
    ratio = marks[0].norm(dim=1) / part.flatten(1).double().norm(dim=1)
    assert 0.4 < float(ratio.min()) and float(ratio.max()) < 1.8 and float(ratio.mean()) == pytest.approx(1, abs=0.05)
    moved = part.clone()
    moved[3, 2, 5] += 1e-2
    others = full_batch._marks([moved])[0]
    changed = (others - marks[0]).norm(dim=1) > 0
    assert changed.nonzero().flatten().tolist() == [3]
    # Rows are told apart wherever the tiles of wider numbers end.
    torch.testing.assert_close(full_batch._marks([part[5:6]])[0], marks[0][5:6], rtol=1e-12, atol=1e-12)


def test_where_memory_ends_the_batch_is_halved_as_in_training(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(IMAGE)
    model, patients = build_model(plan), synthetic_patients(plan.data, 4)
    engine, sizes = engine_of(model, plan), list[int]()
    honest = type(engine).clipped_sum

    def small(self: Any, views: Views, clip_norm: float) -> ClippedSum:
        sizes.append(len(next(iter(views.values()))))
        if sizes[-1] > 8:
            raise torch.OutOfMemoryError("out of memory")
        return honest(self, views, clip_norm)

    monkeypatch.setattr(type(engine), "clipped_sum", small)
    check_full_batch(model, engine, patients, 32, CLIP_NORM)
    assert sizes[:3] == [32, 16, 8] and set(sizes[2:]) == {7, 8}
    monkeypatch.setattr(type(engine), "clipped_sum", lambda *_: (_ for _ in ()).throw(RuntimeError("another fault")))
    with pytest.raises(RuntimeError, match="another fault"):
        check_full_batch(model, engine, patients, 32, CLIP_NORM)
