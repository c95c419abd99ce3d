"""Faults that a single demand of the shape's check sees: without that demand, each would train."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests_engines import Given, with_weights
from torch import Tensor, nn

from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import Views
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.fixed_shape import check_fixed_shape
from ssl_core.privacy.gradients import ClippedSum

Factor = Callable[[Tensor, Tensor], Tensor | float]
# Of seven, the fourth is the one in the middle; seventy are compared in two lots.
FEW, MANY = 7, 70
# Some bits of float32, and a tenth of what is tolerated where bits may differ.
SLIGHT = 2.0**-20
LOUD, BEYOND = 1e3, 1e30


class Multiplied(Given):
    """Two layers in float32, of which `factor` of the batch's values [b, 4] and codes [b] reaches the second alone."""

    def __init__(self, factor: Factor) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.factor = factor

    def losses(self, views: Views) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            one, two = (layer(views["values"]).square() for layer in (self.first, self.second))
            return one.sum(dim=1) + (two * self.factor(views["values"], views["codes"])).sum(dim=1)


def check(factor: Factor, room: int = FEW, kind: type[BookkeepingEngine] = BookkeepingEngine) -> None:
    """Of three units the last two begin with 1 and the first with -1; none has the code 0."""
    values = torch.tensor([[-1.0, 2.0, 0.5, -0.5], [1.0, -1.5, 0.25, 2.0], [1.0, 0.5, -2.0, 1.5]])
    views = {"values": values, "codes": torch.tensor([1, 2, 3])}
    check_fixed_shape(kind(with_weights(Multiplied(factor)), "bfloat16"), room, views, 0.01)


def _by_how_many(units: Callable[[Tensor, Tensor], Tensor]) -> Factor:
    """Each unit's gradient depends, by some bits, on how many of the batch are such units."""
    return lambda values, codes: 1.0 + SLIGHT * float(units(values, codes).sum())


def _by_neighbour(step: int) -> Factor:
    """On whether the unit so many places further is above zero, where there is one."""

    def factor(values: Tensor, _codes: Tensor) -> Tensor:
        above = values[:, 0] > 0
        there = torch.zeros_like(above)
        there[max(0, -step) : len(above) - max(0, step)] = above[max(0, step) : len(above) + min(0, step)]
        return (1.0 + SLIGHT * there)[:, None]

    return factor


def _at(place: int, share: float, values: Tensor) -> Tensor:
    return 1.0 + share * (torch.arange(len(values)) == place)[:, None]


def _where_one_is_beyond(place: int) -> Factor:
    return lambda values, _codes: _at(place, float((values.abs() > BEYOND).any()), values)


FAULTS: dict[str, tuple[Factor, int, str]] = {
    "ordinary ones": (_by_how_many(lambda v, _: (v[:, 0] > 0.5) & (v[:, 0] < 1.5)), FEW, "by another; limit: bit by bit"),
    "large ones": (
        _by_how_many(lambda v, _: (v.abs() > LOUD).any(dim=1) & (v.abs() < BEYOND).all(dim=1)),
        FEW,
        "by large numbers; limit: bit by bit",
    ),
    "a code": (_by_how_many(lambda _, codes: codes == 0), FEW, "replaced by zeros; limit: bit by bit"),
    "the one after": (_by_neighbour(1), FEW, "one patient replaced by another; limit: bit by bit"),
    "the one before": (_by_neighbour(-1), FEW, "one patient replaced by another; limit: bit by bit"),
    "an overflow, compared": (
        lambda v, _: 1.0 + v.square().sum(dim=1).isinf().roll(-1)[:, None],
        FEW,
        "every second patient replaced by the greatest",
    ),
    "the greatest, at the first place": (_where_one_is_beyond(0), FEW, "every second patient replaced by the greatest"),
    "the greatest, at the second place": (_where_one_is_beyond(1), FEW, "every second patient replaced by the greatest"),
    "one place of many": (lambda v, _: _at(1, 5e-5, v), MANY, "one place further"),
    "zeros, in one entry": (
        lambda v, _: torch.cat([1.0 / v.norm(dim=1, keepdim=True), torch.ones(len(v), 3)], dim=1),
        FEW,
        "zeros in place of a patient",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_one_demand_alone_sees_is_refused_by_it(name: str) -> None:
    factor, room, line = FAULTS[name]
    with pytest.raises(PrivacyError, match=f"in bfloat16 a patient's gradient depends.*{line}"):
        check(factor, room)


@pytest.mark.parametrize("room", [1, 2, FEW, MANY])
def test_what_keeps_units_apart_passes_and_so_do_some_bits_by_the_place(room: int) -> None:
    """Where units stand elsewhere, float32's last bits may be others: that much is demanded of no engine."""
    check(lambda _values, _codes: 1.0, room)
    check(lambda values, _: _at(1, SLIGHT, values), room)


def test_what_reaches_one_entry_of_a_neighbours_row_is_made_again_and_passes() -> None:
    """Zero times the next unit's square, which is no number where that overflows."""

    def factor(values: Tensor, _codes: Tensor) -> Tensor:
        beyond = 0.0 * values.square().sum(dim=1, keepdim=True).roll(-1, 0)
        return torch.cat([1.0 + beyond, torch.ones(len(values), 3)], dim=1)

    check(factor)


def test_a_unit_of_no_numbers_that_enters_a_pass_is_seen_where_its_neighbour_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        BookkeepingEngine, "_cleaned", lambda _, views: (views, torch.ones(len(views["codes"]), dtype=torch.bool))
    )
    with pytest.raises(PrivacyError, match="every second patient replaced by what is no number"):
        check(lambda values, _: 1.0 + values.isnan().any(dim=1).roll(-1)[:, None])


class Hasty(BookkeepingEngine):
    """Where a unit is left out, the first one is, too."""

    def clipped_sum(self, views: Views, clip_norm: float) -> ClippedSum:
        whole = bool(views["values"].isfinite().all())
        return super().clipped_sum(views if whole else {name: view[1:] for name, view in views.items()}, clip_norm)


def test_a_unit_of_no_numbers_may_take_its_own_row_from_the_sum_and_no_other() -> None:
    """C, where one unit in the place of another may change 2 C."""
    with pytest.raises(PrivacyError, match=r"by what is no number; value: 1\.99.* C; limit: 1 C"):
        check(lambda _values, _codes: 1.0, kind=Hasty)
