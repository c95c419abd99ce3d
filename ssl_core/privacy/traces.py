"""Before step 6: does a pass over patients leave anything behind? Part of the isolation check (ruling 24).

Comes in: a model whose round has begun, and made-up patients. Goes out: nothing, or `PrivacyError` where a draw, a loss or an
engine changed a value that the model holds: a queue, a bank, a running statistic, a parameter. What acts in the same batch
shows in its rows; what is gathered now and used later (from the next `start_round` on, or once it is full) shows here alone.
Looked at: tensors, arrays, numbers and texts, in containers and objects of any depth, that can be reached from the model's
modules and the patients: their attributes; what the classes of all these objects hold; default values of methods and
functions among these, what they have closed over, and what they name of their files, or of another file by way of a module
that they name, functions and classes included, and so on; how often an `lru_cache` was asked; and torch's, numpy's and
Python's global generators: a pass has its units' coins. Of the libraries of `_LIBRARIES`: their objects, and the containers,
tensors and arrays that a function among these names of its file.
A change is one of values: what is put back, or made again the same, is none. Nothing may be filled on first use either, as a
cache is: what stands still within a round is made when the model is, or in `start_round`.
Not looked at: what else these libraries hold, what is found by a name made at run time (`getattr`, `globals()`), files whose
module is a value rather than named, the disk, and the inside of objects unknown to pickle, as a thread's own values are.
Messages have names of classes and attributes, no values and no keys.
"""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import _lru_cache_wrapper
from hashlib import blake2b
from itertools import zip_longest
from pickle import PickleError
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_core.data.patients import Patients
from ssl_core.errors import PrivacyError

_PLAIN = {type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device}
_NAMED = (ModuleType, np.dtype)
_CONTAINERS = (dict, list, tuple, set, OrderedDict)
_FILLED = (dict, list, set, deque, Tensor, np.ndarray)
_LIBRARIES = {*sys.stdlib_module_names, "torch", "numpy", "pydantic", "pydantic_core", "annotated_types"}


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
        walk, root, modules = _Walk(), type(self._model).__name__, dict(self._model.named_modules())
        kinds = [kind for part in modules.values() for kind in type(part).__mro__ if _own(kind.__module__) and walk.first(kind)]
        found: list[tuple[str, bytes]] = []
        for place, module in modules.items():
            path = f"{root}.{place}" if place else root
            for name, value in vars(module).items():
                if name == "_parameters":
                    found += [(f"{path}.{own}", walk.digest(parameter)) for own, parameter in value.items()]
                else:
                    found.append((f"{path}.{name}", walk.digest([*value] if name == "_modules" else value)))
        for kind in kinds:
            found += [(f"class {kind.__name__}.{name}", walk.digest(value)) for name, value in _held_by(kind).items()]
        return [*found, ("patients", walk.digest(self._patients))]


class _Walk:
    """Digests of values, each object that is met again being named by its number."""

    def __init__(self) -> None:
        self._met: dict[int, int] = {}
        # What is made on the way stays alive, so that no later object has its id.
        self._alive: list[Any] = []

    def digest(self, value: Any) -> bytes:
        if type(value) in _PLAIN or (type(value) in _CONTAINERS and not value):
            # Most of what a module holds: its dictionaries of hooks are empty.
            return f"{type(value)} {value!r}".encode("utf-8", "surrogatepass")
        found, waiting = blake2b(digest_size=16), [value]
        while waiting:
            words, inside = self._look(waiting.pop())
            found.update(b"%d:%b%d" % (len(words), words, len(inside)))
            waiting.extend(reversed(inside))
        return found.digest()

    def first(self, value: Any) -> bool:
        """Whether it was not met before; from now on it was."""
        if id(value) in self._met:
            return False
        self._met[id(value)] = len(self._met)
        self._alive.append(value)
        return True

    def _look(self, value: Any) -> tuple[bytes, list[Any]]:
        """What `value` is by itself, and what is inside of it."""
        kind = f"{type(value).__module__}.{type(value).__qualname__}".encode()
        if type(value) in _PLAIN or isinstance(value, _NAMED):
            return kind + repr(value).encode("utf-8", "surrogatepass"), []
        if not self.first(value):
            return b"met %d" % self._met[id(value)], []
        if isinstance(value, Tensor):
            words = f"{value.dtype} {tuple(value.shape)} {value.requires_grad}".encode()
            return kind + words + _bytes(value), [value.grad if value.is_leaf else None, vars(value)]
        if isinstance(value, np.ndarray):
            inside = [*value.flat] if value.dtype.hasobject else []
            return kind + f"{value.dtype} {value.shape}".encode() + (b"" if inside else value.tobytes()), inside
        return self._look_inside(kind, value)

    def _look_inside(self, kind: bytes, value: Any) -> tuple[bytes, list[Any]]:
        if isinstance(value, type):
            inside = [_held_by(value), *value.__bases__, type(value)] if _own(value.__module__) else []
            return repr(value).encode(), inside
        own = [getattr(value, "__dict__", None), type(value)] if type(value) not in {dict, list, tuple} else []
        if isinstance(value, dict):
            return kind, own + [part for pair in value.items() for part in pair]
        if isinstance(value, list | tuple):
            return kind, [*own, *value]
        if isinstance(value, set | frozenset):
            return kind + b"".join(sorted(self.digest(part) for part in value)), own
        if isinstance(value, FunctionType):
            inside = [value.__closure__, value.__defaults__, value.__kwdefaults__, *_named_by(value)]
            return kind + value.__code__.co_code, inside + own
        if isinstance(value, CellType):
            return kind, [value.cell_contents] if value != CellType() else []
        if isinstance(value, MethodType):
            return kind, [value.__self__, value.__func__]
        if isinstance(value, classmethod | staticmethod):
            return kind, [value.__func__]
        if isinstance(value, property):
            return kind, [value.fget, value.fset, value.fdel]
        if isinstance(value, _lru_cache_wrapper):
            # What it keeps cannot be reached but by asking, and that is counted.
            return kind + repr(value.cache_info()).encode(), own
        if isinstance(value, nn.Module):
            return kind, own
        if isinstance(value, torch.Generator):
            return kind, [value.get_state()]
        return kind, own + _reduced(value)


def _named_by(function: FunctionType) -> list[Any]:
    """What `function` names of its file, and of others by way of it; of a library's file alone what can be filled."""
    codes, names = [function.__code__], dict[str, None]()
    while codes:
        code = codes.pop()
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
        names |= dict.fromkeys(code.co_names)
    files = [function.__globals__]
    if not _own(files[0].get("__name__")):
        return [files[0][name] for name in names if isinstance(files[0].get(name), _FILLED)]
    found = []
    for file in files:
        for value in [file.get(name, sys.modules.get(name)) for name in names if name in file or name in sys.modules]:
            if isinstance(value, ModuleType):
                if _own(value.__name__) and all(vars(value) is not other for other in files):
                    files.append(vars(value))
            elif not isinstance(value, FunctionType | BuiltinFunctionType) or _own(value.__module__):
                found.append(value)
    return found


def _held_by(kind: type) -> dict[str, Any]:
    """What a class holds, without what pydantic has made of it."""
    return {name: value for name, value in vars(kind).items() if not name.startswith("__pydantic_")}


def _own(module: str | None) -> bool:
    return (module or "").split(".")[0] not in _LIBRARIES


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
