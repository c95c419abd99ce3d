"""Step 13: `choral finetune` for outcomes that are numbers or times to an event: a linear head on the frozen encoder.

Comes in: a loaded encoder, a source TOML, an outcome CSV, numbers also of records. Goes out: a model folder and a report, which
stay at the site (ruling 27). Numbers: ridge, each column in units of its spread; the report shows the share of variance that is
told (R^2). Survival: Cox, concordance; by patient alone, whose time it is. The raw floor, fitted on the same patients, stands
beside. Raises the errors of the readers, and `DataError` where outcomes and source have too few patients in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.card import LoadedEncoder
from ssl_core.data.outcomes import Numbers, Survival, read_numbers, read_survival
from ssl_core.data.patients import Patients
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.errors import ConfigError, DataError
from ssl_core.evaluation.floor import fit_floor
from ssl_core.finetuning.cox import concordance, fit_cox
from ssl_core.finetuning.join import Joined, check_files, join, require_apart
from ssl_core.finetuning.model import ModelCard, Outcome, SiteModel, Unit
from ssl_core.finetuning.probe import fit_ridge, standardise
from ssl_core.finetuning.report import OutcomeReport, Scores, counted
from ssl_core.spec.data import Data

_Reals = npt.NDArray[np.float64]
_LEAST_PATIENTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns hold the outcome: of numbers, or of survival; `record`: that of records, where each row is of one."""

    values: tuple[str, ...] = ()
    time: str | None = None
    event: str | None = None
    record: str | None = None

    def __post_init__(self) -> None:
        if (self.time is None) != (self.event is None) or bool(self.values) == (self.time is not None):
            raise ConfigError(
                "give columns of values, or a time and an event column", field="--values, --time, --event",
                remedy="--values AGE,EF, or --time DAYS --event DIED",
            )  # fmt: skip
        if self.time is not None and self.record is not None:
            raise ConfigError(
                "a time to an event belongs to a patient, not to a record: his records would count one event several times",
                field="--record-column", value=self.record, remedy="one row a patient",
            )  # fmt: skip

    @property
    def unit(self) -> Unit:
        """Of what each row is."""
        return "patient" if self.record is None else "record"

    @property
    def outcome(self) -> Outcome:
        """Of what kind."""
        return "numbers" if self.values else "survival"

    def read(self, path: Path) -> Numbers | Survival:
        """The outcome CSV."""
        if self.time is not None and self.event is not None:
            return read_survival(path, self.time, self.event)
        return read_numbers(path, self.values, record_column=self.record)


@dataclass(frozen=True, slots=True)
class _Known:
    """Units with a known outcome: values float64 [j, k], of survival [j, 1] times with events bool [j]."""

    joined: Joined
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
    check_files(out, test_source, test_outcomes)
    data = encoder.card.plan.data
    model = encoder.model
    mine = _known(source_toml, data, outcomes_csv, columns)

    def features(patients: Patients) -> npt.NDArray[np.float32]:
        return patients.mean_by_unit(model.encoder.features(patients.whole))

    scaling = standardise(features(mine.joined.all))
    head = _fit(scaling(features(mine.joined.own())), mine, columns)
    names = columns.values or (f"{columns.time}, {columns.event}",)
    held: _Known | None = None
    score: Scores = (None,) * len(names)
    floor = score
    if test_source is not None and test_outcomes is not None:
        held = _known(test_source, data, test_outcomes, columns)
        require_apart(mine.joined, held.joined)
        score = _score(head(scaling(features(held.joined.own()))), held, columns)
        plain = fit_floor(mine.joined.all_raw, data)
        floor_head = _fit(plain.features(mine.joined.raw()), mine, columns)
        floor = _score(floor_head(plain.features(held.joined.raw())), held, columns)
    card = ModelCard(
        method="probe", outcome=columns.outcome, unit=columns.unit, labels=names, exclusive=False,
        weights=weights_hash(to_vector(model.encoder)), encoder=encoder.card,
    )  # fmt: skip
    SiteModel(model, scaling, head.weight, head.bias, card).save(out)
    tested = None if held is None else held.joined
    return OutcomeReport(
        folder=str(out), encoder=encoder.card.name, outcome=columns.outcome, columns=names, score=score, floor=floor,
        **counted(mine.joined, tested, by_record=columns.record is not None),
    )  # fmt: skip


def _known(source_toml: Path, data: Data, path: Path, columns: Columns) -> _Known:
    table = columns.read(path)
    joined = join(source_toml, data, table.units, by_record=columns.record is not None, least=_LEAST_PATIENTS)
    if isinstance(table, Survival):
        return _Known(joined, table.time[joined.rows, None], table.event[joined.rows])
    return _Known(joined, table.values[joined.rows], np.ones(len(joined.rows), np.bool_))


def _fit(features: npt.NDArray[np.floating], known: _Known, columns: Columns) -> _Head:
    if columns.outcome == "survival":
        weight = fit_cox(features, known.values[:, 0], known.event).weight
        return _Head(weight[:, None], np.zeros(1))
    centre, spread = known.values.mean(axis=0), known.values.std(axis=0)
    for name, size in zip(columns.values, spread, strict=True):
        if not size > 0:
            raise DataError("a value is the same for all that are labelled", field="--values", value=name)
    head = fit_ridge(features, (known.values - centre) / spread, owners=known.joined.owners())
    return _Head(head.weight * spread, head.bias * spread + centre)


def _score(scores: _Reals, held: _Known, columns: Columns) -> tuple[float | None, ...]:
    if columns.outcome == "survival":
        return (concordance(scores[:, 0], held.values[:, 0], held.event),)
    left = ((held.values - scores) ** 2).sum(axis=0)
    there = ((held.values - held.values.mean(axis=0)) ** 2).sum(axis=0)
    return tuple(1.0 - float(a / b) if b > 0 else None for a, b in zip(left, there, strict=True))
