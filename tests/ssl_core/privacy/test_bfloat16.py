"""The fast path in bfloat16: what a unit adds is at most C, for any values; its neighbours cannot change its row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests_engines import IMAGE, VIT, Given, Pictures, Words, with_weights
from torch import Tensor, nn

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.objectives.build import build_model
from ssl_core.privacy.bookkeeping import BookkeepingEngine, divisor
from ssl_core.privacy.engines import synthetic_views
from ssl_core.privacy.gradients import ClippedSum, units_of
from ssl_core.privacy.kept import Lookups, Part, Products, Rows
from ssl_core.privacy.planner import choose_pace
from ssl_core.privacy.reference import loop_rows
from ssl_core.privacy.synthetic import synthetic_patients

MakePlan = Callable[..., StudyPlan]
Views = dict[str, Tensor]
CPU = torch.device("cpu")


class Cancelling(Given):
    """Tokens that are nearly the same, and output gradients of them that add up to nearly nothing: the row is far below
    its terms."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def losses(self, views: Views) -> Tensor:
        return (self.layer(views["tokens"]) * views["signs"]).sum(dim=(1, 2)) * views["weight"]

    @staticmethod
    def views(units: int) -> Views:
        generator = torch.Generator().manual_seed(4)
        tokens = torch.randn(units, 1, 64, generator=generator) + 1e-4 * torch.randn(units, 8, 64, generator=generator)
        signs = torch.ones(units, 8, 64)
        signs[:, ::2] = -1.0
        return {"tokens": tokens, "signs": signs, "weight": torch.ones(units)}


MODELS: dict[str, tuple[Callable[[], Given], Callable[[int], Views]]] = {
    "words": (lambda: Words(codes=8), lambda units: Words.views(units, codes=8)),
    "more words": (lambda: Words(width=24, codes=8, tokens=40), lambda units: Words.views(units, 40, 8)),
    "odd words": (lambda: Words(width=24, tokens=40), lambda units: Words.views(units, 40)),
    "pictures": (lambda: Pictures(side=5, channels=3, width=24, stride=3), lambda units: Pictures.views(units, 1, 5, 3)),
    "cancelling": (Cancelling, Cancelling.views),
}
FATES = {"ordinary": 1.0, "huge": 1e12, "beyond": 1e30, "tiny": 1e-18, "vanishing": 1e-36, "zero": 0.0, "nan": math.nan}


def _flat(rows: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([row.flatten(1) for row in rows], dim=1)


def _whole(found: ClippedSum) -> Tensor:
    return torch.cat([part.flatten() for part in found.grads])


def _square(part: Part) -> Tensor:
    """float64 [b]: squares of the norms of the rows that the kept values stand for, as they are defined."""
    if isinstance(part, Rows):
        rows = [values.double() for values in part.values]
    elif isinstance(part, Lookups):
        hot = torch.nn.functional.one_hot(part.index, part.count).double()
        rows = [hot.transpose(1, 2) @ part.grads.double()]
    else:
        inputs, grads = part.inputs.double() if part.unfold is None else part.unfold(part.inputs.double()), part.grads.double()
        rows = [grads.transpose(1, 2) @ inputs, *([grads.sum(dim=1)] if part.bias else [])]
    return torch.stack([row.flatten(1).square().sum(dim=1) for row in rows]).sum(dim=0)


def _vit(make_plan: MakePlan, units: int) -> tuple[Any, Views]:
    plan = make_plan(IMAGE | VIT)
    model = with_weights(build_model(plan))
    patients = synthetic_patients(plan.data, units)
    return model, model.draw(patients, np.arange(units), 1.0 - np.random.default_rng(0).random((units, model.coins)))


def test_rows_are_those_of_the_loop_in_float32_to_the_bits_that_bfloat16_has(make_plan: MakePlan) -> None:
    model, views = _vit(make_plan, 12)
    wanted = _flat(loop_rows(model, views)).double()
    found = _flat(BookkeepingEngine(model, "bfloat16").rows(views))
    assert found.dtype == torch.float32
    apart = (found.double() - wanted).norm(dim=1) / wanted.norm(dim=1)
    assert 2.0**-14 < float(apart.min()) <= float(apart.max()) <= 2.0**-6
    # And the sum, at a norm that binds and at one that does not.
    for clip_norm in (0.1 * float(wanted.norm(dim=1).median()), 10.0 * float(wanted.norm(dim=1).max())):
        exact = ((clip_norm / wanted.norm(dim=1)).clamp(max=1.0)[:, None] * wanted).sum(dim=0)
        engine = BookkeepingEngine(model, "bfloat16")
        sum_of = _whole(engine.clipped_sum(views, (1 + engine.gamma) * clip_norm))
        assert sum_of.dtype == torch.float64 and float((sum_of - exact).norm() / exact.norm()) <= 2.0**-6
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(parameter.grad is None for parameter in model.parameters())


# Of a layer that none of our encoders has.
RMS = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")


@RMS
def test_products_are_kept_in_bfloat16_and_everything_else_in_float32() -> None:
    """Otherwise what is shown here of bfloat16 would be shown of float32."""
    kinds = set()
    for make, views in MODELS.values():
        kept, *_ = BookkeepingEngine(with_weights(make()), "bfloat16")._kept(views(3))
        kinds |= {part.grads.dtype for part in kept.values() if isinstance(part, Products)}
        assert {rows.dtype for part in kept.values() if isinstance(part, Rows) for rows in part.values} <= {torch.float32}
        assert {part.grads.dtype for part in kept.values() if isinstance(part, Lookups)} <= {torch.float32}
    assert kinds == {torch.bfloat16}


@RMS
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("clip_norm", [1e-6, 1e-2, 1e3])
def test_one_unit_adds_at_most_c_whatever_its_values_are(name: str, fate: str, clip_norm: float) -> None:
    make, views_of = MODELS[name]
    engine, views = BookkeepingEngine(with_weights(make()), "bfloat16"), views_of(3)
    views["weight"] = views["weight"] * FATES[fate]
    kept, *_ = engine._kept(views)
    square = torch.stack([_square(part) for part in kept.values()]).sum(dim=0)
    divisors = divisor([part.bound() for part in kept.values()])
    finite = divisors.square() <= torch.finfo(torch.float32).max
    # By the definition of the row: factor times norm, in float64.
    assert bool((square.sqrt() * (clip_norm / divisors).clamp(max=1.0) <= clip_norm)[finite].all())
    assert bool(finite.all()) == (fate not in {"beyond", "nan"}) or fate == "huge"
    for unit in range(3):
        alone = {key: view[unit : unit + 1] for key, view in views.items()}
        for one in (engine, engine.within((3,))):
            added = float(_whole(one.clipped_sum(alone, clip_norm)).norm())
            assert added <= clip_norm
            if fate in {"nan", "zero", "beyond"}:
                assert added == 0.0


def test_such_rows_cancel_and_the_bound_is_what_holds_them() -> None:
    """Positive control of the model above: its rows are a hundredth of their terms or less."""
    kept, *_ = BookkeepingEngine(with_weights(Cancelling()), "bfloat16")._kept(Cancelling.views(3))
    (part,) = kept.values()
    assert isinstance(part, Products)
    bound = part.bound()
    assert bool((bound.upper >= _square(part)).all())
    assert bool((bound.mass > 1e4 * _square(part)).all())


@RMS
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38])
def test_a_unit_that_is_not_finite_is_left_out_and_changes_no_other(name: str, value: float) -> None:
    """Also in rows of seven numbers, whose neighbours some processors' kernels reach; and where it overflows on the way."""
    make, views_of = MODELS[name]
    engine, views = BookkeepingEngine(with_weights(make()), "bfloat16").within((5,)), views_of(5)
    spoilt = {key: view.clone() for key, view in views.items()}
    spoilt["weight"][2] = value
    others = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(_flat(engine.rows(spoilt))[others], _flat(engine.rows(views))[others], rtol=1e-5, atol=1e-7)
    everyone, rest = (_whole(engine.clipped_sum(v, 0.01)) for v in (views, spoilt))
    assert 0.0 < float((everyone - rest).norm()) <= 0.01
    absent = _whole(engine.clipped_sum({key: view[others] for key, view in views.items()}, 0.01))
    torch.testing.assert_close(rest, absent, rtol=0, atol=1e-7)


class OfItsShape(Words):
    """As a kernel may be: what it gives depends on how many units the tensors have, at a bit of bfloat16."""

    def losses(self, views: Views) -> Tensor:
        return super().losses(views) * (1.0 + len(views["weight"]) / 256)


def test_within_one_shape_an_absent_unit_changes_nobodys_row() -> None:
    model, views = with_weights(OfItsShape()), Words.views(6)
    fewer = {name: view[1:] for name, view in views.items()}
    engine = BookkeepingEngine(model, "bfloat16")
    # Positive control: without it each is moved by its neighbour's absence.
    shapeless = _flat(engine.rows(views))
    assert not torch.allclose(shapeless[1:], _flat(engine.rows(fewer)), rtol=1e-3)
    shaped = engine.within((8,))
    assert torch.equal(_flat(engine.rows(views)), shapeless), "the engine itself has no shape"
    assert torch.equal(_flat(shaped.rows(views))[1:], _flat(shaped.rows(fewer)))
    # The places of nobody add nothing, and what they stand for is in no sum.
    alone = _whole(shaped.clipped_sum({name: view[:1] for name, view in views.items()}, 0.5))
    assert 0.0 < float(alone.norm()) <= 0.5
    assert not _whole(shaped.clipped_sum({name: view[:0] for name, view in views.items()}, 0.5)).any()
    with pytest.raises(PrivacyError, match="more units than its shape") as refused:
        engine.within((5,)).rows(views)
    assert "6" not in str(refused.value), "how many were sampled is nobody's business"


def test_an_engine_under_anothers_autocast_is_refused() -> None:
    """There its own products would be of bfloat16, and no bound would hold."""
    for precision in ("float32", "bfloat16"):
        engine = BookkeepingEngine(with_weights(Words()), precision)  # type: ignore[arg-type]
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(PrivacyError, match=r"less exact.*autocast"):
            engine.clipped_sum(Words.views(2), 1.0)
        assert not torch.is_autocast_enabled("cpu")
        engine.clipped_sum(Words.views(2), 1.0)


def test_views_of_truth_values_stay_such_beside_a_unit_that_is_left_out() -> None:
    class Hiding(Given):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def losses(self, views: Views) -> Tensor:
            return torch.where(~views["hidden"], self.layer(views["values"]), 0.0).square().sum(dim=1)

    generator = torch.Generator().manual_seed(3)
    views = {"values": torch.randn(5, 4, generator=generator), "hidden": torch.rand(5, 4, generator=generator) < 0.5}
    engine = BookkeepingEngine(with_weights(Hiding()), "bfloat16").within((8,))
    before = _flat(engine.rows(views))
    views["values"][2] = math.nan
    after = _flat(engine.rows(views))
    others = torch.arange(5) != 2
    assert torch.equal(before[others], after[others]) and not after[2].any()


def _passes(model: Given) -> list[Views]:
    """The views of every pass from here on, as the model is given them."""
    honest, seen = model.losses, list[Views]()

    def losses(views: Views) -> Tensor:
        seen.append(views)
        return honest(views)

    model.losses = losses  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("kind", "name"), [("words", "scale"), ("words", "weight"), ("pictures", "pictures")])
def test_nothing_that_is_not_finite_enters_a_pass(kind: str, name: str, value: float) -> None:
    """Not by a single entry of a single view; zeros stand there, and in the places of nobody."""
    make, views_of = MODELS[kind]
    model, views = with_weights(make()), views_of(6)
    seen, engine = _passes(model), BookkeepingEngine(model, "bfloat16").within((8,))
    views[name].view(6, -1)[3, -1] = value
    assert not _flat(engine.rows(views))[3].any()
    engine.clipped_sum(views, 0.1)
    assert len(seen) == 2
    for given in seen:
        for key, view in given.items():
            assert torch.equal(view[[0, 1, 2, 4, 5]], views[key][[0, 1, 2, 4, 5]]) and not view[[3, 6, 7]].any()


def test_a_unit_that_is_not_finite_passes_again_alone_in_bfloat16_only() -> None:
    for precision, passes in (("float32", [5]), ("bfloat16", [5, 1, 1])):
        model, views = with_weights(Words()), Words.views(5)
        seen, engine = _passes(model), BookkeepingEngine(model, precision)  # type: ignore[arg-type]
        views["weight"][[1, 3]] = 3e38
        engine.clipped_sum(views, 0.1)
        assert [units_of(given) for given in seen] == passes


class Looking(Given):
    """Reads its first layer's weight without gradients before the layer does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

    def losses(self, views: Views) -> Tensor:
        with torch.no_grad():
            wanted = nn.functional.linear(views["values"], self.first.weight)
        return (self.last(torch.tanh(self.first(views["values"]))) - wanted).square().sum(dim=1)


def test_no_cast_of_a_weight_is_handed_from_one_reader_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older versions of torch hand one that was made without gradients to a layer that needs them."""
    model, views = with_weights(Looking()), {"values": torch.randn(4, 8, generator=torch.Generator().manual_seed(5))}
    wanted, cached, honest = _flat(loop_rows(model, views)), list[bool](), model.losses
    monkeypatch.setattr(model, "losses", lambda given: (cached.append(torch.is_autocast_cache_enabled()), honest(given))[1])
    found = _flat(BookkeepingEngine(model, "bfloat16").rows(views))
    assert cached == [False] and float(((found - wanted).norm(dim=1) / wanted.norm(dim=1)).max()) <= 2.0**-6


def test_views_are_those_of_the_survey_and_any_task_has_places_for_nobody(make_plan: MakePlan, kind: dict[str, Any]) -> None:
    """Zeros are legal views of every task: numbers of words, of places and of classes among them."""
    plan = make_plan(kind)
    model = with_weights(build_model(plan))
    views = synthetic_views(model, plan.data)
    if kind["data"]["kind"] == "text":
        with pytest.raises(ConfigError, match="computes in float32 alone"):
            choose_pace(model, plan.data, SpeedSpec(precision="bfloat16"), CPU)
        return
    engine = BookkeepingEngine(model, "bfloat16").within((7,))
    mine, reversed_ = engine.rows(views), engine.rows({name: view.flip(0) for name, view in views.items()})
    assert torch.isfinite(_flat(mine)).all()
    torch.testing.assert_close(_flat(mine), _flat(reversed_).flip(0), rtol=1e-5, atol=1e-8)
