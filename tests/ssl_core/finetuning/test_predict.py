"""`choral embed` of a fine-tuned model: its scores of files, against the report's and scikit-learn's; what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tests_commands import refused, run

from ssl_core.card import read_encoder
from ssl_core.data.labels import read_labels
from ssl_core.data.record_units import patient_of, record_key, record_of
from ssl_core.data.source import load_patients, load_records, read_source
from ssl_core.errors import ConfigError
from ssl_core.finetuning.model import load_site_model
from ssl_core.finetuning.outcome import Columns, finetune_outcome
from ssl_core.finetuning.predict import predict
from ssl_core.finetuning.run import finetune


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("method", ["probe", "full"])
def test_the_file_holds_what_the_report_was_made_of(tmp_path: Path, kind: str, method: Any, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", kind))
    source, labels = small.write_site(tmp_path / "pool", kind, patients=40, seed=1)
    fresh, truth = small.write_site(tmp_path / "fresh", kind, patients=30, seed=2, name="f")
    report = finetune(encoder, source, labels, tmp_path / "model", method=method, test_source=fresh, test_labels=truth)
    out = tmp_path / "scores.csv"
    told = run("embed", tmp_path / "model", "--source", fresh, "--out", out, "--json")
    assert told.exit_code == 0, told.output
    rows = rows_of(out)
    assert list(rows[0]) == ["patient", "heart", "lung"] and out.stat().st_mode & 0o777 == 0o600
    said = json.loads(told.stdout)
    assert (said["rows"], said["patients"], said["without_score"], said["columns"]) == (30, 30, 0, ["heart", "lung"])
    assert "no probability" in said["meaning"] and "do not share" in said["notice"]
    table = read_labels(truth)
    known = dict(zip(table.units, table.values, strict=True))
    areas = [roc_auc_score([known[row["patient"]][k] for row in rows], [float(row[n]) for row in rows]) for k, n in
             enumerate(table.names)]  # fmt: skip
    assert report.auroc == pytest.approx(areas, abs=1e-12)
    assert not any(row["patient"] in told.output for row in rows)


def test_classes_have_a_column_of_the_highest_score(tmp_path: Path, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "text"))
    source, labels = small.write_site(tmp_path / "pool", "text", patients=40, seed=1)
    table = read_labels(labels)
    classes = tmp_path / "classes.csv"
    for names, column in ((("none", "one", "two"), True), (("none", "one", "one"), False)):
        rows = "".join(f"{u},{names[v.sum()]}\n" for u, v in zip(table.units, table.values, strict=True))
        classes.write_text("patient,kind\n" + rows)
        model, out = tmp_path / f"model-{column}", tmp_path / f"{column}.csv"
        finetune(encoder, source, classes, model, class_column="kind")
        predict(model, source, out)
        for row in rows_of(out):
            scores = {name: float(value) for name, value in row.items() if name in names}
            assert ("class" in row) == column
            assert not column or row["class"] == max(scores, key=lambda name: scores[name])


def test_a_model_of_records_scores_records(tmp_path: Path, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "event-transformer"))
    source, labels = small.write_site(tmp_path / "pool", "event-transformer", patients=30, seed=1)
    units = load_records(read_source(source), encoder.card.plan.data).units
    known = {row["patient"]: row for row in rows_of(labels)}
    with labels.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["patient", "stay", "heart"], *([patient_of(u), record_of(u), known[patient_of(u)]["heart"]] for u in units)]
        )
    finetune(encoder, source, labels, tmp_path / "model", record_column="stay")
    told = predict(tmp_path / "model", source, tmp_path / "scores.csv")
    rows = rows_of(tmp_path / "scores.csv")
    assert [record_key(row["patient"], row["record"]) for row in rows] == list(units)
    assert (told.unit, told.rows, told.patients) == ("record", len(units), 30) and told.rows > told.patients
    assert f"{told.rows} records of 30 patients" in told.to_text()


@pytest.mark.parametrize("outcome", ["numbers", "survival"])
def test_outcomes_say_what_their_scores_are(tmp_path: Path, small: Any, outcome: str) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "text"))
    source, labels = small.write_site(tmp_path / "pool", "text", patients=40, seed=1)
    table = read_labels(labels)
    values = tmp_path / "values.csv"
    rows = [
        f"{u},{1 + 5 * v[0] + v[1] + n / 50},{n % 2}" for n, (u, v) in enumerate(zip(table.units, table.values, strict=True))
    ]
    values.write_text("\n".join(["patient,days,died", *rows]) + "\n")
    columns = Columns(values=("days",)) if outcome == "numbers" else Columns(time="days", event="died")
    finetune_outcome(encoder, source, values, tmp_path / "model", columns)
    told = predict(tmp_path / "model", source, tmp_path / "scores.csv")
    assert told.columns == (("days",) if outcome == "numbers" else ("days, died",))
    assert {"numbers": "the estimate, in the units", "survival": "log of the relative risk"}[outcome] in told.to_text()
    model = load_site_model(tmp_path / "model")
    expected = model.scores(load_patients(read_source(source), model.card.encoder.plan.data))[:, 0]
    np.testing.assert_array_equal([float(row[told.columns[0]]) for row in rows_of(tmp_path / "scores.csv")], expected)


def test_a_patient_without_a_good_record_has_no_score(tmp_path: Path, kind: str, small: Any) -> None:
    """What stands in a bad record's place would be scored as if it were a patient."""
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", kind))
    source, labels = small.write_site(tmp_path / "pool", kind, patients=30, seed=1)
    finetune(encoder, source, labels, tmp_path / "model")
    small.spoil(source, "p003")
    out = tmp_path / "scores.csv"
    refused(run("embed", tmp_path / "model", "--source", source, "--out", out), "more records are bad", "max_bad_share")
    assert list(tmp_path.glob("*scores*")) == []
    source.write_text("max_bad_share = 0.5\n" + source.read_text())
    told = predict(tmp_path / "model", source, out)
    rows = {row["patient"]: row for row in rows_of(out)}
    assert told.without_score == 1 and "1 of them have no good record" in told.to_text()
    assert [patient for patient, row in rows.items() if row["heart"] == ""] == ["p003"]
    assert all(row["lung"] for patient, row in rows.items() if patient != "p003")


def test_bad_records_of_a_patient_who_has_good_ones_change_no_score_fit_or_test(tmp_path: Path, kind: str, small: Any) -> None:
    """A patient's features are a mean over his records: padding among them would be the records of nobody."""
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", kind))
    source, labels = small.write_site(tmp_path / "pool", kind, patients=30, seed=1)
    fresh, truth = small.write_site(tmp_path / "fresh", kind, patients=20, seed=2, name="f")
    found = []
    for turn in ("good", "bad"):
        report = finetune(encoder, source, labels, tmp_path / turn, test_source=fresh, test_labels=truth)
        predict(tmp_path / turn, fresh, tmp_path / f"{turn}.csv")
        floor = pytest.approx(report.floor_auroc, abs=1e-12)
        found.append(((tmp_path / f"{turn}.csv").read_text(), report.auroc, floor))
        for spoilt, patient in ((source, "p003"), (fresh, "f003")):
            small.spoil(spoilt, patient, added=True)
            spoilt.write_text("max_bad_share = 0.5\n" + spoilt.read_text().replace("max_bad_share = 0.5\n", ""))
    assert found[0][:2] == found[1][:2] and report.floor_auroc == found[0][2]


def test_bad_records_beside_good_ones_are_told(tmp_path: Path, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "text"))
    source, labels = small.write_site(tmp_path / "pool", "text", patients=30, seed=1)
    finetune(encoder, source, labels, tmp_path / "model")
    table = tmp_path / "ward" / "ward.csv"
    table.parent.mkdir()
    form = 'kind = "table"\nformat = "csv"\npath = "ward.csv"\npatient_column = "patient"\ntext_column = "text"\n'
    (table.parent / "source.toml").write_text(form + "max_bad_share = 0.9\n")
    table.write_text("patient,text\na,heart is large\na,\nb,\n")
    told = predict(tmp_path / "model", table.parent / "source.toml", tmp_path / "scores.csv")
    assert (told.without_score, told.left_out) == (1, 1) and "1 bad records of the others are left out" in told.to_text()
    table.write_text("patient,text\na,heart is large\n")
    whole = predict(tmp_path / "model", table.parent / "source.toml", tmp_path / "whole.csv")
    assert whole.left_out == 0 and "left out" not in whole.to_text()
    both = (rows_of(tmp_path / name)[0] for name in ("whole.csv", "scores.csv"))
    assert [float(row["heart"]) for row in both] == pytest.approx([float(rows_of(tmp_path / "whole.csv")[0]["heart"])] * 2)


def test_features_say_which_records_are_bad(tmp_path: Path, kind: str, small: Any) -> None:
    """An encoder has features of nothing, too; nobody may take them for a patient's."""
    encoder = small.make_encoder(tmp_path / "encoder", kind)
    source, _ = small.write_site(tmp_path / "pool", kind, patients=9, seed=1)
    words = "records are bad, and their features those of nothing"
    assert words not in run("embed", encoder, "--source", source, "--out", tmp_path / "all.npz").stdout
    small.spoil(source, "p003")
    source.write_text("max_bad_share = 0.5\n" + source.read_text())
    told = run("embed", encoder, "--source", source, "--out", tmp_path / "spoilt.npz")
    with np.load(tmp_path / "spoilt.npz") as saved:
        assert set(saved["patient"][~saved["good"]].tolist()) == {"p003"}
        assert f"{int((~saved['good']).sum())} of {len(saved['good'])} {words}" in told.stdout


def test_a_model_is_no_encoder_to_fit_on(tmp_path: Path, small: Any) -> None:
    encoder = small.make_encoder(tmp_path / "encoder", "text")
    source, labels = small.write_site(tmp_path / "pool", "text", patients=30, seed=1)
    finetune(read_encoder(encoder), source, labels, tmp_path / "model")
    again = run("finetune", tmp_path / "model", "--source", source, "--labels", labels, "--out", tmp_path / "second")
    refused(again, "a model that choral finetune made, not an encoder", "name the encoder")


def test_what_does_not_fit_is_refused(tmp_path: Path, small: Any) -> None:
    encoder = small.make_encoder(tmp_path / "encoder", "text")
    source, labels = small.write_site(tmp_path / "pool", "text", patients=30, seed=1)
    out = tmp_path / "scores.csv"
    with pytest.raises(ConfigError, match="model card"):
        predict(encoder, source, out)
    with pytest.raises(ConfigError, match="folder holds no model"):
        predict(tmp_path, source, out)
    finetune(read_encoder(encoder), source, labels, tmp_path / "model")
    out.write_text("mine")
    refused(run("embed", tmp_path / "model", "--source", source, "--out", out), "file exists and is not overwritten")
    assert out.read_text() == "mine"
    refused(run("embed", tmp_path / "model", "--source", source, "--out", tmp_path / "o.npz"), "written as csv", "o.npz")
    roster = ("--roster", tmp_path / "roster.json")
    refused(run("embed", tmp_path / "model", "--source", source, "--out", tmp_path / "o.csv", *roster), "nobody signs")
    other, _ = small.write_site(tmp_path / "other", "image", patients=5, seed=1)
    refused(run("embed", tmp_path / "model", "--source", other, "--out", tmp_path / "o.csv"), "another kind")
    classes = tmp_path / "classes.csv"
    names = np.array(["class", "one", "two"])[read_labels(labels).values.sum(axis=1)]
    rows = zip(read_labels(labels).units, names, strict=True)
    classes.write_text("patient,kind\n" + "".join(f"{unit},{name}\n" for unit, name in rows))
    finetune(read_encoder(encoder), source, classes, tmp_path / "named", class_column="kind")
    refused(run("embed", tmp_path / "named", "--source", source, "--out", tmp_path / "n.csv"), "one name", "value: class")
    assert not (tmp_path / "n.csv").exists() and not (tmp_path / "o.csv").exists()
