"""Step 3 of 12: which pretext task a study trains on. Part of a study plan; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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


class _Looks(StrictModel):
    """How different two looks at a record are; see objectives/augment.py.

    `crop`: least share of each side, or of the time, that a look shows; `gain`: greatest change of the logarithm of its
    size, and of its level; `noise`: standard deviation; `flip`: mirrored left and right, or of changed sign, half of the
    time. The level and the noise are in the units of the records as they enter: an image has standard deviation 1.
    """

    crop: Annotated[float, Field(ge=0.1, le=1)] = 0.5
    gain: Annotated[float, Field(ge=0, le=2)] = 0.2
    noise: Annotated[float, Field(ge=0, le=10)] = 0.1
    flip: bool = False


class SimSiam(_Looks):
    """From one look at a record, predict what the encoder makes of another."""

    name: Literal["simsiam"]
    projector: Annotated[int, Field(ge=16, le=4096)] = 256
    predictor: Annotated[int, Field(ge=8, le=4096)] = 64


class Byol(_Looks):
    """From one look at a record, predict what the encoder that the round began with makes of another."""

    name: Literal["byol"]
    projector: Annotated[int, Field(ge=16, le=4096)] = 256
    predictor: Annotated[int, Field(ge=8, le=4096)] = 64


class VicregOwn(_Looks):
    """Two looks at a crop agree, the `crops` crops of a patient's records differ and are not correlated."""

    name: Literal["vicreg-own"]
    crops: Annotated[int, Field(ge=2, le=32)] = 8
    projector: Annotated[int, Field(ge=8, le=4096)] = 64
    invariance: Annotated[float, Field(ge=0, le=1000)] = 25.0
    variance: Annotated[float, Field(gt=0, le=1000)] = 25.0
    covariance: Annotated[float, Field(ge=0, le=1000)] = 1.0


class CropsContrast(_Looks):
    """Tell two looks at a crop from looks at the other crops, `crops` of each of a patient's records."""

    name: Literal["crops-contrast"]
    crops: Annotated[int, Field(ge=2, le=32)] = 8
    projector: Annotated[int, Field(ge=8, le=4096)] = 64
    temperature: Annotated[float, Field(ge=0.05, le=10)] = 0.5


class BarlowOwn(_Looks):
    """Two looks at a crop agree, number by number, and no two numbers are correlated over the `crops` of the records."""

    name: Literal["barlow-own"]
    crops: Annotated[int, Field(ge=2, le=32)] = 8
    projector: Annotated[int, Field(ge=8, le=4096)] = 64
    redundancy: Annotated[float, Field(ge=0, le=1000)] = 0.005


class _BankLooks(_Looks):
    """Beside a record's looks, `bank` made-up records from the public seed `bank_seed`."""

    projector: Annotated[int, Field(ge=8, le=4096)] = 64
    bank: Annotated[int, Field(ge=64, le=4096)] = 512
    bank_seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 20181


class SimclrBank(_BankLooks):
    """Tell the other look at a record from made-up records."""

    name: Literal["simclr-bank"]
    temperature: Annotated[float, Field(ge=0.05, le=10)] = 0.2


class MocoBank(_BankLooks):
    """Find what the encoder that the round began with makes of the other look, among made-up records."""

    name: Literal["moco-bank"]
    temperature: Annotated[float, Field(ge=0.05, le=10)] = 0.2


class _BankPrototypes(_BankLooks):
    """`temperature` of what is trained, `sharpness` of what it is to be like."""

    prototypes: Annotated[int, Field(ge=2, le=4096)] = 64
    temperature: Annotated[float, Field(ge=0.05, le=10)] = 0.1


class SwavBank(_BankPrototypes):
    """From one look, tell which of `prototypes` the other look is assigned to, which made-up records share equally."""

    name: Literal["swav-bank"]
    sharpness: Annotated[float, Field(ge=0.02, le=10)] = 0.05


class DinoBank(_BankPrototypes):
    """From one look, tell what the encoder that the round began with says of the other, centred on made-up records."""

    name: Literal["dino-bank"]
    sharpness: Annotated[float, Field(ge=0.02, le=10)] = 0.04


class LatentPrediction(StrictModel):
    """Hide `blocks` blocks of patches, predict what the encoder makes of them from what it makes of the others."""

    name: Literal["latent-prediction"]
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5
    blocks: Annotated[int, Field(ge=1, le=16)] = 4
    decoder_width: Annotated[int, Field(ge=32, le=1024, multiple_of=32)] = 64
    decoder_depth: Annotated[int, Field(ge=1, le=12)] = 2


class _ReportLooks(_Looks):
    """Looks that leave in the image what its report speaks of: most of it, and never mirrored unless asked for."""

    crop: Annotated[float, Field(ge=0.1, le=1)] = 0.9


class Caption(_ReportLooks):
    """From an image, predict the words of its report."""

    name: Literal["caption"]


class TextTarget(_ReportLooks):
    """Turn the features of an image to where a frozen public map puts its report, away from `bank` public directions.

    `bank` 0: without any, by the cosine alone.
    """

    name: Literal["text-target"]
    bank: Annotated[int, Field(ge=0, le=4096)] = 256
    temperature: Annotated[float, Field(ge=0.05, le=10)] = 0.1


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
        return self


Objective = Single | Joint
