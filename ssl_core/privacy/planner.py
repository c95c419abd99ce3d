"""Before step 4: how a site computes its steps: by which engine, in which precision, and how many units at once.

Comes in: a model, how its data are declared, the site's `SpeedSpec`. Goes out: a `Pace`. The physical batch is the
greatest power of two that the memory given to training holds, by what the engine was seen to need for a few synthetic
units: a function of plan, model and machine, never of patients, so it may stand in the public number of groups
(sampling.py). `total_memory` is all that the device has, not what happens to be free.

Precision: float32, unless a site asks the fast path for bfloat16, which no accelerator has been seen to gain by yet; other
engines know float32 alone. An engine that takes units many at once passes no more of them than `Pace.room`, a public number as
well, rounded up to fours in float32 (shapes.py).

There is no checkpointing of activations to choose: a sample is summed in parts whatever its size, so where memory is
short a smaller physical batch does what recomputing would, at no second forward pass; one unit is the floor.
`clipped_sum_in_halves` is for what no estimate foresees (another program on the device): a part that does not fit is
halved, of the same sample; clipped sums add, nothing was released between, so the accounting is what it was, and halves pass in
shapes that give the same rows (shapes.py). Where there is one shape alone, as in bfloat16, it fails the round: halves would
take the same.
Buckets (buckets.py) are never halved: there the memory must hold `largest_bucket`, which is looked at before an approval, and
`whole_bucket_sum` fails a round whose bucket ends the memory all the same.
Raises `ConfigError` where not even one unit, or not the largest bucket, fits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from ssl_core.config import Precision, SpeedSpec
from ssl_core.errors import ConfigError
from ssl_core.objectives.base import BucketModel, PretextModel, Views
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.buckets import largest_bucket
from ssl_core.privacy.engines import Engine, choose_engine, synthetic_views
from ssl_core.privacy.gradients import ClippedSum, InShapes
from ssl_core.privacy.live_memory import peak_bytes
from ssl_core.privacy.sampling import group_count, group_room
from ssl_core.spec.data import Data

Index = npt.NDArray[np.int64]

GIB, MIB = 1 << 30, 1 << 20
# Beyond it a processor gains nothing, its caches being full; an accelerator does.
MOST_UNITS = {"cpu": 64, "cuda": 4096}
# Other sites' tests and other programs share a computer's memory; an accelerator is training's own.
_SHARE = {"cpu": 0.125, "cuda": 0.8}
# For what live_memory.py does not see: the allocator's rounding and fragments, buffers inside kernels.
_ROOM = 1.5
# Bytes a parameter that lie there for the whole round: weights, two moments, float64 sum and its noise.
_STANDING = 28
_LEAST_LOOKED = 32
_STRAIGHT = 0.05
_CLIP_NORM = 1.0
_WORDS = ("can't allocate memory", "_ALLOC_FAILED")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_LOG = logging.getLogger(__name__)

# As engines.py: the structure of a model is fixed when it is made.
_FOUND: WeakKeyDictionary[PretextModel, dict[tuple[object, ...], tuple[int, int]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Pace:
    """`size`: units that the device takes at once, of a bucket at most; `why`: of engine, precision and size, for people.

    need: bytes that these units need at their peak; None where the size is the site's own `chunk`, which nobody looked at.
    """

    engine: Engine
    size: int
    why: str
    need: int | None
    precision: Precision = "float32"

    @property
    def facts(self) -> dict[str, str | int]:
        """What must be the same where training is to be what the isolation check looked at."""
        return {"engine": self.engine.name, "precision": self.precision, "units": self.size}

    def room(self, rate: float, nominal_size: int) -> int:
        """For how many units a part of a sample at `rate` of a nominal site has room: a public number."""
        return min(self.size, group_room(rate, nominal_size, group_count(rate, nominal_size, self.size)))

    def within(self, shapes: tuple[int, ...]) -> Engine:
        """The engine in `shapes`; as it is where it has none, taking units or buckets one by one."""
        return self.engine.within(shapes) if isinstance(self.engine, InShapes) else self.engine


def choose_pace(model: PretextModel, data: Data, speed: SpeedSpec, device: torch.device) -> Pace:
    """Engine, precision and physical batch for `model`, which is moved to `device`.

    Raises `ConfigError` where the site demands what its engine or its device does not offer.
    """
    views = synthetic_views(model, data)
    engine = choose_engine(model, views, speed.engine)
    model.to(device)
    precision = _precision(engine, speed, device)
    if precision == "bfloat16":
        engine = BookkeepingEngine(model, precision)
    why = f"Engine {engine.name} in {precision}: {engine.reason}."
    whole = largest_bucket(model.bucket_size) if isinstance(model, BucketModel) else None
    if speed.chunk is not None and whole is None:
        return Pace(engine, speed.chunk, f"{why} {speed.chunk} patients at once: the site's speed.chunk.", None, precision)
    memory = memory_given(speed, device)
    found = _FOUND.setdefault(model, {})
    key = (engine.name, precision, device.type, memory)
    if key not in found:
        unit = {name: view[:1].to(device) for name, view in views.items()}
        standing = standing_bytes(model)

        def need_of(size: int) -> int:
            return standing + _peak(engine, unit, size)

        most = MOST_UNITS[device.type]
        found[key] = greatest_batch(need_of, memory, most) if whole is None else (whole, _need_of_whole(need_of, memory, whole))
    size, need = found[key]
    if isinstance(model, BucketModel):
        of = f"Buckets of about {model.bucket_size} patients, never split, {size} at most foreseen"
        why = f"{why} {of}: {need / MIB:,.0f} of {memory / MIB:,.0f} MiB; speed.chunk does not count here."
        return Pace(engine, size, why, need)
    return Pace(engine, size, f"{why} {size} patients at once: {need / MIB:,.0f} of {memory / MIB:,.0f} MiB.", need, precision)


def _precision(engine: Engine, speed: SpeedSpec, device: torch.device) -> Precision:
    """What the site demands, else float32: no accelerator has been seen to gain by bfloat16 yet."""
    offered = isinstance(engine, BookkeepingEngine)
    if speed.precision in (None, "float32"):
        return "float32"
    if not offered:
        raise ConfigError(
            f"engine {engine.name} computes in float32 alone, and it was taken because: {engine.reason}",
            field="speed.precision",
            value="bfloat16",
            remedy='set precision = "float32", or leave it out',
        )
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError(
            "this device has no bfloat16", field="speed.precision", value="bfloat16", remedy='set precision = "float32"'
        )
    return "bfloat16"


def memory_given(speed: SpeedSpec, device: torch.device) -> int:
    """Bytes that training may use."""
    return int(total_memory(device) * _SHARE[device.type] if speed.memory_gib is None else speed.memory_gib * GIB)


def standing_bytes(model: PretextModel) -> int:
    """Bytes that lie there for a whole round, whatever the batch is."""
    return _STANDING * sum(parameter.numel() for parameter in model.parameters())


def clipped_sum_in_halves(index: Index, sum_of: Callable[[Index], ClippedSum]) -> ClippedSum:
    """`sum_of` the units at `index` int64 [b]; where memory ends, the sum of those of its two halves, and so on."""
    try:
        return sum_of(index)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or len(index) < 2:
            raise
    # Here, not above: the error holds what the failed try had made.
    _LOG.warning("a physical batch did not fit the device's memory and was halved; set speed.chunk or speed.memory_gib lower")
    first, second = np.split(index, [len(index) // 2])
    return clipped_sum_in_halves(first, sum_of) + clipped_sum_in_halves(second, sum_of)


def fixed_shape_sum(index: Index, sum_of: Callable[[Index], ClippedSum]) -> ClippedSum:
    """`sum_of` the units at `index` int64 [b]; `ConfigError` where memory ends: halves would take as much."""
    return _unsplit(
        index,
        sum_of,
        ConfigError(
            "a physical batch did not fit the device's memory, and each has the one shape that was looked at",
            field="speed.chunk",
            remedy="set a smaller speed.chunk",
        ),
    )


def whole_bucket_sum(index: Index, sum_of: Callable[[Index], ClippedSum]) -> ClippedSum:
    """`sum_of` the bucket at `index` int64 [m]; `ConfigError` where memory ends: its halves would be other buckets."""
    return _unsplit(
        index,
        sum_of,
        ConfigError(
            "a bucket of patients did not fit the device's memory, and a bucket is never split",
            field="speed.memory_gib",
            remedy="give training more memory; or ask for a study with a smaller objective.bucket_size, or a nominal size "
            "nearer to the true one",
        ),
    )


def _unsplit(index: Index, sum_of: Callable[[Index], ClippedSum], refused: ConfigError) -> ClippedSum:
    """`refused` where memory ends; neither how many units there are nor what the failed try held is in it."""
    try:
        return sum_of(index)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    raise refused


def total_memory(device: torch.device) -> int:
    """Bytes of memory that the device has in all, or that this process's container may use of them."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [path.read_text().strip() for path in _LIMITS if path.is_file()]
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *(int(limit) for limit in limits if limit.isdigit())])


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


def _need_of_whole(need_of: Callable[[int], int], memory: int, size: int) -> int:
    """Bytes that a bucket of `size` units needs, by trying 1, 2, 4 .. of them first; `ConfigError` where memory ends before."""
    tried, need = 1, 0
    while True:
        need = need_of(tried)
        if need * _ROOM > memory:
            raise ConfigError(
                f"a bucket of {size} patients, which may occur in this study, does not fit the memory given to training",
                field="speed.memory_gib",
                value=f"{memory / GIB:.3f}",
                limit=f"more than {need * _ROOM / GIB:.3f}, which {tried} take{'s' if tried == 1 else ''}",
                remedy="give it more memory, or ask for a study with a smaller objective.bucket_size",
            )
        if tried == size:
            return need
        tried = min(2 * tried, size)


def _peak(engine: Engine, unit: Views, size: int) -> int:
    """Bytes of `size` units' views and of their clipped sum at its peak, one of them not finite: leaving it out takes more."""
    views = {name: view.repeat(size, *[1] * (view.dim() - 1)) for name, view in unit.items()}
    for view in views.values():
        if view.is_floating_point():
            view[:1] = torch.nan
    # Twice the views: the next part is drawn ahead. Once more: they are copied to the shape of a pass.
    return peak_bytes(lambda: engine.clipped_sum(views, _CLIP_NORM)) + 3 * sum(view.nbytes for view in views.values())


def out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """torch has a type of its own for it on accelerators, and on the processor and in their libraries only words."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in _WORDS)
