"""Frozen models of what a study trains: which data it reads, by which encoder, on which pretext task. Parts of a StudyPlan.

Which of them go together is said in `config.py`; `objectives/build.py` makes the model. Unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


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


class HashedWordsEncoder(StrictModel):
    """0-layer text encoder: summed hash embeddings, mean over words, LayerNorm."""

    name: Literal["hashed-words"]
    width: Annotated[int, Field(ge=4, le=1024)] = 64


class MlpImageEncoder(StrictModel):
    """Recipe R1: pixels -> hidden -> code."""

    name: Literal["mlp-image"]
    hidden: Annotated[int, Field(ge=8, le=4096)] = 256
    code: Annotated[int, Field(ge=4, le=4096)] = 128


VitSize = Literal["nano", "tiny", "small", "base"]
TextTransformerSize = Literal["nano", "tiny", "mini", "small"]


class VitEncoder(StrictModel):
    """Vision transformer on squares of `patch` x `patch` pooled pixels; `nano` is for tests."""

    name: Literal["vit"]
    size: VitSize = "tiny"
    patch: Annotated[int, Field(ge=2, le=64)] = 8


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


class MaskedAutoencoding(StrictModel):
    """Encode the squares that are not hidden, predict the pixels of those that are by a small transformer."""

    name: Literal["masked-autoencoding"]
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.75
    decoder_width: Annotated[int, Field(ge=32, le=1024, multiple_of=32)] = 128
    decoder_depth: Annotated[int, Field(ge=1, le=12)] = 2


class MaskedLanguage(StrictModel):
    """Hide a share of a record's words and predict the codes of each at its place."""

    name: Literal["masked-language"]
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15


Encoder = HashedWordsEncoder | MlpImageEncoder | VitEncoder | TextTransformerEncoder
Objective = MaskedWords | MaskedImage | MaskedAutoencoding | MaskedLanguage
