"""Before step 6: does a pass over patients leave anything behind? Part of the isolation check (ruling 24).

Comes in: a model whose round has begun, and made-up patients. Goes out: nothing, or `PrivacyError` where a draw, a loss or an
engine changed a value that the model holds: a queue, a bank, a running statistic, a parameter. What acts in the same batch
shows in its rows; what is gathered now and used later (from the next `start_round` on, or once it is full) shows here alone.
Looked at: tensors, arrays, numbers and texts, in containers and objects of any depth, that can be reached from the model's
modules: their attributes, the data and default values of their classes, what functions among these have closed over or name
of their file, and the patients themselves; and torch's, numpy's and Python's global generators: a pass has its units' coins.
A change is one of values: what is put back, or made again the same, is none. Nothing may be filled on first use either, as a
cache is: what stands still within a round is made when the model is, or in `start_round`.
Not looked at: what only functions that these call name of their files, the disk, and the inside of objects unknown to pickle.
Messages have names of classes and attributes, no values and no keys.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from hashlib import blake2b
from itertools import zip_longest
from pickle import PickleError
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_core.data.patients import Patients
from ssl_core.errors import PrivacyError

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type, ModuleType, torch.dtype, torch.device, Enum, np.dtype)
_CONTAINERS = (dict, list, tuple, set, OrderedDict)
_FILLED = (dict, list, set, deque, Tensor, np.ndarray)
_NOT_ITS_OWN = ("torch", "builtins", "abc", "typing")


class Traces:
    """Digests of what a model and patients hold, taken when this is made."""

    def __init__(self, model: nn.Module, patients: Patients) -> None:
        self._model, self._patients = model, patients
        self._before = self._digests()

    @contextmanager
    def none_of(self, what: str) -> Iterator[None]:
        """`look` after what is inside, and `PrivacyError` where coins were drawn inside."""
        coins = _generators()
        yield
        after = _generators()
        for name, state in coins.items():
            if after[name] != state:
                raise PrivacyError(
                    f"{what} of patients draws coins of its own", field=name, remedy="take randomness from the unit's coins"
                )
        self.look(what)

    def look(self, what: str) -> None:
        """`PrivacyError` where all is not as it was when this was made; `what`, for people, is what came between."""
        for mine, theirs in zip_longest(self._before, self._digests()):
            if mine != theirs:
                raise PrivacyError(
                    f"{what} of patients changes what the model holds: it could remember them for later",
                    field=(theirs or mine)[0],
                    remedy="keep no queue, memory bank, cache or running statistic; what stands still within a round is made "
                    "in start_round, of released weights and public data",
                )

    def _digests(self) -> list[tuple[str, bytes]]:
        """Each attribute's path and digest; a class's own, once, under the name of the class."""
        walk, root, kinds = _Walk(), type(self._model).__name__, set[type]()
        found: list[tuple[str, bytes]] = []
        for place, module in self._model.named_modules():
            path = f"{root}.{place}" if place else root
            for name, value in vars(module).items():
                if name == "_parameters":
                    found += [(f"{path}.{own}", walk.digest(parameter)) for own, parameter in value.items()]
                else:
                    found.append((f"{path}.{name}", walk.digest([*value] if name == "_modules" else value)))
            for kind in type(module).__mro__:
                if kind.__module__.split(".")[0] not in _NOT_ITS_OWN and kind not in kinds:
                    kinds.add(kind)
                    found += [(f"class {kind.__name__}.{name}", walk.digest(value)) for name, value in vars(kind).items()]
        return [*found, ("patients", walk.digest(self._patients))]


class _Walk:
    """Digests of values, each object that is met again being named by its number."""

    def __init__(self) -> None:
        self._met: dict[int, int] = {}
        # What is made on the way stays alive, so that no later object has its id.
        self._alive: list[Any] = []

    def digest(self, value: Any) -> bytes:
        if isinstance(value, _PLAIN) or (type(value) in _CONTAINERS and not value):
            # Most of what a module holds: its dictionaries of hooks are empty.
            return f"{type(value)} {value!r}".encode("utf-8", "surrogatepass")
        found, waiting = blake2b(digest_size=16), [value]
        while waiting:
            words, inside = self._look(waiting.pop())
            found.update(b"%d:%b%d" % (len(words), words, len(inside)))
            waiting.extend(reversed(inside))
        return found.digest()

    def _look(self, value: Any) -> tuple[bytes, list[Any]]:
        """What `value` is by itself, and what is inside of it."""
        kind = f"{type(value).__module__}.{type(value).__qualname__}".encode()
        if isinstance(value, _PLAIN):
            return kind + repr(value).encode("utf-8", "surrogatepass"), []
        if id(value) in self._met:
            return b"met %d" % self._met[id(value)], []
        self._met[id(value)] = len(self._met)
        self._alive.append(value)
        if isinstance(value, Tensor):
            words = f"{value.dtype} {tuple(value.shape)} {value.requires_grad}".encode()
            return kind + words + _bytes(value), [value.grad if value.is_leaf else None, vars(value)]
        if isinstance(value, np.ndarray):
            inside = [*value.flat] if value.dtype.hasobject else []
            return kind + f"{value.dtype} {value.shape}".encode() + (b"" if inside else value.tobytes()), inside
        return self._look_inside(kind, value)

    def _look_inside(self, kind: bytes, value: Any) -> tuple[bytes, list[Any]]:
        own = [getattr(value, "__dict__", None)] if type(value) not in {dict, list, tuple} else []
        if isinstance(value, dict):
            return kind, own + [part for pair in value.items() for part in pair]
        if isinstance(value, list | tuple):
            return kind, [*own, *value]
        if isinstance(value, set | frozenset):
            return kind + b"".join(sorted(self.digest(part) for part in value)), own
        if isinstance(value, FunctionType):
            inside = [value.__closure__, value.__defaults__, value.__kwdefaults__, *_globals_of(value)]
            return kind + value.__code__.co_code, inside + own
        if isinstance(value, CellType):
            return kind, [value.cell_contents] if value != CellType() else []
        if isinstance(value, MethodType):
            return kind, [value.__self__, value.__func__]
        if isinstance(value, classmethod | staticmethod):
            return kind, [value.__func__]
        if isinstance(value, property):
            return kind, [value.fget, value.fset]
        if isinstance(value, nn.Module):
            return kind, own
        if isinstance(value, torch.Generator):
            return kind, [value.get_state()]
        return kind, own + _reduced(value)


def _globals_of(function: FunctionType) -> list[Any]:
    """What `function` names of its module and could fill: containers, tensors and arrays."""
    codes, found = [function.__code__], []
    while codes:
        code = codes.pop()
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
        found += [function.__globals__.get(name) for name in code.co_names]
    return [value for value in found if isinstance(value, _FILLED)]


def _reduced(value: Any) -> list[Any]:
    """What pickle would keep of an object of any other kind: counters, queues, generators, objects with slots."""
    try:
        found = value.__reduce_ex__(4)
    except (TypeError, ValueError, AttributeError, RuntimeError, PickleError):
        return []
    if isinstance(found, str):
        return [found]
    items = [[] if part is None else [*part] for part in found[3:5]]
    return [*found[:3], *items]


def _bytes(value: Tensor) -> bytes:
    plain = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
    return plain.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _generators() -> dict[str, object]:
    found: dict[str, object] = {
        "torch's generator": _bytes(torch.get_rng_state()),
        "numpy's generator": _Walk().digest(np.random.get_state()),
        "Python's generator": random.getstate(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no types for it
        found["the device's generator"] = [_bytes(state) for state in torch.cuda.get_rng_state_all()]
    return found
