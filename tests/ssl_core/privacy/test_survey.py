"""Every construct that a fast path is known to get wrong (private-ssl notes, section 5.2) is right or goes to vmap."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from tests_engines import Given, Pictures, Words, with_weights
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import choose_engine
from ssl_core.privacy.reference import exact_sum, loop_rows
from ssl_core.privacy.survey import survey

VIEWS = {"x": torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(1))}


class Base(Given):
    """Two layers on tokens [b, T, 5]; each subclass does one thing that another engine got wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 5)

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return self.last(torch.tanh(self.first(views["x"]))).square().mean(dim=(1, 2))


class Twice(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return self.last(torch.tanh(self.first(self.first(views["x"])))).square().mean(dim=(1, 2))


class TargetWithoutGradient(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            target = self.first(views["x"])
        return (self.last(torch.tanh(self.first(views["x"]))) - target).square().mean(dim=(1, 2))


class Bare(Base):
    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.zeros(5))

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return super().losses({"x": views["x"] + self.mask})


class TiedModules(Base):
    def __init__(self) -> None:
        super().__init__()
        self.last.weight = self.first.weight


class TiedFunction(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        hidden = self.last(torch.tanh(self.first(views["x"])))
        return functional.linear(hidden, self.first.weight).square().mean(dim=(1, 2))


class TiedFunctionThatIsSilent(Base):
    """The second reader adds exactly nothing, whatever the weights: only the graph shows it."""

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        nothing = functional.linear(torch.zeros_like(views["x"]), self.first.weight)
        return super().losses(views) + nothing.mean(dim=(1, 2))


class FusedAttention(Base):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(5, 1, batch_first=True)

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return super().losses({"x": self.attention(views["x"], views["x"], views["x"])[0]})


class ByKeyword(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return self.last(input=torch.tanh(self.first(views["x"]))).square().mean(dim=(1, 2))


class NotCalled(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return self.first(views["x"]).square().mean(dim=(1, 2))


class NotUsed(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        self.last(views["x"])
        return self.first(views["x"]).square().mean(dim=(1, 2))


class Detached(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return (self.last(views["x"]).detach() - self.first(views["x"])).square().mean(dim=(1, 2))


class Chance(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return super().losses({"x": views["x"] * (torch.rand(views["x"].shape) > 0.5)})


class Coupled(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return super().losses({"x": views["x"] - views["x"].mean(dim=0)})


class CoupledDenominator(Base):
    """The mean over the masked tokens of the whole batch."""

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        masked = (views["x"][:, :, 0] > 0).float()
        errors = self.last(torch.tanh(self.first(views["x"]))).square().mean(dim=2)
        return (errors * masked).sum(dim=1) / masked.sum()


class CoupledGradient(Base):
    """Losses are right; the gradient of one unit runs through another's row."""

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        hidden = torch.tanh(self.first(views["x"]))
        turned = hidden.roll(1, dims=0)
        return self.last(hidden + turned - turned.detach()).square().mean(dim=(1, 2))


class SlightlyCoupledGradient(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        hidden = torch.tanh(self.first(views["x"]))
        turned = 0.01 * hidden.roll(1, dims=0)
        return self.last(hidden + turned - turned.detach()).square().mean(dim=(1, 2))


class PlacesWithoutUnits(Base):
    """A table of places that is read once for all units: its gradient is a sum over units."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(6, 5)

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return super().losses({"x": views["x"] + self.places(torch.arange(6))})


class ViewsNotTogether(Base):
    """Six views of a unit as rows of a layer, but all first views before all second ones."""

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        rows = views["x"].transpose(0, 1).flatten(0, 1)
        found = self.last(torch.tanh(self.first(rows))).view(6, -1, 5)
        return found.square().mean(dim=(0, 2))


class InputChanged(Base):
    """What the second layer read is overwritten afterwards."""

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        hidden = torch.tanh(self.first(views["x"])) * 1.0
        found = self.last(hidden)
        hidden.mul_(2.0)
        return (found + hidden).square().mean(dim=(1, 2))


class InPlaceOutput(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        hidden = self.first(views["x"]).relu_()
        return self.last(hidden).square().mean(dim=(1, 2))


class Parametrised(Base):
    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.first)


class DefaultLosses(Base):
    losses = PretextModel.losses

    def forward(self, views: dict[str, Tensor]) -> Tensor:
        return self.last(torch.tanh(self.first(views["x"]))).square().mean()


REFUSED = [
    (Twice, "2 operations read"),
    (TargetWithoutGradient, "without gradients|more than once"),
    (Bare, "Bare is none of"),
    (TiedModules, "tied"),
    (TiedFunction, "2 operations read"),
    (TiedFunctionThatIsSilent, "2 operations read"),
    (FusedAttention, "MultiheadAttention"),
    (ByKeyword, "not one tensor"),
    (NotCalled, "0 operations read"),
    (NotUsed, "0 operations read"),
    (Detached, "0 operations read"),
    (Chance, "not those of single units"),
    (Coupled, "not those of single units"),
    (CoupledDenominator, "not those of single units"),
    (CoupledGradient, "not those of a loop"),
    (SlightlyCoupledGradient, "not those of a loop"),
    (PlacesWithoutUnits, "not those of a loop"),
    (ViewsNotTogether, "not those of a loop"),
    (InputChanged, "changed in place"),
    (InPlaceOutput, "does not reach the loss"),
    (Parametrised, "none of"),
    (DefaultLosses, "no batched losses"),
]


@pytest.mark.parametrize(("kind", "why"), REFUSED, ids=[kind.__name__ for kind, _ in REFUSED])
def test_what_a_layer_does_not_see_goes_to_vmap_and_says_so(kind: Any, why: str) -> None:
    engine = choose_engine(with_weights(kind()), VIEWS, "auto")
    assert engine.name == "vmap" and re.search(why, engine.reason), engine.reason


@pytest.mark.parametrize("kind", [kind for kind, _ in REFUSED if kind not in {Chance, FusedAttention, InputChanged}])
def test_vmap_is_right_for_all_of_them(kind: Any) -> None:
    model = with_weights(kind())
    engine = choose_engine(model, VIEWS, "auto")
    _equal(engine.clipped_sum(VIEWS, 0.1 * (1 + engine.gamma)).grads, exact_sum(loop_rows(model, VIEWS), 0.1))


@pytest.mark.parametrize(("kind", "why"), [(Chance, "random"), (InputChanged, "inplace")])
def test_what_no_engine_can_do_is_refused_by_vmap_too(kind: Any, why: str) -> None:
    with pytest.raises(RuntimeError, match=why):
        choose_engine(kind(), VIEWS, "auto").clipped_sum(VIEWS, 1.0)


class FourDimensions(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        return super().losses({"x": views["x"].view(-1, 2, 3, 5)}).mean(dim=1)


class Recomputed(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        found = checkpoint(lambda x: self.last(torch.tanh(self.first(x))), views["x"], use_reentrant=False)
        assert isinstance(found, Tensor)
        return found.square().mean(dim=(1, 2))


class ViewsTogether(Base):
    def losses(self, views: dict[str, Tensor]) -> Tensor:
        found = self.last(torch.tanh(self.first(views["x"].flatten(0, 1))))
        return found.view(-1, 6, 5).square().mean(dim=(1, 2))


class HeadOfZeros(Base):
    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.last.weight)


@pytest.mark.parametrize("kind", [Base, FourDimensions, Recomputed, ViewsTogether, HeadOfZeros])
def test_what_fits_is_right(kind: Any) -> None:
    model = with_weights(kind())
    assert survey(model, VIEWS) is None
    _equal(BookkeepingEngine(model).clipped_sum(VIEWS, 0.1 * (1 + 2.0**-8)).grads, exact_sum(loop_rows(model, VIEWS), 0.1))


def test_a_model_that_changes_after_the_survey_is_refused_not_mistaken() -> None:
    """As when a shape comes that the survey has not seen: the engine looks at every call."""
    model = with_weights(Base())
    engine = choose_engine(model, VIEWS, "auto")
    assert engine.name == "bookkeeping"
    honest = model.losses
    for sabotage in (
        lambda views: honest(views) + honest(views),
        lambda views: honest(views)[:1],
        lambda views: honest({"x": views["x"].transpose(0, 1)}),
        lambda views: model.first(views["x"]).mean(dim=(1, 2)),
    ):
        model.losses = sabotage  # type: ignore[method-assign]
        with pytest.raises(PrivacyError):
            engine.clipped_sum(VIEWS, 1.0)
        assert not any(module._forward_hooks for module in model.modules())


def test_models_that_could_couple_units_are_refused_before_any_survey() -> None:
    model = Base()
    model.last = nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.1))  # type: ignore[assignment]
    for choice in ("auto", "bookkeeping", "vmap", "reference"):
        with pytest.raises(PrivacyError, match="Dropout"):
            choose_engine(model, VIEWS, choice)  # type: ignore[arg-type]


def test_whole_models_fit() -> None:
    assert survey(Words(rms=True), Words.views(3)) is None
    assert survey(Pictures(stride=2), Pictures.views(3)) is None


def _equal(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    whole = float(torch.cat([part.flatten() for part in wanted]).norm())
    for mine, theirs in zip(found, wanted, strict=True):
        assert float((mine - theirs).norm()) <= 1e-6 * whole
