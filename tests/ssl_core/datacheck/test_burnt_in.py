"""Text in pixels: drawn letters are found, films without letters are not."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ssl_core.datacheck.burnt_in import text_lines

_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def film(side: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(draw.normal(size=(side, side)), side / 12)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.clip(20 + 150 * smooth + draw.normal(0, 4, (side, side)), 0, 255).astype(np.uint8)


def write_on(pixels: np.ndarray, place: tuple[int, int], fill: int = 255, size: int = 16) -> np.ndarray:
    picture = Image.fromarray(pixels)
    ImageDraw.Draw(picture).text(place, "DOE JANE 1961", fill=fill, font=ImageFont.truetype(_FONT, size))
    return np.asarray(picture)


@pytest.mark.parametrize("side", [256, 512])
@pytest.mark.parametrize("corner", ["top", "bottom"])
def test_letters_in_the_border_are_found(side: int, corner: str) -> None:
    pixels = write_on(film(side, 1), (8, 8 if corner == "top" else side - 34))
    assert text_lines(pixels) >= 1
    assert text_lines(255 - pixels) >= 1
    assert text_lines(film(side, 1)) == 0


def test_letters_in_the_middle_are_not_looked_for_and_small_or_broken_pictures_give_none() -> None:
    assert text_lines(write_on(film(512, 2), (200, 250))) == 0
    assert text_lines(np.zeros((256, 256))) == 0
    assert text_lines(np.full((256, 256), np.nan)) == 0
    assert text_lines(write_on(film(128, 3), (4, 4))[:64]) == 0
    assert text_lines(np.zeros((256, 256, 3))) == 0


def test_noise_is_no_text() -> None:
    assert text_lines(np.random.default_rng(4).integers(0, 256, (256, 256))) == 0


def test_an_ultrasound_with_text_and_scans_without() -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    def lines(name: str) -> int:
        array = pydicom.dcmread(get_testdata_file(name)).pixel_array.astype(float)
        return text_lines(array.mean(axis=-1) if array.ndim == 3 else array)

    assert lines("examples_rgb_color.dcm") > 0
    assert lines("CT_small.dcm") == 0 and lines("MR-SIEMENS-DICOM-WithOverlays.dcm") == 0
