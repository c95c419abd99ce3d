"""Step 1 of 12: reader of heart and lung sounds (WAV, FLAC) with soundfile: log-mel pictures, each piece by itself.

Comes in: a declared folder and the plan's sounds. Goes out: a `Reading` with float32 [m, mels * frames], band after band, the
lowest first, every value between -1 and 1. Channels are averaged; rate and pieces as of any recording (recordings.py).

A frame is `window` samples times a periodic Hann window w; its power at a frequency is (2 |X| / sum w)^2, 1 for a tone of
amplitude 1 (full scale) at that frequency; a band's is the sum over the frequencies, times a triangle of height 1 on the
band's edges (spec/sound.py); p = 10 log10(power), kept between floor_db and top_db; value = 2 (p - floor) / (top - floor) -
1. Stevens, Volkmann and Newman (J. Acoust. Soc. Am. 8, 1937) for the scale; no mean or deviation of a record or of several is
formed. A piece with a sample that is not finite or beyond 1e30 is missing; one that never changes, or lies below the floor,
is flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ssl_core.data.declared_recordings import SoundSource
from ssl_core.data.decoding import Found
from ssl_core.data.gathering import gather_folder
from ssl_core.data.optional import needed
from ssl_core.data.reading import Fault, Reading
from ssl_core.data.recordings import Floats, at_rate, most_samples, starts
from ssl_core.spec.sound import SoundData

if TYPE_CHECKING:
    from ssl_core.data.reading import Effort
    from ssl_core.data.source import Source

_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC")
_LARGEST = 1e30
_FRAMES = 256
# What a program writes that streams a RIFF file and does not know its size.
_UNKNOWN = (0, 0xFFFFFFFF)


def read_sounds(source: Source, data: SoundData, effort: Effort) -> Reading:
    """All sounds of the declared folder; see the module docstring."""
    declared = source.declared
    if not isinstance(declared, SoundSource):
        raise TypeError(type(declared).__name__)
    needed("soundfile", "files of this kind")
    return gather_folder(declared, source.folder, SoundDecoder(declared, data), data, effort)


@dataclass(frozen=True, slots=True)
class SoundDecoder:
    """A file's path -> the records of its sound."""

    source: SoundSource
    data: SoundData

    def __call__(self, path: Path) -> Sequence[Found]:
        """See the module docstring."""
        read = _mono(path, most_samples(self.source))
        sound = read if isinstance(read, Fault) else at_rate(*read, self.source, self.data.rate_hz)
        if not isinstance(sound, Fault) and len(sound) < self.data.samples and not (self.source.pad and len(sound)):
            sound = Fault.SHAPE if len(sound) else Fault.EMPTY
        if isinstance(sound, Fault):
            return [Found(None, "", sound)]
        places = starts(len(sound), self.data.samples, self.source.windows)
        return [Found(None, "", self._piece(sound[place : place + self.data.samples])) for place in places]

    def rates(self, path: Path) -> Sequence[float]:
        """The rate in Hz that the header says; none of what is no sound that is read here."""
        import soundfile

        with soundfile.SoundFile(path) as file:
            return [float(file.samplerate)] if file.format in _FORMATS else []

    def _piece(self, piece: Floats) -> npt.NDArray[np.float32] | Fault:
        if not np.isfinite(piece).all():
            return Fault.MISSING
        if (piece == piece[0]).all():
            return Fault.FLAT
        picture = log_mel(np.pad(piece, (0, self.data.samples - len(piece))), self.data)
        return Fault.FLAT if (picture == picture[0]).all() else picture


def _mono(path: Path, most: int) -> tuple[Floats, float] | Fault:
    """The mean of all channels float64 [samples], 1 for full scale, and the rate."""
    import soundfile

    if _cut(path):
        return Fault.UNREADABLE
    with soundfile.SoundFile(path) as file:
        if file.format not in _FORMATS:
            return Fault.CODEC
        if file.frames * file.channels > most:
            return Fault.TOO_LARGE
        values = file.read(dtype="float64", always_2d=True)
        if len(values) != file.frames:
            return Fault.UNREADABLE
        # One channel's infinity must not cancel another's, nor warn.
        return np.where(np.abs(values) <= _LARGEST, values, np.nan).mean(axis=1), float(file.samplerate)


def _cut(path: Path) -> bool:
    """Is a RIFF file shorter than its header says? libsndfile would take what is there for the whole."""
    with path.open("rb") as stream:
        head = stream.read(12)
    if head[:4] != b"RIFF" or len(head) < 12:
        return False
    said = int.from_bytes(head[4:8], "little")
    return said not in _UNKNOWN and said + 8 > path.stat().st_size


def filters(data: SoundData) -> Floats:
    """Weights float64 [mels, window // 2 + 1] of the transform's frequencies in each band."""
    hertz = np.arange(data.window // 2 + 1) * (data.rate_hz / data.window)
    edges = np.array(data.edges)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    out: Floats = np.maximum(0.0, np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)))
    return out


def log_mel(sound: Floats, data: SoundData) -> npt.NDArray[np.float32]:
    """Finite samples float64 [data.samples] to float32 [mels * frames]; see the module docstring."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(data.window) / data.window)
    weights = filters(data).T
    frames = np.lib.stride_tricks.sliding_window_view(sound, data.window)[:: data.hop]
    power = np.empty((len(frames), data.mels))
    for begin in range(0, len(frames), _FRAMES):
        part = slice(begin, begin + _FRAMES)
        found = np.abs(np.fft.rfft(frames[part] * window, axis=1)) * (2.0 / window.sum())
        power[part] = np.square(found) @ weights
    decibels = 10.0 * np.log10(np.maximum(power, 10.0 ** (data.floor_db / 10.0)))
    share = (np.clip(decibels, data.floor_db, data.top_db) - data.floor_db) / (data.top_db - data.floor_db)
    out: npt.NDArray[np.float32] = (2.0 * share - 1.0).T.astype(np.float32).reshape(-1)
    return out
