"""Before step 4: how a site computes its steps: by which engine, and how many units the device takes at once.

Comes in: a model, how its data are declared, the site's `SpeedSpec`. Goes out: a `Pace`. The physical batch is the
greatest power of two that the memory given to training holds, by what the engine was seen to need for a few synthetic
units: a function of plan, model and machine, never of patients, so it may stand in the public number of groups
(sampling.py). `total_memory` is all that the device has, not what happens to be free.

There is no checkpointing of activations to choose: a sample is summed in parts whatever its size, so where memory is
short a smaller physical batch does what recomputing would, at no second forward pass; one unit is the floor.
`clipped_sum_in_halves` is for what no estimate foresees (another program on the device): a part that does not fit is
halved, of the same sample; clipped sums add, nothing was released between, so the accounting is what it was.
Raises `ConfigError` where not even one unit fits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch

from ssl_core.config import SpeedSpec
from ssl_core.errors import ConfigError
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.privacy.engines import Engine, choose_engine, synthetic_views
from ssl_core.privacy.gradients import ClippedSum, units_of
from ssl_core.privacy.live_memory import peak_bytes
from ssl_core.spec.data import Data

GIB, MIB = 1 << 30, 1 << 20
# Beyond it a processor gains nothing, its caches being full; an accelerator does.
MOST_UNITS = {"cpu": 64, "cuda": 4096}
# Other sites' tests and other programs share a computer's memory; an accelerator is training's own.
_SHARE = {"cpu": 0.25, "cuda": 0.8}
# For what live_memory.py does not see: the allocator's rounding and fragments, buffers inside kernels.
_ROOM = 1.5
# Bytes a parameter that lie there for the whole round: weights, two moments, float64 sum and its noise.
_STANDING = 28
_LEAST_LOOKED = 32
_STRAIGHT = 0.05
_CLIP_NORM = 1.0
_LOG = logging.getLogger(__name__)

# As engines.py: the structure of a model is fixed when it is made.
_FOUND: WeakKeyDictionary[PretextModel, dict[tuple[object, ...], tuple[int, int]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Pace:
    """`size`: units that the device takes at once; `why`: of engine and size, for people."""

    engine: Engine
    size: int
    why: str


def choose_pace(model: PretextModel, data: Data, speed: SpeedSpec, device: torch.device) -> Pace:
    """Engine and physical batch for `model`, which is moved to `device`."""
    views = synthetic_views(model, data)
    engine = choose_engine(model, views, speed.engine)
    model.to(device)
    why = f"Engine {engine.name}: {engine.reason}."
    if speed.chunk is not None:
        return Pace(engine, speed.chunk, f"{why} {speed.chunk} patients at once: the site's speed.chunk.")
    memory = int(total_memory(device) * _SHARE[device.type] if speed.memory_gib is None else speed.memory_gib * GIB)
    found = _FOUND.setdefault(model, {})
    key = (engine.name, device.type, memory)
    if key not in found:
        unit = {name: view[:1].to(device) for name, view in views.items()}
        standing = _STANDING * sum(parameter.numel() for parameter in model.parameters())
        found[key] = greatest_batch(lambda size: standing + _peak(engine, unit, size), memory, MOST_UNITS[device.type])
    size, need = found[key]
    return Pace(engine, size, f"{why} {size} patients at once: {need / MIB:,.0f} of {memory / MIB:,.0f} MiB.")


def clipped_sum_in_halves(engine: Engine, views: Views, clip_norm: float) -> ClippedSum:
    """`engine.clipped_sum`; where memory ends, the sum of the sums over two halves of the same units, and so on."""
    try:
        return engine.clipped_sum(views, clip_norm)
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error) or units_of(views) < 2:
            raise
    # Here, not above: the error holds what the failed try had made.
    _LOG.warning("a physical batch did not fit the device's memory and was halved; set speed.chunk or speed.memory_gib lower")
    middle = units_of(views) // 2
    first = {name: view[:middle] for name, view in views.items()}
    second = {name: view[middle:] for name, view in views.items()}
    return clipped_sum_in_halves(engine, first, clip_norm) + clipped_sum_in_halves(engine, second, clip_norm)


def total_memory(device: torch.device) -> int:
    """Bytes of memory that the device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def greatest_batch(need_of: Callable[[int], int], memory: int, most: int) -> tuple[int, int]:
    """The greatest power of two, at most `most`, whose need in bytes, with room, is within `memory`; and that need.

    Needs are looked up to where they rise in a straight line, and drawn on from there: they are the greatest of several
    lines (the weights' gradients are there for any batch), so a short look alone would take the wrong one.
    """
    sizes, needs = [1 << power for power in range(most.bit_length())], list[int]()
    for size in sizes:
        slopes = [(b - a) / (y - x) for (x, a), (y, b) in pairwise(zip(sizes, needs, strict=False))][-2:]
        straight = size > _LEAST_LOOKED and abs(slopes[1] - slopes[0]) <= _STRAIGHT * slopes[1]
        needs.append(int(needs[-1] + slopes[1] * size / 2) if straight else need_of(size))
        if needs[-1] * _ROOM > memory:
            break
    fitting = [pair for pair in zip(sizes, needs, strict=False) if pair[1] * _ROOM <= memory]
    if not fitting:
        raise ConfigError(
            "one patient of this study does not fit the memory given to training",
            field="speed.memory_gib",
            value=f"{memory / GIB:.3f}",
            limit=f"at least {needs[0] * _ROOM / GIB:.3f}",
            remedy="give it more memory, or train on another device",
        )
    return fitting[-1]


def _peak(engine: Engine, unit: Views, size: int) -> int:
    """Bytes of `size` units' views and of their clipped sum at its peak."""
    views = {name: view.repeat(size, *[1] * (view.dim() - 1)) for name, view in unit.items()}
    return peak_bytes(lambda: engine.clipped_sum(views, _CLIP_NORM)) + sum(view.nbytes for view in views.values())


def _out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """torch has a type of its own for it on accelerators, and on the processor only words."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
