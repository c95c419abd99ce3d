"""Step 4 of 12, fast path: one forward and one backward pass of a batch -> the clipped sum, without rows of the weights.

Comes in: views with leading dimension b. Goes out: `ClippedSum`, float64. Paper: Bu, Wang, Zha, Karypis, "Differentially
Private Optimization on Large Model at Small Cost" (ICML 2023), algorithm 1: per layer keep input and output gradient,
take per-unit norms from them (kept.py), then the weighted gradient from the same two; no second backward pass, and the
first one computes no gradient of a parameter. Clipping: Abadi et al. (CCS 2016), algorithm 1.

Sensitivity. Entry i of `losses` is a function of unit i, so what is kept in row i is (objectives/base.py). Unit i's factor
is min(1, C / D_i), D_i = max((1 + GAMMA) N_i, (1 + 2^-12) (U_i + gamma_1026 M_i)), with N_i its norm as found, U_i a proven
upper bound of it and gamma_1026 M_i a bound of the rounding that its own row meets in float32 products of 1024
terms (kept.py). So it adds at most C, for any values: what cancels in float32 makes D larger, never too small. GAMMA is the
room within which D_i = (1 + GAMMA) N_i for ordinary units, so that the engines agree. 2^-12 is for sums in float64, as
in gradients.py. A unit for which D_i is not finite, or its square beyond float32, becomes an exact zero row: its kept
rows are replaced by zeros before anything is added up, because 0 times infinity would reach all (ruling 15).
That includes a unit with a layer's input or gradient, or their product, of norm above 1.8e19, though its row might be finite.

What is not proven: that another unit's last bits stay when one unit is removed, because its neighbours in the batch change.
Forward and backward passes of any batched engine have this (demanded: 1e-5 of the norm, isolation.py); the weighted sum
adds, in the worst case, 2 gamma_1026 C M_j / N_j for another unit j: 1.2e-4 C where nothing cancels, up to 3e-3 C where a
task's rows cancel most (M / N of 25, own views compared with each other). Measured, passes and sum together: 4e-8 C for each
other unit of the batch (transformers, batches of 32 to 256). Rows made to cancel, 64 of them, moved a sum by 5e-3 C in all;
gamma does not cover that. It ends there: sampling.py parts a sample so that only the units of one group can be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel
from ssl_core.privacy.gradients import MOST_SQUARE, ClippedSum, check_clip_norm, check_model, empty_sum, units_of
from ssl_core.privacy.kept import TERMS, Bound, Part, Rows, gamma_of
from ssl_core.privacy.layers import least_dims, parts_of

GAMMA = 2.0**-8
_SUM = 2.0**-12

_Arrived = Callable[[nn.Module, Tensor], None]


@dataclass(frozen=True, slots=True)
class _Call:
    """Input of a layer, its version when the layer read it, and the output's place in the graph where nothing is below it."""

    given: Tensor
    version: int
    lowest: GradientEdge | None


class BookkeepingEngine:
    """Engine "bookkeeping", for models that survey.py found to fit; `PrivacyError` where one does not after all."""

    name = "bookkeeping"
    gamma = GAMMA
    reason = "every parameter lies in a layer that it knows"

    def __init__(self, model: PretextModel) -> None:
        check_model(model)
        self._model = model
        owners = {name: m for name, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))}
        self._names = {module: name for name, module in owners.items()}

    def rows(self, views: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Views with leading dimension b >= 1 to rows float32 [b, *shape], written out: for checks, not for training."""
        kept, _ = self._kept(views)
        return tuple(kept[name].rows() for name, _ in self._model.named_parameters())

    def clipped_sum(self, views: dict[str, Tensor], clip_norm: float) -> ClippedSum:
        """Views with leading dimension b >= 0 to the sum of their rows, each clipped to `clip_norm`."""
        check_clip_norm(clip_norm)
        if not units_of(views):
            return empty_sum(tuple(self._model.parameters()), clip_norm)
        kept, bounds = self._kept(views)
        written = {name: kept.pop(name) for name in list(kept) if name not in bounds}
        # Biases and norms are many and small: what is done once for all of them costs less than the doing of it.
        none = next(iter(views.values())).new_zeros((units_of(views), 0), dtype=torch.float32)
        together = Rows(torch.cat([none, *(part.rows().flatten(1) for part in written.values())], dim=1))
        sizes = [part.rows().shape[1:] for part in written.values()]
        divisors = divisor([together.bound(), *bounds.values()])
        finite = divisors.square() <= MOST_SQUARE
        factors = torch.where(finite, (clip_norm / divisors).clamp(max=1.0), 0.0)
        used = None if bool(finite.all()) else finite
        sums = torch.split(together.weighted(factors, used), [size.numel() for size in sizes])
        found = {name: total.view(size) for name, total, size in zip(written, sums, sizes, strict=True)}
        for name in list(kept):
            # What was kept of a parameter is freed once it is added up.
            found[name] = kept.pop(name).weighted(factors, used)
        return ClippedSum(tuple(found[name] for name, _ in self._model.named_parameters()), clip_norm)

    def _kept(self, views: dict[str, Tensor]) -> tuple[dict[str, Part], dict[str, Bound]]:
        """What is kept of each parameter, and the bounds of all but vectors, by the parameters' names."""
        precision = _matmul_precision()
        if precision != "highest":
            raise PrivacyError(
                "products are less exact than float32",
                field="float32_matmul_precision",
                value=precision,
                remedy='torch.set_float32_matmul_precision("highest")',
            )
        units = units_of(views)
        found: dict[str, Part] = {}
        bounds: dict[str, Bound] = {}

        def arrived(module: nn.Module, grad: Tensor) -> None:
            # In the backward pass, while the gradient is in the cache; what rows were made of is freed once they are written.
            call = calls.pop(module)
            for own, part in parts_of(module, call.given, grad, units).items():
                name = f"{self._names[module]}.{own}"
                found[name] = part
                if not isinstance(part, Rows) or part.values.dim() > 2:
                    bounds[name] = part.bound()

        losses, calls = self._forward(views, arrived)
        if losses.shape != (units,):
            raise PrivacyError("losses are not one a unit", field="losses", value=tuple(losses.shape), limit=(units,))
        # Every layer lies on a way from the loss to one of these, and no parameter does.
        lowest = [call.lowest for call in calls.values() if call.lowest is not None]
        torch.autograd.grad(losses, lowest, torch.ones_like(losses), allow_unused=True)
        for module in calls:
            raise self._misfit(self._names[module], "its output does not reach the loss")
        return found, bounds

    def _forward(self, views: dict[str, Tensor], arrived: _Arrived) -> tuple[Tensor, dict[nn.Module, _Call]]:
        units = units_of(views)
        calls: dict[nn.Module, _Call] = {}

        def keep(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            name = self._names[module]
            if module in calls:
                raise self._misfit(name, "it is called more than once")
            if len(given) != 1 or not isinstance(output, Tensor):
                raise self._misfit(name, "its input is not one tensor")
            if not output.requires_grad:
                raise self._misfit(name, "it is called without gradients")
            if given[0].dim() < least_dims(module) or not len(given[0]) or len(given[0]) % units:
                raise self._misfit(name, "its input has no leading dimension of units")
            lowest = None if given[0].requires_grad else get_gradient_edge(output)
            calls[module] = _Call(given[0].detach(), given[0]._version, lowest)
            output.register_hook(partial(arrived, module))  # type: ignore[no-untyped-call]  # torch has no types for it

        hooks = [module.register_forward_hook(keep) for module in self._names]
        try:
            losses: Tensor = self._model.losses(views)
        finally:
            for hook in hooks:
                hook.remove()
        for module, call in calls.items():
            if call.given._version != call.version:
                raise self._misfit(self._names[module], "its input was changed in place after it was read")
        missing = [name for module, name in self._names.items() if module not in calls]
        if missing:
            raise self._misfit(missing[0], "it is not called")
        return losses, calls

    def _misfit(self, name: str, problem: str) -> PrivacyError:
        return PrivacyError(
            f"layer does not fit the bookkeeping engine: {problem}", field=name, remedy='set speed.engine = "vmap"'
        )


def _matmul_precision() -> str:
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:
        # torch has two ways to set it, and refuses to say what holds where both were used.
        return "set by torch.backends"


def divisor(bounds: Sequence[Bound]) -> Tensor:
    """D of the module docstring, float64 [b], for all parameters' bounds: never below what any unit can add at factor 1."""
    bound = reduce(add, bounds)
    proven = bound.upper.sqrt() + gamma_of(TERMS + 2) * bound.mass.sqrt()
    # `maximum` hands on what is not a number.
    return torch.maximum((1.0 + GAMMA) * bound.square.sqrt(), (1.0 + _SUM) * proven)
