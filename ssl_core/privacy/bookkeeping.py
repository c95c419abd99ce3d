"""Step 4 of 12, fast path: one forward and one backward pass of a batch -> the clipped sum, without rows of the weights.

Comes in: views with leading dimension b. Goes out: `ClippedSum`, float64. Paper: Bu, Wang, Zha, Karypis, "Differentially
Private Optimization on Large Model at Small Cost" (ICML 2023), algorithm 1: per layer keep input and output gradient,
take per-unit norms from them (kept.py), then the weighted gradient from the same two; no second backward pass, and the
first one computes no gradient of a parameter. Clipping: Abadi et al. (CCS 2016), algorithm 1.

Sensitivity. Entry i of `losses` is a function of unit i, so what is kept in row i is (objectives/base.py). Unit i's factor
is min(1, C / D_i), D_i = max((1 + GAMMA) N_i, (1 + 2^-12) (U_i + gamma_1089 M_i)), with N_i its norm as found, U_i a proven
upper bound of it and gamma_1089 M_i a bound of the rounding that its own row meets in float32 products of 1024
terms (kept.py). So it adds at most C, for any values: what cancels in float32 makes D larger, never too small. GAMMA is the
room within which D_i = (1 + GAMMA) N_i for ordinary units, so that the engines agree. 2^-12 is for sums in float64, as
in gradients.py. A unit for which D_i is not finite, or its square beyond float32, becomes an exact zero row: its kept
rows are replaced by zeros before anything is added up, because 0 times infinity would reach all (ruling 15).
That includes a unit with a layer's input or gradient, or their product, of norm above 1.8e19, though its row might be finite.

In bfloat16 the forward pass runs under torch's autocast: its large products and those of the backward pass take and give
bfloat16; parameters stay float32, and so does what is added up here; bfloat16 has float32's range, so nothing is scaled.
Row i is by definition that of the kept values: a layer's input as it was given, before autocast's own cast, and the gradient
of its output as it came. Each is a float32 number, whatever its kind, and norm and sum are of these same numbers in float32
and float64 as above: the argument holds word for word. The losses' own kind does not count: their gradients begin with 1.

What is not proven: that another unit's last bits stay when one unit is removed, because its neighbours in the batch change.
Forward and backward passes of any batched engine have this (demanded: 1e-5 of the norm, isolation.py); the weighted sum
adds, in the worst case, 2 gamma_1089 C M_j / N_j for another unit j: 1.3e-4 C where nothing cancels, up to 3.3e-3 C where a
task's rows cancel most (M / N of 25, own views compared with each other). Measured, passes and sum together: 4e-8 C for each
other unit of the batch (transformers, batches of 32 to 256). Rows made to cancel, 64 of them, moved a sum by 5e-3 C in all;
gamma does not cover that. Weights can be chosen to make whole gradients of last bits; absence.py looks for such before each
round. It ends there: sampling.py parts a sample so that only the units of one group can be reached.
In bfloat16 the passes would do a thousand times more: where a batch of another size takes another kernel, a last bit of float32
turns a bit of bfloat16; 15 units of a signal transformer moved by 3e-3 each when the 16th left, their sum by 6e-3 C. So there
a batch has `room` units, a public number: the passes run in that shape always, the places of nobody hold zeros and are dropped
before any row is made. A unit's absence then moves others to other places of the same products, and no more; fixed_shape.py
looks at that in the very shape of training: bit by bit where they stay in place, as in float32 where they move. Found on a
processor: no bit, for every task.
Nor does every kernel of bfloat16 keep rows apart: on processors, oneDNN's read beyond the end of rows of odd length, and
multiply by zero what stands there: the next row. What is finite adds nothing so; an infinity or NaN of one unit makes one of
the unit before. So none enters (a unit whose views are not finite is a zero row, with zeros in its place), and where one
arises nothing of it is believed: every unit that is not finite beside others passes again, alone in the same shape, and is a
zero row where it is not finite there. So its row, zero or not, is a function of it alone; a finite one was never reached, as
long as the model lets no NaN become a number again (by a comparison, say): fixed_shape.py looks for that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import partial, reduce
from operator import add
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from ssl_core.config import Precision
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel
from ssl_core.privacy.bounds import Bound, Inner, bound_of_inner, gamma_of
from ssl_core.privacy.gradients import MOST_SQUARE, ClippedSum, check_clip_norm, check_model, empty_sum, units_of
from ssl_core.privacy.kept import ROUNDINGS, Part, Products, Rows
from ssl_core.privacy.layers import Moments, least_dims, moments, part_of, refusal
from ssl_core.privacy.machine import check_products

GAMMA = 2.0**-8
_SUM = 2.0**-12

_Arrived = Callable[[nn.Module, Tensor], None]


@dataclass(frozen=True, slots=True)
class _Call:
    """Input of a layer, its version when the layer read it, its `moments`, and the output's place in the graph where nothing is
    below it."""

    given: Tensor
    version: int
    moments: Moments
    lowest: GradientEdge | None


class BookkeepingEngine:
    """Engine "bookkeeping", for models that survey.py found to fit; `PrivacyError` where one does not after all.

    precision: of the passes alone. Without `within` they are of the units there are, which in bfloat16 is for measuring only.
    """

    name = "bookkeeping"
    gamma = GAMMA
    reason = "every parameter lies in a layer that it knows"

    def __init__(self, model: PretextModel, precision: Precision = "float32") -> None:
        check_model(model)
        self._model = model
        self._precision = precision
        self._room: int | None = None
        owners = {name: m for name, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))}
        self._names = {module: name for name, module in owners.items()}
        self._own = {name: [f"{name}.{own}" for own, _ in m.named_parameters(recurse=False)] for name, m in owners.items()}
        for name, module in owners.items():
            problem = refusal(module)
            if problem is not None:
                raise self._misfit(name, problem)

    def within(self, room: int) -> Self:
        """The same engine, whose passes are of `room` units always; more than so many are refused."""
        other = copy.copy(self)
        other._room = room
        return other

    def rows(self, views: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Views with leading dimension b >= 1 to rows float32 [b, *shape], written out: for checks, not for training.

        In bfloat16, of a unit whose views are not finite: zeros.
        """
        views, real = self._cleaned(views)
        parts, _ = self._kept(views)
        found = self._in_order({name: part.rows() for name, part in parts.items()})
        if self._precision == "float32":
            return found
        finite = torch.stack([row.flatten(1).isfinite().all(dim=1) for row in found]).all(dim=0)
        for unit in self._doubtful(finite, real):
            for row, alone in zip(found, self.rows(_only(views, unit)), strict=True):
                row[unit] = alone[0]
        for row in found:
            row[~real] = 0.0
        return found

    def kept(self, views: dict[str, Tensor]) -> list[Tensor]:
        """Views as above to all tensors [b, ...] that their rows are made of, each as it was kept: for checks."""
        parts, _ = self._kept(views)
        fields_of = [getattr(part, field.name) for part in parts.values() for field in fields(part)]
        values = [value for one in fields_of for value in (one if isinstance(one, tuple) else (one,))]
        return [value for value in values if isinstance(value, Tensor)]

    def clipped_sum(self, views: dict[str, Tensor], clip_norm: float) -> ClippedSum:
        """Views with leading dimension b >= 0 to the sum of their rows, each clipped to `clip_norm`."""
        check_clip_norm(clip_norm)
        if not units_of(views):
            return empty_sum(tuple(self._model.parameters()), clip_norm)
        views, real = self._cleaned(views)
        found, finite = self._summed(views, real, clip_norm)
        for unit in self._doubtful(finite, real):
            found = found + self.clipped_sum(_only(views, unit), clip_norm)
        return found

    def _summed(self, views: dict[str, Tensor], real: Tensor, clip_norm: float) -> tuple[ClippedSum, Tensor]:
        """The sum of one pass over `real` units, and whose rows are in it, bool [b]: those that are finite."""
        parts, bounds = self._kept(views)
        vectors = {name: part for name, part in parts.items() if _is_of_vectors(part)}
        # Scales and shifts of norms are many and small: what is done once for all of them costs less than the doing of it.
        none = next(iter(views.values())).new_zeros((units_of(views), 0), dtype=torch.float32)
        flat = [row.flatten(1) for part in vectors.values() for row in part.rows()]
        together = Rows((torch.cat([none, *flat], dim=1),))
        divisors = divisor([together.bound(), *bounds])
        finite = (divisors.square() <= MOST_SQUARE) & real
        factors = torch.where(finite, (clip_norm / divisors).clamp(max=1.0), 0.0)
        used = None if bool(finite.all()) else finite
        sums = iter(torch.split(together.weighted(factors, used)[0], [row.shape[1] for row in flat]))
        found = {name: tuple(next(sums).view(row.shape[1:]) for row in part.rows()) for name, part in vectors.items()}
        for name in list(parts):
            # What was kept of a layer is freed once it is added up.
            part = parts.pop(name)
            if name not in found:
                found[name] = part.weighted(factors, used)
        return ClippedSum(self._in_order(found), clip_norm), finite

    def _in_order(self, found: dict[str, tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Of each layer by its name, to all in the order of the parameters."""
        each = {own: value for name, values in found.items() for own, value in zip(self._own[name], values, strict=True)}
        return tuple(each[name] for name, _ in self._model.named_parameters())

    def _cleaned(self, views: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """In bfloat16 zeros in place of units whose views are not finite; and which units count, bool [b]."""
        real = torch.ones(units_of(views), dtype=torch.bool, device=next(iter(views.values())).device)
        if self._precision == "float32":
            return views, real
        for view in views.values():
            if view.is_floating_point():
                real &= view.isfinite().unsqueeze(-1).flatten(1).all(dim=1)
        if bool(real.all()):
            return views, real
        return {
            name: torch.where(real.view(-1, *[1] * (view.dim() - 1)), view, view.new_zeros(())) for name, view in views.items()
        }, real

    def _doubtful(self, finite: Tensor, real: Tensor) -> list[int]:
        """Units that are not finite, which in bfloat16 may be others' doing: each of them is to pass alone. None in float32."""
        if self._precision == "float32" or len(finite) == 1:
            return []
        return [int(unit) for unit in (real & ~finite).nonzero()]

    def _kept(self, views: dict[str, Tensor]) -> tuple[dict[str, Part], list[Bound]]:
        """What is kept of each layer, by its name, and the bounds of all layers but those of vectors alone."""
        units, device = units_of(views), next(iter(views.values())).device
        check_products(device)
        views = views if self._room is None else _with_nobody(views, self._room)
        room = units_of(views)
        found: dict[str, Part] = {}
        bounds: list[Bound] = []
        inners: list[Inner] = []

        def arrived(module: nn.Module, grad: Tensor) -> None:
            # In the backward pass, while the gradient is in the cache; what rows were made of is freed once they are written.
            call = calls.pop(module)
            given, theirs, *rest = (each[: len(each) // room * units] for each in (call.given, grad, *call.moments))
            part = found[self._names[module]] = part_of(module, given, theirs, units, tuple(rest))
            if isinstance(part, Products):
                inners.append(part.inner())
            elif not _is_of_vectors(part):
                bounds.append(part.bound())

        with self._autocast(device):
            losses, calls = self._forward(views, arrived)
        if losses.shape != (room,):
            raise PrivacyError("losses are not one a unit", field="losses", value=tuple(losses.shape), limit=(room,))
        # Every layer lies on a way from the loss to one of these, and no parameter does.
        lowest = [call.lowest for call in calls.values() if call.lowest is not None]
        torch.autograd.grad(losses, lowest, torch.ones_like(losses), allow_unused=True)
        for module in calls:
            raise self._misfit(self._names[module], "its output does not reach the loss")
        return found, [*bounds, bound_of_inner(inners)] if inners else bounds

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
            taken, version = given[0].detach(), given[0]._version
            at_hand = moments(module, output) if self._precision == "float32" else ()
            calls[module] = _Call(taken, version, at_hand, lowest)
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

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        if self._precision == "float32":
            return nullcontext()
        # No cache: each weight is read once, and a cast made without gradients would be handed to a call that needs them.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)

    def _misfit(self, name: str, problem: str) -> PrivacyError:
        return PrivacyError(
            f"layer does not fit the bookkeeping engine: {problem}", field=name, remedy='set speed.engine = "vmap"'
        )


def _only(views: dict[str, Tensor], unit: int) -> dict[str, Tensor]:
    return {name: view[unit : unit + 1] for name, view in views.items()}


def _is_of_vectors(part: Part) -> bool:
    return isinstance(part, Rows) and all(row.dim() == 2 for row in part.rows())


def _with_nobody(views: dict[str, Tensor], room: int) -> dict[str, Tensor]:
    """Views of `room` units: those there are, then zeros. `PrivacyError` where there are more."""
    if units_of(views) > room:
        raise PrivacyError("batch has more units than its shape has places", field="room", limit=room)
    return {name: torch.cat([view, view.new_zeros(room - len(view), *view.shape[1:])]) for name, view in views.items()}


def divisor(bounds: Sequence[Bound]) -> Tensor:
    """D of the module docstring, float64 [b], for all parameters' bounds: never below what any unit can add at factor 1."""
    bound = reduce(add, bounds)
    proven = bound.upper.sqrt() + gamma_of(ROUNDINGS) * bound.mass.sqrt()
    # `maximum` hands on what is not a number.
    return torch.maximum((1.0 + GAMMA) * bound.square.sqrt(), (1.0 + _SUM) * proven)
