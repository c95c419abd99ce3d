"""Before step 3: in which shapes may a site's passes be, so that nobody's part of a sum depends on who else is in the batch?

Comes in: a model, its plan, the pace of training. Goes out: numbers of units, ascending. Every pass of a round is of one of
them: the first that holds the units there are, filled up with zeros, which are nobody (`InShapes`, gradients.py).

A batch of another size may take another kernel, which rounds otherwise, and the last numbers of a tensor may take other code
than those before. Weights can be chosen that make whole gradients of such last bits (absence.py). But which code a place of a
shape takes is no matter of the numbers there. So made-up units are passed in every place of the greatest shape and of smaller
ones. A smaller one is used only where all that a unit's part of a sum is made of is, bit by bit and in every place, what it is
in the greatest. In such shapes a patient's absence, which moves others to other places and shapes, leaves their parts what
they are. That is looked at on this machine, with training's device and threads, and not proven of a library: two pieces
of code that give equal bits here, for other numbers than these may not. It is looked at with weights that are drawn here, small
and large: a round's are the server's and could hide it, since zeros give equal bits everywhere.
Where not even the places of the greatest shape agree, or memory ends, a smaller one is tried; one unit agrees with itself.
What differs by more than rounding is no matter of kernels: the model couples patients and is refused.
Where a function of single numbers rounds otherwise at the end of a tensor (pointwise.py), which a few units may not show, only
shapes that leave no such rest are looked at, or single units; on a processor, where this is asked.
In bfloat16 there is the greatest shape alone, and fixed_shape.py looks at it. Engines that take units one by one have none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ssl_core.config import StudyPlan
from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import synthetic_views
from ssl_core.privacy.fixed_shape import check_fixed_shape
from ssl_core.privacy.gradients import InShapes, units_of
from ssl_core.privacy.planner import Pace, out_of_memory
from ssl_core.privacy.pointwise import uneven

# Tensors of so many units have seldom a rest that vector instructions leave to other code, which may differ for few numbers.
_EVEN = 4
# And of so many, none by one thread: twice the numbers of the widest vector.
_WHOLE = 32
_MOST_STEPS = 16
_LOUD = 32.0
# Enough to tell apart who is first; each place meets _MOVES of them.
_UNITS, _MOVES = 7, 3
# Rounding was seen to move 2e-7, what couples patients more than this.
_COUPLED = 1e-3
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# What was found holds for a model's structure, a device and a number of threads.
_FOUND: WeakKeyDictionary[PretextModel, dict[tuple[object, ...], tuple[int, ...]]] = WeakKeyDictionary()


def shapes_of(model: PretextModel, plan: StudyPlan, pace: Pace, nominal_size: int) -> tuple[int, ...]:
    """Those of training at `pace`, for `model` on its device; found once. None: of whatever units there are.

    Its weights stay what they are; `start_round` must be called after this. Raises `PrivacyError` where a place or a size moves
    more than rounding does, and in bfloat16 where units are not kept apart.
    """
    engine = pace.engine
    if not isinstance(engine, InShapes):
        return ()
    room, device = greatest(plan, pace, nominal_size), next(model.parameters()).device
    found = _FOUND.setdefault(model, {})
    key = (pace.engine.name, pace.precision, room, device.type, torch.get_num_threads())
    if key not in found:
        views = {name: view.to(device) for name, view in synthetic_views(model, plan.data, _UNITS).items()}
        if pace.precision == "float32":
            found[key] = _of_drawn_weights(model, engine, views, room)
        else:
            model.start_round()
            check_fixed_shape(BookkeepingEngine(model, pace.precision), room, views, plan.privacy.max_grad_norm)
            found[key] = (room,)
    return found[key]


def greatest(plan: StudyPlan, pace: Pace, nominal_size: int) -> int:
    """Of how many units passes are at most, where the places of so many agree."""
    room = pace.room(plan.privacy.sampling_rate, nominal_size)
    return room if pace.precision == "bfloat16" else min(pace.size, -(-room // _EVEN) * _EVEN)


def candidates(most: int, even: int = _EVEN) -> tuple[int, ...]:
    """Shapes to look at: multiples of a power of two, of `even` at least, at most `_MOST_STEPS` of them, and `most`."""
    step = max(even, 1 << (-(-most // _MOST_STEPS) - 1).bit_length())
    return (*range(step, most, step), most)


def agreeing(engine: InShapes, views: Views, sizes: Sequence[int], coupled: float = math.inf) -> tuple[int, ...]:
    """Those of `sizes`, ascending, in every place of which all that `made_of` gives of `views` is bit by bit what it is in the
    last; none, where the places of the last do not agree. There some units are tried in each place, in smaller ones one.

    coupled: `PrivacyError` where a tensor is further apart than this share of its norm.
    """
    most = sizes[-1]
    views = {name: view[:most] for name, view in views.items()}
    first: list[Tensor] = []
    for moved in range(min(_MOVES, units_of(views))):
        found = _made_of(engine, views, most, moved)
        first = first or [part[: units_of(views)].clone() for part in found]
        if not _equal(found, first, moved, coupled):
            return ()
        del found
    return (*(size for size in sizes[:-1] if _equal(_made_of(engine, views, size, 0), first, 0, coupled)), most)


def _made_of(engine: InShapes, views: Views, size: int, moved: int) -> list[Tensor]:
    """Of `size` units, those of `views` again and again, from the one at `moved` on."""
    place = torch.arange(size, device=next(iter(views.values())).device) + moved
    return engine.made_of({name: view[place % len(view)] for name, view in views.items()})


def _equal(parts: list[Tensor], first: list[Tensor], moved: int, coupled: float) -> bool:
    """Whether each unit's tensors are, wherever `moved` brought it in `parts`, those in `first`, bit by bit."""
    equal = True
    for part, units in zip(parts, first, strict=True):
        for unit, wanted in enumerate(units):
            mine = part[(unit - moved) % len(units) :: len(units)]
            if _same_bits(mine, wanted):
                continue
            equal = False
            if coupled < math.inf and not _near(mine, units, unit, coupled):
                raise PrivacyError(
                    "a patient's gradient depends on his place in the batch or on how many there are, by more than rounding",
                    field="share of its norm",
                    limit=coupled,
                    remedy="the objective couples patients; it cannot be trained privately as it is",
                )
    return equal


def _near(mine: Tensor, units: Tensor, unit: int, share: float) -> bool:
    """Of `mine` [n, ...] and what it should be, `units` [u, ...] at `unit`: within a share of the norm, or of the usual one."""
    wide = units.double().flatten(1) if units.dim() > 1 else units.double()[:, None]
    apart = (mine.double().reshape(len(mine), -1) - wide[unit]).norm(dim=1)
    norms = wide.norm(dim=1)
    return bool((apart <= share * max(float(norms[unit]), float(norms.median()))).all())


def _same_bits(mine: Tensor, wanted: Tensor) -> bool:
    """What is no number has many bit patterns, and they are one."""
    bits = _BITS[mine.element_size()]
    if torch.equal(mine.view(bits), wanted.view(bits).expand_as(mine)):
        return True
    return bool(((mine.view(bits) == wanted.view(bits)) | (mine.isnan() & wanted.isnan())).all())


def _of_drawn_weights(model: PretextModel, engine: InShapes, views: Views, most: int) -> tuple[int, ...]:
    weights = to_vector(model)
    try:
        least, even = 2, _EVEN
        _draw_weights(model, _ordinary)
        if next(iter(views.values())).device.type == "cpu" and uneven(engine, {name: view[:1] for name, view in views.items()}):
            # By several threads a tensor is parted anywhere, and each part has a rest.
            least = even = _WHOLE if torch.get_num_threads() == 1 else most + 1
            most = most // even * even
        while most >= least:
            try:
                found = candidates(most, even)
                for draw, coupled in ((_ordinary, _COUPLED), (_loud, math.inf)):
                    _draw_weights(model, draw)
                    found = found and agreeing(engine, views, found, coupled)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                found = ()
            if found:
                return found
            most = 1 << ((most - 1).bit_length() - 1)
        return (1,)
    finally:
        load_vector(model, weights)


def _draw_weights(model: PretextModel, draw: Callable[[PretextModel, str, Tensor], Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(draw(model, name, torch.randn(parameter.shape, generator=generator)))
    model.start_round()


def _ordinary(model: PretextModel, name: str, normal: Tensor) -> Tensor:
    """About as training begins, where the numbers between are neither very small nor large."""
    centre, half_width = model.init_range(name)
    return centre + (half_width or 0.1) * normal


def _loud(_model: PretextModel, _name: str, normal: Tensor) -> Tensor:
    """Outputs _LOUD times as large as inputs; scales, shifts and biases around 1."""
    return 1.0 + 0.1 * normal if normal.dim() < 2 else _LOUD * normal[0].numel() ** -0.5 * normal
