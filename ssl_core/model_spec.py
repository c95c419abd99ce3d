"""Frozen models of what a study trains: which data it reads, by which encoder, on which pretext task. Parts of a StudyPlan.

Which of them go together is said in `config.py`; `objectives/build.py` makes the model. Unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class StrictModel(BaseModel):
    """Frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


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


class HashedWordsEncoder(StrictModel):
    """0-layer text encoder: summed hash embeddings, mean over words, LayerNorm."""

    name: Literal["hashed-words"]
    width: Annotated[int, Field(ge=4, le=1024)] = 64


class MlpImageEncoder(StrictModel):
    """Recipe R1: pixels -> hidden -> code."""

    name: Literal["mlp-image"]
    hidden: Annotated[int, Field(ge=8, le=4096)] = 256
    code: Annotated[int, Field(ge=4, le=4096)] = 128


VitSize = Literal["nano", "micro", "tiny", "small", "base"]
ConvSignalSize = Literal["nano", "small", "base"]
ResnetSize = Literal["nano", "10", "18"]
TextTransformerSize = Literal["nano", "tiny", "mini", "small"]


class VitEncoder(StrictModel):
    """Vision transformer on squares of `patch` x `patch` pooled pixels; `nano` is for tests."""

    name: Literal["vit"]
    size: VitSize = "tiny"
    patch: Annotated[int, Field(ge=2, le=64)] = 8


class SignalTransformerEncoder(StrictModel):
    """Transformer on pieces of `patch` samples of all channels; sizes as of `vit`."""

    name: Literal["signal-transformer"]
    size: VitSize = "micro"
    patch: Annotated[int, Field(ge=2, le=8192)] = 50


class ConvSignalEncoder(StrictModel):
    """Strided 1-D convolutions with GroupNorm; `nano` is for tests."""

    name: Literal["conv1d"]
    size: ConvSignalSize = "small"


class ResnetEncoder(StrictModel):
    """Residual net with GroupNorm; `nano` is for tests."""

    name: Literal["resnet"]
    size: ResnetSize = "18"


class TextTransformerEncoder(StrictModel):
    """Transformer over the words of a record in their order; `nano` is for tests."""

    name: Literal["text-transformer"]
    size: TextTransformerSize = "mini"


class MaskedWords(StrictModel):
    """Hide a share of a record's words and predict their codes from the rest."""

    name: Literal["masked-words"]
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5


class MaskedImage(StrictModel):
    """Hide a share of `patch` x `patch` squares and predict all pixels."""

    name: Literal["masked-image"]
    patch: Annotated[int, Field(ge=1, le=64)] = 4
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5
    shift: Annotated[int, Field(ge=0, le=8)] = 1


MaskedTarget = Literal["values", "log-power"]


class MaskedAutoencoding(StrictModel):
    """Encode the patches that are not hidden, predict the content of those that are by a small transformer.

    The content: normalised values or, for signals, the logarithm of the power spectrum.
    """

    name: Literal["masked-autoencoding"]
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.75
    decoder_width: Annotated[int, Field(ge=32, le=1024, multiple_of=32)] = 128
    decoder_depth: Annotated[int, Field(ge=1, le=12)] = 2
    target: MaskedTarget = "values"


class MaskedLanguage(StrictModel):
    """Hide a share of a record's words and predict the codes of each at its place."""

    name: Literal["masked-language"]
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15


class ShuffledOrder(StrictModel):
    """Show the `segments` of a signal in another order, each up to `gap` samples late, and tell where each came from."""

    name: Literal["shuffled-order"]
    segments: Annotated[int, Field(ge=2, le=16)] = 4
    gap: Annotated[int, Field(ge=0, le=8192)] = 0


class Rotation(StrictModel):
    """Turn a square image by a multiple of 90 degrees and tell by which."""

    name: Literal["rotation"]


Encoder = (
    HashedWordsEncoder
    | MlpImageEncoder
    | VitEncoder
    | ResnetEncoder
    | SignalTransformerEncoder
    | ConvSignalEncoder
    | TextTransformerEncoder
)
Objective = MaskedWords | MaskedImage | MaskedAutoencoding | MaskedLanguage | ShuffledOrder | Rotation
