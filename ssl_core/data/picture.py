"""Step 1 of 12: one decoded picture to one record of the study, by the plan's constants and this picture alone.

Comes in: a grey picture, real [h, w], in the units of its modality. Goes out: float32 [pixels] as `images.standardise` makes
them, or a `Fault`. In this order: values are bounded by the plan's window, a picture whose bright means dark is inverted, it
is brought to the plan's size, pooled and standardised. Resampling is Pillow's on float32: means over areas where a side
shrinks, between neighbours (bilinear) where it grows. A colour is grey by the weights of ITU-R BT.601, 0.299, 0.587, 0.114.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.data.images import bounded, standardise
from ssl_core.data.reading import Fault
from ssl_core.data.rows import Values
from ssl_core.spec.data import ImageData

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]

_LUMA = (0.299, 0.587, 0.114)


def to_record(picture: Pixels, data: ImageData, *, inverted: bool = False) -> Values | Fault:
    """The record of one picture; see the module docstring. inverted: its greatest value is black."""
    if picture.ndim != 2 or 0 in picture.shape:
        return Fault.SHAPE
    if picture.shape != data.shape and data.fit == "exact":
        return Fault.SHAPE
    (grey,), (broken,) = bounded(picture[None].astype(np.float64), data)
    if broken:
        return Fault.NOT_FINITE
    if grey.min() == grey.max():
        # Asked before a dark border could give it a contrast that it has not.
        return Fault.BLANK
    if inverted:
        # Within the window it must stay; without one, what is added is taken off again when the picture is standardised.
        grey = (sum(data.window) if data.window is not None else 0.0) - grey
    record, _, (blank,) = standardise(_fitted(grey, data)[None], data)
    return Fault.BLANK if blank else record[0]


def luma(colours: Pixels) -> Floats:
    """Colours [h, w, 3 or more] to grey [h, w], in their own units; float32 for whole numbers of 8 and 16 bits."""
    kind = np.float32 if colours.dtype.kind in "ui" and colours.dtype.itemsize <= 2 else np.float64
    grey = np.zeros(colours.shape[:2], kind)
    # One colour after another: a float copy of all of them would be three times as large.
    for channel, weight in enumerate(_LUMA):
        grey += np.multiply(colours[..., channel], weight, dtype=kind)
    return grey


def evenly(first: int, count: int, wanted: int) -> list[int]:
    """The places of at most `wanted` of `count` things from `first` on, evenly spaced, away from both ends."""
    if count <= wanted:
        return list(range(first, first + count))
    return [first + (2 * number + 1) * count // (2 * wanted) for number in range(wanted)]


def _fitted(grey: npt.NDArray[np.float64], data: ImageData) -> Floats:
    """A picture of any size to [height, width]."""
    height, width = grey.shape
    if (height, width) == data.shape:
        return grey
    if data.fit == "stretch":
        return _resized(grey, (0.0, 0.0, width, height), data.shape)
    wider = width * data.height > height * data.width
    if data.fit == "crop":
        kept_width = height * data.width / data.height if wider else width
        kept_height = height if wider else width * data.height / data.width
        left, top = (width - kept_width) / 2, (height - kept_height) / 2
        return _resized(grey, (left, top, left + kept_width, top + kept_height), data.shape)
    inner_width = data.width if wider else max(1, round(width * data.height / height))
    inner_height = max(1, round(height * data.width / width)) if wider else data.height
    dark = data.window[0] if data.window is not None else grey.min()
    out = np.full(data.shape, dark, np.float32)
    top, left = (data.height - inner_height) // 2, (data.width - inner_width) // 2
    out[top : top + inner_height, left : left + inner_width] = _resized(
        grey, (0.0, 0.0, width, height), (inner_height, inner_width)
    )
    return out


def _resized(
    grey: npt.NDArray[np.float64], box: tuple[float, float, float, float], size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """The part `box` (left, top, right, bottom) of a picture at another `size` (height, width)."""
    from PIL import Image

    left, top, right, bottom = box
    height, width = size
    picture = Image.fromarray(grey.astype(np.float32))
    # One side after the other, for a picture may shrink in one and grow in the other.
    for target, part, shrinks in (
        ((width, grey.shape[0]), (left, 0.0, right, grey.shape[0]), right - left > width),
        ((width, height), (0.0, top, width, bottom), bottom - top > height),
    ):
        filtering = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        picture = picture.resize(target, filtering, box=part)
    return np.asarray(picture, np.float32)
