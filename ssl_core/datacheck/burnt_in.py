"""Step 1 of 12: does a picture look as if text were burnt into its pixels?

Comes in: a picture, real [height, width]. Goes out: how many lines of text its border seems to hold. Text is many small
strokes of full contrast, of one height, side by side: connected components (scipy.ndimage.label) among the brightest, or the
darkest, pixels, in the outer quarter, four or more in a row with gaps of no more than their height. A heuristic: it misses
faint, large, handwritten or tiny text, and text over the middle; a ruler or a grid may be taken for text. A person must look.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEAST_SIDE = 96
_BORDER = 0.25
_CONTRAST = 0.35
_LEAST_LETTERS = 4
_Boxes = npt.NDArray[np.int64]


def text_lines(picture: npt.NDArray[np.generic]) -> int:
    """Lines that look like text; 0 for a picture with a side below `LEAST_SIDE`, where letters cannot be told."""
    values = np.asarray(picture, np.float64)
    if values.ndim != 2 or min(values.shape) < LEAST_SIDE or not np.isfinite(values).all():
        return 0
    # Percentiles would not do: a few white letters on a dark film are less than any share of its pixels.
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return 0
    scaled = (values - low) / (high - low)
    return max(_lines(scaled), _lines(1.0 - scaled))


def _lines(scaled: npt.NDArray[np.float64]) -> int:
    from scipy import ndimage

    height, width = scaled.shape
    marks, count = ndimage.label(scaled > 0.85, structure=np.ones((3, 3), np.int64))
    if not count or count > height * width // 40:
        return 0
    boxes = []
    for number, place in enumerate(ndimage.find_objects(marks), start=1):
        rows, columns = place
        tall, wide = rows.stop - rows.start, columns.stop - columns.start
        if not 6 <= tall <= max(8, height // 12) or wide > 2 * tall:
            continue
        if not _in_border(rows, columns, height, width):
            continue
        around = scaled[max(0, rows.start - 2) : rows.stop + 2, max(0, columns.start - 2) : columns.stop + 2]
        own = marks[place] == number
        # A stroke stands out from what is around it, and does not fill its box as a blob does.
        if 1.0 - float(np.median(around)) < _CONTRAST and own.mean() > 0.9:
            continue
        if own.mean() > 0.85 and wide > tall / 2:
            continue
        boxes.append((rows.start, rows.stop, columns.start, columns.stop))
    return _rows_of(np.array(boxes, np.int64).reshape(-1, 4))


def _in_border(rows: slice, columns: slice, height: int, width: int) -> bool:
    middle_row, middle_column = (rows.start + rows.stop) / 2 / height, (columns.start + columns.stop) / 2 / width
    return not (_BORDER < middle_row < 1 - _BORDER and _BORDER < middle_column < 1 - _BORDER)


def _rows_of(boxes: _Boxes) -> int:
    """Runs of at least four boxes of like height on one line."""
    left = boxes[np.argsort(boxes[:, 2], kind="stable")]
    free = np.ones(len(left), np.bool_)
    lines = 0
    for start in range(len(left)):
        if not free[start]:
            continue
        run = [start]
        for other in range(start + 1, len(left)):
            if free[other] and _follows(left[run[-1]], left[other]):
                run.append(other)
        if len(run) >= _LEAST_LETTERS:
            free[run] = False
            lines += 1
    return lines


def _follows(one: _Boxes, two: _Boxes) -> bool:
    """Is `two` the letter after `one`?"""
    tall, other = int(one[1] - one[0]), int(two[1] - two[0])
    same_line = min(one[1], two[1]) - max(one[0], two[0]) >= 0.6 * min(tall, other)
    like = max(tall, other) <= 1.6 * min(tall, other)
    return bool(same_line and like and 0 <= two[2] - one[3] <= 1.2 * max(tall, other))
