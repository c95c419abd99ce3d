"""What the plan says of images: window, fit, and that a plan which says neither keeps its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from ssl_core.config import parse
from ssl_core.data.check import inspect_source
from ssl_core.data.images import standardise
from ssl_core.data.picture import evenly, luma, to_record
from ssl_core.data.reading import Fault
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import ImageData
from ssl_core.trust.envelope import canonical, digest

Fit = Literal["exact", "stretch", "pad", "crop"]


def image(fit: Fit = "exact", window: tuple[float, float] | None = None) -> ImageData:
    return ImageData(kind="image", height=8, width=12, fit=fit, window=window)


def drawn(height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint16)


def standard(picture: Any) -> np.ndarray:
    picture = np.asarray(picture, np.float64)
    return ((picture - picture.mean()) / picture.std()).ravel()


def record(picture: Any, data: ImageData, **how: bool) -> np.ndarray:
    made = to_record(np.asarray(picture), data, **how)
    assert isinstance(made, np.ndarray) and made.dtype == np.float32 and made.shape == (96,)
    return made


def test_a_plan_that_says_nothing_new_has_the_bytes_of_before() -> None:
    body = {"kind": "image", "height": 64, "width": 64, "pool": 2, "records_per_patient": 1}
    data = parse(ImageData, body, "plan")
    assert canonical(data.model_dump(mode="json")) == canonical(body)
    assert data == parse(ImageData, body | {"fit": "exact", "window": None}, "plan")
    said = parse(ImageData, body | {"fit": "pad", "window": [-1000, 400]}, "plan")
    dumped = said.model_dump(mode="json")
    assert dumped == body | {"fit": "pad", "window": [-1000, 400]} and parse(ImageData, dumped, "plan") == said
    assert digest(canonical(dumped)) != digest(canonical(body))


@pytest.mark.parametrize(
    "bad", [{"fit": "squeeze"}, {"window": [1, 1]}, {"window": [2, 1]}, {"window": [0, 2e9]}, {"window": [0]}, {"window": 3}]
)
def test_what_the_plan_cannot_mean_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        parse(ImageData, {"kind": "image", "height": 8, "width": 8} | bad, "plan")


def test_values_are_bounded_by_the_window_before_all_else() -> None:
    picture = drawn(8, 12).astype(np.float64) * 20 - 1500
    assert np.allclose(record(picture, image(window=(-1000.0, 400.0))), standard(np.clip(picture, -1000, 400)), atol=1e-5)
    picture[0, 0] = 1e300
    assert to_record(picture, image()) is Fault.NOT_FINITE
    assert np.isfinite(record(picture, image(window=(0.0, 1.0)))).all()
    picture[0, 0] = np.inf
    assert to_record(picture, image(window=(0.0, 1.0))) is Fault.NOT_FINITE
    assert to_record(np.full((8, 12), 5000), image(window=(0.0, 1.0))) is Fault.BLANK


def test_a_picture_whose_bright_is_dark_is_inverted_within_the_window() -> None:
    picture = drawn(8, 12)
    assert np.allclose(record(picture, image(), inverted=True), -standard(picture), atol=1e-5)
    windowed = image(window=(50.0, 90.0))
    assert np.allclose(record(picture, windowed, inverted=True), -standard(np.clip(picture, 50, 90)), atol=1e-5)
    # The border of an inverted picture is as dark as its own darkest.
    wide = drawn(8, 24)
    padded = record(wide, image("pad"), inverted=True).reshape(8, 12)
    assert np.allclose(padded[:2], padded.min()) and np.allclose(padded[6:], padded.min())


def test_exact_takes_no_other_size_and_every_fit_leaves_the_right_one_alone() -> None:
    for fit in ("exact", "stretch", "pad", "crop"):
        assert record(drawn(8, 12), image(fit)).tobytes() == record(drawn(8, 12), image()).tobytes()
    assert to_record(drawn(12, 8), image()) is Fault.SHAPE
    assert to_record(np.zeros((0, 5)), image("pad")) is Fault.SHAPE and to_record(np.zeros(5), image("pad")) is Fault.SHAPE


def test_a_side_that_shrinks_is_averaged_and_one_that_grows_is_between_its_neighbours() -> None:
    picture = drawn(24, 12)
    means = picture.reshape(8, 3, 12).mean(axis=1)
    assert np.allclose(record(picture, image("stretch")), standard(means), atol=1e-5)
    # Twice as wide: each pixel is a quarter its neighbour's and three quarters its own.
    picture = drawn(16, 6)
    means = picture.reshape(8, 2, 6).mean(axis=1)
    beside = np.pad(means, ((0, 0), (1, 1)), mode="edge")
    wide = np.stack([0.25 * beside[:, :-2] + 0.75 * means, 0.25 * beside[:, 2:] + 0.75 * means], axis=2).reshape(8, 12)
    assert np.allclose(record(picture, image("stretch")), standard(wide), atol=1e-5)


def test_pad_keeps_all_and_crop_the_middle() -> None:
    picture = drawn(16, 48) + 7
    small = picture.reshape(4, 4, 12, 4).mean(axis=(1, 3))
    framed = np.full((8, 12), float(picture.min()))
    framed[2:6] = small
    assert np.allclose(record(picture, image("pad")), standard(framed), atol=1e-5)
    framed = np.full((8, 12), 3.0)
    framed[2:6] = small
    assert np.allclose(record(picture, image("pad", (3.0, 400.0))), standard(framed), atol=1e-5)
    middle = picture[:, 12:36].reshape(8, 2, 12, 2).mean(axis=(1, 3))
    assert np.allclose(record(picture, image("crop")), standard(middle), atol=1e-5)
    tall = drawn(64, 24)
    assert np.allclose(record(tall, image("crop")), standard(tall[24:40].reshape(8, 2, 12, 2).mean(axis=(1, 3))), atol=1e-5)
    framed = np.full((8, 12), float(tall.min()))
    framed[:, 4:7] = tall.reshape(8, 8, 3, 8).mean(axis=(1, 3))
    assert np.allclose(record(tall, image("pad")), standard(framed), atol=1e-5)
    for fit in ("stretch", "pad", "crop"):
        # A border gives no contrast to a picture that has none.
        assert to_record(np.full((30, 9), 200), image(fit, (0.0, 400.0))) is Fault.BLANK
        for shape in ((1, 5000), (5000, 1), (1, 2), (8, 13)):
            assert np.isfinite(record(drawn(*shape), image(fit, (0.0, 255.0)))).all()


def test_what_becomes_of_a_picture_depends_on_it_alone() -> None:
    pictures = np.stack([drawn(8, 12, seed) for seed in range(3)])
    data = image(window=(20.0, 200.0))
    rows, broken, blank = standardise(pictures, data)
    assert not broken.any() and not blank.any()
    for picture, row in zip(pictures, rows, strict=True):
        assert record(picture, data).tobytes() == row.tobytes()


def test_greys_of_colours_and_even_places() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (5, 6, 4)).astype(np.uint8)
    expected = colours[..., :3] @ np.array([0.299, 0.587, 0.114])
    assert np.allclose(luma(colours), expected, rtol=1e-6) and luma(colours).dtype == np.float32
    assert np.allclose(luma(colours.astype(np.uint32) << 24), expected * 2.0**24, rtol=1e-12)
    assert evenly(0, 3, 8) == [0, 1, 2] and evenly(5, 10, 2) == [7, 12] and evenly(0, 9, 1) == [4]
    for count in range(1, 40):
        for wanted in range(1, 12):
            places = evenly(3, count, wanted)
            assert len(set(places)) == min(count, wanted) and 3 <= min(places) and max(places) < 3 + count


def test_an_array_of_images_keeps_the_window_and_its_size(tmp_path: Path) -> None:
    images = np.stack([drawn(8, 12, seed) for seed in range(2)])
    np.savez(tmp_path / "x.npz", image=images, patient=np.array(["a", "b"]))
    (tmp_path / "source.toml").write_text('kind = "npz"\npath = "x.npz"\n', encoding="utf-8")
    source = read_source(tmp_path / "source.toml")
    data = image("pad", (20.0, 200.0))
    assert np.allclose(load_patients(source, data).records[1], standard(np.clip(images[1], 20, 200)), atol=1e-5)
    other = data.model_copy(update={"height": 9})
    with pytest.raises(DataError, match="fit is for folders of pictures"):
        inspect_source(source, other)
