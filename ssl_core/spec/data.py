"""Before step 1: what a study reads, record by record. Part of a study plan; constants are public and a person's.

Unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_core.spec.strict import StrictModel


class TextData(StrictModel):
    """Short texts: at most `words` words of a record are read, each as `codes` public hash codes of `buckets`."""

    kind: Literal["text"]
    words: Annotated[int, Field(ge=2, le=512)] = 24
    codes: Annotated[int, Field(ge=1, le=4)] = 2
    buckets: Annotated[int, Field(ge=16, le=1 << 16)] = 512


class ImageData(StrictModel):
    """Grey images uint8 [height, width]; means over `pool` x `pool` squares, then standardised image by image."""

    kind: Literal["image"]
    height: Annotated[int, Field(ge=8, le=512)]
    width: Annotated[int, Field(ge=8, le=512)]
    pool: Annotated[int, Field(ge=1, le=16)] = 1
    records_per_patient: Annotated[int, Field(ge=1, le=16)] = 1

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of an image in its file."""
        return self.height, self.width

    @property
    def values(self) -> int:
        """Pooled pixels of an image."""
        return (self.height // self.pool) * (self.width // self.pool)


Unit = Annotated[str, Field(pattern=r"^[!-~µ°]{1,20}\z")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class SignalData(StrictModel):
    """Signals of `channels` x `samples` values at `rate_hz`; a value x enters as (x - centre) / typical.

    `units`, `centre` and `typical` (in these units) hold one entry for all channels or one a channel. They are written
    by a person from what is known of such signals, never computed from patients.
    """

    kind: Literal["signal"]
    channels: Annotated[int, Field(ge=1, le=64)]
    samples: Annotated[int, Field(ge=8, le=1 << 16)]
    rate_hz: Annotated[float, Field(gt=0, le=1e6)]
    units: Annotated[tuple[Unit, ...], Field(min_length=1)]
    typical: Annotated[tuple[Annotated[float, Field(ge=1e-9, le=1e9)], ...], Field(min_length=1)]
    centre: Annotated[tuple[Finite, ...], Field(min_length=1)] = (0.0,)
    records_per_patient: Annotated[int, Field(ge=1, le=16)] = 1

    @property
    def shape(self) -> tuple[int, int]:
        """(channels, samples) of a record in its file."""
        return self.channels, self.samples

    @property
    def values(self) -> int:
        """Samples of all channels."""
        return self.channels * self.samples

    @model_validator(mode="after")
    def _per_channel(self) -> Self:
        for name in ("units", "typical", "centre"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise ValueError(f"{name} must have one entry, or one for each of {self.channels} channels")
        return self


Data = TextData | ImageData | SignalData
