"""Step 3 of 12: which pretext task a study trains on. Part of a study plan; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ssl_core.spec.looks import (
    BarlowOwn,
    Byol,
    Caption,
    CropsContrast,
    DinoBank,
    MocoBank,
    SimclrBank,
    SimclrBuckets,
    SimSiam,
    SwavBank,
    TextTarget,
    VicregOwn,
)
from ssl_core.spec.strict import StrictModel

MaskedTarget = Literal["values", "log-power"]


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
    """Encode the patches that are not hidden, predict the content of those that are by a small transformer.

    The content: normalised values or, for signals, the logarithm of the power spectrum. `summary_weight`: above 0, so many
    times the error of a second prediction is added, of a summary of the whole record (objectives/summaries.py).
    """

    name: Literal["masked-autoencoding"]
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.75
    decoder_width: Annotated[int, Field(ge=32, le=1024, multiple_of=32)] = 128
    decoder_depth: Annotated[int, Field(ge=1, le=12)] = 2
    target: MaskedTarget = "values"
    summary_weight: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A plan without it keeps the bytes, and so the hash, that it had before it could be said.
        body: dict[str, Any] = handler(self)
        return {name: value for name, value in body.items() if name != "summary_weight" or value}


class MaskedLanguage(StrictModel):
    """Hide a share of a record's words and predict the codes of each at its place."""

    name: Literal["masked-language"]
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15


class MaskedFeatures(StrictModel):
    """Hide a share of a row's known columns and predict each from the others: numbers by distance, levels by softmax."""

    name: Literal["masked-features"]
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3


class NextToken(StrictModel):
    """Predict the codes of each word of a record from the words before it."""

    name: Literal["next-token"]


class NextEvent(StrictModel):
    """Predict the code of each event of a record, and the gap before it, from the events before it."""

    name: Literal["next-event"]


class Denoising(StrictModel):
    """Add `noise`, blank a `block` (a share of the record), predict the record as it was, or its power spectrum.

    `noise` is a standard deviation: in units of `typical` for signals, of an image's own standard deviation for images.
    """

    name: Literal["denoising"]
    noise: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.5
    block: Annotated[float, Field(ge=0, le=0.75)] = 0.0
    target: MaskedTarget = "values"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.noise and not self.block:
            raise ValueError("denoising needs noise or a block: without both the record is its own prediction")
        return self


class OwnContrast(StrictModel):
    """Tell two views of one of a record's `segments` from views of its others; each begins up to `gap` samples late."""

    name: Literal["own-contrast"]
    segments: Annotated[int, Field(ge=2, le=64)] = 20
    gap: Annotated[int, Field(ge=1, le=8192)]
    temperature: Annotated[float, Field(ge=0.05, le=10)] = 0.5
    projection: Annotated[int, Field(ge=8, le=1024)] = 64


class ContrastivePredictive(StrictModel):
    """Read a record piece by piece and tell each of the next `ahead` pieces from its other pieces."""

    name: Literal["contrastive-predictive"]
    pieces: Annotated[int, Field(ge=3, le=64)] = 20
    gap: Annotated[int, Field(ge=0, le=8192)] = 0
    ahead: Annotated[int, Field(ge=1, le=8)] = 4


class ShuffledOrder(StrictModel):
    """Show the `segments` of a signal or text in another order and tell where each came from.

    `gap`: of a signal each begins up to so many samples late; of a text it is 0.
    """

    name: Literal["shuffled-order"]
    segments: Annotated[int, Field(ge=2, le=16)] = 4
    gap: Annotated[int, Field(ge=0, le=8192)] = 0


class Jigsaw(StrictModel):
    """Show the `grid` x `grid` tiles of an image in another order, each up to `gap` pixels late; tell where each came from."""

    name: Literal["jigsaw"]
    grid: Annotated[int, Field(ge=2, le=4)] = 2
    gap: Annotated[int, Field(ge=0, le=64)] = 0


class Rotation(StrictModel):
    """Turn a square image by a multiple of 90 degrees and tell by which."""

    name: Literal["rotation"]


class LatentPrediction(StrictModel):
    """Hide `blocks` blocks of patches, predict what the encoder makes of them from what it makes of the others."""

    name: Literal["latent-prediction"]
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5
    blocks: Annotated[int, Field(ge=1, le=16)] = 4
    decoder_width: Annotated[int, Field(ge=32, le=1024, multiple_of=32)] = 64
    decoder_depth: Annotated[int, Field(ge=1, le=12)] = 2


Single = (
    MaskedWords
    | MaskedImage
    | MaskedAutoencoding
    | MaskedLanguage
    | MaskedFeatures
    | ShuffledOrder
    | Jigsaw
    | Rotation
    | NextToken
    | NextEvent
    | Denoising
    | OwnContrast
    | ContrastivePredictive
    | SimSiam
    | Byol
    | VicregOwn
    | CropsContrast
    | BarlowOwn
    | SimclrBank
    | MocoBank
    | SwavBank
    | DinoBank
    | SimclrBuckets
    | LatentPrediction
    | Caption
    | TextTarget
)


class Joint(StrictModel):
    """Two to four tasks over one encoder: the loss of a patient is the sum of the tasks', each times its weight."""

    name: Literal["joint"]
    tasks: Annotated[tuple[Annotated[Single, Field(discriminator="name")], ...], Field(min_length=2, max_length=4)]
    weights: Annotated[tuple[Annotated[float, Field(gt=0, le=1000)], ...], Field(min_length=2, max_length=4)]

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if len(self.weights) != len(self.tasks):
            raise ValueError("weights must have one entry a task")
        if len({task.name for task in self.tasks}) != len(self.tasks):
            raise ValueError("each task may stand once")
        if any(isinstance(task, SimclrBuckets) for task in self.tasks):
            raise ValueError(
                "simclr-buckets has one gradient for a bucket of patients, and the tasks of joint have one for each patient, "
                "clipped once: train it alone, or take crops-contrast or vicreg-own here"
            )
        return self


Objective = Single | Joint


def clip_line(objective: Objective) -> str:
    """Of a task with buckets, for people: what is clipped to C and what the noise is for; of any other, ""."""
    if not isinstance(objective, SimclrBuckets):
        return ""
    return f"C is of a bucket of about {objective.bucket_size} patients; one can change it by 2 C: noise sigma x 2 C"
