"""Before step 3: does a function of single numbers, of which passes are made, round otherwise at the end of a tensor?

Comes in: an engine and views of a few made-up units. Goes out: the names of such functions, of torch's operators.
torch's loops on a processor take vectors of numbers as long as there are enough of them, and other code for the rest of a
tensor. For some functions it rounds otherwise: for softplus in one number of twenty, by processors with AVX2 and AVX-512. Whose
numbers are the rest depends on how many units there are. A look at a few units (shapes.py) may find equal bits there by chance,
so each function that a pass calls is looked at by itself, with far more numbers: in pieces that are all rest, and in one that
has next to none. Of an accelerator it is not asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_core.objectives.base import Views
from ssl_core.privacy.gradients import InShapes

# No multiple of what any vector instruction takes, and far more than it.
_COUNT, _PIECE = 1001, 7
# torch tags functions of single numbers, but for this.
_UNTAGGED = {"aten::softplus_backward"}


class Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
    """While it is entered: which functions of single numbers are called, and with which constants, in `found`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.found: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.pointwise in func.tags or func._schema.name in _UNTAGGED:
            kinds = [arg.dtype if isinstance(arg, Tensor) else arg for arg in args]
            if torch.float32 in kinds:
                self.found[f"{func} {kinds} {kwargs}"] = (func, tuple(args), dict(kwargs))
        return func(*args, **kwargs)


def uneven(engine: InShapes, views: Views) -> tuple[str, ...]:
    """Names of the functions that a pass of `views` calls and that round otherwise at the end of a tensor, each once."""
    with Watched() as watched:
        engine.made_of(views)
    return tuple(sorted({str(call[0]) for call in watched.found.values() if differing(*call)}))


def differing(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a number's function in a tensor of `_PIECE` has other bits than in one of `_COUNT`, for any of these."""
    given = [_numbers(arg.dtype, seed) if isinstance(arg, Tensor) else arg for seed, arg in enumerate(args)]

    def of(places: slice) -> Tensor:
        # Copies: it may write into what it is given.
        found: Tensor = func(*[arg[places].clone() if isinstance(arg, Tensor) else arg for arg in given], **kwargs)
        return found

    whole = of(slice(None))
    pieces = torch.cat([of(slice(first, first + _PIECE)) for first in range(0, _COUNT, _PIECE)])
    return bool((pieces != whole).masked_fill(whole.isnan() & pieces.isnan(), False).any())


def _numbers(kind: torch.dtype, seed: int) -> Tensor:
    """Of sizes that occur, or truth values, or whole numbers; [_COUNT]."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(_COUNT, generator=generator)
    if not kind.is_floating_point:
        return (normal > 0).to(kind)
    return (normal * torch.where(torch.rand(_COUNT, generator=generator) < 0.7, 1.0, 1e4)).to(kind)
