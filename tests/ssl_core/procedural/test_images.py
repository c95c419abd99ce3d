"""Generated images: the same bytes of a seed, what a study's images are, and the look that was asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ssl_core.data.patients import group
from ssl_core.procedural.images import BLOCK, procedural_images
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=32, width=32)


def made(count: int = 512, seed: int = 3) -> npt.NDArray[np.float32]:
    return procedural_images(seed, count, DATA).reshape(count, 32, 32)


def test_the_same_seed_gives_the_same_bytes_and_the_first_images_do_not_depend_on_how_many_are_asked_for() -> None:
    few, many = procedural_images(5, BLOCK + 1, DATA), procedural_images(5, 3 * BLOCK, DATA)
    assert few.tobytes() == many[: BLOCK + 1].tobytes() == procedural_images(5, BLOCK + 1, DATA).tobytes()
    assert not np.array_equal(few, procedural_images(6, BLOCK + 1, DATA))
    assert len(np.unique(many, axis=0)) == len(many)


@pytest.mark.parametrize(("height", "width", "pool"), [(64, 48, 2), (8, 8, 1), (30, 57, 1)])
def test_they_are_what_a_reader_gives_of_images_of_this_study(height: int, width: int, pool: int) -> None:
    data = ImageData(kind="image", height=height, width=width, pool=pool)
    images = procedural_images(0, 70, data)
    assert images.shape == (70, data.values) and images.dtype == np.float32
    assert np.isfinite(images).all()
    assert np.abs(images.mean(axis=1)).max() < 1e-5 and np.abs(images.std(axis=1) - 1).max() < 1e-4
    assert len(group([str(number) for number in range(70)], images)) == 70


def slope(images: npt.NDArray[np.floating]) -> float:
    """Exponent of the mean power over frequency; about -2 of photographs (Field 1987), 0 of white noise."""
    power = (np.abs(np.fft.fft2(images)) ** 2).mean(axis=0)
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32)[None, :])
    inside = (frequency > 0) & (frequency < 0.5)
    return float(np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0])


def test_their_power_falls_with_frequency_as_of_photographs_and_that_of_white_noise_does_not() -> None:
    assert -3.0 < slope(made()) < -1.5
    assert abs(slope(np.random.default_rng(0).normal(size=(512, 32, 32)))) < 0.1


def alike(left: npt.NDArray[np.floating], right: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Correlation of each picture with its partner, [m]."""
    a, b = (half.reshape(len(half), -1) - half.reshape(len(half), -1).mean(axis=1, keepdims=True) for half in (left, right))
    found: npt.NDArray[np.floating] = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return found


def test_many_are_alike_left_and_right_and_few_above_and_below() -> None:
    images = made()
    sides = alike(images[:, :, :16], images[:, :, :15:-1]) > 0.8
    ends = alike(images[:, :16], images[:, :15:-1]) > 0.8
    assert 0.1 < sides.mean() < 0.5 and ends.mean() < sides.mean() / 2


def test_half_of_them_have_one_body_whose_surroundings_are_even() -> None:
    """The rim of a picture with a body is flat beside its inside."""
    images = made()
    rim = np.concatenate([images[:, 0], images[:, -1]], axis=1).std(axis=1)
    inside = images[:, 8:24, 8:24].std(axis=(1, 2))
    assert 0.2 < (rim < inside / 4).mean() < 0.7
