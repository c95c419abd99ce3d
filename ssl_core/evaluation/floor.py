"""Step 13: the raw floor: what a linear model does without any encoder. Every table shows it.

Text: hashed bag of words, 2,048 buckets, up to 512 words of a record (the encoder may read fewer), presence times
inverse document frequency, rows of length 1. Document frequencies are counted on the label pool's texts alone, as
log((1 + n) / (1 + n_word)) + 1: Manning, Raghavan and Schuetze, "Introduction to Information Retrieval" (2008),
section 6.2, smoothed. Hashing: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (ICML 2009).
Images: the standardised pixels that the encoder reads. A patient's feature is the mean over the patient's records.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.config import ImageData, TextData
from ssl_core.data.patients import Patients

BUCKETS = 2048
_WORDS = 512


def floor_data(data: TextData | ImageData) -> TextData | ImageData:
    """How a source is read for the floor: texts as one code of 2,048 buckets a word, images as they are."""
    return TextData(kind="text", words=_WORDS, codes=1, buckets=BUCKETS) if isinstance(data, TextData) else data


@dataclass(frozen=True, slots=True)
class Floor:
    """Raw features with constants from the label pool: `weight` float64 [F] (idf), or None for pixels."""

    weight: npt.NDArray[np.float64] | None

    def features(self, patients: Patients) -> npt.NDArray[np.float64]:
        """One row a patient, float64 [n, F]; `patients` as read with `floor_data`."""
        if self.weight is None:
            return patients.mean_by_unit(np.asarray(patients.records, np.float32)).astype(np.float64)
        weighted = _present(patients) * self.weight
        length = np.linalg.norm(weighted, axis=1, keepdims=True)
        rows = weighted / np.where(length > 0, length, 1.0)
        sums = np.add.reduceat(rows, patients.offsets[:-1], axis=0) if len(patients) else rows
        mean: npt.NDArray[np.float64] = sums / patients.counts()[:, None]
        return mean


def fit_floor(pool: Patients) -> Floor:
    """The floor for a label pool, as read with `floor_data`; labels are not looked at."""
    if pool.records.ndim == 2:
        return Floor(None)
    present = _present(pool)
    return Floor(np.log((1 + len(present)) / (1 + present.sum(axis=0))) + 1)


def _present(patients: Patients) -> npt.NDArray[np.float64]:
    """Which buckets occur in each record, float64 [m, 2048] of 0 and 1."""
    codes = patients.records[:, :, 0]
    rows, columns = np.nonzero(codes >= 0)
    out = np.zeros((len(codes), BUCKETS))
    out[rows, np.asarray(codes[rows, columns], np.int64)] = 1.0
    return out
