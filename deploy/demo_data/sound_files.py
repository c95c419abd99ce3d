"""A demo site's sounds on disk: a folder of patient folders, each with WAV files, and the source TOML that declares it.

Comes in: one sound float32 [samples] within -1 .. 1. Goes out: a mono WAV file of 16 bits at the study's rate, by Python's own
`wave`, which is not the library that reads it.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tomli_w

from ssl_core.errors import ConfigError
from ssl_core.spec.data import SoundData

_FULL_SCALE = 32767


def declare_sounds(folder: Path, stem: str, toml: str) -> None:
    """The source TOML of the folder `stem`: the first folder below it names the patient."""
    source = {"kind": "sound", "path": stem, "patient_from": "folder"}
    (folder / toml).write_text(tomli_w.dumps(source), encoding="utf-8")


def write_sound(path: Path, sound: npt.NDArray[np.float32], data: SoundData) -> None:
    """Write `path`, and its folder where it is missing; `ConfigError` where a WAV file cannot name the rate."""
    if data.rate_hz != int(data.rate_hz):
        raise ConfigError("sound files have a whole number of samples a second", field="data.rate_hz", value=data.rate_hz)
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = np.rint(np.asarray(sound, np.float64) * _FULL_SCALE).astype("<i2")
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(int(data.rate_hz))
        stream.writeframes(counts.tobytes())
