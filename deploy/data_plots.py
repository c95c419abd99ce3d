"""One record before and after preparation as PNG data URIs: a picture, or curves over time.

Comes in: `Shown` and the plan's data. Goes out: pairs (caption, data URI). A text, a row of a table and events have none: the
page shows them as words. Pictures are grey, from their least to their greatest value; a sound's stands below its curve, over
the same seconds.
"""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ssl_core.datacheck.shown import Shown
from ssl_core.spec.data import Data, SoundData

_INK, _LINE = "#22303c", "#0b5c50"
_MOST_CHANNELS = 12
_Array = npt.NDArray[np.floating]


def pictures(shown: Shown, data: Data) -> list[tuple[str, str]]:
    """(caption, data URI) before and after; see the module docstring."""
    if data.kind in ("text", "table", "events"):
        return []
    out = []
    before = shown.before
    if isinstance(before, np.ndarray):
        out.append(
            (
                f"As it lies in the file: {_shape(before)}",
                _draw(before, data, picture=data.kind == "image", timed=before.shape == getattr(data, "shape", None)),
            )
        )
    after, picture = _shaped(np.asarray(shown.after, np.float32), data)
    out.append((f"As the study sees it: {_shape(after)}, {_range(after)}", _draw(after, data, picture=picture, timed=True)))
    return out


def _shaped(after: _Array, data: Data) -> tuple[_Array, bool]:
    """A flat record in the form in which it can be drawn, and whether that is a picture or channels of samples."""
    pool = int(getattr(data, "pool", 1))
    for names, shrunk in ((("height", "width"), pool), (("channels", "samples"), 1)):
        sides = [int(getattr(data, name, 0)) // shrunk for name in names]
        if after.size == sides[0] * sides[1]:
            return after.reshape(sides), names[0] == "height"
    return after.reshape(1, -1), False


def _draw(array: _Array, data: Data, *, picture: bool, timed: bool) -> str:
    values = array[None] if array.ndim == 1 else array
    if not picture:
        # A file may have another rate than the study: then its samples are counted.
        return _curves(values, getattr(data, "rate_hz", None) if timed else None)
    return _bands(values, data) if isinstance(data, SoundData) else _picture(values)


def _bands(values: _Array, data: SoundData) -> str:
    """Bands over time, the lowest at the bottom."""
    figure = Figure(figsize=(8.8, 2.6), layout="constrained")
    axes = figure.subplots()
    # Frame k is of the samples k hop to k hop + window: it stands in the middle of them.
    middle = data.window / 2 / data.rate_hz
    half, step = data.hop / 2 / data.rate_hz, data.hop / data.rate_hz
    sides = (middle - half, middle + (values.shape[1] - 1) * step + half, 0.5, len(values) + 0.5)
    axes.imshow(values, cmap="gray", interpolation="nearest", aspect="auto", origin="lower", extent=sides)
    axes.set_xlim(0, data.samples / data.rate_hz)
    axes.set_xlabel("seconds", color=_INK)
    axes.set_ylabel(f"band, {data.low_hz:g} to {data.high_hz:g} Hz", color=_INK)
    return _png(figure)


def _picture(values: _Array) -> str:
    height, width = values.shape
    figure = Figure(figsize=(4.4, max(1.0, 4.4 * height / width)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(values, cmap="gray", interpolation="nearest", aspect="auto")
    axes.axis("off")
    return _png(figure)


def _curves(values: _Array, rate_hz: float | None) -> str:
    rows = values[:_MOST_CHANNELS]
    figure = Figure(figsize=(8.8, 1.1 + 0.9 * len(rows)), layout="constrained")
    seconds = np.arange(rows.shape[1]) / (rate_hz or 1.0)
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for place, (axis, row) in enumerate(zip(axes, rows, strict=True)):
        axis.plot(seconds, row, color=_LINE, linewidth=0.8)
        axis.set_ylabel(f"{place + 1}", color=_INK, rotation=0, labelpad=12)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
    axes[-1].set_xlabel("seconds" if rate_hz else "sample", color=_INK)
    return _png(figure)


def _png(figure: Figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _shape(array: _Array) -> str:
    return " × ".join(str(side) for side in array.shape)


def _range(array: _Array) -> str:
    return f"values from {float(array.min()):.3g} to {float(array.max()):.3g}"
