"""Step 3 of 12: a study plan becomes a model with its public start weights, the same bytes on every machine.

Each parameter is filled from its own AES-256-CTR stream, keyed by (seed, parameter name): 53-bit uniforms u, then
centre + half_width * (2 u - 1) in float64 (+ - x and a correctly rounded square root only), one cast to float32. So
the hash of the start weights can stand in the signed plan (ruling 12). The seed is public; no private noise comes from
here.
"""

from __future__ import annotations

import hashlib

import torch

from ssl_core.config import StudyPlan
from ssl_core.errors import ConfigError
from ssl_core.model_spec import (
    ConvSignalEncoder,
    HashedWordsEncoder,
    ImageData,
    MaskedAutoencoding,
    MaskedImage,
    MaskedLanguage,
    MaskedWords,
    MlpImageEncoder,
    ResnetEncoder,
    Rotation,
    ShuffledOrder,
    SignalData,
    SignalTransformerEncoder,
    TextData,
    TextTransformerEncoder,
    VitEncoder,
)
from ssl_core.objectives.base import PretextModel
from ssl_core.objectives.masked_autoencoding import MaskedAutoencodingModel
from ssl_core.objectives.masked_image import MaskedImageModel
from ssl_core.objectives.masked_language import MaskedLanguageModel
from ssl_core.objectives.masked_words import MaskedWordsModel
from ssl_core.objectives.rotation import RotationModel
from ssl_core.objectives.shuffled_order import ShuffledOrderModel
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream, derive


def build_model(plan: StudyPlan) -> PretextModel:
    """The model of `plan` at its start weights, a function of data, encoder, objective and seed alone."""
    model = _empty_model(plan)
    root = Secret(hashlib.sha256(b"choral/start-weights\x00" + plan.seed.to_bytes(8, "little")).digest())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre, half_width = model.init_range(name)
            uniforms = AesCtrStream(derive(root, f"parameter/{name}".encode())).uniform(parameter.numel())
            values = centre + half_width * (2.0 * uniforms - 1.0)
            parameter.copy_(torch.from_numpy(values).view_as(parameter).to(torch.float32))
    return model


def _empty_model(plan: StudyPlan) -> PretextModel:
    data, encoder, objective = plan.data, plan.encoder, plan.objective
    if isinstance(data, TextData) and isinstance(encoder, HashedWordsEncoder) and isinstance(objective, MaskedWords):
        return MaskedWordsModel(data, width=encoder.width, mask_fraction=objective.mask_fraction)
    if isinstance(data, ImageData) and isinstance(encoder, MlpImageEncoder) and isinstance(objective, MaskedImage):
        return MaskedImageModel(
            data,
            hidden=encoder.hidden,
            code=encoder.code,
            patch=objective.patch,
            mask_fraction=objective.mask_fraction,
            shift=objective.shift,
        )
    if isinstance(objective, MaskedAutoencoding):
        if isinstance(data, ImageData) and isinstance(encoder, VitEncoder):
            return _autoencoding(data, encoder, objective)
        if isinstance(data, SignalData) and isinstance(encoder, SignalTransformerEncoder):
            return _autoencoding(data, encoder, objective)
    if isinstance(data, TextData) and isinstance(encoder, TextTransformerEncoder) and isinstance(objective, MaskedLanguage):
        return MaskedLanguageModel(data, size=encoder.size, mask_fraction=objective.mask_fraction)
    if isinstance(data, ImageData) and isinstance(encoder, ResnetEncoder) and isinstance(objective, Rotation):
        return RotationModel(data, size=encoder.size)
    if isinstance(data, SignalData) and isinstance(encoder, ConvSignalEncoder) and isinstance(objective, ShuffledOrder):
        return ShuffledOrderModel(data, size=encoder.size, segments=objective.segments, gap=objective.gap)
    raise ConfigError(
        "data, encoder and objective do not fit together",
        field="objective",
        value=f"{data.kind}, {encoder.name}, {objective.name}",
    )


def _autoencoding(
    data: ImageData | SignalData, encoder: VitEncoder | SignalTransformerEncoder, objective: MaskedAutoencoding
) -> PretextModel:
    return MaskedAutoencodingModel(
        data,
        size=encoder.size,
        patch=encoder.patch,
        mask_fraction=objective.mask_fraction,
        decoder_width=objective.decoder_width,
        decoder_depth=objective.decoder_depth,
        target=objective.target,
    )
