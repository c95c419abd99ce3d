"""Step 13: `choral finetune` for outcomes that are numbers or times to an event: a linear head on the frozen encoder.

Comes in: a loaded encoder, a source TOML, an outcome CSV. Goes out: a model folder and a report, which stay at the site (ruling
27). Numbers: ridge, each column in units of its spread; the report shows the share of variance that is told (R^2). Survival:
Cox, concordance. The raw floor, fitted on the same patients, stands beside. Raises the errors of the readers, and `DataError`
where outcomes and source have too few patients in common.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.card import LoadedEncoder
from ssl_core.data.outcomes import Numbers, Survival, read_numbers, read_survival
from ssl_core.data.patients import Patients
from ssl_core.data.source import load_patients, read_source
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.errors import ConfigError, DataError
from ssl_core.evaluation.floor import fit_floor, floor_patients
from ssl_core.finetuning.cox import concordance, fit_cox
from ssl_core.finetuning.model import NOTICE, ModelCard, Outcome, SiteModel
from ssl_core.finetuning.probe import fit_ridge, standardise
from ssl_core.spec.data import Data

_Reals = npt.NDArray[np.float64]
_LEAST_PATIENTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns hold the outcome: of numbers, or of survival."""

    values: tuple[str, ...] = ()
    time: str | None = None
    event: str | None = None

    def __post_init__(self) -> None:
        if (self.time is None) != (self.event is None) or bool(self.values) == (self.time is not None):
            raise ConfigError(
                "give columns of values, or a time and an event column", field="--values, --time, --event",
                remedy="--values AGE,EF, or --time DAYS --event DIED",
            )  # fmt: skip

    @property
    def outcome(self) -> Outcome:
        """Of what kind."""
        return "numbers" if self.values else "survival"

    def read(self, path: Path) -> Numbers | Survival:
        """The outcome CSV."""
        if self.time is not None and self.event is not None:
            return read_survival(path, self.time, self.event)
        return read_numbers(path, self.values)


@dataclass(frozen=True, slots=True)
class OutcomeReport:
    """What was fitted and how it does on test patients: R^2 of each column, or the concordance; None without a test set."""

    folder: str
    encoder: str
    outcome: Outcome
    columns: tuple[str, ...]
    patients: int
    score: tuple[float | None, ...]
    floor: tuple[float | None, ...]
    notice: str = NOTICE

    def to_json(self) -> dict[str, Any]:
        """For scripts at the site."""
        return asdict(self)

    def to_text(self) -> str:
        """The report for a person."""
        lines = [f"linear head for {self.outcome} on encoder {self.encoder}, {self.patients} patients -> {self.folder}"]
        if self.score[0] is None:
            lines.append("Not tested: no test patients were given, or nothing differs among them.")
        else:
            what = "R^2" if self.outcome == "numbers" else "concordance"
            width = max(len(what), *map(len, self.columns))
            lines.append(f"{what:{width}}  model   raw floor")
            for name, own, floor in zip(self.columns, self.score, self.floor, strict=True):
                lines.append(f"{name:{width}}  {_shown(own)}  {_shown(floor)}")
        return "\n".join([*lines, self.notice])


@dataclass(frozen=True, slots=True)
class _Joined:
    """Patients with a known outcome, as the encoder and as the floor read them; `all`: with those without."""

    chosen: Patients
    raw: Patients
    all: Patients
    all_raw: Patients
    values: _Reals
    event: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Head:
    weight: _Reals
    bias: _Reals

    def __call__(self, features: npt.NDArray[np.floating]) -> _Reals:
        scored: _Reals = np.asarray(features, np.float64) @ self.weight + self.bias
        return scored


def finetune_outcome(
    encoder: LoadedEncoder,
    source_toml: Path,
    outcomes_csv: Path,
    out: Path,
    columns: Columns,
    *,
    test_source: Path | None = None,
    test_outcomes: Path | None = None,
) -> OutcomeReport:
    """Fit a head to all patients of the source with an outcome, and save the model to `out`."""
    if out.exists():
        raise ConfigError("folder exists and is not overwritten", field="out", value=out.name, remedy="name a new one")
    if (test_source is None) != (test_outcomes is None):
        raise ConfigError("a test needs its source and its labels", field="test_source", remedy="give both or neither")
    data = encoder.card.plan.data
    model = encoder.model
    mine = _join(source_toml, data, columns.read(outcomes_csv))

    def features(patients: Patients) -> npt.NDArray[np.float32]:
        return patients.mean_by_unit(model.encoder.features(patients.whole))

    scaling = standardise(features(mine.all))
    head = _fit(scaling(features(mine.chosen)), mine, columns)
    names = columns.values or (f"{columns.time}, {columns.event}",)
    score: tuple[float | None, ...] = (None,) * len(names)
    floor = score
    if test_source is not None and test_outcomes is not None:
        held = _join(test_source, data, columns.read(test_outcomes))
        if set(mine.chosen.units) & set(held.chosen.units):
            raise DataError("a patient is among those to fit on and to test on", field="test_source", remedy="split by patient")
        score = _score(head(scaling(features(held.chosen))), held, columns)
        plain = fit_floor(mine.all_raw, data)
        floor_head = _fit(plain.features(mine.raw), mine, columns)
        floor = _score(floor_head(plain.features(held.raw)), held, columns)
    card = ModelCard(
        method="probe", outcome=columns.outcome, labels=names, exclusive=False,
        weights=weights_hash(to_vector(model.encoder)), encoder=encoder.card,
    )  # fmt: skip
    SiteModel(model, scaling, head.weight, head.bias, card).save(out)
    return OutcomeReport(str(out), encoder.card.name, columns.outcome, names, len(mine.chosen), score, floor)


def _join(source_toml: Path, data: Data, table: Numbers | Survival) -> _Joined:
    source = read_source(source_toml)
    patients = load_patients(source, data)
    raw = floor_patients(source, patients, data)
    if isinstance(table, Survival):
        index, time, event = table.align(patients)
        values = time[:, None]
    else:
        index, values = table.align(patients)
        event = np.ones(len(index), np.bool_)
    if len(index) < _LEAST_PATIENTS:
        raise DataError(
            "too few patients of the source have an outcome", field="labels", limit=_LEAST_PATIENTS,
            remedy="use the same patient ids in the outcome file and in the source",
        )  # fmt: skip
    return _Joined(patients.take(index), raw.take(index), patients, raw, values, event)


def _fit(features: npt.NDArray[np.floating], joined: _Joined, columns: Columns) -> _Head:
    if columns.outcome == "survival":
        weight = fit_cox(features, joined.values[:, 0], joined.event).weight
        return _Head(weight[:, None], np.zeros(1))
    centre, spread = joined.values.mean(axis=0), joined.values.std(axis=0)
    for name, size in zip(columns.values, spread, strict=True):
        if not size > 0:
            raise DataError("a value is the same for all patients", field="--values", value=name)
    head = fit_ridge(features, (joined.values - centre) / spread)
    return _Head(head.weight * spread, head.bias * spread + centre)


def _score(scores: _Reals, held: _Joined, columns: Columns) -> tuple[float | None, ...]:
    if columns.outcome == "survival":
        return (concordance(scores[:, 0], held.values[:, 0], held.event),)
    left = ((held.values - scores) ** 2).sum(axis=0)
    there = ((held.values - held.values.mean(axis=0)) ** 2).sum(axis=0)
    return tuple(1.0 - float(a / b) if b > 0 else None for a, b in zip(left, there, strict=True))


def _shown(value: float | None) -> str:
    return "  -   " if value is None else f"{value:6.3f}"
