"""Before step 4: does a model fit an engine that works layer by layer? A dry run on synthetic views.

Comes in: a model and views of a few synthetic units. Goes out: None, or in words why the model goes to the general engine,
a function of the model and of shapes. No patient is read, and weights do not count: the run is of a copy on the processor
with public weights of its own, so that a layer whose gradient is zero at the start hides nothing. Looked at, in this order:
  structure: the model has `losses` of its own; each parameter belongs to one known layer, to one alone;
  graph:     each layer is called once, with gradients, on units in the leading dimension; each parameter is read in one
             place of the graph of the losses: a second reader (functional weight tying) would go unseen by a layer;
  numbers:   for 2 and for 3 units, losses, rows and clipped sum equal those of a loop of single units: this finds losses
             that couple units, k rows of a unit that do not lie together, and what we did not think of.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.hooks import HooksEngine
from ssl_core.privacy.layers import refusal
from ssl_core.privacy.reference import exact_sum, loop_rows

UNITS = 3
_Make = Callable[[PretextModel], BookkeepingEngine | HooksEngine]
_TOLERANCE = 1e-4
# A contrast of nearly equal crops cancels in float32, on some processors by more than that: then as far as so many last bits of
# the weights move the loop itself.
_LAST_BITS = 8
_CLIP_NORM = 1e-3
_NO_LOSSES = "the model has no batched losses of its own"


def survey(model: PretextModel, views: dict[str, Tensor], make: _Make = BookkeepingEngine) -> str | None:
    """Why `model` cannot be trained by the engine that `make` gives, or None; `views` of at least UNITS synthetic units."""
    structural = _structure(model)
    if structural is not None:
        return structural
    trial = _with_public_weights(model)
    few = {name: view[:UNITS].cpu() for name, view in views.items()}
    try:
        return _graph(trial, few) or _numbers(trial, few, make(trial))
    except PrivacyError as error:
        # The engine refuses by name what it finds in a call; here that is the answer.
        return f"{error.problem} ({error.field})"


def _structure(model: PretextModel) -> str | None:
    own = getattr(type(model), "losses", None)
    if own is None or own is PretextModel.losses:
        return _NO_LOSSES
    readers: Counter[nn.Parameter] = Counter()
    for name, module in model.named_modules():
        parameters = [parameter for _, parameter in module.named_parameters(recurse=False)]
        readers.update(parameters)
        reason = refusal(module) if parameters else None
        if reason is not None:
            return f"{name or 'the model itself'}: {reason}"
    tied = [name for name, parameter in model.named_parameters() if readers[parameter] > 1]
    return f"{tied[0]}: the parameter is tied" if tied else None


def _with_public_weights(model: PretextModel) -> PretextModel:
    trial = copy.deepcopy(model).cpu()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trial.parameters():
            uniforms = torch.rand(parameter.shape, generator=generator)
            if parameter.dim() < 2:
                parameter.copy_(0.25 + uniforms)
            else:
                parameter.copy_((2.0 * uniforms - 1.0) * parameter[0].numel() ** -0.5)
    return trial


def _graph(trial: PretextModel, views: dict[str, Tensor]) -> str | None:
    losses: Tensor = trial.losses(views)
    readers: Counter[Tensor] = Counter()
    seen, left = set(), [losses.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            if following is not None and hasattr(following, "variable"):
                readers[following.variable] += 1
            left.append(following)
    for name, parameter in trial.named_parameters():
        if readers[parameter] != 1:
            return f"{name}: {readers[parameter]} operations read the parameter, not one"
    return None


def _numbers(trial: PretextModel, views: dict[str, Tensor], fast: BookkeepingEngine | HooksEngine) -> str | None:
    for units in range(2, UNITS + 1):
        some = {name: view[:units] for name, view in views.items()}
        with torch.no_grad():
            single = torch.stack([trial({name: view[i] for name, view in some.items()}) for i in range(units)])
            if not _close([trial.losses(some)], [single]):
                return "the batched losses are not those of single units"
        rows, wanted, moved = fast.rows(some), loop_rows(trial, some), loop_rows(_last_bits_moved(trial), some)
        for i in range(units):
            if not _close([row[i] for row in rows], [row[i] for row in wanted], [row[i] for row in moved]):
                return "gradients of single units are not those of a loop"
        found = fast.clipped_sum(some, (1.0 + fast.gamma) * _CLIP_NORM).grads
        if not _close(found, exact_sum(wanted, _CLIP_NORM), exact_sum(moved, _CLIP_NORM)):
            return "the clipped sum is not that of a loop"
    return None


def _last_bits_moved(trial: PretextModel) -> PretextModel:
    """A copy whose weights are the next float32 numbers, up or down by turns."""
    moved = copy.deepcopy(trial)
    with torch.no_grad():
        for parameter in moved.parameters():
            ways = torch.full((parameter.numel(),), torch.inf)
            ways[::2] = -torch.inf
            parameter.copy_(torch.nextafter(parameter, ways.view_as(parameter)))
    return moved


def _close(found: Sequence[Tensor], wanted: Sequence[Tensor], moved: Sequence[Tensor] | None = None) -> bool:
    """Each tensor within a share of its own norm, a thousandth of that share of all together, and what last bits move."""
    whole = float(torch.cat([part.double().flatten() for part in wanted]).norm())
    return all(
        float((a.double() - b.double()).norm())
        <= _TOLERANCE * (float(b.double().norm()) + 1e-3 * whole) + _LAST_BITS * float((c.double() - b.double()).norm())
        for a, b, c in zip(found, wanted, wanted if moved is None else moved, strict=True)
    )
