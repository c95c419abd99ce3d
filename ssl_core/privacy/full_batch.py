"""Before step 6: in a physical batch as full as training's, is each unit kept apart? Part of the isolation check (ruling 24).

Comes in: a model in float32, its engine, made-up patients and the number of units of a full physical batch. Of a large model
memory holds the rows of a few units alone, and what begins with the eighth unit of a batch would not be met among four. Here no
row of P entries is made beyond what training makes: the few patients are drawn again and again, each time by coins of their
own, until the batch is full. The first, the middle and the last one are replaced (as in fixed_shape.py) or, by itself, the
middle one is removed. Where they are replaced by others, all stand one place further, too: so every place has another unit
than before, and what the one in any fixed place does to all others shows in those, who are looked for where they went.
Demanded:
  views   of all others are the same bit by bit;
  losses  of all others are the same to TOLERANCE of the usual loss;
  kept    what the bookkeeping engine keeps of all others, of which their rows are made, is the same to TOLERANCE of its norm
          or, where that is less, of the usual one: read off by its products with sixteen fixed normal vectors, float64 [b, 16],
          since two batches' worth of it might not fit; a unit's change of ten times that goes unseen with chance below 1e-9;
  sums    differ by at most the sensitivity that they state, the middle one alone being replaced: 2 C, and C where it is gone.
Other engines take each unit's loss by itself and keep nothing between units: there views, losses and sums are looked at.
A full batch has the nominal size's units where `speed.chunk` allows more than that (isolation.py).
Where the device has no memory for the full batch, training halves it, and so does this. Raises `PrivacyError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ssl_core.data.patients import Patients
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.privacy.apart import TOLERANCE, compare_sums, same, sum_of
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import Engine
from ssl_core.privacy.fixed_shape import ANOTHER, REPLACED, with_replaced
from ssl_core.privacy.planner import Index, out_of_memory

_VECTORS = 16
_TILE = 1 << 21
_REMOVED = "removed"


def check_full_batch(model: PretextModel, engine: Engine, patients: Patients, size: int, clip_norm: float) -> None:
    """All of it for `size` units, with sums at `clip_norm`; in a batch of one unit there is nobody else to look at."""
    while size > 1:
        try:
            _check(model, engine, patients, size, clip_norm)
            return
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        size //= 2


def _check(model: PretextModel, engine: Engine, patients: Patients, size: int, clip_norm: float) -> None:
    place = np.arange(size)
    middle, moved = place == size // 2, np.roll(place, 1)
    # Of two or three units one has to be left to look at.
    few = np.isin(place, (0, size // 2, size - 1)) if size > 3 else middle
    views = _drawn(model, patients, place, size)
    another = _drawn(model, patients, np.where(few, place + 1, moved), size)
    gone = _drawn(model, patients, place[~middle], size)
    for what, others, stood, looked in ((ANOTHER, another, moved[~few], ~few), (_REMOVED, gone, place[~middle], slice(None))):
        if not all(_equal(view[stood], others[name][looked]) for name, view in views.items()):
            raise _coupled("views", what, "bit by bit")
    device = next(model.parameters()).device
    views = {name: view.to(device) for name, view in views.items()}
    _check_passes(model, engine, views, torch.from_numpy(few).to(device), clip_norm)


def _check_passes(model: PretextModel, engine: Engine, views: Views, few: Tensor, clip_norm: float) -> None:
    looks: dict[str, Callable[[Views], Sequence[Tensor]]] = {"losses": lambda given: [_losses(model, given)]}
    if isinstance(engine, BookkeepingEngine):
        looks["what is kept for rows"] = lambda given: _marks(engine.kept(given))
    base = {name: look(views) for name, look in looks.items()}
    whole = sum_of([views], engine, clip_norm)
    place = torch.arange(len(few), device=few.device)
    middle = place == len(place) // 2
    for what in (*REPLACED, _REMOVED):
        order = place.roll(1) if what == ANOTHER else place[~middle] if what == _REMOVED else place
        given = {name: view[order] for name, view in views.items()}
        looked = ~few if what != _REMOVED else torch.ones_like(order, dtype=torch.bool)
        for name, look in looks.items():
            for mine, theirs in zip(base[name], look(_replaced(given, few, what)), strict=True):
                one, other = mine[order][looked], theirs[looked]
                if not (torch.equal(one, other) or same(one, other)):
                    raise _coupled(name, what, TOLERANCE)
        others = sum_of([_replaced(given, middle, what)], engine, clip_norm)
        compare_sums(what, whole, others, "add-or-remove-one" if what == _REMOVED else "replace-one")


def _replaced(views: Views, places: Tensor, what: str) -> Views:
    return views if what == _REMOVED else with_replaced(views, places, what)


def _drawn(model: PretextModel, patients: Patients, place: Index, size: int) -> Views:
    """Views of the units at `place` of the full batch, whose patients come round again, by each place's own coins."""
    coins = 1.0 - np.random.default_rng(0).random((size + 1, model.coins))
    return model.draw(patients, place % len(patients), coins[place])


def _losses(model: PretextModel, views: Views) -> Tensor:
    """float64 [b, 1]."""
    with torch.no_grad():
        return model.losses(views).double()[:, None]


def _marks(kept: Sequence[Tensor]) -> list[Tensor]:
    """Of tensors [b, ...] the products of each row with normal vectors, float64 [b, 16], of the row's norm on the average."""
    vectors: dict[int, Tensor] = {}
    found = []
    for part in kept:
        flat = part.flatten(1)
        width = flat.shape[1]
        if width not in vectors:
            drawn = torch.randn(width, _VECTORS, generator=torch.Generator().manual_seed(width), dtype=torch.float64)
            vectors[width] = (drawn * _VECTORS**-0.5).to(flat.device)
        # Wider numbers for a part of the rows at a time: training has no room for all.
        tiles = torch.split(flat, max(1, _TILE // max(1, width)))
        found.append(torch.cat([tile.double() @ vectors[width] for tile in tiles]))
    return found


def _equal(mine: Tensor, theirs: Tensor) -> bool:
    return bool(((mine == theirs) | (mine.isnan() & theirs.isnan())).all())


def _coupled(name: str, what: str, limit: object) -> PrivacyError:
    return PrivacyError(
        "in a full batch one patient changes what is computed of another",
        field=f"{name}, {'one patient removed' if what == _REMOVED else f'patients replaced {what}'}",
        limit=limit,
        remedy="the objective couples patients; it cannot be trained privately as it is",
    )
