"""Frozen models of the files that people write: study plan and its parts. Unknown keys are refused.

`PrivacySpec` holds what changes the guarantee; `SpeedSpec` what changes only time and memory and is the site's own.
A study plan is written as TOML, signed as canonical JSON; SHA-256 of that JSON is the plan hash and the session id.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from ssl_core.errors import ConfigError
from ssl_core.spec.asked import answer
from ssl_core.spec.data import Data
from ssl_core.spec.encoder import Encoder
from ssl_core.spec.fit import check_fit
from ssl_core.spec.fitted import computed
from ssl_core.spec.objective import Objective
from ssl_core.spec.strict import StrictModel
from ssl_core.spec.tables import table_at
from ssl_core.toml_lines import line_of

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9\-]{0,39}$")]
PublicHex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Precision = Literal["float32", "bfloat16"]

ModelT = TypeVar("ModelT", bound=StrictModel)


def parse(model: type[ModelT], data: Mapping[str, Any], what: str, text: str | None = None) -> ModelT:
    """Validate `data`; the first fault becomes a `ConfigError` that names field, value and limit.

    `text`: the TOML that `data` was read from; the error then names the line, too.
    """
    try:
        return model.model_validate_json(_json(data))
    except ValidationError as error:
        faults = error.errors(include_url=False)
        fault = faults[0]
        field = ".".join(str(part) for part in fault["loc"]) or what
        shown = fault.get("input")
        line = None if text is None else line_of(text, fault["loc"])
        where = "" if line is None else f" in line {line}"
        unknown = _unknown_beside(faults)
        remedy = _remedy(fault["type"], table_at(model, fault["loc"]), field, unknown)
        if {"data", "encoder", "objective"} <= model.model_fields.keys():
            asked = fault.get("ctx", {}).get("tag")
            told = answer(data, fault["loc"], asked) if asked is not None and fault["loc"][0] == "objective" else None
            if told is not None and told.problem is not None:
                raise ConfigError(
                    f"{what} asks{where} for {told.problem}", field=f"{field}.name", value=asked, remedy=told.remedy
                ) from error
            remedy = told.remedy if told is not None else remedy
            value = shown if asked is None else asked
            made = computed(data, fault["loc"], value, unknown=fault["type"] == "extra_forbidden")
            if made is not None:
                raise ConfigError(
                    f"{what} asks{where} for {made.problem}", field=field, value=value, remedy=made.remedy
                ) from error
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(
            f"{what} is not valid{where}{more}: {fault['msg']}",
            field=field,
            value=shown if isinstance(shown, str | int | float | bool) else None,
            remedy=remedy,
        ) from error


def read_toml(model: type[ModelT], path: Path, what: str) -> ModelT:
    """Read and validate a TOML file; `ConfigError` names the file, the line and the field."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError as error:
        raise ConfigError(f"{what} file is missing", field="path", value=str(path), remedy="check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} file is not valid TOML: {error}", field="path", value=str(path)) from error
    return parse(model, data, f"{what} {path.name}", text)


class PrivacySpec(StrictModel):
    """What the guarantee depends on; one for the study, never computed from data (ruling 16)."""

    unit: Literal["patient"]
    adjacency: Literal["add-or-remove-one"]
    noise: Literal["site"]
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    noise_multiplier: Annotated[float, Field(ge=0.3, le=1000)]
    max_grad_norm: Positive
    delta: Annotated[float, Field(gt=0, lt=1e-3)]


class TrainingSpec(StrictModel):
    """The site's optimizer: a public function of noised gradients."""

    optimizer: Literal["adam", "sgd"]
    learning_rate: Positive
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    warmup_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    final_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    keep_state: bool = True


class RoundsSpec(StrictModel):
    """How long the study is; when a round gives up on a silent site, and a launch on hospitals that have not approved.

    `rekey_rounds`: after so many rounds all sites agree on new epoch keys, so that a key stolen once is worth no more than
    that; 0 for one set of keys for the whole study.
    """

    rounds: Annotated[int, Field(ge=1, le=10_000)]
    steps_per_round: Annotated[int, Field(ge=1, le=10_000)]
    max_void: Annotated[int, Field(ge=0, le=1000)] = 2
    min_sites: Annotated[int, Field(ge=3, le=1000)] = 3
    patience_s: Annotated[float, Field(gt=0, le=7 * 86400)] = 600.0
    rekey_rounds: Annotated[int, Field(ge=0, le=10_000)] = 0
    approval_patience_s: Annotated[float, Field(gt=0, le=90 * 86400)] = 14 * 86400.0


class AggregationSpec(StrictModel):
    """The ring of the secure sum and the server's step.

    `bandwidth`: "full" sends 32 bits a parameter; "half" sends 16, after a public rotation, for weights (nominal sizes
    over their greatest common divisor) that add up to at most 31.
    `update_range` R is public, in parameter units; beyond it a value is clipped at the site, so it is never to come from
    patients: take it from a rehearsal on public data. "full": bounds each coordinate of a site's update; generous is
    free (32 bits), e.g. learning rate x steps per round for Adam. "half": bounds each ROTATED coordinate, which has the
    size of the update's root mean square, ||update|| / sqrt(P), whatever its largest coordinates are; six times that
    is sensible (clips 2 in 10^9), and each doubling costs one of the 16 bits.
    """

    bandwidth: Literal["full", "half"] = "full"
    update_range: Positive
    optimizer: Literal["fedavg", "fedavgm", "fedadam"] = "fedavg"
    learning_rate: Positive = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    epsilon: Positive = 1e-3

    @property
    def ring_bits(self) -> int:
        """Bits a parameter on the wire."""
        return 32 if self.bandwidth == "full" else 16


class SiteSpec(StrictModel):
    """A participant and its nominal number of patients: typed by a person, one significant digit, public."""

    name: Name
    nominal_size: Annotated[int, Field(ge=1, le=10**9)]

    @model_validator(mode="after")
    def _one_digit(self) -> Self:
        if str(self.nominal_size).rstrip("0") not in set("123456789"):
            raise ValueError("nominal_size must have one significant digit (such as 9000), so that it tells no count")
        return self


class StudyPlan(StrictModel):
    """Everything that a run does. `roster` and `initial_weights` are filled in by `choral operator launch`.

    `start`: SHA-256 of prepared weights (start_weights.py), which `launch --start` fills in too; None: from `seed`.
    """

    format: Annotated[int, Field(ge=1, le=1)] = 1
    name: Name
    # Shown to the person who approves: no control character may forge or hide a line of that screen.
    purpose: Annotated[str, Field(min_length=3, max_length=500, pattern=r"^\P{C}+\z")]
    alone: bool = False
    data: Annotated[Data, Field(discriminator="kind")]
    encoder: Annotated[Encoder, Field(discriminator="name")]
    objective: Annotated[Objective, Field(discriminator="name")]
    privacy: PrivacySpec
    training: TrainingSpec
    rounds: RoundsSpec
    aggregation: AggregationSpec
    sites: tuple[SiteSpec, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    start: Sha256Hex | None = None
    roster: Sha256Hex | None = None
    initial_weights: Sha256Hex | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_fit(self.data, self.encoder, self.objective)
        names = [site.name for site in self.sites]
        if names != sorted(set(names)):
            raise ValueError("sites must be sorted by name, each once")
        least = 1 if self.alone else 3
        if len(names) < least:
            raise ValueError(f"{len(names)} sites; at least {least} are needed")
        if self.alone and len(names) != 1:
            raise ValueError("a study that a site runs alone names that site only")
        if not self.alone and self.rounds.min_sites > len(names):
            raise ValueError("min_sites is more than the sites of the plan")
        largest = max(site.nominal_size for site in self.sites)
        if self.privacy.delta >= 1 / largest:
            raise ValueError(f"delta must be below 1 / largest nominal_size = {1 / largest:.1e}")
        return self

    @property
    def total_steps(self) -> int:
        """Steps that are reserved: those of all rounds, the void ones included."""
        return (self.rounds.rounds + self.rounds.max_void) * self.rounds.steps_per_round

    def nominal_size(self, site: str) -> int:
        """The declared size of `site`; `ConfigError` when the plan does not name it."""
        for entry in self.sites:
            if entry.name == site:
                return entry.nominal_size
        raise ConfigError("plan does not name this site", field="sites", value=site)

    def weights(self) -> dict[str, int]:
        """Public integer weights: nominal sizes divided by their greatest common divisor."""
        divisor = math.gcd(*(site.nominal_size for site in self.sites))
        return {site.name: site.nominal_size // divisor for site in self.sites}


class SpeedSpec(StrictModel):
    """The site's own choices; none of them changes what is released in distribution."""

    chunk: Annotated[int, Field(ge=1, le=65536)] | None = None
    memory_gib: Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)] | None = None
    engine: Literal["auto", "bookkeeping", "hooks", "vmap", "reference"] = "auto"
    precision: Precision | None = None
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    device: Literal["cpu", "cuda"] = "cpu"


def _json(data: Mapping[str, Any]) -> str:
    try:
        return json.dumps(data)
    except TypeError as error:
        raise ConfigError("a value has no plain type (dates are not used here)", value=str(error)) from error


def _unknown_beside(faults: Sequence[ErrorDetails]) -> list[str]:
    """Keys that nobody knows in the table of the first fault: a key that is missing there may be one that is misspelt."""
    place = faults[0]["loc"][:-1]
    return [str(each["loc"][-1]) for each in faults if each["type"] == "extra_forbidden" and each["loc"][:-1] == place]


def _remedy(kind: str, table: type[BaseModel], field: str, unknown: Sequence[str]) -> str | None:
    if field.endswith(".bank_version"):
        return "operator and sites need releases of Choral that make the same bank; in a plan of one's own, leave it out"
    if kind == "extra_forbidden":
        return f"remove it; known keys: {', '.join(sorted(table.model_fields))}"
    if kind == "missing":
        return f"add it, or correct what is no key here: {', '.join(unknown)}" if unknown else "add it"
    return None
