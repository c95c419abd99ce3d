"""Before step 6: is a batch of units, to this model, the same as its units one by one? Part of the isolation check.

Comes in: a model, views of b units and the rows float32 [b, P] that the engine gave for them. Demanded:
  ties     each parameter is used by the layer that owns it alone: an engine that works layer by layer would miss the rest;
  losses   `model.losses` of the batch are `model.forward` of each unit: no negatives, batch statistics, covariances;
  rows     the engine's rows are the gradients of single units, by an ordinary backward pass of one unit at a time;
  memory   (isolation.py) the same batch again gives the same rows: nothing is kept of units that came before.
The comparison is to 1e-4 of the norm, or of the mean norm where that is more: single and batched float32 kernels
add in another order (1e-6 was measured); what it looks for is wrong by more. Raises `PrivacyError`, with a line for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel, Views

CLOSE = 1e-4
_MOST_UNITS = 4


def check_alone(model: PretextModel, views: Views, rows: Tensor) -> None:
    """All three, for the first few units of the batch."""
    count = min(_MOST_UNITS, len(rows))
    batch = model.losses({name: view.clone() for name, view in views.items()}).detach()
    # A loss or a row that is nearly zero by chance has lost as much to rounding as the others.
    usual = [float(batch.double().abs().mean()), float(rows.double().norm(dim=1).mean())]
    parameters = dict(model.named_parameters())
    for unit in range(count):
        with _calls(model) as calls:
            loss = model.forward({name: view[unit] for name, view in views.items()})
        _check_ties(loss, model, calls)
        _close(
            "losses of a batch are not those of its units one by one: the objective couples units",
            "use negatives, statistics and covariances of the unit's own views, of public data, or released with noise",
            batch[unit],
            loss.detach(),
            usual[0],
        )
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        single = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters.values(), found, strict=True)]
        _close(
            "gradients of a batch are not those of single units",
            "train with another engine; the one in use does not fit this model",
            rows[unit],
            torch.cat([part.reshape(-1) for part in single]),
            usual[1],
        )


def _close(problem: str, remedy: str, found: Tensor, alone: Tensor, least: float) -> None:
    size = max(float(alone.double().norm()), least, 1e-6)
    difference = float((found.double() - alone.double()).norm())
    if not difference <= CLOSE * size:
        raise PrivacyError(
            problem,
            field="a synthetic unit",
            value=f"{difference / size:.1e} of its norm",
            limit=CLOSE,
            remedy=remedy,
        )


def _check_ties(loss: Tensor, model: nn.Module, calls: Counter[str]) -> None:
    """Count how often the graph of `loss` uses each parameter: at most once a call of the module that owns it."""
    uses = Counter(_uses(loss))
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if uses[id(parameter)] > calls[name]:
                raise PrivacyError(
                    "a parameter is used outside the layer that owns it (functional weight tying)",
                    field=f"{name}.{own}" if name else own,
                    value=f"{uses[id(parameter)]} uses in {calls[name]} calls of its layer",
                    remedy="give each use a parameter of its own, or call the layer itself",
                )


def _uses(loss: Tensor) -> Iterator[int]:
    """The id of a parameter for each edge that leads to it in the graph of `loss`."""
    waiting: list[Any] = [loss.grad_fn]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            variable = getattr(following, "variable", None)
            if variable is None:
                waiting.append(following)
            else:
                yield id(variable)


@contextmanager
def _calls(model: nn.Module) -> Iterator[Counter[str]]:
    """How often each module's forward ran inside; the model's own counts as one."""
    calls = Counter({"": 1})

    def counting(name: str) -> Any:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    handles = [module.register_forward_hook(counting(name)) for name, module in model.named_modules() if name]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
