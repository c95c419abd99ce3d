"""The two towers: features of the image alone, a public map of words that is the same everywhere, directions by plain numpy."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from tests_transformer import randomise

from ssl_core.encoders.two_tower import TwoTower, directions, public_signs
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.spec.data import ImageForm, PairData, TextForm

PAIR = PairData(kind="pair", image=ImageForm(height=16, width=16, pool=2), text=TextForm(words=6, codes=2, buckets=32))


def towers() -> TwoTower:
    return randomise(TwoTower(PAIR, size="nano", patch=4, joint=16))


def test_features_are_those_of_the_image_tower_and_know_nothing_of_the_report() -> None:
    model, records = towers(), synthetic_patients(PAIR, 12).whole.copy()
    out = model.features(records, chunk=5)
    assert out.shape == (len(records), model.feature_width) and out.dtype == np.float32
    alone = VisionTransformer(PAIR.pixels, size="nano", patch=4)
    alone.load_state_dict(model.image.state_dict())
    np.testing.assert_allclose(out, alone.features(records[:, :64]), atol=1e-5)
    records[:, 64:] = records[::-1, 64:]
    np.testing.assert_array_equal(model.features(records), model.features(records))
    np.testing.assert_allclose(model.features(records), out, atol=1e-5)
    np.testing.assert_allclose(model(torch.from_numpy(records)).detach().numpy(), out, atol=1e-5)


def test_the_map_of_words_is_the_same_on_every_machine_and_even() -> None:
    signs = public_signs("words", 64, 16)
    assert set(np.unique(signs)) == {-1.0, 1.0} and signs.dtype == np.float32
    wanted = "50d8a5ca"
    assert hashlib.sha256(signs.astype("<f4").tobytes()).hexdigest()[:8] == wanted
    np.testing.assert_array_equal(towers().signs, signs)
    wide = public_signs("bank", 400, 64)
    assert abs(wide.mean()) < 0.02 and np.abs(wide @ wide.T / 64 - np.eye(400)).max() < 0.7
    assert public_signs("bank", 0, 8).shape == (0, 8)


def test_a_report_lies_where_the_mean_of_its_words_does() -> None:
    model = towers()
    codes = np.full((4, 6, 2), -1, np.int32)
    codes[0, :3] = [[1, 2], [3, 4], [1, 2]]
    codes[1, 0] = [1, 2]
    codes[3, 0] = [3, 4]
    found = model.read(codes)
    words = {word: model.signs[word[0]] + model.signs[32 + word[1]] for word in ((1, 2), (3, 4))}
    mean = (2 * words[1, 2] + words[3, 4]) / 3
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert not found[2].any()
    near = found @ found.T
    assert near[0, 1] > near[0, 3] > near[1, 3] and near[0, 0] == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(directions(np.zeros((2, 3), np.float32)), 0.0)


def test_padding_and_what_no_reader_gives_have_finite_features() -> None:
    model, records = towers(), synthetic_patients(PAIR, 3).whole.copy()
    records[0], records[1, 3] = np.nan, np.inf
    assert np.isfinite(model.features(records)).all()
