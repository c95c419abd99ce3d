"""Step 1 of 12: what was found in a file, and its form on the way from a worker process to this one.

Comes in: `Found`, one a record, or the `Fault` of a whole file. In a frame (pipe.py): length of a JSON text, 8 bytes, the JSON,
the bytes of the arrays in order. Goes out: the same; `ValueError`, `TypeError` or `RecursionError` for anything that `packed`
does not write: a file may have taken over the worker that sends it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ssl_core.data.pipe import LENGTH
from ssl_core.data.reading import Fault
from ssl_core.data.rows import Values

_NUMBERS = re.compile(r"[<>|][iuf][1248]")


@dataclass(frozen=True, slots=True)
class Found:
    """One record of a file. owner: what the file itself says, as written; name: orders a patient's records, by time.

    study: the examination that it belongs to, where the file itself says it; only images with reports ask for it.
    record: the id by which labels name it, where the file itself says one; "" for none, None where the file's name is its id.
    """

    owner: str | None = field(repr=False)
    name: str = field(repr=False)
    content: Values | Fault = field(repr=False)
    study: str | None = field(default=None, repr=False)
    record: str | None = field(default=None, repr=False)


def packed(result: Sequence[Found] | Fault) -> list[bytes | memoryview]:
    """The parts of a frame."""
    found = [] if isinstance(result, Fault) else result
    arrays = [np.ascontiguousarray(each.content) for each in found if not isinstance(each.content, Fault)]
    told = (
        str(result)
        if isinstance(result, Fault)
        else [[each.owner, each.name, each.study, each.record, _told(each.content)] for each in found]
    )
    text = json.dumps(told).encode()
    # Arrays begin where their numbers are aligned.
    text += b" " * (-len(text) % LENGTH)
    return [len(text).to_bytes(LENGTH, "big"), text, *(array.reshape(-1).view(np.uint8).data for array in arrays)]


def unpacked(whole: bytearray) -> Sequence[Found] | Fault:
    """What `packed` was given."""
    place = LENGTH + int.from_bytes(whole[:LENGTH], "big")
    told = json.loads(whole[LENGTH:place])
    if isinstance(told, str):
        return Fault(told)
    found = []
    for owner, name, study, record, content in told:
        if not all(isinstance(text, str | None) for text in (owner, study, record)) or not isinstance(name, str):
            raise TypeError("names are texts")
        if isinstance(content, str):
            found.append(Found(owner, name, Fault(content), study, record))
            continue
        kind, shape = content
        if not _NUMBERS.fullmatch(kind) or not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("no array of numbers")
        count = math.prod(shape)
        if count * np.dtype(kind).itemsize > len(whole) - place:
            raise ValueError("an array beyond the end of the frame")
        values: Any = np.frombuffer(whole, kind, count, place).reshape(shape)
        place += values.nbytes
        found.append(Found(owner, name, values, study, record))
    if place != len(whole):
        raise ValueError("more than the arrays that were told of")
    return found


def _told(content: Values | Fault) -> str | list[Any]:
    return str(content) if isinstance(content, Fault) else [content.dtype.str, list(content.shape)]
