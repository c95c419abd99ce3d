"""`finetune` and `embed` on files: what is written, what is marked not to be shared, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ssl_core.card import read_card, read_encoder
from ssl_core.data.labels import read_labels
from ssl_core.data.source import load_patients, read_source
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import ConfigError, DataError, TrustError
from ssl_core.finetuning.model import load_site_model
from ssl_core.finetuning.run import embed, finetune


@pytest.mark.parametrize("method", ["probe", "full"])
def test_finetune_writes_a_model_that_predicts(tmp_path: Path, kind: str, method: Any, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", kind))
    source, labels = small.write_site(tmp_path / "pool", kind, patients=60, seed=1)
    test_source, test_labels = small.write_site(tmp_path / "test", kind, patients=50, seed=2, name="t")
    out = tmp_path / "model"
    report = finetune(encoder, source, labels, out, method=method, labels=40, test_source=test_source, test_labels=test_labels)
    assert report.patients == 40 and report.labels == ("heart", "lung")
    assert report.macro is not None and report.macro > 0.65
    assert report.floor_macro is not None and report.floor_macro > 0.8
    text = report.to_text()
    assert "raw floor" in text and "Do not share" in text
    assert ("does not beat the raw floor" in text) == (report.macro <= report.floor_macro)
    json.dumps(report.to_json())

    card = json.loads((out / "card.json").read_text())
    assert card["private"] is False and "Do not share" in card["notice"]
    assert (out.stat().st_mode & 0o777) == 0o700
    with pytest.raises(ConfigError):
        read_card(out)  # not a release: publish cannot take it for one

    model = load_site_model(out)
    patients = load_patients(read_source(test_source), model.card.encoder.plan.data)
    index, truth = read_labels(test_labels).align(patients)
    scores = model.scores(patients.take(index))
    from sklearn.metrics import roc_auc_score

    assert report.macro == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    start = to_vector(encoder.model.encoder)
    assert np.array_equal(to_vector(model.model.encoder), start) == (method == "probe")


def test_classes(tmp_path: Path, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "text"))
    source, labels = small.write_site(tmp_path / "pool", "text", patients=60, seed=1)
    table = read_labels(labels)
    names = np.array(["none", "one", "two"])[table.values.sum(axis=1)]
    classes = tmp_path / "classes.csv"
    classes.write_text("patient,kind\n" + "".join(f"{unit},{name}\n" for unit, name in zip(table.units, names, strict=True)))
    for method in ("probe", "full"):
        finetune(encoder, source, classes, tmp_path / method, class_column="kind", method=method)
        model = load_site_model(tmp_path / method)
        assert model.card.exclusive and model.card.labels == ("none", "one", "two")
        patients = load_patients(read_source(source), model.card.encoder.plan.data)
        predicted = np.array(model.card.labels)[model.scores(patients).argmax(axis=1)]
        truth = dict(zip(table.units, names, strict=True))
        assert np.mean([truth[unit] == kind for unit, kind in zip(patients.units, predicted, strict=True)]) > 0.6


def test_without_a_test_set_the_report_says_not_tested(tmp_path: Path, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "image"))
    source, labels = small.write_site(tmp_path / "pool", "image", patients=30, seed=1)
    report = finetune(encoder, source, labels, tmp_path / "model")
    assert report.macro is None and "Not tested" in report.to_text() and report.patients == 30


def test_refusals_write_nothing(tmp_path: Path, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "text"))
    source, labels = small.write_site(tmp_path / "pool", "text", patients=30, seed=1)
    other = tmp_path / "other.csv"
    other.write_text("patient,heart\nnobody,1\nno one,0\n")
    same = tmp_path / "same.csv"
    same.write_text("patient,heart\np001,1\np002,1\np003,1\n")
    out = tmp_path / "model"
    with pytest.raises(DataError, match="too few patients"):
        finetune(encoder, source, other, out)
    with pytest.raises(DataError, match="the same for all"):
        finetune(encoder, source, same, out)
    with pytest.raises(DataError, match="budget"):
        finetune(encoder, source, labels, out, labels=31)
    with pytest.raises(DataError, match="to fit on and to test on"):
        finetune(encoder, source, labels, out, test_source=source, test_labels=labels)
    with pytest.raises(ConfigError, match="test needs"):
        finetune(encoder, source, labels, out, test_source=source)
    with pytest.raises(ConfigError, match="method is unknown"):
        finetune(encoder, source, labels, out, method="guess")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["encoder", "other.csv", "pool", "same.csv"]
    finetune(encoder, source, labels, out)
    with pytest.raises(ConfigError, match="not overwritten"):
        finetune(encoder, source, labels, out)


def test_an_edited_model_is_refused(tmp_path: Path, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "text"))
    source, labels = small.write_site(tmp_path / "pool", "text", patients=30, seed=1)
    out = tmp_path / "model"
    finetune(encoder, source, labels, out)
    tensors = load_file(out / "model.safetensors")
    save_file(tensors | {"encoder.table": tensors["encoder.table"] + 1}, out / "model.safetensors")
    with pytest.raises(TrustError, match="not those that the card names"):
        load_site_model(out)
    del tensors["head.bias"]
    save_file(tensors, out / "model.safetensors")
    with pytest.raises(TrustError, match="tensors are not those"):
        load_site_model(out)
    card = json.loads((out / "card.json").read_text())
    (out / "card.json").write_text(json.dumps(card | {"private": True}))
    with pytest.raises(ConfigError):
        load_site_model(out)


def test_embed_writes_features_of_every_record(tmp_path: Path, kind: str, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", kind))
    source, _ = small.write_site(tmp_path / "pool", kind, patients=9, seed=1)
    out = tmp_path / "features.npz"
    features, _ = embed(encoder, source, out)
    patients = load_patients(read_source(source), encoder.card.plan.data)
    with np.load(out) as saved:
        np.testing.assert_array_equal(saved["features"], features)
        assert saved["features"].dtype == np.float32
        assert saved["patient"].tolist() == [
            u for u, n in zip(patients.units, patients.counts(), strict=True) for _ in range(n)
        ]
        assert not saved["private"] and "Do not share" in str(saved["notice"])
    assert out.stat().st_mode & 0o777 == 0o600
    np.testing.assert_array_equal(features, encoder.model.encoder.features(patients.records))
    with pytest.raises(ConfigError, match="not overwritten"):
        embed(encoder, source, out)
    with pytest.raises(ConfigError, match="npz"):
        embed(encoder, source, tmp_path / "features.csv")


def test_more_bad_records_than_the_source_declares_are_refused_and_nothing_is_written(tmp_path: Path, small: Any) -> None:
    """A wrong declaration would fit a model on rows of zeros without a word."""
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "text"))
    source, labels = small.write_site(tmp_path / "pool", "text", patients=30, seed=1)
    (table,) = (path for path in source.parent.glob("*.csv") if path != labels)
    header, first, *lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    declared, patient = source.read_text(encoding="utf-8"), header.rstrip("\n").split(",").index("patient")
    # One record whose text is gone.
    empty = ",".join(cell if place == patient else "" for place, cell in enumerate(first.rstrip("\n").split(","))) + "\n"
    table.write_text(header + empty + "".join(lines), encoding="utf-8")
    share = 1 / (1 + len(lines))
    for allowed, refused in ((0.0, True), (0.99 * share, True), (1.01 * share, False)):
        source.write_text(f"max_bad_share = {allowed}\n{declared}", encoding="utf-8")
        for number, use in enumerate((finetune, embed)):
            out = tmp_path / f"{allowed}-{number}.npz"
            given = (encoder, source, labels, out) if use is finetune else (encoder, source, out)
            if refused:
                with pytest.raises(DataError, match="more records are bad than the source declares"):
                    use(*given)  # type: ignore[operator]
                assert not out.exists()
            else:
                use(*given)  # type: ignore[operator]
