"""How shapes are found in which every place gives the same bits: what is taken, what is not, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests_engines import Given, with_weights
from torch import Tensor, nn

from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import Views
from ssl_core.privacy import shapes
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.gradients import InShapes, units_of
from ssl_core.privacy.shapes import agreeing, candidates


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


@pytest.mark.parametrize(("by", "refused"), [(2e-5, False), (3e-5, True), (1.0, True), (float("nan"), True)])
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


@pytest.mark.parametrize(
    ("loud", "by", "wanted"), [(False, 1e-6, 16), (True, 1e-6, 16), (True, 1.0, 16), (True, float("nan"), 50)]
)
def test_places_must_agree_at_small_and_at_large_weights_and_large_ones_are_no_reason_to_refuse(
    loud: bool, by: float, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, views = with_weights(Placed()), {"values": torch.randn(3, 4, generator=torch.Generator().manual_seed(2))}
    model.by, begun, honest = by, list[bool](), Placed.losses

    def losses(self: Placed, given: Views) -> Tensor:
        self.most = 20 if begun[-1] == loud else 64
        return honest(self, given)

    monkeypatch.setattr(Placed, "losses", losses)
    # Also a part that stands still within a round is that of such weights.
    monkeypatch.setattr(model, "start_round", lambda: begun.append(float(model.layer.weight.detach().norm()) > 8.0))
    assert shapes._of_drawn_weights(model, BookkeepingEngine(model), views, 50)[-1] == wanted
    assert set(begun) == {False, True}
