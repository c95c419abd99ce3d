"""Step 13: `choral finetune` for labels, and `choral embed`, as plain functions on files.

Comes in: a loaded encoder, a source TOML, a label CSV, of patients or of records. Goes out: a model folder and a report, or an
npz of features float32 [records, F] with patient ids. Both stay at the site and say so in themselves (ruling 27). The report
shows the raw floor, fitted on the same labelled patients, beside the model. Raises the errors of the readers, and `DataError`
where labels and source have too few patients in common.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.card import LoadedEncoder
from ssl_core.data.labels import Labels, read_labels
from ssl_core.data.source import load_accepted, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.evaluation.auroc import auroc, balanced_accuracy
from ssl_core.evaluation.draws import draw_labels
from ssl_core.evaluation.floor import fit_floor
from ssl_core.finetuning.good_records import are_good
from ssl_core.finetuning.join import Joined, check_files, join, require_apart
from ssl_core.finetuning.model import NOTICE, FineTuner, Method
from ssl_core.finetuning.probe import fit_ridge
from ssl_core.finetuning.report import FineTuneReport, Scores, counted
from ssl_core.folder import new_file

_LEAST_PATIENTS = 2


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
    record_column: str | None = None,
    seed: int = 0,
) -> FineTuneReport:
    """Fit a model to all labelled patients of the source, or to `labels` of them drawn by `seed`, and save it to `out`.

    `class_column` names a column of classes in the label file; without it all columns but those of ids are 0/1 findings.
    `record_column`: each row of the label file is one record of a patient; the model is fitted to records, the draw and the
    test are by patient.
    """
    check_files(out, test_source, test_labels)
    data = encoder.card.plan.data
    by_record = record_column is not None
    table = read_labels(labels_csv, class_column=class_column, record_column=record_column)
    mine = join(source_toml, data, table.units, by_record=by_record, least=_LEAST_PATIENTS)
    if labels is not None:
        drawn = draw_labels(table.values[mine.rows], labels, count=1, seed=seed, owners=mine.owners())
        mine = mine.of_patients(drawn.index[0])
    values = table.values[mine.rows]
    tuner = FineTuner(encoder, method=method)
    model = tuner.fit(mine.own(), values, table.names, exclusive=table.exclusive, unlabelled=mine.all)
    held: Joined | None = None
    own: Scores = (None,) * len(table.names)
    floor = own
    accuracies: tuple[float | None, float | None] = (None, None)
    if test_source is not None and test_labels is not None:
        test = read_labels(test_labels, class_column=class_column, record_column=record_column, classes=table.classes)
        if test.names != table.names:
            raise DataError("test labels are other labels", field="test_labels", value=test.names, limit=table.names)
        held = join(test_source, data, test.units, by_record=by_record, least=_LEAST_PATIENTS)
        require_apart(mine, held)
        plain = fit_floor(mine.all_raw, data)
        head = fit_ridge(plain.features(mine.raw()), values, owners=mine.owners())
        truth = test.values[held.rows]
        scores = model.scores(held.own()), head.scores(plain.features(held.raw()))
        own, floor = (_areas(each, truth) for each in scores)
        if _has_classes(table):
            accuracies = balanced_accuracy(scores[0], truth), balanced_accuracy(scores[1], truth)
    model.save(out)
    return FineTuneReport(
        folder=str(out), encoder=encoder.card.name, method=method, labels=table.names, auroc=own, floor_auroc=floor,
        accuracy=accuracies[0], floor_accuracy=accuracies[1], **counted(mine, held, by_record=by_record),
    )  # fmt: skip


def embed(encoder: LoadedEncoder, source_toml: Path, out_npz: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Write features float32 [m, F], one row a record, with their patients, to `out_npz` (mode 0600).

    Returns them, and for each row whether its record is good: the features of a bad one are those of nothing.
    """
    if out_npz.suffix != ".npz":
        raise ConfigError("features are written as npz", field="out", value=out_npz.name, remedy="name a file ending in .npz")
    with new_file(out_npz) as stream:
        patients = load_accepted(read_source(source_toml), encoder.card.plan.data)
        features = encoder.model.encoder.features(patients.whole)
        good = are_good(patients.whole, encoder.card.plan.data)
        np.savez(
            stream,
            features=features,
            patient=np.repeat(np.array(patients.units), patients.counts()),
            good=good,
            private=np.array(False),
            notice=np.array(NOTICE),
            encoder=np.array(encoder.card.weights),
        )
    return features, good


def _has_classes(table: Labels) -> bool:
    """Are there three classes or more, of which the highest score tells one?"""
    return table.exclusive and len(table.names) > 1


def _areas(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.int8]) -> Scores:
    return tuple(None if np.isnan(area) else float(area) for area in auroc(scores, truth))
