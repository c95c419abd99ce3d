"""Recordings as the formats' own libraries write them, the plan that reads them, and what mutates a file's bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_core.data.decoding import Bounds, Found, _decode
from ssl_core.data.folder_files import Listed
from ssl_core.data.reading import Effort, Fault, Reading
from ssl_core.data.source import Source, read_records
from ssl_core.spec.data import SignalData

with warnings.catch_warnings():
    # pandas warns of what wfdb does at import.
    warnings.simplefilter("ignore")
    import wfdb

DATA = SignalData(kind="signal", channels=2, samples=500, rate_hz=100, units=("mV",), typical=(0.5,))
"""Five seconds of two channels."""

NAMES = ["II", "V1"]
HERE = Effort(workers=0)


def waves(samples: int = 1300, rate: float = 100.0, seed: int = 0) -> np.ndarray:
    """Two channels in mV, float64 [samples, 2]."""
    time = np.arange(samples) / rate
    clean = np.stack([np.sin(6 * time), 0.5 * np.cos(5 * time)], axis=1)
    out: np.ndarray = clean + 0.01 * np.random.default_rng(seed).standard_normal((samples, 2))
    return out


def write_wfdb(folder: Path, name: str, values: np.ndarray, *, formats: str = "16", fs: float = 100, **more: Any) -> Path:
    """A record of channels II in mV and V1 in uV, by wfdb's writer."""
    folder.mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {"units": ["mV", "uV"], "sig_name": NAMES, "p_signal": values * [1, 1000], "fmt": [formats] * 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrsamp(name, fs=fs, write_dir=str(folder), **(given | more))
    return folder / f"{name}.hea"


def read(model: Any, root: Path, data: SignalData = DATA, **declared: Any) -> Reading:
    """What `model`, declared with these keys, reads of `root`, in this process."""
    return read_records(Source(root, model(**({"units": ("mV",), "channels": ("II", "V1")} | declared))), data, HERE)


def faults(reading: Reading) -> dict[Fault, int]:
    """Faults and their counts."""
    (tally,) = reading.tallies
    return dict(tally.faults)


def pieces(reading: Reading, data: SignalData = DATA) -> np.ndarray:
    """Records back in mV, [m, samples, channels]."""
    return reading.records.reshape(-1, data.channels, data.samples).transpose(0, 2, 1) * data.typical[0]


def decode(decoder: Any, path: Path, largest: int = 1 << 20) -> Sequence[Found] | Fault:
    """As in a worker, in this process."""
    return _decode(decoder, Listed(path.name, path, None), Bounds(largest, 20.0))


def mutate(whole: bytes, draw: Callable[[Any], Any], strategies: Any) -> bytes:
    """`whole` with bytes flipped, its end cut off, or one of its parts written over another."""
    out = bytearray(whole)
    for _ in range(draw(strategies.integers(1, 6))):
        if not out:
            break
        place = draw(strategies.integers(0, len(out) - 1))
        kind = draw(strategies.sampled_from(["flip", "digit", "cut", "splice"]))
        if kind == "flip":
            out[place] = draw(strategies.integers(0, 255))
        elif kind == "digit":
            out[place] = ord(draw(strategies.sampled_from("0123456789 -.eE/~\n")))
        elif kind == "cut":
            del out[place:]
        else:
            other = draw(strategies.integers(0, len(out) - 1))
            out[place : place + 40] = out[other : other + draw(strategies.integers(0, 60))]
    return bytes(out)
