"""The text floor equals scikit-learn's TF-IDF on the same buckets; pixels pass through; constants come from the pool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import welch
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ssl_core.data.patients import Patients, group
from ssl_core.data.source import load_patients, read_source
from ssl_core.data.words import encode, split, word_codes
from ssl_core.evaluation.floor import BUCKETS, fit_floor, floor_data, floor_patients, log_power, loudness, one_hot
from ssl_core.spec.data import (
    CategoricalColumn,
    ImageData,
    ImageForm,
    NumericColumn,
    PairData,
    SignalData,
    SoundData,
    TableData,
    TextData,
    TextForm,
)

DATA = TextData(kind="text", words=4)


def reports(texts: dict[str, list[str]]) -> Patients:
    owners = [patient for patient, own in texts.items() for _ in own]
    words = [split(text) for own in texts.values() for text in own]
    return group(owners, encode(words, floor_data(DATA)))


POOL = reports({"a": ["heart is large large"], "b": ["no effusion", "heart normal"], "c": ["lung clear"]})
TEST = reports({"x": ["heart clear unseen"], "y": ["effusion", "large lung"], "z": [""]})


def test_equals_scikit_learn() -> None:
    def present(patients: Patients) -> np.ndarray:
        out = np.zeros((len(patients.records), BUCKETS))
        for row, codes in enumerate(patients.records[:, :, 0]):
            out[row, codes[codes >= 0]] = 1
        return out

    reference = TfidfTransformer(smooth_idf=True).fit(present(POOL))
    rows = reference.transform(present(TEST)).toarray()
    expected = [rows[begin:end].mean(axis=0) for begin, end in zip(TEST.offsets[:-1], TEST.offsets[1:], strict=True)]
    np.testing.assert_allclose(fit_floor(POOL, DATA).features(TEST), np.array(expected), atol=1e-12)


def test_the_floor_reads_words_that_the_encoder_does_not() -> None:
    late = reports({"a": ["one two three four five six seven"], "b": ["one two three four"]})
    assert not np.array_equal(*fit_floor(POOL, DATA).features(late))


def test_test_patients_change_no_constant() -> None:
    before = fit_floor(POOL, DATA).features(TEST.take(np.array([0])))
    np.testing.assert_array_equal(before, fit_floor(POOL, DATA).features(TEST)[:1])


def test_images_are_their_own_floor() -> None:
    data = ImageData(kind="image", height=8, width=8)
    assert floor_data(data) is data
    rng = np.random.default_rng(0)
    images = group(["a", "a", "b"], rng.normal(size=(3, 64)).astype(np.float32))
    features = fit_floor(images, data).features(images)
    np.testing.assert_allclose(features[0], images.records[:2].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(features[1], images.records[2], atol=1e-6)


def test_log_power_is_the_mean_of_welchs_spectrum_in_each_band() -> None:
    data = SignalData(kind="signal", channels=2, samples=256, rate_hz=100.0, units=("mV",), typical=(1.0,))
    signals = np.random.default_rng(1).normal(size=(3, 512)).astype(np.float32)
    found = log_power(signals, data).reshape(3, 2, 32)
    wide = signals.reshape(3, 2, 256).astype(np.float64)
    _, power = welch(wide, fs=256, window="boxcar", nperseg=256, detrend="constant", scaling="spectrum")
    expected = np.log(1e-6 + power[:, :, 1:].reshape(3, 2, 32, 4).mean(axis=3))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose((np.exp(found) - 1e-6).sum(axis=2) * 4, wide.var(axis=2), rtol=1e-4)


def test_log_power_knows_no_phase_and_short_signals_have_fewer_bands() -> None:
    data = SignalData(kind="signal", channels=1, samples=9, rate_hz=1.0, units=("bpm",), typical=(20.0,))
    signals = np.random.default_rng(2).normal(size=(4, 9)).astype(np.float32)
    out = log_power(signals, data)
    assert out.shape == (4, 4) and out.dtype == np.float32
    np.testing.assert_allclose(log_power(np.roll(signals, 3, axis=1) + 7, data), out, atol=1e-3)
    np.testing.assert_allclose(log_power(np.zeros((1, 9), np.float32), data), np.log(1e-6), rtol=1e-6)


def test_the_loudness_of_bands_knows_no_time() -> None:
    data = SoundData(kind="sound", rate_hz=1000, seconds=0.288, mels=8, high_hz=500, window=64, hop=32)
    pictures = np.random.default_rng(4).uniform(-1, 1, (5, 8, 8)).astype(np.float32)
    out = loudness(pictures.reshape(5, 64), data)
    assert out.shape == (5, 16) and out.dtype == np.float32
    np.testing.assert_allclose(out, np.hstack([pictures.mean(axis=2), pictures.std(axis=2)]), atol=1e-6)
    np.testing.assert_allclose(loudness(np.roll(pictures, 3, axis=2).reshape(5, 64), data), out, atol=1e-6)


def test_tables_are_standardised_one_hot_columns_as_in_scikit_learn() -> None:
    data = TableData(
        kind="table",
        numeric=(NumericColumn(name="age", typical=1.0), NumericColumn(name="sodium", typical=1.0)),
        categorical=(CategoricalColumn(name="sex", levels=("f", "m")), CategoricalColumn(name="ward", levels=("a",))),
    )
    rng = np.random.default_rng(3)
    codes = np.column_stack([rng.integers(0, count, 200) for count in data.codes])
    rows = np.hstack([rng.normal(size=(200, 2)) * codes[:, :2], codes]).astype(np.float32)
    levels = OneHotEncoder(categories=[range(4), range(3)], sparse_output=False).fit_transform(codes[:, 2:])
    expected = np.hstack([rows[:, :4], levels])
    np.testing.assert_array_equal(one_hot(rows, data), expected)
    owners = [f"p{number // 2:03d}" for number in range(200)]
    pool, test = group(owners[:120], one_hot(rows[:120], data)), group(owners[120:], one_hot(rows[120:], data))
    floor = fit_floor(pool, data)
    scaler = StandardScaler().fit(expected[:120].reshape(60, 2, -1).mean(axis=1))
    wanted = scaler.transform(expected[120:].reshape(40, 2, -1).mean(axis=1)) / np.sqrt(expected.shape[1])
    np.testing.assert_allclose(floor.features(test), wanted, atol=1e-6)
    np.testing.assert_array_equal(floor.features(test.take(np.array([5]))), floor.features(test)[5:6])


def test_pairs_are_their_pixels_beside_their_words_each_of_length_one(tmp_path: Path) -> None:
    data = PairData(kind="pair", image=ImageForm(height=8, width=8), text=TextForm(words=2, buckets=16))
    rng = np.random.default_rng(4)
    image, patient = rng.integers(0, 256, (6, 8, 8)).astype(np.float32), np.array(["a", "a", "b", "b", "c", "d"])
    np.savez(tmp_path / "x.npz", image=image, patient=patient, study=np.arange(6))
    texts = ["one two three", "two", "three three", "one", "four one", "!"]
    lines = [f"{owner},{study},{text}" for study, (owner, text) in enumerate(zip(patient, texts, strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(["patient,study,text", *lines]) + "\n")
    (tmp_path / "source.toml").write_text(
        'kind = "pairs"\nstudy_from = "field"\n[image]\nkind = "npz"\npath = "x.npz"\n[text]\nkind = "table"\n'
        'path = "t.csv"\nformat = "csv"\npatient_column = "patient"\nrecord_column = "study"\ntext_column = "text"\n'
    )
    source = read_source(tmp_path / "source.toml")
    raw = floor_patients(source, load_patients(source, data), data)
    found = fit_floor(raw, data).features(raw)
    assert found.shape == (4, 64 + BUCKETS)
    flat = image.reshape(6, 64).astype(np.float64)
    pixels = flat - flat.mean(axis=1, keepdims=True)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    np.testing.assert_allclose(found[0, :64], pixels[:2].mean(axis=0), atol=1e-6)
    words = fit_floor(raw, data)
    read = [split(text) for text in texts]
    assert words.weight is not None
    places = {word: word_codes(word, 1, BUCKETS)[0] for text in read for word in text}
    # The sixth pair has no word, so it is padding: no image either.
    assert not found[3].any()
    counts = {word: sum(word in text for text in read[:5]) for word in places}
    for word, place in places.items():
        assert words.weight[place] == pytest.approx(np.log(7 / (1 + counts[word])) + 1)
    expected = np.zeros(BUCKETS)
    for text in read[:2]:
        row = np.zeros(BUCKETS)
        row[[places[word] for word in text]] = words.weight[[places[word] for word in text]]
        expected += row / np.linalg.norm(row) / 2
    np.testing.assert_allclose(found[0, 64:], expected, atol=1e-9)
