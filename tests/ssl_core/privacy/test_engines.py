"""What every engine promises, held against the loop of single units; which engine is chosen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_engines import IMAGE, TABLE, TEXT, TEXT_TRANSFORMER, VIT, Given, Pictures, Words, with_weights
from torch import Tensor, nn

from ssl_core.config import StudyPlan
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.objectives.base import PretextModel
from ssl_core.objectives.build import build_model
from ssl_core.privacy import bookkeeping, layers
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import choose_engine, synthetic_views
from ssl_core.privacy.gradients import PerUnitGradients
from ssl_core.privacy.kept import Part, Products, Rows
from ssl_core.privacy.reference import LoopEngine, exact_sum, loop_rows

ENGINES = [BookkeepingEngine, PerUnitGradients, LoopEngine]
MakePlan = Callable[..., StudyPlan]
Views = dict[str, Tensor]


def _whole(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.double().reshape(-1) for part in parts])


def _agree(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...], slack: float = 0.0) -> None:
    """Each parameter to 1e-6 of its norm, and of all together to 4e-7 and `slack`."""
    whole = float(_whole(wanted).norm())
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == torch.float64
        assert float((mine - theirs).norm()) <= 1e-6 * float(theirs.norm()) + 4e-7 * whole + slack


def _conditioning(model: Given, views: Views, clip_norm: float) -> float:
    """What the loop in float32 differs from the loop in float64: what no engine can be asked to do better than.

    A LayerNorm over two numbers is nearly a step; most models and sizes have less than 1e-7 of the sum here.
    """
    wide = copy.deepcopy(model).double()
    rows = loop_rows(wide, {name: view.double() if view.is_floating_point() else view for name, view in views.items()})
    return float((_whole(exact_sum(rows, clip_norm)) - _whole(exact_sum(loop_rows(model, views), clip_norm))).norm())


@st.composite
def models(draw: Any) -> tuple[Given, Views]:
    """A random small model and views of 1 to 7 units; tokens and places on both sides of the rule for Gram matrices."""
    units, seed = draw(st.integers(1, 7)), draw(st.integers(0, 2**31))
    if draw(st.booleans()):
        heads, tokens = draw(st.sampled_from([1, 2])), draw(st.integers(1, 12))
        width, codes = heads * draw(st.integers(3, 5)), draw(st.integers(3, 9))
        model: Given = Words(width, heads, codes, draw(st.integers(1, 2)), tokens, draw(st.booleans()))
        views = Words.views(units, tokens, codes, seed)
    else:
        side, channels, count = draw(st.integers(5, 8)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        model = Pictures(side, channels, 2 * draw(st.integers(1, 12)), draw(st.integers(1, 3)), draw(st.integers(3, 6)))
        views = Pictures.views(units, count, side, channels, seed)
    return with_weights(model, seed), views


@settings(max_examples=60, deadline=None)
@given(models(), st.integers(-3, 3))
def test_all_engines_give_the_sum_of_the_loop(pair: tuple[Given, Views], exponent: int) -> None:
    model, views = pair
    clip_norm = 10.0**exponent
    wanted = exact_sum(loop_rows(model, views), clip_norm)
    for kind in ENGINES:
        engine = kind(model)
        found = engine.clipped_sum(views, (1.0 + engine.gamma) * clip_norm).grads
        _agree(found, wanted, 4.0 * _conditioning(model, views, clip_norm))


@settings(max_examples=40, deadline=None)
@given(models(), st.lists(st.sampled_from(["fine", "nan", "inf", "huge", "zero"]), min_size=7, max_size=7))
def test_units_that_are_not_finite_are_zero_and_change_nothing_else(pair: tuple[Given, Views], fates: list[str]) -> None:
    """NaN and infinity in the input, a gradient of 1e30, one of exactly zero, in any mixture."""
    model, views = pair
    units = len(views["weight"])
    fates = fates[:units]
    entry = "scale" if "scale" in views else "pictures"
    spoilt = {name: view.clone() for name, view in views.items()}
    for place, fate in enumerate(fates):
        if fate in {"nan", "inf"}:
            spoilt[entry][place] = float(fate)
        elif fate != "fine":
            spoilt["weight"][place] = 1e30 if fate == "huge" else 0.0
    fine = torch.tensor([place for place in range(units) if fates[place] == "fine"], dtype=torch.int64)
    rest = {name: view[fine] for name, view in views.items()}
    for kind in ENGINES:
        engine = kind(model)
        found, wanted = engine.clipped_sum(spoilt, 0.05).grads, engine.clipped_sum(rest, 0.05).grads
        assert _whole(found).isfinite().all()
        _agree(found, wanted, 4.0 * _conditioning(model, rest, 0.05) if len(fine) else 0.0)
        if not len(fine):
            assert not _whole(found).any(), "exactly zero"


class Twins(Given):
    """Of both layers the row is the unit's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)

    def losses(self, views: Views) -> Tensor:
        return (self.one(views["ones"]) + self.two(views["ones"]))[:, 0] * views["weight"]


@pytest.mark.parametrize("kind", ENGINES)
def test_a_row_whose_layers_are_beyond_float32_together_alone_is_exactly_zero(kind: Any) -> None:
    """Squares of 2.25e38 each, and of 1.44e38: float32 ends at 3.4e38."""
    for weight, counts in ((1.5e19, False), (1.2e19, True)):
        views = {"ones": torch.ones(2, 1), "weight": torch.tensor([weight, 0.0])}
        norm = float(_whole(kind(with_weights(Twins())).clipped_sum(views, 1.0).grads).norm())
        assert 0.99 < norm <= 1.0 if counts else norm == 0.0


@settings(max_examples=40, deadline=None)
@given(models(), st.floats(-4, 4), st.integers(0, 6))
def test_one_unit_moves_the_sum_by_at_most_c_exactly(pair: tuple[Given, Views], loud: float, place: int) -> None:
    model, views = pair
    units = len(views["weight"])
    views["weight"] = views["weight"] * 10.0**loud
    kept = torch.tensor([i for i in range(units) if i != place % units], dtype=torch.int64)
    fewer = {name: view[kept] for name, view in views.items()}
    for kind in ENGINES:
        engine = kind(model)
        everyone, others = (_whole(engine.clipped_sum(v, 0.01).grads) for v in (views, fewer))
        assert float((everyone - others).norm()) <= 0.01
        alone = {name: view[place % units][None] for name, view in views.items()}
        assert float(_whole(engine.clipped_sum(alone, 0.01).grads).norm()) <= 0.01


@pytest.mark.parametrize("kind", ENGINES)
def test_units_far_above_c_use_nearly_all_of_it(kind: Any) -> None:
    model, views = with_weights(Words()), Words.views(1)
    views["weight"] *= 1e4
    engine = kind(model)
    norm = float(_whole(engine.clipped_sum(views, 0.5).grads).norm())
    assert 0.5 * (1 - 1.1 * engine.gamma) <= norm <= 0.5


@pytest.mark.parametrize("kind", ENGINES)
def test_an_empty_sample_gives_zeros_and_a_bad_norm_is_refused(kind: Any) -> None:
    model = with_weights(Words())
    nobody = {name: view[:0] for name, view in Words.views(2).items()}
    found = kind(model).clipped_sum(nobody, 0.5)
    assert [g.shape for g in found.grads] == [p.shape for p in model.parameters()] and found.sensitivity() == 0.5
    assert not _whole(found.grads).any() and {g.dtype for g in found.grads} == {torch.float64}
    for views in (nobody, Words.views(2)):
        with pytest.raises(PrivacyError, match="max_grad_norm"):
            kind(model).clipped_sum(views, 1e-7)
    with pytest.raises(PrivacyError, match="different numbers"):
        kind(model).clipped_sum(Words.views(2) | {"weight": torch.ones(3)}, 0.5)


@pytest.mark.parametrize("kind", ENGINES)
def test_rows_are_those_of_the_loop_and_nothing_stays_on_the_model(kind: Any) -> None:
    for model, views in ((Words(), Words.views(5)), (Pictures(), Pictures.views(5))):
        with_weights(model)
        for fast, slow in zip(kind(model).rows(views), loop_rows(model, views), strict=True):
            assert fast.shape == slow.shape and fast.dtype == torch.float32
            assert float((fast - slow).norm()) <= 1e-5 * float(slow.norm()) + 1e-6
        kind(model).clipped_sum(views, 1.0)
        assert not any(module._forward_hooks for module in model.modules())
        assert all(parameter.grad is None for parameter in model.parameters())


def test_both_ways_of_taking_norms_are_tried_by_these_models() -> None:
    """Otherwise the property tests would say nothing of one of them."""
    made: tuple[tuple[Given, Views], ...] = (
        (Words(tokens=2), Words.views(2, tokens=2)),
        (Words(tokens=9), Words.views(2, tokens=9)),
        (Pictures(side=5, channels=3, width=24, stride=3), Pictures.views(2, 1, 5, 3)),
        (Pictures(), Pictures.views(2)),
    )
    kept = [BookkeepingEngine(model)._kept(views)[0].values() for model, views in made]
    ways = [{type(part) for part in parts if part.rows()[0].dim() > 2} for parts in kept]
    assert [Products in way for way in ways] == [True, False, True, False] and all(Rows in way for way in ways)


def test_places_of_nobody_change_nothing_and_the_moments_at_hand_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[Tensor, ...]]()

    def part_of(*given: Any) -> Part:
        seen.append(given[-1])
        return layers.part_of(*given)

    monkeypatch.setattr(bookkeeping, "part_of", part_of)
    model, views = with_weights(Words()), Words.views(3)
    engine = BookkeepingEngine(model)
    filled = engine.within((7,)).clipped_sum(views, 0.1)
    for mine, theirs in zip(engine.clipped_sum(views, 0.1).grads, filled.grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-8)
    norms = sum(isinstance(module, torch.nn.LayerNorm) for module in model.modules())
    assert norms and sum(len(found) == 2 for found in seen) == 2 * norms


def test_native_losses_of_the_image_model_equal_its_forward_and_its_default(make_plan: MakePlan) -> None:
    plan = make_plan(IMAGE)
    model = build_model(plan)
    views = synthetic_views(model, plan.data)
    single = torch.stack([model({name: view[i] for name, view in views.items()}) for i in range(3)])
    torch.testing.assert_close(model.losses(views), single)
    torch.testing.assert_close(PretextModel.losses(model, views), single)


def test_the_choice_depends_on_the_model_and_says_why(make_plan: MakePlan, kind: dict[str, Any], tiny: Any) -> None:
    plan = make_plan(kind)
    model = build_model(plan)
    views = synthetic_views(model, plan.data)
    engine = choose_engine(model, views, "auto")
    words = kind["data"]["kind"] == "text"
    assert engine.name == ("vmap" if words else "bookkeeping") and engine.reason
    assert choose_engine(model, views, "vmap").name == "vmap"
    assert choose_engine(model, views, "reference").name == "reference"
    if words:
        assert "no batched losses" in engine.reason
        with pytest.raises(ConfigError, match="no batched losses"):
            choose_engine(model, views, "bookkeeping")
    again = synthetic_views(model, plan.data)
    assert all(torch.equal(views[name], again[name]) for name in views), "no chance in the choice"


@pytest.mark.parametrize("name", ["vit", "text-transformer", "table-transformer"])
def test_hooks_give_the_rows_of_the_loop_and_nothing_stays_on_the_model(name: str, make_plan: MakePlan) -> None:
    parts = {"vit": IMAGE | VIT, "text-transformer": TEXT | TEXT_TRANSFORMER, "table-transformer": TABLE}
    plan = make_plan(parts[name])
    model = with_weights(build_model(plan))
    views = synthetic_views(model, plan.data)
    engine = choose_engine(model, views, "hooks")
    assert engine.name == "hooks"
    wanted = loop_rows(model, views)
    for fast, slow in zip(engine.rows(views), wanted, strict=True):
        assert fast.shape == slow.shape and fast.dtype == torch.float32
        assert float((fast - slow).norm()) <= 1e-4 * float(slow.norm()) + 1e-6
    _agree(engine.clipped_sum(views, (1 + engine.gamma) * 0.01).grads, exact_sum(wanted, 0.01), 1e-4)
    nobody = {key: view[:0] for key, view in views.items()}
    assert not _whole(engine.clipped_sum(nobody, 0.5).grads).any()
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert all(parameter.grad is None and parameter.grad_sample is None for parameter in model.parameters())


def test_hooks_are_refused_where_their_rows_are_not_those_of_the_loop() -> None:
    """Opacus 1.6 gives an Embedding's padding entry a gradient that torch does not; and k rows of a unit are k units to it."""
    with pytest.raises(ConfigError, match="engine hooks does not fit this model: gradients of single units"):
        choose_engine(with_weights(Words()), Words.views(3), "hooks")
    with pytest.raises(ConfigError, match="no row for each unit"):
        choose_engine(with_weights(Pictures()), Pictures.views(3), "hooks")


def test_weights_do_not_change_the_choice() -> None:
    """Where a layer's gradient is zero at the start, as before a head of zeros, nothing is hidden from the survey."""
    model = Words()
    for fill in (0.0, 1.0, float("nan")):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(fill)
        before = [parameter.clone() for parameter in model.parameters()]
        assert choose_engine(model, Words.views(3), "auto").name == "bookkeeping"
        assert all(torch.equal(a, b) or fill != fill for a, b in zip(before, model.parameters(), strict=True))


def test_products_that_are_less_exact_than_float32_are_refused() -> None:
    engine, views = BookkeepingEngine(Words()), Words.views(2)
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(PrivacyError, match="less exact"):
            engine.clipped_sum(views, 1.0)
    finally:
        torch.set_float32_matmul_precision("highest")
