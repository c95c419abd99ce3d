"""Before step 1: what a study reads, record by record. Part of a study plan; constants are public and a person's.

Unknown keys are refused.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ssl_core.spec.sound import SoundData as SoundData
from ssl_core.spec.strict import StrictModel

Several = Annotated[int, Field(ge=1, le=16)]


class TextForm(StrictModel):
    """At most `words` words of a text are read, each as `codes` public hash codes of `buckets`."""

    words: Annotated[int, Field(ge=2, le=512)] = 24
    codes: Annotated[int, Field(ge=1, le=4)] = 2
    buckets: Annotated[int, Field(ge=16, le=1 << 16)] = 512


class TextData(TextForm):
    """Short texts; see `TextForm`."""

    kind: Literal["text"]
    records_per_patient: Several = 1

    @property
    def shape(self) -> tuple[int, int]:
        """(words, codes) of a record."""
        return self.words, self.codes


# A negative zero is zero: two plans that are equal have one hash.
Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda value: value + 0.0)]

_FARTHEST = 1e9
_AS_BEFORE: dict[str, Any] = {"fit": "exact", "window": None}


class ImageForm(StrictModel):
    """Grey images [height, width]; means over `pool` x `pool` squares, then standardised image by image.

    `window`: (low, high) in the units of the modality, Hounsfield for CT; values beyond are set to these before anything else.
    `fit`: how a picture of another size becomes one of height x width. exact: not at all, it is a bad record; stretch: each
    side by itself; pad: as large as goes in with its proportions, dark around it; crop: as small as covers, the middle of it.
    """

    height: Annotated[int, Field(ge=8, le=512)]
    width: Annotated[int, Field(ge=8, le=512)]
    pool: Annotated[int, Field(ge=1, le=16)] = 1
    fit: Literal["exact", "stretch", "pad", "crop"] = "exact"
    window: tuple[Finite, Finite] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of an image in its file."""
        return self.height, self.width

    @property
    def values(self) -> int:
        """Pooled pixels of an image."""
        return (self.height // self.pool) * (self.width // self.pool)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.window is not None and not (-_FARTHEST <= self.window[0] < self.window[1] <= _FARTHEST):
            raise ValueError(f"window must be (low, high), low below high, each within {_FARTHEST:g}")
        return self

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A plan that says nothing of these keeps the bytes, and so the hash, that it had before they could be said.
        body: dict[str, Any] = handler(self)
        return {name: value for name, value in body.items() if name not in _AS_BEFORE or value != _AS_BEFORE[name]}


class ImageData(ImageForm):
    """Grey images; see `ImageForm`."""

    kind: Literal["image"]
    records_per_patient: Several = 1


Unit = Annotated[str, Field(pattern=r"^[!-~µ°]{1,20}\z")]


LEAST_RHYTHM_HZ, LEAST_RHYTHM_SECONDS = 25.0, 2.0
"""Slower or shorter signals hold no beat, and cannot be made up."""


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


Shown = Annotated[str, Field(pattern=r"^\P{C}{1,80}\z")]
"""Of a column or a level: shown to people, so without control characters."""


class NumericColumn(StrictModel):
    """A column of numbers; x enters as (x - centre) / typical, in `unit`. Written by a person, never from patients."""

    name: Shown
    unit: Unit | None = None
    centre: Finite = 0.0
    typical: Annotated[float, Field(ge=1e-9, le=1e9)]


class CategoricalColumn(StrictModel):
    """A column of levels. A missing value and a level that is not among these each have a code of their own."""

    name: Shown
    levels: Annotated[tuple[Shown, ...], Field(min_length=1, max_length=1000)]


_MOST_COLUMNS = 512


class TableData(StrictModel):
    """Rows of typed columns, the numeric ones first, each kind in the order that is written here; one row is one record.

    A missing value is a value of this format: nothing is ever imputed.
    """

    kind: Literal["table"]
    numeric: tuple[NumericColumn, ...] = ()
    categorical: tuple[CategoricalColumn, ...] = ()
    records_per_patient: Annotated[int, Field(ge=1, le=16)] = 1

    @property
    def columns(self) -> tuple[NumericColumn | CategoricalColumn, ...]:
        """All columns, in the order of a record."""
        return (*self.numeric, *self.categorical)

    @property
    def codes(self) -> tuple[int, ...]:
        """How many codes a column has: a number is missing (0) or there (1); a level missing, undeclared (1), or 2 and on."""
        return (*(2 for _ in self.numeric), *(2 + len(column.levels) for column in self.categorical))

    @property
    def values(self) -> int:
        """Entries of a record: for each numeric column its scaled value, then its code; then the codes of the others."""
        return 2 * len(self.numeric) + len(self.categorical)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not 2 <= len(self.columns) <= _MOST_COLUMNS:
            raise ValueError(f"a table must have 2 to {_MOST_COLUMNS} columns")
        groups = [("column names", [column.name for column in self.columns])]
        groups += [(f"levels of column {column.name!r}", list(column.levels)) for column in self.categorical]
        for what, texts in groups:
            if any(text != unicodedata.normalize("NFC", text).strip() for text in texts):
                raise ValueError(f"{what} must be in Unicode NFC, without space around them")
            if len(set(texts)) != len(texts):
                raise ValueError(f"{what} must be distinct")
        return self


Hours = Annotated[float, Field(gt=0, le=1e7)]


class EventData(StrictModel):
    """Streams of coded events: at most `events` of a record, each as its code and the gap in time since the one before it.

    `vocabulary` holds the codes that have a number of their own; all others share one more. `gap_hours` are the bounds of the
    gaps' buckets, in hours, rising. Both are written by a person, never computed from patients.
    """

    kind: Literal["events"]
    vocabulary: Annotated[tuple[Shown, ...], Field(min_length=1, max_length=1 << 14)]
    events: Annotated[int, Field(ge=2, le=512)] = 64
    gap_hours: Annotated[tuple[Hours, ...], Field(max_length=64)] = (1.0, 24.0, 168.0, 720.0, 8760.0)
    records_per_patient: Annotated[int, Field(ge=1, le=16)] = 1

    @property
    def shape(self) -> tuple[int, int]:
        """(events, 2) of a record."""
        return self.events, 2

    @property
    def codes(self) -> int:
        """Numbers of codes: the place in `vocabulary`, and one more, the last, for a code that is not there."""
        return len(self.vocabulary) + 1

    @property
    def gaps(self) -> int:
        """Numbers of gaps: 0 for the first event of a record, then one a bucket; one that equals a bound is above it."""
        return len(self.gap_hours) + 2

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if any(code != unicodedata.normalize("NFC", code).strip() for code in self.vocabulary):
            raise ValueError("codes must be in Unicode NFC, without space around them")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("codes must be distinct")
        if any(later <= earlier for earlier, later in pairwise(self.gap_hours)):
            raise ValueError("gap_hours must rise")
        return self


class PairData(StrictModel):
    """Images, each with its report; a record holds the pixels of one image, then the codes of the words of its report.

    All of it is float32: a code is a whole number below 2^16, or -1 where there is no word, so it is exact.
    """

    kind: Literal["pair"]
    image: ImageForm
    text: TextForm
    records_per_patient: Several = 1

    @property
    def pixels(self) -> ImageData:
        """What is read of the images, as a study of images alone would say it."""
        return ImageData(kind="image", **{name: getattr(self.image, name) for name in ImageForm.model_fields})

    @property
    def words(self) -> TextData:
        """What is read of the reports, as a study of texts alone would say it."""
        return TextData(kind="text", **{name: getattr(self.text, name) for name in TextForm.model_fields})

    @property
    def shape(self) -> tuple[int, int]:
        """How many entries of a record are pixels, and how many are codes."""
        return self.image.values, self.text.words * self.text.codes

    @property
    def values(self) -> int:
        """Entries of a record."""
        return sum(self.shape)


Picture = ImageData | SoundData
"""What an encoder of images takes: `height`, `width`, `pool`."""

Data = TextData | ImageData | SignalData | TableData | SoundData | EventData | PairData
