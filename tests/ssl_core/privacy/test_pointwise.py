"""Functions of single numbers that tasks are made of: the same bits wherever in a tensor a number stands (shapes.py).

torch's loops take vectors of numbers as long as there are enough of them, and other code for the rest of a tensor. For some
functions it rounds otherwise: for softplus in one number of 16 by a processor with AVX-512. A look at a few made-up units then
finds equal bits by chance, and with weights made for it a patient's absence moved the others' sum by 2 C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests_tasks import plan
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_core.objectives.build import MODELS, build_model
from ssl_core.privacy.engines import choose_engine, synthetic_views
from ssl_core.privacy.gradients import InShapes

# No multiple of what any vector instruction takes, and far more than it.
_COUNT, _PIECE = 5005, 7
# torch tags functions of single numbers, but for this.
_UNTAGGED = {"aten::softplus_backward"}


class Watched(TorchDispatchMode):
    """Which functions of single numbers were called, and with which constants."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if (torch.Tag.pointwise in func.tags or name in _UNTAGGED) and not name.endswith("_"):
            kinds = [arg.dtype if isinstance(arg, Tensor) else arg for arg in args]
            if torch.float32 in kinds:
                self.found[f"{func} {kinds} {kwargs}"] = (func, tuple(args), dict(kwargs))
        return func(*args, **kwargs)


def numbers(kind: torch.dtype, seed: int) -> Tensor:
    """Of all sizes that occur, or truth values, or whole numbers; [_COUNT]."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(_COUNT, generator=generator)
    if not kind.is_floating_point:
        return (normal > 0).to(kind)
    return (normal * torch.where(torch.rand(_COUNT, generator=generator) < 0.7, 1.0, 1e4)).to(kind)


def differing(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Share of the numbers whose function in a tensor of `_PIECE` has other bits than in one of `_COUNT`."""
    given = [numbers(arg.dtype, seed) if isinstance(arg, Tensor) else arg for seed, arg in enumerate(args)]
    whole = func(*given, **kwargs)
    pieces = (
        func(*[arg[first : first + _PIECE].clone() if isinstance(arg, Tensor) else arg for arg in given], **kwargs)
        for first in range(0, _COUNT, _PIECE)
    )
    return float((torch.cat([*pieces]) != whole).masked_fill(whole.isnan(), False).double().mean())


def called() -> Iterator[tuple[str, Any]]:
    for kinds in MODELS:
        given = plan(kinds, 1)
        model = build_model(given)
        views = synthetic_views(model, given.data)
        engine = choose_engine(model, views, "auto")
        if isinstance(engine, InShapes):
            with Watched() as watched:
                engine.made_of(views)
            yield from watched.found.items()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a processor's loops")
def test_no_function_of_a_task_rounds_otherwise_at_the_end_of_a_tensor() -> None:
    found = dict(called())
    names = {str(func) for func, _, _ in found.values()}
    assert {"aten.gelu.default", "aten.gelu_backward.default", "aten.mul.Tensor", "aten.rsqrt.default"} <= names
    assert {name: share for name, call in found.items() if (share := differing(*call))} == {}


def test_a_function_that_does_would_be_seen() -> None:
    """On a processor with AVX2 or more by torch's own; one made so is seen on any."""

    def other_at_the_end(values: Tensor) -> Tensor:
        end = torch.arange(len(values)) >= len(values) // 32 * 32
        return values * (1.0 + 2.0**-23 * end)

    assert differing(other_at_the_end, (torch.zeros(1),), {}) > 0.9
    with Watched() as watched:
        functional.softplus(torch.zeros(3, requires_grad=True)).sum().backward()
    assert {str(func) for func, _, _ in watched.found.values()} >= {"aten.softplus.default", "aten.softplus_backward.default"}
