"""Step 3 of 12: a study plan becomes a model with its public start weights, the same bytes on every machine.

Each parameter is filled from its own AES-256-CTR stream, keyed by (seed, parameter name): 53-bit uniforms u, then
centre + half_width * (2 u - 1) in float64 (+ - x and a correctly rounded square root only), one cast to float32. So
the hash of the start weights can stand in the signed plan (ruling 12). The seed is public; no private noise comes from
here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch

from ssl_core.config import StudyPlan
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
from ssl_core.objectives.joint import JointModel
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
from ssl_core.objectives.simclr_buckets import SimclrBucketsModel
from ssl_core.objectives.simsiam import SimSiamModel
from ssl_core.objectives.swav_bank import SwavBankModel
from ssl_core.objectives.text_target import TextTargetModel
from ssl_core.objectives.vicreg_own import Terms, VicregOwnModel
from ssl_core.spec.data import Data
from ssl_core.spec.encoder import Encoder
from ssl_core.spec.objective import Joint, Objective
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream, derive


def _given(part: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(part, name) for name in names}


def _how(task: Any) -> Augmentation:
    return Augmentation(**_given(task, *Augmentation._fields))


def _autoencoding(data: Any, encoder: Any, task: Any) -> PretextModel:
    shape = _given(task, "mask_fraction", "decoder_width", "decoder_depth", "target", "summary_weight")
    return MaskedAutoencodingModel(data, _whole(data, encoder), **shape)


def _whole(data: Any, encoder: Any) -> Any:
    """The encoder of whole images or signals, for the tasks that train any of them."""
    if encoder.name == "mlp-image":
        return MlpImage(data, encoder.hidden, encoder.code)
    if encoder.name == "vit":
        return VisionTransformer(data, **_given(encoder, "size", "patch", "pool"))
    if encoder.name == "signal-transformer":
        return SignalTransformer(data, **_given(encoder, "size", "patch", "pool", "front_end"))
    return (ResNet if encoder.name == "resnet" else ConvSignal)(data, size=encoder.size)


def _denoising(data: Any, encoder: Any, task: Any) -> PretextModel:
    return DenoisingModel(data, _whole(data, encoder), **_given(task, "noise", "block", "target"))


def _own_contrast(data: Any, encoder: Any, task: Any) -> PretextModel:
    return OwnContrastModel(data, _whole(data, encoder), **_given(task, "segments", "gap", "temperature", "projection"))


def _latent(data: Any, encoder: Any, task: Any) -> PretextModel:
    shape = _given(task, "mask_fraction", "blocks", "decoder_width", "decoder_depth")
    return LatentPredictionModel(data, _whole(data, encoder), **shape)


def _two_looks(data: Any, encoder: Any, task: Any) -> PretextModel:
    kind = SimSiamModel if task.name == "simsiam" else ByolModel
    return kind(data, _whole(data, encoder), **_given(task, "projector", "predictor"), how=_how(task))


def _vicreg(data: Any, encoder: Any, task: Any) -> PretextModel:
    terms = Terms(**_given(task, *Terms._fields))
    return VicregOwnModel(data, _whole(data, encoder), **_given(task, "projector", "crops"), terms=terms, how=_how(task))


def _crops_contrast(data: Any, encoder: Any, task: Any) -> PretextModel:
    return CropsContrastModel(data, _whole(data, encoder), **_given(task, "projector", "crops", "temperature"), how=_how(task))


def _barlow(data: Any, encoder: Any, task: Any) -> PretextModel:
    return BarlowOwnModel(data, _whole(data, encoder), **_given(task, "projector", "crops", "redundancy"), how=_how(task))


def _contrast_bank(data: Any, encoder: Any, task: Any) -> PretextModel:
    bank = Bank(**_given(task, *Bank._fields))
    kind = SimclrBankModel if task.name == "simclr-bank" else MocoBankModel
    return kind(data, _whole(data, encoder), **_given(task, "projector", "temperature"), bank=bank, how=_how(task))


def _prototypes_bank(data: Any, encoder: Any, task: Any) -> PretextModel:
    bank = Bank(**_given(task, *Bank._fields))
    soft = Softness(**_given(task, *Softness._fields))
    kind = SwavBankModel if task.name == "swav-bank" else DinoBankModel
    return kind(data, _whole(data, encoder), **_given(task, "projector", "prototypes"), soft=soft, bank=bank, how=_how(task))


def _simclr_buckets(data: Any, encoder: Any, task: Any) -> PretextModel:
    return SimclrBucketsModel(
        data, _whole(data, encoder), **_given(task, "bucket_size", "projector", "temperature"), how=_how(task)
    )


def _caption(data: Any, encoder: Any, task: Any) -> PretextModel:
    return CaptionModel(data, TwoTower(data, **_given(encoder, "size", "patch", "joint")), how=_how(task))


def _text_target(data: Any, encoder: Any, task: Any) -> PretextModel:
    towers = TwoTower(data, **_given(encoder, "size", "patch", "joint"))
    return TextTargetModel(data, towers, **_given(task, "bank", "temperature"), how=_how(task))


# By kind of data, name of encoder, name of task: all of spec/fit.py's TOGETHER, each called with the plan's three parts.
MODELS: dict[tuple[str, str, str], Callable[[Any, Any, Any], PretextModel]] = {
    ("text", "hashed-words", "masked-words"): lambda data, encoder, task: MaskedWordsModel(
        data, width=encoder.width, mask_fraction=task.mask_fraction
    ),
    ("text", "text-transformer", "masked-language"): lambda data, encoder, task: MaskedLanguageModel(
        data, size=encoder.size, mask_fraction=task.mask_fraction
    ),
    ("text", "text-transformer", "next-token"): lambda data, encoder, _: NextTokenModel(data, size=encoder.size),
    ("text", "text-transformer", "shuffled-order"): lambda data, encoder, task: ShuffledWordsModel(
        data, size=encoder.size, segments=task.segments
    ),
    ("events", "event-transformer", "next-event"): lambda data, encoder, _: NextEventModel(data, size=encoder.size),
    ("image", "mlp-image", "masked-image"): lambda data, encoder, task: MaskedImageModel(
        data, **_given(encoder, "hidden", "code"), **_given(task, "patch", "mask_fraction", "shift")
    ),
    ("image", "mlp-image", "denoising"): _denoising,
    ("image", "vit", "masked-autoencoding"): _autoencoding,
    ("image", "vit", "denoising"): _denoising,
    ("image", "resnet", "rotation"): lambda data, encoder, _: RotationModel(data, size=encoder.size),
    ("image", "resnet", "jigsaw"): lambda data, encoder, task: JigsawModel(
        data, size=encoder.size, **_given(task, "grid", "gap")
    ),
    ("signal", "signal-transformer", "masked-autoencoding"): _autoencoding,
    ("signal", "signal-transformer", "denoising"): _denoising,
    ("signal", "signal-transformer", "own-contrast"): _own_contrast,
    ("signal", "conv1d", "own-contrast"): _own_contrast,
    ("signal", "conv1d", "contrastive-predictive"): lambda data, encoder, task: ContrastivePredictiveModel(
        data, size=encoder.size, **_given(task, "pieces", "gap", "ahead")
    ),
    ("signal", "conv1d", "shuffled-order"): lambda data, encoder, task: ShuffledOrderModel(
        data, size=encoder.size, **_given(task, "segments", "gap")
    ),
    ("table", "table-transformer", "masked-features"): lambda data, encoder, task: MaskedFeaturesModel(
        data, size=encoder.size, mask_fraction=task.mask_fraction
    ),
    ("image", "vit", "latent-prediction"): _latent,
    ("signal", "signal-transformer", "latent-prediction"): _latent,
    ("image", "vit", "simsiam"): _two_looks,
    ("image", "resnet", "simsiam"): _two_looks,
    ("signal", "signal-transformer", "simsiam"): _two_looks,
    ("signal", "conv1d", "simsiam"): _two_looks,
    ("image", "vit", "byol"): _two_looks,
    ("image", "resnet", "byol"): _two_looks,
    ("signal", "signal-transformer", "byol"): _two_looks,
    ("signal", "conv1d", "byol"): _two_looks,
    ("image", "vit", "vicreg-own"): _vicreg,
    ("image", "resnet", "vicreg-own"): _vicreg,
    ("signal", "signal-transformer", "vicreg-own"): _vicreg,
    ("signal", "conv1d", "vicreg-own"): _vicreg,
    ("image", "vit", "crops-contrast"): _crops_contrast,
    ("image", "resnet", "crops-contrast"): _crops_contrast,
    ("signal", "signal-transformer", "crops-contrast"): _crops_contrast,
    ("signal", "conv1d", "crops-contrast"): _crops_contrast,
    ("image", "vit", "barlow-own"): _barlow,
    ("image", "resnet", "barlow-own"): _barlow,
    ("signal", "signal-transformer", "barlow-own"): _barlow,
    ("signal", "conv1d", "barlow-own"): _barlow,
    ("image", "vit", "simclr-bank"): _contrast_bank,
    ("image", "resnet", "simclr-bank"): _contrast_bank,
    ("signal", "signal-transformer", "simclr-bank"): _contrast_bank,
    ("signal", "conv1d", "simclr-bank"): _contrast_bank,
    ("image", "vit", "moco-bank"): _contrast_bank,
    ("image", "resnet", "moco-bank"): _contrast_bank,
    ("signal", "signal-transformer", "moco-bank"): _contrast_bank,
    ("signal", "conv1d", "moco-bank"): _contrast_bank,
    ("image", "vit", "swav-bank"): _prototypes_bank,
    ("image", "resnet", "swav-bank"): _prototypes_bank,
    ("signal", "signal-transformer", "swav-bank"): _prototypes_bank,
    ("signal", "conv1d", "swav-bank"): _prototypes_bank,
    ("image", "vit", "dino-bank"): _prototypes_bank,
    ("image", "resnet", "dino-bank"): _prototypes_bank,
    ("signal", "signal-transformer", "dino-bank"): _prototypes_bank,
    ("signal", "conv1d", "dino-bank"): _prototypes_bank,
    ("image", "vit", "simclr-buckets"): _simclr_buckets,
    ("image", "resnet", "simclr-buckets"): _simclr_buckets,
    ("signal", "signal-transformer", "simclr-buckets"): _simclr_buckets,
    ("signal", "conv1d", "simclr-buckets"): _simclr_buckets,
    ("sound", "vit", "masked-autoencoding"): _autoencoding,
    ("sound", "vit", "latent-prediction"): _latent,
    ("pair", "two-tower", "caption"): _caption,
    ("pair", "two-tower", "text-target"): _text_target,
}


def model_of(data: Data, encoder: Encoder, objective: Objective) -> PretextModel:
    """The model of these parts, which fit together (spec/fit.py); its weights are whatever torch put there."""
    if isinstance(objective, Joint):
        return JointModel([model_of(data, encoder, task) for task in objective.tasks], objective.weights)
    return MODELS[data.kind, encoder.name, objective.name](data, encoder, objective)


def build_model(plan: StudyPlan) -> PretextModel:
    """The model of `plan` at its start weights, a function of data, encoder, objective and seed alone."""
    model = model_of(plan.data, plan.encoder, plan.objective)
    root = Secret(hashlib.sha256(b"choral/start-weights\x00" + plan.seed.to_bytes(8, "little")).digest())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre, half_width = model.init_range(name)
            uniforms = AesCtrStream(derive(root, f"parameter/{name}".encode())).uniform(parameter.numel())
            values = centre + half_width * (2.0 * uniforms - 1.0)
            parameter.copy_(torch.from_numpy(values).view_as(parameter).to(torch.float32))
    model.start_round()
    return model
