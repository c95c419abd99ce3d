"""Step 13: `choral finetune` and `choral embed` as plain functions on files.

Comes in: a loaded encoder, a source TOML, a label CSV. Goes out: a model folder and a report, or an npz of features
float32 [records, F] with patient ids. Both stay at the site and say so in themselves (ruling 27). The report shows the
raw floor, fitted on the same labelled patients, beside the model: an encoder that does not beat it is shown not to.
Raises the errors of the readers, and `DataError` where labels and source have too few patients in common.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.card import LoadedEncoder
from ssl_core.data.labels import Labels, read_labels
from ssl_core.data.patients import Patients
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.evaluation.auroc import auroc
from ssl_core.evaluation.draws import draw_labels
from ssl_core.evaluation.floor import fit_floor, floor_patients
from ssl_core.finetuning.model import NOTICE, FineTuner, Method
from ssl_core.finetuning.probe import fit_ridge
from ssl_core.spec.data import Data


@dataclass(frozen=True, slots=True)
class FineTuneReport:
    """What was fitted and how it does on the test patients; AUROC is None without a test set or without both classes."""

    folder: str
    method: Method
    encoder: str
    labels: tuple[str, ...]
    patients: int
    auroc: tuple[float | None, ...]
    floor_auroc: tuple[float | None, ...]
    notice: str = NOTICE

    @property
    def macro(self) -> float | None:
        """Mean AUROC over the labels that could be scored."""
        return _mean(self.auroc)

    @property
    def floor_macro(self) -> float | None:
        """The same for the raw floor."""
        return _mean(self.floor_auroc)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"macro": self.macro, "floor_macro": self.floor_macro}

    def to_text(self) -> str:
        """The report for a person."""
        lines = [f"{self.method} on encoder {self.encoder}, {self.patients} labelled patients -> {self.folder}"]
        if self.macro is None or self.floor_macro is None:
            lines.append("Not tested: no test patients were given, or none of the labels has both classes among them.")
        else:
            width = max(len(name) for name in (*self.labels, "macro AUROC"))
            lines.append(f"{'':{width}}  model  raw floor")
            for name, own, floor in zip(self.labels, self.auroc, self.floor_auroc, strict=True):
                lines.append(f"{name:{width}}  {_number(own)}   {_number(floor)}")
            lines.append(f"{'macro AUROC':{width}}  {_number(self.macro)}   {_number(self.floor_macro)}")
            if self.macro <= self.floor_macro:
                lines.append("This model does not beat the raw floor: a linear model on the raw data does as well or better.")
        return "\n".join([*lines, self.notice])


def finetune(
    encoder: LoadedEncoder,
    source_toml: Path,
    labels_csv: Path,
    out: Path,
    *,
    labels: int | None = None,
    method: Method = "probe",
    test_source: Path | None = None,
    test_labels: Path | None = None,
    class_column: str | None = None,
    seed: int = 0,
) -> FineTuneReport:
    """Fit a model to all labelled patients of the source, or to `labels` of them drawn by `seed`, and save it to `out`.

    `class_column` names a column of classes in the label file; without it all columns but "patient" are 0/1 findings.
    """
    if out.exists():
        raise ConfigError("folder exists and is not overwritten", field="out", value=out.name, remedy="name a new one")
    if (test_source is None) != (test_labels is None):
        raise ConfigError("a test needs its source and its labels", field="test_source", remedy="give both or neither")
    data = encoder.card.plan.data
    table = read_labels(labels_csv, class_column=class_column)
    patients, raw, index, values = _labelled(source_toml, data, table)
    if labels is not None:
        drawn = draw_labels(values, labels, count=1, seed=seed).index[0]
        index, values = index[drawn], values[drawn]
    chosen = patients.take(index)
    tuner = FineTuner(encoder, method=method)
    model = tuner.fit(chosen, values, table.names, exclusive=table.exclusive, unlabelled=patients)
    own: tuple[float | None, ...] = (None,) * len(table.names)
    floor = own
    if test_source is not None and test_labels is not None:
        held = read_labels(test_labels, class_column=class_column)
        if held.names != table.names:
            raise DataError("test labels are other labels", field="test_labels", value=held.names, limit=table.names)
        tested, tested_raw, places, truth = _labelled(test_source, data, held)
        if set(chosen.units) & {tested.units[place] for place in places}:
            raise DataError(
                "a patient is among the labelled and the test patients", field="test_source", remedy="split by patient"
            )
        own = _areas(model.scores(tested.take(places)), truth)
        plain = fit_floor(raw, data)
        head = fit_ridge(plain.features(raw.take(index)), values)
        floor = _areas(head.scores(plain.features(tested_raw.take(places))), truth)
    model.save(out)
    return FineTuneReport(str(out), method, encoder.card.name, table.names, len(chosen), own, floor)


def embed(encoder: LoadedEncoder, source_toml: Path, out_npz: Path) -> npt.NDArray[np.float32]:
    """Write features float32 [m, F], one row a record, with their patients, to `out_npz` (mode 0600); returns them."""
    if out_npz.exists():
        raise ConfigError("file exists and is not overwritten", field="out", value=out_npz.name, remedy="name a new one")
    if out_npz.suffix != ".npz":
        raise ConfigError("features are written as npz", field="out", value=out_npz.name, remedy="name a file ending in .npz")
    patients = load_patients(read_source(source_toml), encoder.card.plan.data)
    features = encoder.model.encoder.features(patients.whole)
    draft = out_npz.with_name(f".{out_npz.stem}.{os.getpid()}.npz")
    out_npz.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            np.savez(
                stream,
                features=features,
                patient=np.repeat(np.array(patients.units), patients.counts()),
                private=np.array(False),
                notice=np.array(NOTICE),
                encoder=np.array(encoder.card.weights),
            )
        os.replace(draft, out_npz)
    finally:
        draft.unlink(missing_ok=True)
    return features


def _labelled(
    source_toml: Path, data: Data, table: Labels
) -> tuple[Patients, Patients, npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    """All patients as the encoder and as the floor read them, the positions of those with labels, and the labels."""
    source = read_source(source_toml)
    patients = load_patients(source, data)
    raw = floor_patients(source, patients, data)
    index, values = table.align(patients)
    if len(index) < 2:
        raise DataError(
            "fewer than two patients of the source have labels",
            field="labels",
            limit=2,
            remedy="use the same patient ids in the label file and in the source",
        )
    return patients, raw, index, values


def _areas(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.int8]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(area) else float(area) for area in auroc(scores, truth))


def _mean(areas: tuple[float | None, ...]) -> float | None:
    known = [area for area in areas if area is not None]
    return sum(known) / len(known) if known else None


def _number(area: float | None) -> str:
    return " -   " if area is None else f"{area:.3f}"
