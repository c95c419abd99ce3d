"""One small model and its patients of each kind, and the per-unit gradient rows that the privacy engine would see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from ssl_core.data.images import standardise
from ssl_core.data.pair_rows import padding_row
from ssl_core.data.patients import Patients, group
from ssl_core.encoders.conv_signal import ConvSignal
from ssl_core.encoders.mlp_image import MlpImage
from ssl_core.encoders.resnet import ResNet
from ssl_core.encoders.signal_transformer import SignalTransformer
from ssl_core.encoders.two_tower import TwoTower
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.bank_model import Bank
from ssl_core.objectives.barlow_own import BarlowOwnModel
from ssl_core.objectives.base import PretextModel
from ssl_core.objectives.byol import ByolModel
from ssl_core.objectives.caption import CaptionModel
from ssl_core.objectives.contrastive_predictive import ContrastivePredictiveModel
from ssl_core.objectives.crops_contrast import CropsContrastModel
from ssl_core.objectives.denoising import DenoisingModel
from ssl_core.objectives.dino_bank import DinoBankModel
from ssl_core.objectives.jigsaw import JigsawModel
from ssl_core.objectives.latent_prediction import LatentPredictionModel
from ssl_core.objectives.masked_autoencoding import MaskedAutoencodingModel
from ssl_core.objectives.masked_features import MaskedFeaturesModel
from ssl_core.objectives.masked_image import MaskedImageModel
from ssl_core.objectives.masked_language import MaskedLanguageModel
from ssl_core.objectives.masked_words import MaskedWordsModel
from ssl_core.objectives.moco_bank import MocoBankModel
from ssl_core.objectives.next_event import NextEventModel
from ssl_core.objectives.next_token import NextTokenModel
from ssl_core.objectives.own_contrast import OwnContrastModel
from ssl_core.objectives.prototypes import Softness
from ssl_core.objectives.rotation import RotationModel
from ssl_core.objectives.shuffled_order import ShuffledOrderModel
from ssl_core.objectives.shuffled_words import ShuffledWordsModel
from ssl_core.objectives.simclr_bank import SimclrBankModel
from ssl_core.objectives.simsiam import SimSiamModel
from ssl_core.objectives.swav_bank import SwavBankModel
from ssl_core.objectives.text_target import TextTargetModel
from ssl_core.objectives.vicreg_own import Terms, VicregOwnModel
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.spec.data import (
    CategoricalColumn,
    EventData,
    ImageData,
    ImageForm,
    NumericColumn,
    PairData,
    SignalData,
    TableData,
    TextData,
    TextForm,
)
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import UnitCoins

TEXT = TextData(kind="text", words=12, codes=2, buckets=32)
SIGNAL = SignalData(
    kind="signal", channels=2, samples=24, rate_hz=50.0, units=("mV", "mmHg"), typical=(0.5, 20.0), records_per_patient=3
)
TEXTS = TEXT.model_copy(update={"records_per_patient": 3})
WAVES = SIGNAL.model_copy(update={"samples": 80})
TABLE = TableData(
    kind="table",
    numeric=tuple(NumericColumn(name=name, typical=2.0) for name in ("age", "weight", "sodium")),
    categorical=(
        CategoricalColumn(name="sex", levels=("f", "m")),
        CategoricalColumn(name="ward", levels=("a", "b", "c", "d")),
    ),
    records_per_patient=3,
)
EVENTS = EventData(kind="events", vocabulary=("a", "b", "c"), events=9, gap_hours=(1.0, 24.0), records_per_patient=3)
IMAGE = ImageData(kind="image", height=16, width=16, pool=2, records_per_patient=3)
PAIR = PairData(
    kind="pair",
    image=ImageForm(height=16, width=16, pool=2),
    text=TextForm(words=6, codes=2, buckets=32),
    records_per_patient=3,
)


@dataclass(frozen=True)
class Task:
    """A model with patients, some of whom have a bad record only."""

    model: PretextModel
    patients: Patients
    bad: tuple[str, ...]

    def coins(self, patients: Patients) -> npt.NDArray[np.float64]:
        return UnitCoins(Secret(bytes(32))).uniform(patients.tags, "test", self.model.coins)

    def views(self, patients: Patients, index: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        return self.model.draw(patients, index, self.coins(patients)[index])

    def rows(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        def loss(parameters: dict[str, Tensor], unit: dict[str, Tensor]) -> Tensor:
            out: Tensor = functional_call(self.model, parameters, (unit,))
            return out

        parameters = {name: value.detach() for name, value in self.model.named_parameters()}
        out: dict[str, Tensor] = vmap(grad(loss), in_dims=(None, 0))(parameters, views)
        return out


def _owners(rng: np.random.Generator) -> list[str]:
    return [f"p{n:02d}" for n in range(20) for _ in range(int(rng.integers(1, 6)))]


def _text_task(model: PretextModel | None = None) -> Task:
    rng = np.random.default_rng(5)
    owners = _owners(rng)
    records = rng.integers(0, TEXT.buckets, (len(owners), TEXT.words, TEXT.codes)).astype(np.int32)
    for row in records:
        row[int(rng.integers(2, TEXT.words + 1)) :] = -1
    for row, owner in enumerate(owners):
        if owner in ("p03", "p11"):  # no word at all, and a single word: nothing can be predicted
            records[row, 0 if owner == "p03" else 1 :] = -1
    model = model or MaskedWordsModel(TEXT, width=8, mask_fraction=0.5)
    return Task(_randomised(model), group(owners, records), ("p03", "p11"))


def _language_task() -> Task:
    return _text_task(MaskedLanguageModel(TEXT, size="nano", mask_fraction=0.4))


def _several_words_task() -> Task:
    return _text_task(MaskedWordsModel(TEXTS, width=8, mask_fraction=0.5))


def _several_language_task() -> Task:
    return _text_task(MaskedLanguageModel(TEXTS, size="nano", mask_fraction=0.4))


def _next_task() -> Task:
    return _text_task(NextTokenModel(TEXTS, size="nano"))


def _event_task() -> Task:
    made = synthetic_patients(EVENTS, 20, seed=4)
    owners = [f"p{number:02d}" for number, count in enumerate(made.counts()) for _ in range(count)]
    records = made.records.copy()
    for row, owner in enumerate(owners):
        if owner in ("p03", "p11"):  # no event at all, and a single event: nothing can be predicted
            records[row, 0 if owner == "p03" else 1 :] = -1
    return Task(_randomised(NextEventModel(EVENTS, size="nano")), group(owners, records), ("p03", "p11"))


def _image_task(model: PretextModel | None = None) -> Task:
    rng = np.random.default_rng(6)
    owners = _owners(rng)
    images = rng.integers(0, 256, (len(owners), 16, 16)).astype(np.float32)
    for row, owner in enumerate(owners):
        if owner == "p03":
            images[row] = np.nan
    model = model or MaskedImageModel(IMAGE, hidden=12, code=10, patch=2, mask_fraction=0.5, shift=1)
    return Task(_randomised(model), group(owners, standardise(images, IMAGE)[0]), ("p03",))


def _autoencoding_task() -> Task:
    encoder = VisionTransformer(IMAGE, size="nano", patch=2)
    return _image_task(MaskedAutoencodingModel(IMAGE, encoder, mask_fraction=0.75, decoder_width=32, decoder_depth=1))


def _signal_task() -> Task:
    rng = np.random.default_rng(8)
    owners = _owners(rng)
    records = rng.normal(size=(len(owners), SIGNAL.values)).astype(np.float32)
    records[[row for row, owner in enumerate(owners) if owner == "p03"]] = 0.0
    encoder = SignalTransformer(SIGNAL, size="nano", patch=4)
    model = MaskedAutoencodingModel(SIGNAL, encoder, mask_fraction=0.5, decoder_width=32, decoder_depth=1)
    return Task(_randomised(model), group(owners, records), ("p03",))


def _power_task() -> Task:
    encoder = SignalTransformer(SIGNAL, size="nano", patch=6, front_end=True)
    model = MaskedAutoencodingModel(SIGNAL, encoder, mask_fraction=0.5, decoder_width=32, decoder_depth=1, target="log-power")
    return _replaced(_signal_task(), model)


def _wave_task(model: PretextModel, bad: tuple[str, ...] = ("p03",)) -> Task:
    rng = np.random.default_rng(9)
    owners = _owners(rng)
    records = rng.normal(size=(len(owners), WAVES.values)).astype(np.float32)
    for row, owner in enumerate(owners):
        if owner in bad:  # nothing at all, and one changing quarter after which the signal stays as it is
            records[row, 0 if owner == "p03" else 18 : WAVES.samples] = 0.0
            records[row, WAVES.samples + (0 if owner == "p03" else 18) :] = 0.0
    return Task(_randomised(model), group(owners, records), bad)


def _summary_task() -> Task:
    encoder = VisionTransformer(IMAGE, size="nano", patch=2, pool="mean-deviation")
    shape: dict[str, Any] = {"mask_fraction": 0.75, "decoder_width": 32, "decoder_depth": 1}
    return _image_task(MaskedAutoencodingModel(IMAGE, encoder, **shape, summary_weight=0.7))


def _summary_signal_task() -> Task:
    shape: dict[str, Any] = {"mask_fraction": 0.5, "decoder_width": 32, "decoder_depth": 1}
    return _wave_task(
        MaskedAutoencodingModel(WAVES, SignalTransformer(WAVES, size="nano", patch=8), **shape, summary_weight=0.7)
    )


def _order_task() -> Task:
    return _wave_task(ShuffledOrderModel(WAVES, size="nano", segments=4, gap=3))


def _own_task() -> Task:
    made = OwnContrastModel(WAVES, ConvSignal(WAVES, size="nano"), segments=4, gap=3, temperature=0.5, projection=8)
    return _wave_task(made, ("p03", "p11"))


def _own_transformer_task() -> Task:
    encoder = SignalTransformer(WAVES, size="nano", patch=8)
    made = OwnContrastModel(WAVES, encoder, segments=4, gap=4, temperature=0.5, projection=8)
    return _wave_task(made, ("p03", "p11"))


def _predictive_task() -> Task:
    return _wave_task(ContrastivePredictiveModel(WAVES, size="nano", pieces=4, gap=2, ahead=2), ("p03", "p11"))


def _denoising_task() -> Task:
    made = DenoisingModel(SIGNAL, SignalTransformer(SIGNAL, size="nano", patch=4), noise=0.5, block=0.25)
    return _replaced(_signal_task(), made)


def _denoising_power_task() -> Task:
    encoder = SignalTransformer(SIGNAL, size="nano", patch=6)
    return _replaced(_signal_task(), DenoisingModel(SIGNAL, encoder, noise=0.5, block=0.0, target="log-power"))


def _denoising_image_task() -> Task:
    return _image_task(DenoisingModel(IMAGE, VisionTransformer(IMAGE, size="nano", patch=2), noise=0.5, block=0.25))


def _denoising_mlp_task() -> Task:
    return _image_task(DenoisingModel(IMAGE, MlpImage(IMAGE, 12, 10), noise=0.5, block=0.25))


def _replaced(task: Task, model: PretextModel) -> Task:
    return Task(_randomised(model), task.patients, task.bad)


def _rotation_task() -> Task:
    return _image_task(RotationModel(IMAGE, size="nano"))


def _jigsaw_task() -> Task:
    return _image_task(JigsawModel(IMAGE, size="nano", grid=2, gap=1))


def _features_task() -> Task:
    made = synthetic_patients(TABLE, 20, seed=4)
    owners = [f"p{number:02d}" for number, count in enumerate(made.counts()) for _ in range(count)]
    records = made.records.copy()
    for row, owner in enumerate(owners):
        if owner in ("p03", "p11"):  # nothing is known, and one number alone: nothing can be predicted
            records[row] = 0.0
            records[row, [0, 3]] = (1.5, 1.0) if owner == "p11" else 0.0
    return Task(_randomised(MaskedFeaturesModel(TABLE, size="nano", mask_fraction=0.5)), group(owners, records), ("p03", "p11"))


_HIDDEN: dict[str, Any] = {"mask_fraction": 0.5, "blocks": 2, "decoder_width": 32, "decoder_depth": 1}
_HOW = Augmentation(crop=0.5, gain=0.3, noise=0.1, flip=True)
_HEADS: dict[str, Any] = {"projector": 16, "predictor": 8, "how": _HOW}
_CONTRAST: dict[str, Any] = {"projector": 8, "crops": 3, "temperature": 0.5, "how": _HOW}
_OWN: dict[str, Any] = {"projector": 8, "crops": 3, "terms": Terms(1.0, 1.0, 0.04), "how": _HOW}


def _latent_task() -> Task:
    return _image_task(LatentPredictionModel(IMAGE, VisionTransformer(IMAGE, size="nano", patch=2), **_HIDDEN))


def _latent_signal_task() -> Task:
    return _wave_task(LatentPredictionModel(WAVES, SignalTransformer(WAVES, size="nano", patch=8), **_HIDDEN))


def _simsiam_task() -> Task:
    return _image_task(SimSiamModel(IMAGE, VisionTransformer(IMAGE, size="nano", patch=2), **_HEADS))


def _simsiam_resnet_task() -> Task:
    return _image_task(SimSiamModel(IMAGE, ResNet(IMAGE, size="nano"), **_HEADS))


def _simsiam_signal_task() -> Task:
    encoder = SignalTransformer(WAVES, size="nano", patch=8, pool="mean-deviation", front_end=True)
    return _wave_task(SimSiamModel(WAVES, encoder, **_HEADS))


def _simsiam_conv_task() -> Task:
    return _wave_task(SimSiamModel(WAVES, ConvSignal(WAVES, size="nano"), **_HEADS))


def _byol_task() -> Task:
    return _image_task(ByolModel(IMAGE, ResNet(IMAGE, size="nano"), **_HEADS))


def _vicreg_task() -> Task:
    return _image_task(VicregOwnModel(IMAGE, VisionTransformer(IMAGE, size="nano", patch=2), **_OWN))


def _vicreg_resnet_task() -> Task:
    return _image_task(VicregOwnModel(IMAGE, ResNet(IMAGE, size="nano"), **_OWN))


def _vicreg_signal_task() -> Task:
    return _wave_task(VicregOwnModel(WAVES, SignalTransformer(WAVES, size="nano", patch=8), **_OWN))


def _vicreg_conv_task() -> Task:
    return _wave_task(VicregOwnModel(WAVES, ConvSignal(WAVES, size="nano"), **_OWN))


def _randomised(model: PretextModel) -> PretextModel:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.start_round()
    return model


def _contrast_task() -> Task:
    return _image_task(CropsContrastModel(IMAGE, ResNet(IMAGE, size="nano"), **_CONTRAST))


def _contrast_signal_task() -> Task:
    encoder = SignalTransformer(WAVES, size="nano", patch=8)
    return _wave_task(CropsContrastModel(WAVES, encoder, **_CONTRAST))


BEATS = WAVES.model_copy(update={"rate_hz": 25.0})
_BANK: dict[str, Any] = {"projector": 8, "bank": Bank(64, 3), "how": _HOW}
_PROTOTYPES: dict[str, Any] = {"prototypes": 6, "soft": Softness(0.1, 0.05), **_BANK}


def _simclr_bank_task() -> Task:
    return _image_task(SimclrBankModel(IMAGE, ResNet(IMAGE, size="nano"), temperature=0.2, **_BANK))


def _moco_bank_task() -> Task:
    return _wave_task(MocoBankModel(BEATS, ConvSignal(BEATS, size="nano"), temperature=0.2, **_BANK))


def _swav_bank_task() -> Task:
    return _image_task(SwavBankModel(IMAGE, VisionTransformer(IMAGE, size="nano", patch=2), **_PROTOTYPES))


def _dino_bank_task() -> Task:
    return _wave_task(DinoBankModel(BEATS, SignalTransformer(BEATS, size="nano", patch=8), **_PROTOTYPES))


def _barlow_task() -> Task:
    return _image_task(BarlowOwnModel(IMAGE, ResNet(IMAGE, size="nano"), projector=8, crops=3, redundancy=0.1, how=_HOW))


def _shuffled_words_task() -> Task:
    return _text_task(ShuffledWordsModel(TEXTS, size="nano", segments=3))


def _pair_task(model: PretextModel) -> Task:
    made = synthetic_patients(PAIR, 20, seed=4)
    owners = [f"p{number:02d}" for number, count in enumerate(made.counts()) for _ in range(count)]
    records = made.records.copy()
    pixels = PAIR.shape[0]
    for row, owner in enumerate(owners):
        if owner == "p03":  # nothing at all
            records[row] = padding_row(PAIR)
        elif owner == "p07":  # an image without a word
            records[row, pixels:] = -1.0
        elif owner == "p11":  # a report without an image
            records[row, :pixels] = 0.0
        elif owner == "p15":  # a pixel that no reader gives
            records[row, 5] = np.nan
    return Task(_randomised(model), group(owners, records), ("p03", "p07", "p11", "p15"))


def _towers() -> TwoTower:
    return TwoTower(PAIR, size="nano", patch=4, joint=16)


def _caption_task() -> Task:
    return _pair_task(CaptionModel(PAIR, _towers(), how=_HOW))


def _target_task() -> Task:
    return _pair_task(TextTargetModel(PAIR, _towers(), bank=8, temperature=0.2, how=_HOW))


def _cosine_task() -> Task:
    return _pair_task(TextTargetModel(PAIR, _towers(), bank=0, temperature=0.2, how=_HOW))


TASKS: dict[str, Callable[[], Task]] = {
    "masked-words": _text_task,
    "masked-image": _image_task,
    "masked-language": _language_task,
    "masked-autoencoding": _autoencoding_task,
    "masked-signal": _signal_task,
    "masked-power": _power_task,
    "masked-summary": _summary_task,
    "masked-summary-signal": _summary_signal_task,
    "shuffled-order": _order_task,
    "rotation": _rotation_task,
    "jigsaw": _jigsaw_task,
    "masked-features": _features_task,
    "masked-words-several": _several_words_task,
    "masked-language-several": _several_language_task,
    "next-token": _next_task,
    "next-event": _event_task,
    "denoising-signal": _denoising_task,
    "denoising-power": _denoising_power_task,
    "denoising-image": _denoising_image_task,
    "denoising-mlp": _denoising_mlp_task,
    "own-contrast": _own_task,
    "own-contrast-transformer": _own_transformer_task,
    "contrastive-predictive": _predictive_task,
    "latent-prediction": _latent_task,
    "latent-signal": _latent_signal_task,
    "simsiam": _simsiam_task,
    "simsiam-resnet": _simsiam_resnet_task,
    "simsiam-signal": _simsiam_signal_task,
    "simsiam-conv": _simsiam_conv_task,
    "byol": _byol_task,
    "vicreg-own": _vicreg_task,
    "vicreg-resnet": _vicreg_resnet_task,
    "vicreg-signal": _vicreg_signal_task,
    "vicreg-conv": _vicreg_conv_task,
    "crops-contrast": _contrast_task,
    "crops-contrast-signal": _contrast_signal_task,
    "barlow-own": _barlow_task,
    "simclr-bank": _simclr_bank_task,
    "moco-bank": _moco_bank_task,
    "swav-bank": _swav_bank_task,
    "dino-bank": _dino_bank_task,
    "shuffled-words": _shuffled_words_task,
    "caption": _caption_task,
    "text-target": _target_task,
    "text-target-cosine": _cosine_task,
}


@pytest.fixture(params=TASKS.values(), ids=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    make: Callable[[], Task] = request.param
    return make()


@pytest.fixture
def barlow_task() -> Task:
    return _barlow_task()


@pytest.fixture
def simclr_bank_task() -> Task:
    return _simclr_bank_task()


@pytest.fixture
def moco_bank_task() -> Task:
    return _moco_bank_task()


@pytest.fixture
def swav_bank_task() -> Task:
    return _swav_bank_task()


@pytest.fixture
def dino_bank_task() -> Task:
    return _dino_bank_task()


@pytest.fixture
def shuffled_words_task() -> Task:
    return _shuffled_words_task()


@pytest.fixture
def caption_task() -> Task:
    return _caption_task()


@pytest.fixture
def target_task() -> Task:
    return _target_task()


@pytest.fixture
def cosine_task() -> Task:
    return _cosine_task()


@pytest.fixture
def text_task() -> Task:
    return _text_task()


@pytest.fixture
def image_task() -> Task:
    return _image_task()


@pytest.fixture
def language_task() -> Task:
    return _language_task()


@pytest.fixture
def autoencoding_task() -> Task:
    return _autoencoding_task()


@pytest.fixture
def signal_task() -> Task:
    return _signal_task()


@pytest.fixture
def summary_task() -> Task:
    return _summary_task()


@pytest.fixture
def summary_signal_task() -> Task:
    return _summary_signal_task()


@pytest.fixture
def order_task() -> Task:
    return _order_task()


@pytest.fixture
def rotation_task() -> Task:
    return _rotation_task()


@pytest.fixture
def jigsaw_task() -> Task:
    return _jigsaw_task()


@pytest.fixture
def features_task() -> Task:
    return _features_task()


@pytest.fixture
def next_task() -> Task:
    return _next_task()


@pytest.fixture
def denoising_task() -> Task:
    return _denoising_task()


@pytest.fixture
def denoising_power_task() -> Task:
    return _denoising_power_task()


@pytest.fixture
def denoising_image_task() -> Task:
    return _denoising_image_task()


@pytest.fixture
def denoising_mlp_task() -> Task:
    return _denoising_mlp_task()


@pytest.fixture
def own_task() -> Task:
    return _own_task()


@pytest.fixture
def own_transformer_task() -> Task:
    return _own_transformer_task()


@pytest.fixture
def predictive_task() -> Task:
    return _predictive_task()


@pytest.fixture
def several_words_task() -> Task:
    return _several_words_task()


@pytest.fixture
def several_language_task() -> Task:
    return _several_language_task()


@pytest.fixture
def latent_task() -> Task:
    return _latent_task()


@pytest.fixture
def latent_signal_task() -> Task:
    return _latent_signal_task()


@pytest.fixture(params=["simsiam", "simsiam-resnet", "simsiam-signal", "simsiam-conv"])
def siamese_task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]()


@pytest.fixture(params=["vicreg-own", "vicreg-resnet", "vicreg-signal", "vicreg-conv"])
def crops_task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]()
