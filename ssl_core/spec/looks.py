"""Step 3 of 12: the pretext tasks of looks at a record, as a study plan says them. Part of objective.py."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from ssl_core.spec.strict import StrictModel


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


def grid_of(crops: int) -> tuple[int, int]:
    """Rows and columns of the parts of an image from which so many crops are cut, one from each; the last may be left over."""
    rows = math.isqrt(crops - 1) + 1
    return rows, -(-crops // rows)


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
    """Two looks at a crop agree, the `crops` crops of a patient's records, of a part each, differ and are not correlated."""

    name: Literal["vicreg-own"]
    crops: Annotated[int, Field(ge=2, le=32)] = 4
    projector: Annotated[int, Field(ge=8, le=4096)] = 64
    invariance: Annotated[float, Field(ge=0, le=1000)] = 25.0
    variance: Annotated[float, Field(gt=0, le=1000)] = 25.0
    covariance: Annotated[float, Field(ge=0, le=1000)] = 1.0


class CropsContrast(_Looks):
    """Tell two looks at a crop from looks at the other crops, one from each of the `crops` parts of a patient's records."""

    name: Literal["crops-contrast"]
    crops: Annotated[int, Field(ge=2, le=32)] = 4
    projector: Annotated[int, Field(ge=8, le=4096)] = 64
    temperature: Annotated[float, Field(ge=0.05, le=10)] = 0.5


class BarlowOwn(_Looks):
    """Two looks at a crop agree, number by number, and no two numbers are correlated over the `crops` of the records."""

    name: Literal["barlow-own"]
    crops: Annotated[int, Field(ge=2, le=32)] = 4
    projector: Annotated[int, Field(ge=8, le=4096)] = 64
    redundancy: Annotated[float, Field(ge=0, le=1000)] = 0.005


class _BankLooks(_Looks):
    """Beside a record's looks, `bank` made-up records from the public seed `bank_seed`.

    `bank_version`: of the generators that make them (objectives/public_bank.py). A signed plan names it, so that a site whose
    build makes other records of the same seed refuses the plan, and no two sites of a study compare with different banks.
    """

    projector: Annotated[int, Field(ge=8, le=4096)] = 64
    bank: Annotated[int, Field(ge=64, le=4096)] = 512
    bank_seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 20181
    bank_version: Literal[2] = 2


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


class SimclrBuckets(_Looks):
    """Tell two looks at a record from looks at the other patients of a bucket of about `bucket_size`.

    Clipped is the gradient of a bucket, and the noise is for 2 C; see privacy/buckets.py.
    """

    name: Literal["simclr-buckets"]
    bucket_size: Annotated[int, Field(ge=8, le=64)] = 16
    projector: Annotated[int, Field(ge=8, le=4096)] = 64
    temperature: Annotated[float, Field(ge=0.05, le=10)] = 0.5


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
