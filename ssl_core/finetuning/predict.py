"""Step 13: `choral embed` of a site's own model: its scores of patients or records that have no labels yet.

Comes in: the folder of a fine-tuned model and a source TOML. Goes out: a CSV, mode 0600, one row a unit of the model's card:
the column `patient`, of a model of records `record`, one column a label, and of three classes or more `class`, the one with the
highest score. Scores are what `SiteModel.scores` gives: ranks, estimates or logs of risk, no probabilities. A unit that has no
good record has no score: its cells are empty, and such units are counted; of others, bad records are left out and counted
(good_records.py). The file describes patients: it never leaves the site. Raises `ConfigError` or `TrustError` for a folder that
does not fit, `DataError` for more bad records than the source declares.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.card import FINE_TUNED
from ssl_core.data.patients import Patients
from ssl_core.data.record_units import patient_of, record_of
from ssl_core.data.source import load_accepted, read_source
from ssl_core.errors import ConfigError
from ssl_core.finetuning.good_records import have_good, without_padding
from ssl_core.finetuning.model import ModelCard, SiteModel, load_site_model
from ssl_core.folder import new_file

_NOTICE = "Scores describe patients: do not share them."
_MEANING = {
    "labels": "A score is a rank, higher is more likely; it is no probability.",
    "numbers": "A score is the estimate, in the units of the labels.",
    "survival": "A score is the log of the relative risk, higher is sooner.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What was written, in counts: rows, of how many patients, and how many of the rows have no score; columns of scores.

    left_out: bad records of units that have a score; they have no part in it.
    """

    file: str
    unit: str
    rows: int
    patients: int
    without_score: int
    left_out: int
    columns: tuple[str, ...]
    meaning: str
    notice: str = _NOTICE

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def to_text(self) -> str:
        """The same for a person."""
        what = f"{self.rows} patients" if self.unit == "patient" else f"{self.rows} records of {self.patients} patients"
        lines = [f"{', '.join(self.columns)}: scores of {what} -> {self.file}", self.meaning]
        if self.without_score:
            lines.append(
                f"{self.without_score} of them have no good record: their scores are empty (choral site data check says why)."
            )
        if self.left_out:
            lines.append(f"{self.left_out} bad records of the others are left out of their scores.")
        return "\n".join([*lines, self.notice])


def is_site_model(folder: Path) -> bool:
    """Is it a model that `choral finetune` made, by the kind on its card? Whether it is whole, loading says."""
    try:
        body = json.loads((folder / "card.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(body, dict) and body.get("kind") == FINE_TUNED


def predict(folder: Path, source_toml: Path, out_csv: Path) -> Predicted:
    """Write the scores of every unit of the source to `out_csv`, in the order of their ids."""
    model = load_site_model(folder)
    by_record = model.card.unit == "record"
    header = _header(model.card)
    if out_csv.suffix != ".csv":
        raise ConfigError("scores are written as csv", field="out", value=out_csv.name, remedy="name a file ending in .csv")
    with new_file(out_csv) as stream:
        data = model.card.encoder.plan.data
        read = load_accepted(read_source(source_toml), data, by_record=by_record)
        units = without_padding(read, data)
        scored = have_good(units, data)
        text = io.StringIO(newline="")
        csv.writer(text).writerows([header, *_rows(model, units, scored)])
        stream.write(text.getvalue().encode())
    return Predicted(
        file=str(out_csv), unit=model.card.unit, rows=len(units), patients=len(set(map(patient_of, units.units))),
        without_score=int((~scored).sum()), left_out=len(read.records) - len(units.records),
        columns=model.card.labels, meaning=_MEANING[model.card.outcome],
    )  # fmt: skip


def _header(card: ModelCard) -> list[str]:
    ids = ["patient"] if card.unit == "patient" else ["patient", "record"]
    header = [*ids, *card.labels, *(["class"] if _has_classes(card) else [])]
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise ConfigError(
            "two columns of the scores would have one name", field="labels", value=", ".join(twice),
            remedy="give the label another name, and fit again",
        )  # fmt: skip
    return header


def _has_classes(card: ModelCard) -> bool:
    return card.exclusive and len(card.labels) > 1


def _rows(model: SiteModel, units: Patients, scored: npt.NDArray[np.bool_]) -> list[list[str]]:
    card, rows = model.card, []
    for unit, scores, good in zip(units.units, model.scores(units), scored.tolist(), strict=True):
        ids = [patient_of(unit)] if card.unit == "patient" else [patient_of(unit), record_of(unit)]
        cells = [repr(float(score)) if good else "" for score in scores]
        named = [card.labels[int(scores.argmax())] if good else ""] if _has_classes(card) else []
        rows.append([*ids, *cells, *named])
    return rows
