"""Decoders that behave as hostile files make a parser behave; workers import them by name."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_core.data.decoding import Found
from ssl_core.data.reading import Fault


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
    if text == "fault":
        return [Found("p1", "", Fault.CODEC)]
    if text == "nothing":
        return []
    if text == "print":
        text = "0"
    return [Found("p1", f"{number:03d}", np.full(3, number, np.float32)) for number in range(int(text))]
