"""Step 12 of 12: what an encoder is, for people and machines: weights, lineage, epsilon, data types, limits.

A release is a folder of `encoder.safetensors` (float32, one tensor per parameter), `card.json` (an envelope that the
operator signed when it was published, plain JSON of the same fields inside a site) and `card.md`, there whole or not at
all. Whoever loads it says whose signature counts: a roster, whose operator must have signed the card, or keys. Without
either nothing but the weights' hash is checked, and the log says so. What a site wrote itself: `client/origin.py`.
"""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ssl_core.config import Name, Sha256Hex, StudyPlan, parse
from ssl_core.errors import ConfigError, TrustError
from ssl_core.folder import new_folder
from ssl_core.privacy.statement import rounded_up
from ssl_core.session import read_roster
from ssl_core.spec.data import Data, EventData, PairData, SignalData, SoundData, TableData
from ssl_core.spec.objective import clip_line
from ssl_core.spec.strict import StrictModel
from ssl_core.trust.envelope import canonical, kind_of, open_envelope, peek, seal
from ssl_core.trust.identity import Identity, fingerprint

if TYPE_CHECKING:
    from ssl_core.objectives.base import PretextModel

_LOG = logging.getLogger("choral")
AGAIN = "fetch the folder again from whoever published it"
ENCODER_FILE, CARD_FILE, PAGE_FILE = "encoder.safetensors", "card.json", "card.md"
FINE_TUNED = "fine-tuned"
"""The kind on the card of a hospital's own model, which is no encoder."""
ACCOUNTANT = "dp-accounting PLD, Poisson-subsampled Gaussian"
AGGREGATE_NOTE = (
    "Aggregate not authenticated: every site recomputed the weights from the published sum, but a malicious server could "
    "have published another sum than the true one; the privacy of patients does not rest on it."
)
ALONE_NOTE = "Made by this site alone: there was no sum and no server, and no one beside its own log vouches for the weights."


class SitePrivacy(StrictModel):
    """The guarantee that one site's own noise gives each of its patients in this study; `steps`: what it is reckoned for."""

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
            f"- data: {described(self.plan.data)}; encoder {self.plan.encoder.name}; objective {self.plan.objective.name}",
            f"- rounds closed {self.rounds_closed}, void {self.rounds_void}; weights SHA-256 `{self.weights}`",
            *([] if self.plan.start is None else [f"- started from prepared weights, SHA-256 `{self.plan.start}`"]),
            f"- unit: {privacy.unit}; sigma {privacy.noise_multiplier}, q {privacy.sampling_rate}, "
            f"clip {privacy.max_grad_norm}, delta {privacy.delta}; accountant: {self.accountant}",
            *([f"- {line}"] if (line := clip_line(self.plan.objective)) else []),
            "",
            "| site | epsilon (add or remove one patient) | epsilon (replace one) | noised steps reserved |",
            "|---|---|---|---|",
            *(
                f"| {s.site} | {rounded_up(s.epsilon)} | {rounded_up(s.epsilon_replace_one)} | {s.steps} |"
                for s in self.site_privacy
            ),
            "",
            "Epsilon is each site's own, from its own noise, for this study alone, all rounds and void ones of its plan "
            "counted; a patient known to k sites adds theirs."
            if self.kind != "alone"
            else "Epsilon is from this site's own noise, for this study alone.",
            "",
            self.aggregate,
            "",
        ]
        return "\n".join(lines)


def described(data: Data) -> str:
    """The kind of data and, of all but texts and images, what a source must hold: whoever loads the encoder needs it."""
    if isinstance(data, TableData):
        numbers = [column.name + (f" ({column.unit})" if column.unit else "") for column in data.numeric]
        levels = [f"{column.name} ({', '.join(column.levels)})" for column in data.categorical]
        return f"table, {len(data.columns)} columns: {'; '.join([*numbers, *levels])}"
    if isinstance(data, PairData):
        return (
            f"pair, images of {data.image.height} x {data.image.width} with their reports; its features are of the images alone"
        )
    if isinstance(data, SoundData):
        return f"sound, {data.mels} log-mel bands x {data.width} frames, {data.seconds:g} s at {data.rate_hz:g} Hz"
    if isinstance(data, EventData):
        bounds = ", ".join(f"{bound:g}" for bound in data.gap_hours)
        return f"events, {data.events} a record, gaps bounded at {bounds} hours; codes: {', '.join(data.vocabulary)}"
    if not isinstance(data, SignalData):
        return data.kind
    return f"signal, {data.channels} x {data.samples} samples at {data.rate_hz:g} Hz, in {', '.join(data.units)}"


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
    """The card of weights that `closed` + `void` rounds of `plan` gave; epsilon is of the plan's whole schedule.

    As the ledgers charge it. How many rounds were void is no public constant: whoever sees what sites send could void one
    after another until he has seen enough, and then no epsilon of the number that it came to is true at the plan's delta.
    """
    from ssl_core.encoders.vector import weights_hash
    from ssl_core.privacy.accountant import Schedule, epsilon, epsilon_replace_one

    privacy = plan.privacy
    schedule = Schedule(privacy.noise_multiplier, privacy.sampling_rate, plan.total_steps)
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
        aggregate=ALONE_NOTE if kind == "alone" else AGGREGATE_NOTE,
        software={"python": platform.python_version()} | {name: version(name) for name in ("choral", "torch", "opacus")},
    )


def save_encoder(folder: Path, weights: npt.NDArray[np.float32], card: Card, *signers: Identity) -> None:
    """Write a release to `folder` (must not exist), whole or not at all; `weights` float32 [P] in the model's order.

    Raises `ConfigError` when the folder exists and `TrustError` when the weights are not those that the card names.
    """
    from safetensors.numpy import save

    from ssl_core.encoders.vector import weights_hash
    from ssl_core.objectives.build import build_model

    if weights_hash(weights) != card.weights:
        raise TrustError("weights are not those of the card", field="weights", value=weights_hash(weights), limit=card.weights)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    offset = 0
    for name, parameter in build_model(card.plan).named_parameters():
        tensors[name] = weights[offset : offset + parameter.numel()].reshape(tuple(parameter.shape))
        offset += parameter.numel()
    body = card.model_dump(mode="json")
    with new_folder(folder) as draft:
        (draft / ENCODER_FILE).write_bytes(save(tensors, metadata={"plan": card.plan_hash}))
        (draft / CARD_FILE).write_bytes(seal("card", body, *signers) if signers else canonical(body))
        (draft / PAGE_FILE).write_text(card.to_markdown(), encoding="utf-8")


def read_card(folder: Path, *, keys: Sequence[bytes] | None = None) -> Card:
    """The card of a folder; with `keys` its signature must verify under one of them (`TrustError`)."""
    if not (folder / CARD_FILE).is_file():
        raise ConfigError("folder holds no encoder", field="folder", value=str(folder), remedy="name a folder with card.json")
    body = card_body(folder, "card", keys)
    if body.get("kind") == FINE_TUNED:
        raise ConfigError(
            "folder holds a model that choral finetune made, not an encoder", field="folder", value=str(folder),
            remedy="name the encoder: a release, or encoders/NAME of the site's folder; scores of a model: choral embed MODEL",
        )  # fmt: skip
    return parse(Card, body, "card")


def card_body(folder: Path, kind: str, keys: Sequence[bytes] | None) -> dict[str, Any]:
    """What the card in `folder`, which has one, says: a signed document of `kind` or, with `keys` None, plain JSON too."""
    path = folder / CARD_FILE
    data = path.read_bytes()
    try:
        raw: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TrustError("card is not JSON", field=CARD_FILE, value=str(path), remedy=AGAIN) from error
    if not isinstance(raw, dict):
        raise TrustError("card is not a JSON object", field=CARD_FILE, value=str(path), remedy=AGAIN)
    signed = "payload" in raw
    if keys is not None and not signed:
        raise TrustError(
            "card is not signed",
            field=CARD_FILE,
            value=str(path),
            limit=", ".join(fingerprint(key) for key in keys),
            remedy="name a release that the operator published; an encoder that a site wrote itself is checked in its own "
            "state folder, without a roster",
        )
    try:
        if keys is not None:
            return open_envelope(data, kind, keys)[0]
        if not signed:
            return raw
        if (found := kind_of(data)) != kind:
            raise TrustError("card is of something else", field=CARD_FILE, value=found, limit=kind)
        return peek(data, kind)
    except TrustError as error:
        if error.field is not None:
            raise
        raise TrustError(error.problem, field=CARD_FILE, value=str(path), remedy=AGAIN) from error


def read_encoder(folder: Path, *, keys: Sequence[bytes] | None = None) -> LoadedEncoder:
    """`load_encoder` for a caller who says himself what was checked."""
    from ssl_core.objectives.build import build_model

    card = read_card(folder, keys=keys)
    model = build_model(card.plan)
    load_named(model, folder / ENCODER_FILE, card.weights)
    return LoadedEncoder(model, card)


def load_named(model: PretextModel, path: Path, named: str, *, by: str = "card names") -> None:
    """Load a file of tensors, which must be the model's, float32, and their hash `named`; `TrustError`. `by`: by what it is."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from ssl_core.encoders.vector import load_vector, to_vector, weights_hash

    try:
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise TrustError("weights cannot be read", field="path", value=str(path), remedy=AGAIN) from error
    expected = {name: ("float32", tuple(p.shape)) for name, p in model.named_parameters()}
    found = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        name = min(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise TrustError(
            "tensors are not those of the card's encoder",
            field=f"{path.name}: {name}",
            value=found.get(name, "missing"),
            limit=expected.get(name, "no such tensor"),
            remedy=AGAIN,
        )
    load_vector(model, np.concatenate([tensors[name].reshape(-1) for name in expected]))
    hashed = weights_hash(to_vector(model))
    if hashed != named:
        raise TrustError(f"weights are not those that the {by}", field="weights", value=hashed, limit=named, remedy=AGAIN)


def load_encoder(folder: Path, *, roster: Path | None = None, keys: Sequence[bytes] | None = None) -> LoadedEncoder:
    """Build the card's model and load its weights, whose hash must be the card's.

    The card must be signed by the operator of `roster` (a file that you trust: the one that your site accepted), or by one
    of `keys`. With neither, no signature is checked, and a warning in the log "choral" says so. Raises `TrustError`.
    """
    if roster is not None:
        keys = [bytes.fromhex(read_roster(roster)[0].server.operator)]
    loaded = read_encoder(folder, keys=keys)
    if keys is None:
        _LOG.warning("encoder %s: signature not checked: no roster given (roster=FILE)", folder.name)
    return loaded
