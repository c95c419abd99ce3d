"""Step 4 of 12, fast path: one forward and one backward pass of a batch -> the clipped sum, without rows of the weights.

Comes in: views with leading dimension b. Goes out: `ClippedSum`, float64. Paper: Bu, Wang, Zha, Karypis, "Differentially
Private Optimization on Large Model at Small Cost" (ICML 2023), algorithm 1: per layer keep input and output gradient,
take per-unit norms from them (kept.py), then the weighted gradient from the same two; no second backward pass, and the
first one computes no gradient of a parameter. Clipping: Abadi et al. (CCS 2016), algorithm 1.

Sensitivity. Entry i of `losses` is a function of unit i, so what is kept in row i is (objectives/base.py). Unit i's factor
is min(1, C / D_i), D_i = max((1 + GAMMA) N_i, (1 + 2^-12) (U_i + gamma_1089 M_i), 512 gamma_1089 M_i), with N_i its norm as
found, U_i a proven upper bound of it and gamma_1089 M_i a bound of the rounding that its own row meets in float32 products of
1024 terms (kept.py). So it adds at most C, for any values: what cancels in float32 makes D larger, never too small. GAMMA is
the room within which D_i = (1 + GAMMA) N_i for ordinary units, so that the engines agree. 2^-12 is for sums in float64, as
in gradients.py. A unit for which D_i is not finite, or its square beyond float32, becomes an exact zero row: its kept
rows are replaced by zeros before anything is added up, because 0 times infinity would reach all (ruling 15).
That includes a unit with a layer's input or gradient, or their product, of norm above 1.8e19, though its row might be finite.

In bfloat16 the forward pass runs under torch's autocast: its large products and those of the backward pass take and give
bfloat16; parameters stay float32, and so does what is added up here; bfloat16 has float32's range, so nothing is scaled.
Row i is by definition that of the kept values: a layer's input as it was given, before autocast's own cast, and the gradient
of its output as it came. Each is a float32 number, whatever its kind, and norm and sum are of these same numbers in float32
and float64 as above: the argument holds word for word. The losses' own kind does not count: their gradients begin with 1.

Absence. One unit more or less moves the others to other places of a batch and to batches of other sizes. What is kept of them,
and their D, is the same bit by bit: passes are made in the shapes alone in which that was seen to be so (shapes.py). What
remains is the rounding of the float32 products in which units meet: at most 2 gamma_1089 C M_j / D_j for each other unit j, so
at most C / 256 whatever the weights, 1.3e-4 C where nothing cancels, 3.3e-3 C where a task's rows cancel most (M / N of 25, own
views compared with each other). That takes every rounding to be against us; found were 7e-6 C for 64 units together, of any
task here, with weights made for it, too. It ends there: sampling.py parts a sample so that only one group can be reached.
In bfloat16 the passes would do a thousand times more: where a batch of another size takes another kernel, a last bit of float32
turns a bit of bfloat16; 15 units of a signal transformer moved by 3e-3 each when the 16th left, their sum by 6e-3 C. So there
is one shape alone, of `room` units, a public number. A unit's absence then moves others to other places of the same products,
and no more; fixed_shape.py looks at that in the very shape of training: bit by bit where they stay in place, to 1e-5 of the
norm where they move. Found on a processor: no bit, for every task.
Nor does every kernel of bfloat16 keep rows apart: on processors, oneDNN's read beyond the end of rows of odd length, and
multiply by zero what stands there: the next row. What is finite adds nothing so; an infinity or NaN of one unit makes one of
the unit before. So none enters (a unit whose views are not finite is a zero row, with zeros in its place), and where one
arises nothing of it is believed: every unit that is not finite beside others passes again, alone in the same shape, and is a
zero row where it is not finite there. So its row, zero or not, is a function of it alone; a finite one was never reached, as
long as the model lets no NaN become a number again (by a comparison, say): fixed_shape.py looks for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import partial, reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from ssl_core.config import Precision
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel
from ssl_core.privacy.bounds import Bound, Inner, bound_of_inner, gamma_of
from ssl_core.privacy.gradients import MOST_SQUARE, ClippedSum, InShapes, check_clip_norm, check_model, empty_sum, units_of
from ssl_core.privacy.kept import ROUNDINGS, Part, Products, Rows
from ssl_core.privacy.layers import Moments, least_dims, moments, part_of, refusal
from ssl_core.privacy.machine import check_products

GAMMA = 2.0**-8
_SUM = 2.0**-12
_QUIET = 2.0**9

_Arrived = Callable[[nn.Module, Tensor], None]


@dataclass(frozen=True, slots=True)
class _Call:
    """Input of a layer, its version when the layer read it, its `moments`, and the output's place in the graph where nothing is
    below it."""

    given: Tensor
    version: int
    moments: Moments
    lowest: GradientEdge | None


class BookkeepingEngine(InShapes):
    """Engine "bookkeeping", for models that survey.py found to fit; `PrivacyError` where one does not after all.

    precision: of the passes alone.
    """

    name = "bookkeeping"
    gamma = GAMMA
    reason = "every parameter lies in a layer that it knows"

    def __init__(self, model: PretextModel, precision: Precision = "float32") -> None:
        check_model(model)
        self._model = model
        self._precision = precision
        owners = {name: m for name, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))}
        self._names = {module: name for name, module in owners.items()}
        self._own = {name: [f"{name}.{own}" for own, _ in m.named_parameters(recurse=False)] for name, m in owners.items()}
        for name, module in owners.items():
            problem = refusal(module)
            if problem is not None:
                raise self._misfit(name, problem)

    def rows(self, views: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Views with leading dimension b >= 1 to rows float32 [b, *shape], written out: for checks, not for training.

        In bfloat16, of a unit whose views are not finite: zeros.
        """
        views, real = self._cleaned(views)
        parts, _, _ = self._kept(views)
        found = tuple(row[: len(real)] for row in self._in_order({name: part.rows() for name, part in parts.items()}))
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
        parts, _, _ = self._kept(views)
        return _tensors(parts, units_of(views))

    def made_of(self, views: dict[str, Tensor]) -> list[Tensor]:
        """What `kept` gives, then the divisors float64 [b]."""
        parts, _, divisors = self._kept(views)
        return [*_tensors(parts, units_of(views)), divisors[: units_of(views)]]

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
        parts, together, divisors = self._kept(views)
        finite = divisors.square() <= MOST_SQUARE
        there = torch.cat([real, real.new_zeros(len(finite) - len(real))])
        factors = torch.where(finite & there, (clip_norm / divisors).clamp(max=1.0), 0.0)
        used = None if bool(finite.all()) else finite
        vectors = {name: part.rows() for name, part in parts.items() if _is_of_vectors(part)}
        sizes = [row.shape[1] for rows in vectors.values() for row in rows]
        sums = iter(torch.split(together.weighted(factors, used)[0], sizes))
        found = {name: tuple(next(sums) for _ in rows) for name, rows in vectors.items()}
        for name in list(parts):
            # What was kept of a layer is freed once it is added up.
            part = parts.pop(name)
            if name not in found:
                found[name] = part.weighted(factors, used)
        return ClippedSum(self._in_order(found), clip_norm), finite[: len(real)] & real

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

    def _kept(self, views: dict[str, Tensor]) -> tuple[dict[str, Part], Rows, Tensor]:
        """Of all places of the shape: what is kept of each layer, by its name; the layers of vectors as one; divisors [b]."""
        device = next(iter(views.values())).device
        check_products(device)
        views = self._filled(views)
        units = units_of(views)
        found: dict[str, Part] = {}
        bounds: list[Bound] = []
        inners: list[Inner] = []

        def arrived(module: nn.Module, grad: Tensor) -> None:
            # In the backward pass, while the gradient is in the cache; what rows were made of is freed once they are written.
            call = calls.pop(module)
            part = found[self._names[module]] = part_of(module, call.given, grad, units, call.moments)
            if isinstance(part, Products):
                inners.append(part.inner())
            elif not _is_of_vectors(part):
                bounds.append(part.bound())

        with self._autocast(device):
            losses, calls = self._forward(views, arrived)
        if losses.shape != (units,):
            raise PrivacyError("losses are not one a unit", field="losses", value=tuple(losses.shape), limit=(units,))
        # Every layer lies on a way from the loss to one of these, and no parameter does.
        lowest = [call.lowest for call in calls.values() if call.lowest is not None]
        torch.autograd.grad(losses, lowest, torch.ones_like(losses), allow_unused=True)
        for module in calls:
            raise self._misfit(self._names[module], "its output does not reach the loss")
        # Scales and shifts of norms are many and small: what is done once for all of them costs less than the doing of it.
        none = losses.new_zeros((units, 0), dtype=torch.float32)
        vectors = [row for part in found.values() if _is_of_vectors(part) for row in part.rows()]
        together = Rows((torch.cat([none, *vectors], dim=1),))
        if inners:
            bounds.append(bound_of_inner(inners))
        return found, together, divisor([together.bound(), *bounds])

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


def _tensors(parts: dict[str, Part], units: int) -> list[Tensor]:
    """What parts are made of, of the first `units`."""
    fields_of = [getattr(part, field.name) for part in parts.values() for field in fields(part)]
    values = [value for one in fields_of for value in (one if isinstance(one, tuple) else (one,))]
    return [value[:units] for value in values if isinstance(value, Tensor)]


def _is_of_vectors(part: Part) -> bool:
    return isinstance(part, Rows) and all(row.dim() == 2 for row in part.rows())


def divisor(bounds: Sequence[Bound]) -> Tensor:
    """D of the module docstring, float64 [b], for all parameters' bounds: never below what any unit can add at factor 1."""
    bound = reduce(add, bounds)
    lost = gamma_of(ROUNDINGS) * bound.mass.sqrt()
    # `maximum` hands on what is not a number.
    own = torch.maximum((1.0 + GAMMA) * bound.square.sqrt(), (1.0 + _SUM) * (bound.upper.sqrt() + lost))
    return torch.maximum(own, _QUIET * lost)
