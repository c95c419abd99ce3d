"""Decoders that behave as hostile files make a parser behave; workers import them by name."""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from ssl_core.data.decoding import Found
from ssl_core.data.found import packed
from ssl_core.data.pipe import send
from ssl_core.data.reading import Fault


class _Hijack:
    """What runs a command where it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (self._path, 0o700)


def _pipe() -> Connection:
    """The worker's own end, as a file that took it over would find it."""
    return next(each for each in gc.get_objects() if isinstance(each, Connection))


def _name() -> bytes:
    """What the worker's answer to this file must begin with."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_name != "_serve":
        frame = frame.f_back
    assert frame is not None
    return bytes(frame.f_locals["name"])


def decode(path: Path) -> Sequence[Found]:
    """What the file's text says: a number, or how to fail."""
    text = path.read_text()
    if text == "die":
        os._exit(11)
    if text == "sleep":
        time.sleep(3600)
    if text == "fill":
        return [Found(None, "", np.ones(1 << 31, np.float32))]
    if text == "print":
        print("a patient's name")
        warnings.warn("a patient's name", stacklevel=1)
    if text == "core":
        assert resource.getrlimit(resource.RLIMIT_CORE) == (1, 1)
    if text == "hijack":
        _pipe().send(_Hijack(f"{path}.run"))
        os._exit(0)
    if text in ("twice", "then die"):
        # As its worker would answer, and then more: for the file that comes next, or nothing ever again.
        for _ in range(2 if text == "twice" else 1):
            send(_pipe(), [_name()])
            send(_pipe(), packed([Found("p1", "", np.full(3, 66, np.float32))]))
        time.sleep(0.2)
        os._exit(0) if text == "then die" else time.sleep(3600)
    if text == "half":
        send(_pipe(), [_name()])
        os.write(_pipe().fileno(), (1 << 16).to_bytes(8, "big") + b"abc")
        time.sleep(3600)
    if text == "huge":
        os.write(_pipe().fileno(), (1 << 60).to_bytes(8, "big"))
        time.sleep(3600)
    if text == "mixed":
        return [
            Found(None, "é \udcff", np.arange(6, dtype=np.int32).reshape(3, 2)[:, ::-1]),
            Found("p", "", Fault.FLAT),
            Found("q", "", np.zeros((0, 2), np.float32)),
            Found("r", "", np.float64([1.5])),
        ]
    if text == "fault":
        return [Found("p1", "", Fault.CODEC)]
    if text == "nothing":
        return []
    if text in ("print", "core"):
        text = "0"
    return [Found("p1", f"{number:03d}", np.full(3, number, np.float32)) for number in range(int(text))]


def parts(how: str) -> Iterator[Any]:
    """Parts of a stream, which end as `how` says."""
    yield ["é \udcff", 1]
    if how == "die":
        os._exit(11)
    if how == "raise":
        raise ValueError("a patient's name")
    if how == "sleep":
        time.sleep(3600)
    if how == "fill":
        yield [np.ones(1 << 31, np.float32).sum()]
    if how == "hijack":
        _pipe().send(_Hijack("/nonexistent/run"))
        os._exit(0)
    if how == "huge":
        os.write(_pipe().fileno(), (1 << 60).to_bytes(8, "big"))
        time.sleep(3600)
    if how == "two":
        os.write(_pipe().fileno(), (5).to_bytes(8, "big") + b"[1,2]")
        time.sleep(3600)
    if how == "large":
        yield "x" * (1 << 20)
    yield None
