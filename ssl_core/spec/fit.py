"""Before step 1: do data, encoder and pretext task of a plan go together, and does the one's shape fit the other's?

Raises `ValueError` with one line, which the reader of the plan turns into a `ConfigError` (config.py).
"""

from __future__ import annotations

from ssl_core.spec.data import (
    LEAST_RHYTHM_HZ,
    LEAST_RHYTHM_SECONDS,
    Data,
    ImageData,
    PairData,
    Picture,
    SignalData,
    SoundData,
    TextData,
)
from ssl_core.spec.encoder import (
    CONV_SIGNAL_STRIDE,
    RESNET_STRIDE,
    ConvSignalEncoder,
    Encoder,
    ResnetEncoder,
    SignalTransformerEncoder,
    TwoTowerEncoder,
    VitEncoder,
)
from ssl_core.spec.looks import BarlowOwn, CropsContrast, DinoBank, MocoBank, SimclrBank, SwavBank, VicregOwn, grid_of
from ssl_core.spec.nearest import not_together
from ssl_core.spec.objective import (
    ContrastivePredictive,
    Denoising,
    Jigsaw,
    Joint,
    MaskedAutoencoding,
    MaskedImage,
    Objective,
    OwnContrast,
    Rotation,
    ShuffledOrder,
)

_WHOLE = (("image", "vit"), ("image", "resnet"), ("signal", "signal-transformer"), ("signal", "conv1d"))
_COMPARED = ("barlow-own", "simclr-bank", "moco-bank", "swav-bank", "dino-bank")

TOGETHER = {
    ("text", "hashed-words", "masked-words"),
    ("text", "text-transformer", "masked-language"),
    ("text", "text-transformer", "next-token"),
    ("text", "text-transformer", "shuffled-order"),
    ("events", "event-transformer", "next-event"),
    ("image", "mlp-image", "masked-image"),
    ("image", "mlp-image", "denoising"),
    ("image", "vit", "masked-autoencoding"),
    ("image", "vit", "denoising"),
    ("image", "resnet", "rotation"),
    ("image", "resnet", "jigsaw"),
    ("signal", "signal-transformer", "masked-autoencoding"),
    ("signal", "signal-transformer", "denoising"),
    ("signal", "signal-transformer", "own-contrast"),
    ("signal", "conv1d", "shuffled-order"),
    ("table", "table-transformer", "masked-features"),
    ("signal", "conv1d", "own-contrast"),
    ("signal", "conv1d", "contrastive-predictive"),
    ("image", "vit", "latent-prediction"),
    ("signal", "signal-transformer", "latent-prediction"),
    ("image", "vit", "simsiam"),
    ("image", "resnet", "simsiam"),
    ("signal", "signal-transformer", "simsiam"),
    ("signal", "conv1d", "simsiam"),
    ("image", "vit", "byol"),
    ("image", "resnet", "byol"),
    ("signal", "signal-transformer", "byol"),
    ("signal", "conv1d", "byol"),
    ("image", "vit", "vicreg-own"),
    ("image", "resnet", "vicreg-own"),
    ("signal", "signal-transformer", "vicreg-own"),
    ("signal", "conv1d", "vicreg-own"),
    ("image", "vit", "crops-contrast"),
    ("image", "resnet", "crops-contrast"),
    ("signal", "signal-transformer", "crops-contrast"),
    ("signal", "conv1d", "crops-contrast"),
    ("image", "vit", "simclr-buckets"),
    ("image", "resnet", "simclr-buckets"),
    ("signal", "signal-transformer", "simclr-buckets"),
    ("signal", "conv1d", "simclr-buckets"),
    ("sound", "vit", "masked-autoencoding"),
    ("sound", "vit", "latent-prediction"),
    ("pair", "two-tower", "caption"),
    ("pair", "two-tower", "text-target"),
    *((kind, encoder, task) for kind, encoder in _WHOLE for task in _COMPARED),
}

# Tasks for pictures that turn, mirror or crop them as a camera might have.
_VIEWS = ("rotation", "jigsaw", "simsiam", "byol", "vicreg-own", "crops-contrast", "simclr-buckets", *_COMPARED)

_LEAST_SEGMENT = 8
_LEAST_TILE = 4
_MOST_SIGNS = 1 << 24


def check_fit(data: Data, encoder: Encoder, objective: Objective) -> None:
    """Refuse, by name, what does not go together; `objectives/build.py` makes a model of all that does."""
    if isinstance(objective, Joint):
        for task in objective.tasks:
            check_fit(data, encoder, task)
        names = {task.name for task in objective.tasks}
        whole = sorted(names & {"masked-language", "shuffled-order"})
        if "next-token" in names and whole:
            raise ValueError(f"{whole[0]} sees all words, next-token only those before: they cannot share an encoder")
        return
    kinds = (data.kind, encoder.name, objective.name)
    if isinstance(data, SoundData) and objective.name in _VIEWS:
        raise ValueError(
            f"{objective.name} turns, mirrors or crops a picture; the sides of a sound's are time and frequency, so that "
            "what comes out is another sound: take masked-autoencoding or latent-prediction"
        )
    if kinds not in TOGETHER:
        raise ValueError(
            f"data, encoder and objective do not fit together: {', '.join(kinds)}: {not_together(kinds, TOGETHER)}"
        )
    if isinstance(data, ImageData | SoundData | PairData):
        _check_squares(data.pixels if isinstance(data, PairData) else data, encoder, objective)
    if isinstance(data, SignalData):
        _check_pieces(data, encoder, objective)
    if isinstance(data, TextData) and isinstance(objective, ShuffledOrder):
        if objective.gap or data.words < 2 * objective.segments:
            raise ValueError("shuffled-order of a text needs gap = 0, and words at least twice segments")
    if isinstance(data, PairData) and isinstance(encoder, TwoTowerEncoder):
        if data.text.codes * data.text.buckets * encoder.joint > _MOST_SIGNS:
            raise ValueError(
                f"codes x buckets x joint must be at most {_MOST_SIGNS}: the frozen map of words has so many entries"
            )


def _check_squares(data: Picture, encoder: Encoder, objective: Objective) -> None:
    """Refuse squares that do not fill the image, and one square, which leaves nothing to predict from."""
    step = data.pool
    transformer = isinstance(encoder, VitEncoder | TwoTowerEncoder)
    if isinstance(encoder, VitEncoder | TwoTowerEncoder):
        step *= encoder.patch
    elif isinstance(objective, MaskedImage):
        step *= objective.patch
    if isinstance(data, SoundData) and (data.height % step or data.width % step):
        raise ValueError(
            f"mels ({data.height}) and frames ({data.width}, from seconds, window and hop) must be multiples of patch"
        )
    if data.height % step or data.width % step:
        raise ValueError("image height and width must be multiples of pool x patch")
    if transformer and data.height * data.width == step * step:
        raise ValueError(f"a {encoder.name} needs images of at least two squares of pool x patch")
    if isinstance(objective, MaskedAutoencoding | Denoising) and objective.target != "values":
        raise ValueError("target log-power is for signals")
    if isinstance(objective, Rotation) and data.height != data.width:
        raise ValueError("rotation needs square images")
    sides = (data.height // data.pool, data.width // data.pool)
    if isinstance(objective, Jigsaw):
        kept = [side // objective.grid - objective.gap for side in sides]
        if min(kept) < _LEAST_TILE or any(2 * objective.gap > side // objective.grid for side in sides):
            raise ValueError(f"a tile (a side / pool / grid) must keep {_LEAST_TILE} pixels and its greater half")
        if isinstance(encoder, ResnetEncoder):
            _check_stride(min(kept), RESNET_STRIDE[encoder.size], encoder.size, "a tile (a side / pool / grid - gap)")
    if isinstance(objective, VicregOwn | BarlowOwn | CropsContrast):
        if any(side // count < _LEAST_TILE for side, count in zip(sides, grid_of(objective.crops), strict=True)):
            raise ValueError(f"crops are cut from parts of their own, which must have {_LEAST_TILE} pixels a side: take fewer")


def _check_pieces(data: SignalData, encoder: Encoder, objective: Objective) -> None:
    """Refuse pieces that do not fill the signal, one piece, and parts that the gap leaves too little of."""
    if isinstance(encoder, SignalTransformerEncoder):
        if data.samples % encoder.patch or data.samples == encoder.patch:
            raise ValueError("samples must be a multiple of the encoder's patch, twice it or more")
    if isinstance(objective, ShuffledOrder | OwnContrast):
        _check_gap(data.samples // objective.segments, objective.gap, "a segment (samples / segments)")
    if isinstance(objective, ShuffledOrder) and isinstance(encoder, ConvSignalEncoder):
        kept = data.samples // objective.segments - objective.gap
        _check_stride(kept, CONV_SIGNAL_STRIDE[encoder.size], encoder.size, "a segment (samples / segments - gap)")
    if isinstance(objective, VicregOwn | BarlowOwn | CropsContrast) and data.samples // objective.crops < _LEAST_SEGMENT:
        raise ValueError(f"crops are cut from parts of their own, which must have {_LEAST_SEGMENT} samples: take fewer")
    if isinstance(objective, ContrastivePredictive):
        _check_gap(data.samples // objective.pieces, objective.gap, "a piece (samples / pieces)")
        if objective.ahead >= objective.pieces:
            raise ValueError("ahead must be less than pieces: there is nothing to predict beyond the last one")
    if isinstance(objective, OwnContrast) and isinstance(encoder, SignalTransformerEncoder):
        if (data.samples // objective.segments - objective.gap) % encoder.patch:
            raise ValueError("samples / segments - gap must be a multiple of the encoder's patch")
    if isinstance(objective, SimclrBank | MocoBank | SwavBank | DinoBank):
        if data.rate_hz < LEAST_RHYTHM_HZ or data.samples / data.rate_hz < LEAST_RHYTHM_SECONDS:
            raise ValueError(
                f"{objective.name} compares with made-up signals, which need {LEAST_RHYTHM_HZ:g} samples a second or more "
                f"and {LEAST_RHYTHM_SECONDS:g} seconds or more: take own-contrast or crops-contrast"
            )


def _check_gap(part: int, gap: int, what: str) -> None:
    if part - gap < _LEAST_SEGMENT or 2 * gap > part:
        raise ValueError(f"{what} must keep {_LEAST_SEGMENT} samples and its greater half")


def _check_stride(kept: int, stride: int, size: str, what: str) -> None:
    if kept < stride:
        raise ValueError(
            f"{what} must be at least {stride} wide for the encoder's size {size}, of whose last maps one place stands for so "
            "much: fewer parts, larger records or a smaller encoder"
        )
