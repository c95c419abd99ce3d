"""Before step 4: how much memory a piece of work holds at its peak, the same figure each time and on every device.

Comes in: a function that works on tensors. Goes out: bytes of all tensors that were alive at once and that the work itself
made, by their storages. What a kernel takes for itself within one operation is not seen, nor what an allocator rounds up:
planner.py leaves room. Only shapes decide, no values; the planner runs it on synthetic units.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.now = self.peak = 0
        self._known = weakref.WeakSet[torch.UntypedStorage]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and id(leaf.untyped_storage()) not in given:
                self._take(leaf.untyped_storage())
        return found

    def _take(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


def peak_bytes(work: Callable[[], object]) -> int:
    """Greatest number of bytes that the tensors made by `work` held at once."""
    with _Live() as live:
        work()
    return int(live.peak)
