"""Step 3 of 12: what a round began with, kept beside a model: slow copies of its parts, and tensors that these made.

Comes in, at `start_round`: modules of the model at the weights that were released before the round, and tensors computed
from such weights and public records. Goes out: the same until the next round, whatever the weights do meanwhile. They are no
parameters and no buffers: neither trained, nor released a second time, nor in the hash of a plan's start weights; they move
with the model to another device or type. Before the first `start_round` there are none, and a loss that asks raises
`KeyError`: `build_model` and `train_round` call it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from ssl_core.objectives.base import PretextModel


class RoundStart(PretextModel):
    """A task of which a part stands still within a round."""

    def keep_slow(self, *parts: nn.Module) -> None:
        """Copy `parts` as they are now."""
        # Not registered as modules, so that `parameters()` does not know them.
        self.__dict__["slow"] = tuple(copy.deepcopy(part).requires_grad_(False) for part in parts)

    def keep_tensor(self, name: str, value: Tensor) -> None:
        """Keep `value`, without its graph."""
        self.__dict__.setdefault("standing", {})[name] = value.detach()

    def slowly(self, given: Tensor) -> Tensor:
        """What the slow copies make of `given`, one after the other, without a gradient."""
        with torch.no_grad():
            for part in self.__dict__["slow"]:
                given = part(given)
        return given.detach()

    def still(self, name: str) -> Tensor:
        """A tensor that was kept."""
        found: Tensor = self.__dict__["standing"][name]
        return found

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # `to(device)` and the like come through here.
        for part in self.__dict__.get("slow", ()):
            part._apply(fn, recurse)
        still = self.__dict__.get("standing", {})
        still.update({name: fn(value) for name, value in still.items()})
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no types for it
        return self
