"""Step 13: a site's own model: encoder, linear head, card; fitted, saved, loaded, applied. It never leaves the site.

`FineTuner` comes in with a released encoder and gives a `SiteModel`; `SiteModel.scores` takes patients and gives
float64 [n, K], one column a finding or class: higher means more likely, not a probability. A saved model is a folder
with `model.safetensors` (encoder float32; head.weight [F, K], head.bias [K], head.centre [F], head.scale [F] float64)
and `card.json`, mode 0700. Its card says `private: false`: the weights know the patients whose labels they were
fitted on, and no noise protects them (ruling 27). Raises `ConfigError` or `TrustError` for a folder that does not fit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from ssl_core.card import Card, LoadedEncoder
from ssl_core.config import Sha256Hex, parse
from ssl_core.data.patients import Patients
from ssl_core.data.record_units import is_record, owners
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.errors import ConfigError, DataError, TrustError
from ssl_core.finetuning.full import FROM_PRETRAINED, TuneSettings, fit_full
from ssl_core.finetuning.probe import Scaling, fit_ridge, standardise
from ssl_core.folder import new_folder
from ssl_core.objectives.base import PretextModel
from ssl_core.spec.strict import StrictModel
from ssl_core.trust.envelope import canonical

Method = Literal["probe", "full"]
Outcome = Literal["labels", "numbers", "survival"]
Unit = Literal["patient", "record"]
NOTICE = "Not differentially private: fitted on this site's patients without noise. Do not share, publish or upload it."
HEAD = ("head.weight", "head.bias", "head.centre", "head.scale")
"""The tensors that every fine-tuned model has beside its encoder's."""


class ModelCard(StrictModel):
    """What a fine-tuned model is. Nothing publishes it: `publish` takes a finished study, never a folder.

    `outcome`: what its scores are: of labels, a rank; of numbers, their estimates; of survival, the log of the risk.
    `unit`: what it was fitted to, and what its scores are of.
    """

    format: Annotated[int, Field(ge=1, le=1)] = 1
    kind: Literal["fine-tuned"] = "fine-tuned"
    private: Literal[False] = False
    notice: str = NOTICE
    method: Method
    outcome: Outcome = "labels"
    unit: Unit = "patient"
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    exclusive: bool
    weights: Sha256Hex
    encoder: Card


@dataclass(frozen=True, slots=True)
class SiteModel:
    """A fitted model and its card; `weight` float64 [F, K], `bias` float64 [K]."""

    model: PretextModel
    scaling: Scaling
    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    card: ModelCard

    def scores(self, patients: Patients) -> npt.NDArray[np.float64]:
        """float64 [n, K] for units as `load_patients` or, by the card, `load_records` gives them for the encoder's card."""
        features = patients.mean_by_unit(self.model.encoder.features(patients.whole))
        scored: npt.NDArray[np.float64] = self.scaling(features) @ self.weight + self.bias
        return scored

    def save(self, folder: Path) -> None:
        """Write the folder, whole or not at all; `ConfigError` where it exists."""
        from safetensors.numpy import save

        tensors: dict[str, npt.NDArray[np.generic]] = {
            name: parameter.detach().numpy() for name, parameter in self.model.encoder.named_parameters(prefix="encoder")
        }
        tensors |= dict(zip(HEAD, (self.weight, self.bias, self.scaling.centre, self.scaling.scale), strict=True))
        with new_folder(folder) as draft:
            (draft / "model.safetensors").write_bytes(save({n: np.ascontiguousarray(t) for n, t in tensors.items()}))
            (draft / "card.json").write_bytes(canonical(self.card.model_dump(mode="json")))


def load_site_model(folder: Path) -> SiteModel:
    """Read a saved model; `TrustError` where tensors or their hash are not those of the card."""
    from safetensors.numpy import load

    from ssl_core.objectives.build import build_model

    path = folder / "card.json"
    if not path.is_file():
        raise ConfigError("folder holds no model", field="folder", value=str(folder), remedy="name one made by choral finetune")
    try:
        body = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError("card is not JSON", field="card.json", value=str(path)) from error
    card = parse(ModelCard, body if isinstance(body, dict) else {}, "model card")
    model = build_model(card.encoder.plan)
    tensors = load((folder / "model.safetensors").read_bytes())
    shapes = {name: tuple(p.shape) for name, p in model.encoder.named_parameters(prefix="encoder")}
    width, count = model.encoder.feature_width, len(card.labels)
    shapes |= dict(zip(HEAD, ((width, count), (count,), (width,), (width,)), strict=True))
    if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
        raise TrustError("tensors are not those of the card", field="model.safetensors")
    with torch.no_grad():
        for name, parameter in model.encoder.named_parameters(prefix="encoder"):
            parameter.copy_(torch.from_numpy(tensors[name]))
    found = weights_hash(to_vector(model.encoder))
    if found != card.weights:
        raise TrustError("encoder weights are not those that the card names", field="weights", value=found, limit=card.weights)
    weight, bias, centre, scale = (np.asarray(tensors[name], np.float64) for name in HEAD)
    return SiteModel(model, Scaling(centre, scale), weight, bias, card)


class FineTuner:
    """Fit a released encoder to a site's labels: `probe` (linear head, encoder frozen) or `full` (all weights)."""

    def __init__(self, encoder: LoadedEncoder, *, method: Method = "probe", settings: TuneSettings = FROM_PRETRAINED) -> None:
        if method not in ("probe", "full"):
            raise ConfigError("method is unknown", field="method", value=method, limit="probe, full")
        self._encoder, self._method, self._settings = encoder, method, settings

    def fit(
        self,
        patients: Patients,
        labels: npt.NDArray[np.integer],
        names: tuple[str, ...],
        *,
        exclusive: bool = False,
        unlabelled: Patients | None = None,
    ) -> SiteModel:
        """Fit to `labels` 0/1 [n, K] of `patients`; `unlabelled` patients, where given, set the scaling constants.

        Units may be records (`load_records`): what is held out to choose a penalty is a patient with all of his then.
        """
        if labels.shape != (len(patients), len(names)):
            raise DataError("labels do not fit", field="labels", value=labels.shape, limit=(len(patients), len(names)))
        for name, column in zip(names, labels.T, strict=True):
            if column.min() == column.max():
                raise DataError(
                    "a label is the same for all that are labelled", field="label", value=name, remedy="label more patients"
                )
        from ssl_core.objectives.build import build_model

        start = self._encoder.model
        model = build_model(self._encoder.card.plan)
        model.load_state_dict(start.state_dict())
        if self._method == "probe":
            basis = patients if unlabelled is None else unlabelled
            scaling = standardise(basis.mean_by_unit(model.encoder.features(basis.whole)))
            features = scaling(patients.mean_by_unit(model.encoder.features(patients.whole)))
            head = fit_ridge(features, labels, owners=owners(patients.units))
            weight, bias = head.weight, head.bias
        else:
            index = np.arange(len(patients), dtype=np.int64)[None]
            tuned = fit_full(model.encoder, patients, index, labels, exclusive=exclusive, settings=self._settings)
            model.encoder.load_state_dict({name: stacked[0] for name, stacked in tuned.parameters.items()})
            width = model.encoder.feature_width
            scaling = Scaling(np.zeros(width), np.ones(width))
            weight, bias = tuned.weight[0].double().numpy(), tuned.bias[0, 0].double().numpy()
        card = ModelCard(
            method=self._method,
            unit="record" if any(map(is_record, patients.units)) else "patient",
            labels=names,
            exclusive=exclusive,
            weights=weights_hash(to_vector(model.encoder)),
            encoder=self._encoder.card,
        )
        return SiteModel(model, scaling, weight, bias, card)
