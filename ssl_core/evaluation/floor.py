"""Step 13: the raw floor: what a linear model does without any encoder. Every table shows it.

Text: hashed bag of words, 2,048 buckets, up to 512 words of a record (the encoder may read fewer), presence times
inverse document frequency, rows of length 1. Document frequencies are counted on the label pool's texts alone, as
log((1 + n) / (1 + n_word)) + 1: Manning, Raghavan and Schuetze, "Introduction to Information Retrieval" (2008),
section 6.2, smoothed. Hashing: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (ICML 2009).
Images: the standardised pixels that the encoder reads. Signals: of each channel, the logarithm of the mean power in 32
bands of equal width from 0 to half the sampling rate: a linear model on raw samples would know nothing of waves that
begin at any time. Power: Welch, "The use of fast Fourier transform for the estimation of power spectra" (IEEE Trans.
Audio Electroacoust. 15, 1967), one rectangular segment. Sounds: of each band of the log-mel picture, mean and standard
deviation over time, for the same reason. Tables: of each numeric column its value and whether it is there, of each level
of the others, "missing" and "not declared" too, 0 or 1; standardised by mean and deviation over the label pool, whose
labels are not looked at. Events: of each code and each gap the logarithm of one more than how often a record has it,
standardised likewise. Images with reports: both, the pixels of an image brought to length 1 as its words are, side by
side; whoever has the report at hand may use it, though the encoder's features are of the image alone. A patient's
feature is the mean over the patient's records; where records are the units (record_units.py), over a record's rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.data.patients import Patients
from ssl_core.data.source import Source, load_patients
from ssl_core.finetuning.probe import Scaling, standardise
from ssl_core.spec.data import Data, EventData, PairData, SignalData, SoundData, TableData, TextData, TextForm

BUCKETS = 2048
_WORDS = 512
_BANDS = 32


def floor_data(data: Data) -> Data:
    """How a source is read for the floor: texts as one code of 2,048 buckets a word, the others as they are."""
    if isinstance(data, PairData):
        return data.model_copy(update={"text": TextForm(words=_WORDS, codes=1, buckets=BUCKETS)})
    return TextData(kind="text", words=_WORDS, codes=1, buckets=BUCKETS) if isinstance(data, TextData) else data


def floor_patients(
    source: Source, patients: Patients, data: Data, load: Callable[[Source, Data], Patients] = load_patients
) -> Patients:
    """The `patients` of `source`, as `load` reads them by `data`, as the floor sees them."""
    if isinstance(data, TextData | PairData):
        return load(source, floor_data(data))
    if isinstance(data, SignalData):
        records = log_power(np.asarray(patients.whole, np.float32), data)
        return Patients(patients.units, patients.tags, patients.offsets, records)
    if isinstance(data, SoundData):
        records = loudness(np.asarray(patients.whole, np.float32), data)
        return Patients(patients.units, patients.tags, patients.offsets, records)
    if isinstance(data, TableData):
        records = one_hot(np.asarray(patients.whole, np.float32), data)
        return Patients(patients.units, patients.tags, patients.offsets, records)
    if isinstance(data, EventData):
        records = log_counts(np.asarray(patients.whole, np.int32), data)
        return Patients(patients.units, patients.tags, patients.offsets, records)
    return patients


def log_counts(events: npt.NDArray[np.int32], data: EventData) -> npt.NDArray[np.float32]:
    """Events [m, events, 2] to ln(1 + how often a record has each code, each gap), float32 [m, codes + gaps]."""
    kinds = (events[:, :, 0], data.codes), (events[:, :, 1], data.gaps)
    counts = np.zeros((len(events), data.codes + data.gaps), np.float32)
    for begin, (numbers, count) in zip((0, data.codes), kinds, strict=True):
        rows, places = np.nonzero(numbers >= 0)
        np.add.at(counts[:, begin : begin + count], (rows, numbers[rows, places]), 1)
    return np.log1p(counts)


def one_hot(rows: npt.NDArray[np.float32], data: TableData) -> npt.NDArray[np.float32]:
    """Rows [m, 2 N + C] of a table to float32 [m, 2 N + codes]: values, whether they are there, each code of each level."""
    plain = 2 * len(data.numeric)
    counts = data.codes[len(data.numeric) :]
    codes = [rows[:, plain + place, None] == np.arange(count) for place, count in enumerate(counts)]
    return np.hstack([rows[:, :plain], *codes]).astype(np.float32)


def loudness(sounds: npt.NDArray[np.float32], data: SoundData) -> npt.NDArray[np.float32]:
    """Log-mel pictures [m, mels * frames] to mean and standard deviation over time of each band, float32 [m, 2 * mels]."""
    bands = sounds.reshape(len(sounds), data.height, data.width).astype(np.float64)
    return np.hstack([bands.mean(axis=2), bands.std(axis=2)]).astype(np.float32)


def log_power(signals: npt.NDArray[np.float32], data: SignalData) -> npt.NDArray[np.float32]:
    """Signals [m, channels * samples] to ln(1e-6 + mean power) of each channel's bands, float32 [m, channels * bands].

    Power in squared units of `typical` a frequency: those of one channel add up to its mean square around its mean. There
    are 32 bands, or fewer where a signal is too short for them.
    """
    bands = min(_BANDS, data.samples // 2)
    out = np.empty((len(signals), data.channels, bands), np.float32)
    edges = np.linspace(0, data.samples // 2, bands + 1).astype(np.int64)
    for row, signal in enumerate(signals):
        found = np.fft.rfft(signal.reshape(data.channels, data.samples).astype(np.float64), axis=1)[:, 1:]
        power = 2.0 * np.square(np.abs(found) / data.samples)
        if data.samples % 2 == 0:
            power[:, -1] /= 2.0
        out[row] = np.log(1e-6 + np.add.reduceat(power, edges[:-1], axis=1) / np.diff(edges))
    return out.reshape(len(signals), data.channels * bands)


@dataclass(frozen=True, slots=True)
class Floor:
    """Raw features with constants from the label pool: `weight` float64 [F] (idf) of texts, `scaling` of tables and events.

    `pixels`: entries of a record that stand before its words.
    """

    weight: npt.NDArray[np.float64] | None = None
    pixels: int = 0
    scaling: Scaling | None = None

    def features(self, patients: Patients) -> npt.NDArray[np.float64]:
        """One row a patient, float64 [n, F]; `patients` as read with `floor_data`."""
        if self.weight is None:
            plain = patients.mean_by_unit(np.asarray(patients.whole, np.float32))
            return plain.astype(np.float64) if self.scaling is None else self.scaling(plain)
        rows = _directions(_present(patients, self.pixels) * self.weight)
        if self.pixels:
            rows = np.hstack([_directions(patients.whole[:, : self.pixels].astype(np.float64)), rows])
        sums = np.add.reduceat(rows, patients.offsets[:-1], axis=0) if len(patients) else rows
        mean: npt.NDArray[np.float64] = sums / patients.counts()[:, None]
        return mean


def fit_floor(pool: Patients, data: Data) -> Floor:
    """The floor for a label pool of `data`, as `floor_patients` gives it; labels are not looked at."""
    if isinstance(data, TableData | EventData):
        return Floor(scaling=standardise(pool.mean_by_unit(np.asarray(pool.whole, np.float32))))
    if not isinstance(data, TextData | PairData):
        return Floor()
    pixels = data.shape[0] if isinstance(data, PairData) else 0
    present = _present(pool, pixels)
    return Floor(weight=np.log((1 + len(present)) / (1 + present.sum(axis=0))) + 1, pixels=pixels)


def _directions(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rows [m, F] at length 1; one of zeros stays."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: npt.NDArray[np.float64] = rows / np.where(length > 0, length, 1.0)
    return scaled


def _present(patients: Patients, pixels: int) -> npt.NDArray[np.float64]:
    """Which buckets occur in each record after its `pixels`, float64 [m, 2048] of 0 and 1."""
    codes = patients.whole[:, pixels:] if pixels else patients.whole[:, :, 0]
    rows, columns = np.nonzero(codes >= 0)
    out = np.zeros((len(codes), BUCKETS))
    out[rows, np.asarray(codes[rows, columns], np.int64)] = 1.0
    return out
