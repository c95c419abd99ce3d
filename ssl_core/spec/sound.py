"""Before step 1: what a study reads of heart and lung sounds, as log-mel pictures. Part of a study plan, a person's."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_core.spec.strict import StrictModel

_MOST_FRAMES = 4096


class SoundData(StrictModel):
    """Sounds of `seconds` at `rate_hz`, as `mels` bands from `low_hz` to `high_hz` in steps of `hop` samples.

    Power in decibels of a full-scale tone, from `floor_db` to `top_db`, becomes -1 to 1 (data/sounds.py). `window` is the
    number of samples of a Fourier transform. To an encoder this is a picture of `height` bands and `width` frames.
    """

    kind: Literal["sound"]
    rate_hz: Annotated[float, Field(ge=100, le=192_000)]
    seconds: Annotated[float, Field(gt=0, le=600)]
    mels: Annotated[int, Field(ge=8, le=256)] = 64
    low_hz: Annotated[float, Field(ge=0)] = 20.0
    high_hz: Annotated[float, Field(gt=0)]
    window: Annotated[int, Field(ge=16, le=8192)] = 256
    hop: Annotated[int, Field(ge=4, le=8192)] = 128
    floor_db: Annotated[float, Field(ge=-200, le=0)] = -80.0
    top_db: Annotated[float, Field(ge=-200, le=40)] = 0.0
    records_per_patient: Annotated[int, Field(ge=1, le=16)] = 1

    @property
    def samples(self) -> int:
        """Samples of a record in its file, at the plan's rate."""
        return round(self.rate_hz * self.seconds)

    @property
    def shape(self) -> tuple[int, int]:
        """(1, samples) of a record in its file."""
        return 1, self.samples

    @property
    def height(self) -> int:
        """Bands, the lowest first."""
        return self.mels

    @property
    def width(self) -> int:
        """Frames that lie within the samples, whole."""
        return 1 + (self.samples - self.window) // self.hop

    @property
    def pool(self) -> int:
        """Bands and frames are not pooled."""
        return 1

    @property
    def values(self) -> int:
        """Bands times frames."""
        return self.height * self.width

    @property
    def edges(self) -> tuple[float, ...]:
        """Hertz float [mels + 2], equally far apart in mel = 2595 log10(1 + f / 700); band i is a triangle on i, i + 1, i + 2.

        O'Shaughnessy, "Speech Communication: Human and Machine" (1987), page 150; as in HTK.
        """
        low, high = (2595.0 * math.log10(1.0 + hertz / 700.0) for hertz in (self.low_hz, self.high_hz))
        places = (low + (high - low) * place / (self.mels + 1) for place in range(self.mels + 2))
        return tuple(700.0 * (10.0 ** (mel / 2595.0) - 1.0) for mel in places)

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if not self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError("high_hz must be above low_hz, at most half of rate_hz")
        if not self.floor_db < self.top_db:
            raise ValueError("top_db must be above floor_db")
        if self.hop > self.window:
            raise ValueError("hop must be at most window, or samples between two frames are not looked at")
        if self.samples < self.window or not 2 <= self.width <= _MOST_FRAMES:
            raise ValueError(f"seconds, window and hop must give 2 to {_MOST_FRAMES} frames")
        step, edges = self.rate_hz / self.window, self.edges
        if any((math.floor(low / step) + 1) * step >= high for low, high in zip(edges[:-2], edges[2:], strict=True)):
            raise ValueError("a band holds no frequency of the transform: take fewer mels, a longer window or a wider range")
        return self
