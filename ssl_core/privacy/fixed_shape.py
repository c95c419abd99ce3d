"""Before step 6: in bfloat16, does a unit's row depend on who else is in the batch? Part of the isolation check (ruling 24).

Comes in: the engine in bfloat16, the number of units of whose shape its passes are in training, and views of b synthetic units.
They are repeated until the shape is full, and the one in the middle is replaced by another one, by zeros, by numbers of 2^20
times the size, by the greatest that float32 has, by none at all (NaN). Demanded:
  in place  what is kept of every other unit, of which its row is made, is the same bit by bit, where what replaces is moderate;
  moved     what is kept of a unit that stands one place further is the same to TOLERANCE of its norm;
  sums      differ by at most the sensitivity that they state: 2 C, and C where NaN stands, whose row is exactly zero;
  nobody    zeros, which fill a batch, are finite throughout;
and of the b units, every second one replaced by the greatest numbers or NaN, so that each other one has such neighbours: the
rows of those are the same to TOLERANCE, wherever the engine made them again. Moved is what a patient's absence comes to:
it moves others and leaves the shape. Raises `PrivacyError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import Views
from ssl_core.privacy.apart import TOLERANCE, compare_sums, same, sum_of
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.gradients import Adjacency, units_of

_LOUD = 2.0**20
_GREATEST = torch.finfo(torch.float32).max
_NOBODY = "by what is no number"
_BEYOND = "by the greatest numbers"
_NOTHING = "by zeros"
ANOTHER = "by another"
REPLACED: dict[str, Callable[[Tensor], Tensor]] = {
    ANOTHER: lambda view: view,
    _NOTHING: torch.zeros_like,
    "by large numbers": lambda view: view * _LOUD,
    _BEYOND: lambda view: torch.full_like(view, _GREATEST).copysign(view),
    _NOBODY: lambda view: torch.full_like(view, torch.nan),
}
_AT_ONCE = 64


def check_fixed_shape(engine: BookkeepingEngine, room: int, views: Views, clip_norm: float) -> None:
    """All of it, with sums at `clip_norm`; in a shape of one unit there is nobody else to look at.

    Of more units than `room` the first are taken.
    """
    engine, views = engine.within((room,)), {name: view[:room] for name, view in views.items()}
    _check_neighbours(engine, views)
    count, device = units_of(views), next(iter(views.values())).device
    place = torch.arange(room, device=device)
    views = {name: view[place % count] for name, view in views.items()}
    kept, middle = _kept(engine, views), place == room // 2
    whole = sum_of([views], engine, clip_norm)
    for what in REPLACED:
        replaced = with_replaced(views, middle, what)
        if what not in {_BEYOND, _NOBODY}:
            others, there = _kept(engine, replaced), middle.cpu()
            if not all(torch.equal(mine[~there], theirs[~there]) for mine, theirs in zip(kept, others, strict=True)):
                raise _coupled(f"one patient replaced {what}", "bit by bit")
            if what == _NOTHING and not all(bool(part[there].isfinite().all()) for part in others):
                raise _coupled("zeros in place of a patient", "finite")
        adjacency: Adjacency = "add-or-remove-one" if what == _NOBODY else "replace-one"
        compare_sums(f"replaced {what}", whole, sum_of([replaced], engine, clip_norm), adjacency)
    _compare_moved(kept, _kept(engine, {name: view.roll(1, 0) for name, view in views.items()}))


def _kept(engine: BookkeepingEngine, views: Views) -> list[Tensor]:
    """On the processor: beside a pass of training's own size a device may have no room for two of them."""
    return [part.cpu() for part in engine.kept(views)]


def _check_neighbours(engine: BookkeepingEngine, views: Views) -> None:
    rows = _rows(engine, views)
    place = torch.arange(len(rows), device=rows.device)
    for what in (_BEYOND, _NOBODY):
        for half in (place % 2 == 0, place % 2 == 1):
            others = _rows(engine, with_replaced(views, half, what))
            if not bool(half.all()) and not same(rows[~half], others[~half]):
                raise _coupled(f"every second patient replaced {what}", TOLERANCE)


def _rows(engine: BookkeepingEngine, views: Views) -> Tensor:
    """float32 [b, P]."""
    return torch.cat([row.flatten(1) for row in engine.rows(views)], dim=1)


def with_replaced(views: Views, places: Tensor, what: str) -> Views:
    """Views with the unit before, changed, at `places` bool [b]; whole numbers stay legal ones: that unit's, or 0."""
    found = {}
    for name, view in views.items():
        value = view.roll(1, 0)
        if view.is_floating_point() or what == _NOTHING:
            value = REPLACED[what](value)
        found[name] = torch.where(places.view(-1, *[1] * (view.dim() - 1)), value, view)
    return found


def _compare_moved(kept: Sequence[Tensor], moved: Sequence[Tensor]) -> None:
    for mine, theirs in zip(kept, moved, strict=True):
        back = theirs.roll(-1, 0)
        # Of a whole batch, wider numbers would not fit the memory that training has.
        pairs = zip(torch.split(mine, _AT_ONCE), torch.split(back, _AT_ONCE), strict=True)
        if not (torch.equal(mine, back) or all(_near(*pair) for pair in pairs)):
            raise _coupled("every patient one place further", TOLERANCE)


def _near(mine: Tensor, theirs: Tensor) -> bool:
    wide, other = mine.double().flatten(1), theirs.double().flatten(1)
    return bool(((wide - other).norm(dim=1) <= TOLERANCE * wide.norm(dim=1)).all())


def _coupled(field: str, limit: object) -> PrivacyError:
    return PrivacyError(
        "in bfloat16 a patient's gradient depends on the others of the batch or on the place in it",
        field=field,
        limit=limit,
        remedy='set speed.precision = "float32"',
    )
