"""Step 12 of 12: what an encoder is, for people and machines: weights, lineage, epsilon, data types, limits.

A release is a folder of `encoder.safetensors` (float32, one tensor per parameter), `card.json` (a signed envelope when
it was published, plain JSON of the same fields inside a site) and `card.md`. It is written to a temporary folder and
renamed, so a reader sees all of it or none.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ssl_core.chain import write_durably
from ssl_core.config import Name, Sha256Hex, StrictModel, StudyPlan, parse
from ssl_core.errors import ConfigError, TrustError
from ssl_core.trust.envelope import canonical, open_envelope, peek, seal
from ssl_core.trust.identity import Identity

if TYPE_CHECKING:
    from ssl_core.objectives.base import PretextModel

ACCOUNTANT = "dp-accounting PLD, Poisson-subsampled Gaussian"
AGGREGATE_NOTE = (
    "Aggregate not authenticated: a malicious server could have published weights that are not the sum's; the "
    "privacy of patients does not rest on it."
)


class SitePrivacy(StrictModel):
    """The guarantee that one site's own noise gives each of its patients in this study."""

    site: Name
    epsilon: Annotated[float, Field(ge=0)]
    epsilon_replace_one: Annotated[float, Field(ge=0)]
    steps: Annotated[int, Field(ge=0)]


class Card(StrictModel):
    """The facts of one encoder. `kind` federated: a sum of sites; alone: one site's own study, never to be shared."""

    format: Annotated[int, Field(ge=1, le=1)] = 1
    name: Name
    kind: Literal["federated", "alone", "initial"]
    plan: StudyPlan
    plan_hash: Sha256Hex
    weights: Sha256Hex
    rounds_closed: Annotated[int, Field(ge=0)]
    rounds_void: Annotated[int, Field(ge=0)]
    accountant: str
    site_privacy: tuple[SitePrivacy, ...]
    aggregate: str = AGGREGATE_NOTE
    software: dict[str, str]

    def to_markdown(self) -> str:
        """The card as a page for people."""
        privacy = self.plan.privacy
        lines = [
            f"# Encoder {self.name}",
            "",
            f"{self.plan.purpose}",
            "",
            f"- kind: {self.kind}; study plan `{self.plan_hash}`",
            f"- data: {self.plan.data.kind}; encoder {self.plan.encoder.name}; objective {self.plan.objective.name}",
            f"- rounds closed {self.rounds_closed}, void {self.rounds_void}; weights SHA-256 `{self.weights}`",
            f"- unit: {privacy.unit}; sigma {privacy.noise_multiplier}, q {privacy.sampling_rate}, "
            f"clip {privacy.max_grad_norm}, delta {privacy.delta}; accountant: {self.accountant}",
            "",
            "| site | epsilon (add or remove one patient) | epsilon (replace one) | noised steps |",
            "|---|---|---|---|",
            *(f"| {s.site} | {s.epsilon:.3f} | {s.epsilon_replace_one:.3f} | {s.steps} |" for s in self.site_privacy),
            "",
            "Epsilon is each site's own, from its own noise, for this study alone; a patient known to k sites adds theirs.",
            "",
            self.aggregate,
            "",
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """A pretext model with the weights of a release or of a site's folder, and its card."""

    model: PretextModel
    card: Card


def make_card(
    plan: StudyPlan,
    plan_hash: str,
    weights: npt.NDArray[np.float32],
    *,
    kind: Literal["federated", "alone", "initial"],
    closed: int,
    void: int,
) -> Card:
    """The card of weights that `closed` + `void` rounds of `plan` gave; epsilon is computed from the plan alone."""
    from ssl_core.encoders.vector import weights_hash
    from ssl_core.privacy.accountant import Schedule, epsilon, epsilon_replace_one

    privacy = plan.privacy
    schedule = Schedule(privacy.noise_multiplier, privacy.sampling_rate, (closed + void) * plan.rounds.steps_per_round)
    add_remove = epsilon([schedule], privacy.delta)
    replace = epsilon_replace_one([schedule], privacy.delta)
    return Card(
        name=plan.name,
        kind=kind,
        plan=plan,
        plan_hash=plan_hash,
        weights=weights_hash(weights),
        rounds_closed=closed,
        rounds_void=void,
        accountant=ACCOUNTANT,
        site_privacy=tuple(
            SitePrivacy(site=site.name, epsilon=add_remove, epsilon_replace_one=replace, steps=schedule.steps)
            for site in plan.sites
        ),
        software={"python": platform.python_version()} | {name: version(name) for name in ("choral", "torch", "opacus")},
    )


def save_encoder(folder: Path, weights: npt.NDArray[np.float32], card: Card, *signers: Identity) -> None:
    """Write a release to `folder` (must not exist) atomically; `weights` float32 [P] in the model's parameter order.

    Raises `ConfigError` when the folder exists and `TrustError` when the weights are not those that the card names.
    """
    from safetensors.numpy import save

    from ssl_core.encoders.vector import weights_hash
    from ssl_core.objectives.build import build_model

    if folder.exists():
        raise ConfigError("release exists and is not overwritten", field="folder", value=folder.name)
    if weights_hash(weights) != card.weights:
        raise TrustError("weights are not those of the card", field="weights", value=weights_hash(weights), limit=card.weights)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    offset = 0
    for name, parameter in build_model(card.plan).named_parameters():
        tensors[name] = weights[offset : offset + parameter.numel()].reshape(tuple(parameter.shape))
        offset += parameter.numel()
    body = card.model_dump(mode="json")
    signed = seal("card", body, *signers) if signers else canonical(body)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    write_durably(temporary / "encoder.safetensors", save(tensors, metadata={"plan": card.plan_hash}))
    write_durably(temporary / "card.json", signed)
    write_durably(temporary / "card.md", card.to_markdown().encode())
    os.replace(temporary, folder)


def read_card(folder: Path, *, keys: list[bytes] | None = None) -> Card:
    """The card of a folder; with `keys` its signature must verify under one of them (`TrustError`)."""
    path = folder / "card.json"
    if not path.is_file():
        raise ConfigError("folder holds no encoder", field="folder", value=str(folder), remedy="name a folder with card.json")
    data = path.read_bytes()
    body: dict[str, Any]
    if keys is not None:
        body, _ = open_envelope(data, "card", keys)
    else:
        try:
            raw = json.loads(data)
        except ValueError as error:
            raise TrustError("card is not JSON", field="card.json", remedy="fetch the folder again") from error
        if not isinstance(raw, dict):
            raise TrustError("card is not a JSON object", field="card.json", remedy="fetch the folder again")
        body = peek(data, "card") if "payload" in raw else raw
    return parse(Card, body, "card")


def load_encoder(folder: Path, *, keys: list[bytes] | None = None) -> LoadedEncoder:
    """Build the card's model and load its weights; raises `TrustError` when a tensor or the hash does not match."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from ssl_core.encoders.vector import load_vector, to_vector, weights_hash
    from ssl_core.objectives.build import build_model

    card = read_card(folder, keys=keys)
    try:
        tensors = load((folder / "encoder.safetensors").read_bytes())
    except (OSError, SafetensorError) as error:
        raise TrustError(
            "weights cannot be read", field="path", value=str(folder / "encoder.safetensors"), remedy="fetch the folder again"
        ) from error
    model = build_model(card.plan)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    if {name: t.shape for name, t in tensors.items()} != shapes:
        raise TrustError("tensors are not those of the card's encoder", field="encoder.safetensors")
    load_vector(model, np.concatenate([tensors[name].reshape(-1) for name in shapes]))
    found = weights_hash(to_vector(model))
    if found != card.weights:
        raise TrustError("weights are not those that the card names", field="weights", value=found, limit=card.weights)
    return LoadedEncoder(model, card)
