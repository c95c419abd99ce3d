"""Step 3 of 12: which encoder a study trains. Part of a study plan; unknown keys are refused.

`nano` sizes are for tests.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ssl_core.spec.strict import StrictModel

VitSize = Literal["nano", "micro", "tiny", "small", "base"]
Pool = Literal["mean", "mean-deviation"]
ConvSignalSize = Literal["nano", "small", "base"]
ResnetSize = Literal["nano", "10", "18"]
TextTransformerSize = Literal["nano", "tiny", "mini", "small"]
TableTransformerSize = Literal["nano", "tiny", "small"]

# How many pixels or samples one place of the last maps stands for.
RESNET_STRIDE: dict[ResnetSize, int] = {"nano": 2, "10": 8, "18": 32}
CONV_SIGNAL_STRIDE: dict[ConvSignalSize, int] = {"nano": 8, "small": 32, "base": 32}


class HashedWordsEncoder(StrictModel):
    """0-layer text encoder: summed hash embeddings, mean over words, LayerNorm."""

    name: Literal["hashed-words"]
    width: Annotated[int, Field(ge=4, le=1024)] = 64


class MlpImageEncoder(StrictModel):
    """Recipe R1: pixels -> hidden -> code."""

    name: Literal["mlp-image"]
    hidden: Annotated[int, Field(ge=8, le=4096)] = 256
    code: Annotated[int, Field(ge=4, le=4096)] = 128


class VitEncoder(StrictModel):
    """Vision transformer on squares of `patch` x `patch` pooled pixels; `nano` is for tests.

    `pool`: features are the mean of the tokens, or their mean and standard deviation, twice as many.
    """

    name: Literal["vit"]
    size: VitSize = "tiny"
    patch: Annotated[int, Field(ge=2, le=64)] = 8
    pool: Pool = "mean"


class SignalTransformerEncoder(StrictModel):
    """Transformer on pieces of `patch` samples of all channels; sizes and `pool` as of `vit`.

    `front_end`: beside its samples a token sees the piece's power spectrum and slopes, functions that nothing is learnt in.
    """

    name: Literal["signal-transformer"]
    size: VitSize = "micro"
    patch: Annotated[int, Field(ge=2, le=8192)] = 50
    pool: Pool = "mean"
    front_end: bool = False


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


class EventTransformerEncoder(StrictModel):
    """Transformer over the events of a record in their order; sizes as of `text-transformer`."""

    name: Literal["event-transformer"]
    size: TextTransformerSize = "tiny"


class TableTransformerEncoder(StrictModel):
    """Transformer with one token a column of a table; `nano` is for tests."""

    name: Literal["table-transformer"]
    size: TableTransformerSize = "tiny"


class TwoTowerEncoder(StrictModel):
    """A `vit` that is trained, and beside it a frozen public map of words to `joint` numbers, into which it is projected."""

    name: Literal["two-tower"]
    size: VitSize = "tiny"
    patch: Annotated[int, Field(ge=2, le=64)] = 8
    joint: Annotated[int, Field(ge=8, le=512)] = 64


Encoder = (
    HashedWordsEncoder
    | MlpImageEncoder
    | VitEncoder
    | ResnetEncoder
    | SignalTransformerEncoder
    | ConvSignalEncoder
    | TextTransformerEncoder
    | EventTransformerEncoder
    | TableTransformerEncoder
    | TwoTowerEncoder
)
