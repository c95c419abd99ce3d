"""The text floor equals scikit-learn's TF-IDF on the same buckets; pixels pass through; constants come from the pool."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import TfidfTransformer

from ssl_core.config import ImageData, TextData
from ssl_core.data.patients import Patients, group
from ssl_core.data.words import encode, split
from ssl_core.evaluation.floor import BUCKETS, fit_floor, floor_data

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
    np.testing.assert_allclose(fit_floor(POOL).features(TEST), np.array(expected), atol=1e-12)


def test_the_floor_reads_words_that_the_encoder_does_not() -> None:
    late = reports({"a": ["one two three four five six seven"], "b": ["one two three four"]})
    assert not np.array_equal(*fit_floor(POOL).features(late))


def test_test_patients_change_no_constant() -> None:
    before = fit_floor(POOL).features(TEST.take(np.array([0])))
    np.testing.assert_array_equal(before, fit_floor(POOL).features(TEST)[:1])


def test_images_are_their_own_floor() -> None:
    data = ImageData(kind="image", height=8, width=8)
    assert floor_data(data) is data
    rng = np.random.default_rng(0)
    images = group(["a", "a", "b"], rng.normal(size=(3, 64)).astype(np.float32))
    features = fit_floor(images).features(images)
    np.testing.assert_allclose(features[0], images.records[:2].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(features[1], images.records[2], atol=1e-6)
