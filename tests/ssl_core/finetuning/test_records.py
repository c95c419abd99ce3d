"""Labels of records, and classes, by the command on folders of PNG files; against scikit-learn, pandas and Pillow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score, mean_squared_error, r2_score, roc_auc_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from tests_commands import refused, run

from ssl_core.card import LoadedEncoder, read_encoder
from ssl_core.data.record_units import owners, patient_of, record_key
from ssl_core.data.source import load_records, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.finetuning.model import FineTuner, load_site_model
from ssl_core.finetuning.outcome import Columns, finetune_outcome
from ssl_core.finetuning.probe import PENALTIES, fit_ridge
from ssl_core.finetuning.run import finetune


def write_folder(folder: Path, patients: int, seed: int, name: str) -> tuple[Path, Path]:
    """A source of PNG files, 2 to 4 a patient, and labels of each by itself; a patient's pictures are alike beside them."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(patients):
        own = draw.integers(60, 180, (8, 8))
        (folder / "x" / f"{name}{number}").mkdir(parents=True)
        for place in range(2 + number % 3):
            heart, lung = draw.integers(0, 2, 2).tolist()
            pixels = own + draw.integers(-25, 26, (8, 8))
            pixels[:4, :4] += 40 * heart
            pixels[4:, 4:] += 40 * lung
            file = f"{name}{number}/{place}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "x" / file)
            size = 10 * heart - 5 * lung + draw.normal()
            rows.append((f"{name}{number}", file, heart, lung, ("none", "one", "two")[heart + lung], round(float(size), 3)))
    table = pd.DataFrame(rows, columns=["patient", "image", "heart", "lung", "kind", "size"])
    table[["patient", "image", "heart", "lung"]].sample(frac=1, random_state=seed).to_csv(folder / "labels.csv", index=False)
    table.to_csv(folder / "all.csv", index=False)
    (folder / "s.toml").write_text('kind = "pictures"\npath = "x"\n', encoding="utf-8")
    return folder / "s.toml", folder / "labels.csv"


def pixels_of(source: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Standardised pixels of every labelled picture by Pillow and numpy, and its row of the table by pandas."""
    table = pd.read_csv(source.with_name("all.csv")).sort_values(["patient", "image"])
    whole = np.stack([np.asarray(Image.open(source.parent / "x" / name), np.float64).ravel() for name in table["image"]])
    return (whole - whole.mean(axis=1, keepdims=True)) / whole.std(axis=1, keepdims=True), table


def reference(fit: np.ndarray, groups: Any, targets: Any, fresh: np.ndarray) -> np.ndarray:
    """Ridge of scikit-learn, its penalty by leaving patients out one by one, column by column; scores of `fresh`."""
    scale = ((fit - fit.mean(axis=0)) ** 2).sum() / len(fit)
    out = []
    for column in np.asarray(targets, np.float64).T:
        left_out = [
            cross_val_predict(Ridge(alpha=p * scale, solver="cholesky"), fit, column, groups=groups, cv=LeaveOneGroupOut())
            for p in PENALTIES
        ]
        best = PENALTIES[int(np.argmin([mean_squared_error(column, told) for told in left_out]))]
        out.append(Ridge(alpha=best * scale, solver="cholesky").fit(fit, column).predict(fresh))
    return np.stack(out, axis=1)


def features_of(encoder: LoadedEncoder, fit: np.ndarray, fresh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of records by the encoder, each column by its mean and deviation over those to fit on."""
    raw, other = (encoder.model.encoder.features(part.astype(np.float32)).astype(np.float64) for part in (fit, fresh))
    spread = raw.std(axis=0)
    scale = np.where(spread > 1e-9, 1 / np.where(spread > 1e-9, spread, 1), 0) / np.sqrt(raw.shape[1])
    return (raw - raw.mean(axis=0)) * scale, (other - raw.mean(axis=0)) * scale


@pytest.fixture
def sites(tmp_path: Path, small: Any) -> Any:
    folder = small.make_encoder(tmp_path / "encoder", "image")
    return folder, *write_folder(tmp_path / "pool", 45, 1, "p"), *write_folder(tmp_path / "test", 30, 2, "t")


def words(sites: Any, *more: object, labels: str = "labels.csv") -> list[object]:
    """The command up to what a test asks of it."""
    encoder, source, _, test, _ = sites
    given = ["--labels", source.with_name(labels), "--test-source", test, "--test-labels", test.with_name(labels)]
    return ["finetune", encoder, "--source", source, *given, "--out", source.parents[1] / "m", *more]


def test_labels_of_records_by_the_command_are_scored_as_by_scikit_learn(tmp_path: Path, sites: Any) -> None:
    told = run(*words(sites, "--record-column", "image", "--json"))
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    fit, table = pixels_of(sites[1])
    fresh, tested = pixels_of(sites[3])
    assert (report["patients"], report["records"], report["labels"]) == (45, len(table), ["heart", "lung"])
    findings = ["heart", "lung"]
    mine, theirs = features_of(read_encoder(sites[0]), fit, fresh)
    for name, (own, other) in {"auroc": (mine, theirs), "floor_auroc": (fit, fresh)}.items():
        scores = reference(own, table["patient"], table[findings], other)
        wanted = [roc_auc_score(tested[finding], scores[:, place]) for place, finding in enumerate(findings)]
        np.testing.assert_allclose(report[name], wanted, atol=1e-6)
    assert report["macro"] == pytest.approx(np.mean(report["auroc"])) and report["floor_macro"] > 0.8

    model = load_site_model(tmp_path / "m")
    assert model.card.unit == "record" and not model.card.private
    records = load_records(read_source(sites[3]), model.card.encoder.plan.data)
    assert records.units == tuple(record_key(*pair) for pair in zip(tested["patient"], tested["image"], strict=True))
    assert roc_auc_score(tested[findings], model.scores(records)) == pytest.approx(report["macro"], abs=1e-9)


def test_the_penalty_is_chosen_by_leaving_out_patients_not_records(sites: Any) -> None:
    """With labels that a patient's own look tells, a record is known by its neighbours: only a left out patient is new."""
    fit, table = pixels_of(sites[1])
    by_patient = (table["patient"].str[1:].astype(int) % 2).to_numpy()[:, None]
    groups = owners(table["patient"].tolist())
    honest, deceived = fit_ridge(fit, by_patient, owners=groups), fit_ridge(fit, by_patient)
    assert honest.loo_error[0] > 0.2 > 0.15 > deceived.loo_error[0] and honest.penalty[0] > deceived.penalty[0]


@pytest.mark.parametrize("method", ["probe", "full"])
def test_a_draw_is_of_patients_with_all_of_their_labelled_records(
    tmp_path: Path, sites: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    seen: list[Any] = []
    honest = FineTuner.fit

    def spy(self: Any, patients: Any, *rest: Any, **more: Any) -> Any:
        seen.append(patients)
        return honest(self, patients, *rest, **more)

    monkeypatch.setattr(FineTuner, "fit", spy)
    table = pd.read_csv(sites[2])
    table[table["image"] != "p7/0.png"].to_csv(sites[2], index=False)
    told = run(*words(sites, "--record-column", "image", "--count", "12", "--method", method, "--json"))
    report = json.loads(told.stdout)
    drawn = set(map(patient_of, seen[0].units))
    labelled = pd.read_csv(sites[2])
    kept = labelled[labelled["patient"].isin(drawn)]
    assert len(drawn) == report["patients"] == 12 and report["records"] == len(kept)
    assert set(seen[0].units) == {record_key(*pair) for pair in zip(kept["patient"], kept["image"], strict=True)}
    assert report["macro"] > 0.5
    refused(run(*words(sites, "--record-column", "image", "--count", "46", "--out", tmp_path / "n")), "budget")


def test_a_patient_is_on_one_side_whatever_his_records_are(tmp_path: Path, sites: Any) -> None:
    encoder, source, labels, _, _ = sites
    table = pd.read_csv(labels)
    first = table["image"].str.endswith("/0.png")
    table[first].to_csv(tmp_path / "a.csv", index=False)
    table[~first].to_csv(tmp_path / "b.csv", index=False)
    loaded = read_encoder(encoder)
    with pytest.raises(DataError, match="to fit on and to test on"):
        finetune(
            loaded, source, tmp_path / "a.csv", tmp_path / "m", test_source=source, test_labels=tmp_path / "b.csv",
            record_column="image",
        )  # fmt: skip
    table[table["patient"] == "p1"].to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(DataError, match=r"too few patients.*limit: 2.*ids of patients and of records"):
        finetune(loaded, source, tmp_path / "one.csv", tmp_path / "m", record_column="image")
    assert not (tmp_path / "m").exists()


def test_what_has_no_partner_is_counted_and_said_without_an_id(tmp_path: Path, sites: Any) -> None:
    encoder, source, labels, _, _ = sites
    table = pd.read_csv(labels).sort_values("image")
    table.loc[table.index[:3], "image"] = [f"SECRET{n}.png" for n in range(3)]
    table = table[~table["patient"].isin(["p30", "p31"])]
    table.to_csv(labels, index=False)
    missing = 3 + 2 + 3
    report = finetune(read_encoder(encoder), source, labels, tmp_path / "m", record_column="image")
    assert (report.match.strangers, report.match.unlabelled, report.test_match) == (3, missing, None)
    said = f"To fit on: 3 labels name no record of the source; {missing} of its records have no label."
    assert said in report.to_text() and "labelled records of 4" in report.to_text()
    assert "SECRET" not in report.to_text() + json.dumps(report.to_json())
    few = table.drop_duplicates("patient")[["patient", "heart"]]
    pd.concat([few, pd.DataFrame({"patient": ["SECRET"], "heart": [1]})]).to_csv(labels, index=False)
    by_patient = finetune(read_encoder(encoder), source, labels, tmp_path / "n")
    assert "To fit on: 1 labels name no patient of the source; 2 of its patients have no label." in by_patient.to_text()


def test_classes_of_patients_by_the_command_are_scored_as_by_scikit_learn(tmp_path: Path, sites: Any) -> None:
    kinds = []
    for source in (sites[1], sites[3]):
        table = pd.read_csv(source.with_name("all.csv")).sort_values("patient")
        heart = table.groupby("patient")["heart"].mean()
        kind = pd.cut(heart, [-1, 0.34, 0.67, 1], labels=["few", "half", "many"]).astype(str)
        kind.rename("kind").reset_index().to_csv(source.with_name("kinds.csv"), index=False)
        kinds.append(kind)
    told = run(*words(sites, "--class-column", "kind", "--json", labels="kinds.csv"))
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    assert report["labels"] == ["few", "half", "many"] and report["records"] is None
    model = load_site_model(tmp_path / "m")
    assert model.card.exclusive and model.card.unit == "patient"
    (fit, rows), (fresh, others) = pixels_of(sites[1]), pixels_of(sites[3])
    one_hot = [pd.get_dummies(kind).to_numpy(np.float64) for kind in kinds]
    for accuracy, areas, parts in (
        ("accuracy", "auroc", tuple(read_encoder(sites[0]).model.encoder.features(x.astype(np.float32)) for x in (fit, fresh))),
        ("floor_accuracy", "floor_auroc", (fit, fresh)),
    ):
        mine, theirs = (
            pd.DataFrame(x).groupby(t["patient"].to_numpy()).mean() for x, t in zip(parts, (rows, others), strict=True)
        )
        if accuracy == "accuracy":
            spread = mine.std(ddof=0)
            mine, theirs = ((each - mine.mean()) / spread / np.sqrt(mine.shape[1]) for each in (mine, theirs))
        scores = reference(mine.to_numpy(), mine.index, one_hot[0], theirs.to_numpy())
        told_classes = np.array(report["labels"])[scores.argmax(axis=1)]
        assert report[accuracy] == pytest.approx(balanced_accuracy_score(kinds[1], told_classes), abs=1e-9)
        wanted = [roc_auc_score(one_hot[1][:, k], scores[:, k]) for k in range(3)]
        np.testing.assert_allclose(report[areas], wanted, atol=1e-6)
    assert (
        "balanced accuracy" in run(*words(sites, "--class-column", "kind", "--out", tmp_path / "n", labels="kinds.csv")).output
    )


def test_a_test_may_lack_a_class_but_not_bring_one(tmp_path: Path, sites: Any) -> None:
    encoder, source, _, test, _ = sites
    mine, theirs = tmp_path / "pool" / "all.csv", tmp_path / "test" / "all.csv"
    table = pd.read_csv(theirs)
    table[table["kind"] != "two"].to_csv(theirs, index=False)
    how: dict[str, Any] = {"class_column": "kind", "record_column": "image", "test_source": test, "test_labels": theirs}
    report = finetune(read_encoder(encoder), source, mine, tmp_path / "m", **how)
    assert report.auroc[2] is None and report.macro is not None and report.accuracy is not None
    table.assign(kind=["SECRET", *table["kind"][1:]]).to_csv(theirs, index=False)
    with pytest.raises(DataError, match="do not have in line 2") as raised:
        finetune(read_encoder(encoder), source, mine, tmp_path / "n", **how)
    assert "SECRET" not in str(raised.value)


def test_numbers_of_records_by_the_command(tmp_path: Path, sites: Any) -> None:
    told = run(*words(sites, "--record-column", "image", "--values", "size", "--json", labels="all.csv"))
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    (fit, table), (fresh, tested) = pixels_of(sites[1]), pixels_of(sites[3])
    size = table["size"].to_numpy()
    for name, parts in {"score": features_of(read_encoder(sites[0]), fit, fresh), "floor": (fit, fresh)}.items():
        scores = reference(parts[0], table["patient"], ((size - size.mean()) / size.std())[:, None], parts[1])
        assert report[name] == [pytest.approx(r2_score(tested["size"], scores[:, 0] * size.std() + size.mean()), abs=1e-6)]
    assert report["records"] == len(table) and load_site_model(tmp_path / "m").card.unit == "record"


def test_what_does_not_go_together_is_refused(tmp_path: Path, sites: Any) -> None:
    with pytest.raises(ConfigError, match="belongs to a patient"):
        Columns(time="size", event="heart", record="image")
    by_record = ("--record-column", "image")
    refused(run(*words(sites, *by_record, "--time", "size", "--event", "heart", labels="all.csv")), "belongs to a patient")
    refused(run(*words(sites, "--class-column", "kind", "--values", "size", labels="all.csv")), "--class-column")
    refused(run(*words(sites)), "names a patient again", "column of records")
    refused(run(*words(sites, "--record-column", "picture")), "'picture'")
    assert not (tmp_path / "m").exists()


def test_texts_by_record_and_a_source_that_names_none(tmp_path: Path, small: Any) -> None:
    """The floor reads texts in a form of its own: record by record too."""
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "text"))
    draw = np.random.default_rng(0)
    rows = [(f"p{n // 2}", f"r{n}", int(draw.integers(2))) for n in range(60)]
    lines = (f"{unit},{record},{'cardio' if heart else 'pulmo'} word{n}" for n, (unit, record, heart) in enumerate(rows))
    (tmp_path / "t.csv").write_text("patient,note,text\n" + "\n".join(lines) + "\n")
    (tmp_path / "l.csv").write_text("patient,note,heart\n" + "".join(f"{u},{r},{h}\n" for u, r, h in rows if u >= "p2"))
    (tmp_path / "k.csv").write_text("patient,note,heart\n" + "".join(f"{u},{r},{h}\n" for u, r, h in rows if u < "p2"))
    text = 'kind = "table"\npath = "t.csv"\nformat = "csv"\npatient_column = "patient"\ntext_column = "text"\n'
    (tmp_path / "s.toml").write_text(text + 'record_column = "note"\n')
    files = tmp_path / "s.toml", tmp_path / "l.csv", tmp_path / "m"
    test = {"test_source": tmp_path / "s.toml", "test_labels": tmp_path / "k.csv"}
    report = finetune(encoder, *files, **test, record_column="note")
    assert report.floor_auroc == (1.0,) and report.records is not None and report.records + report.match.unlabelled == 60
    (tmp_path / "s.toml").write_text(text)
    for refuse in (finetune, lambda *given, **how: finetune_outcome(*given, Columns(values=("heart",), record="note"))):
        with pytest.raises(DataError, match="does not name its records"):
            refuse(encoder, *files[:2], tmp_path / "n", record_column="note")
