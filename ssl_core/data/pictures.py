"""Step 1 of 12: one PNG, JPEG or TIFF file to its records, by Pillow; what a file is, its first bytes say, never its name.

Comes in: a path. Goes out: a record of each chosen page (one of a PNG or JPEG), or a fault. Grey values are kept as they are
stored, of 8, 16 or 32 bits or floats; a colour, whether RGB, CMYK or of a palette, is made grey by fixed weights (picture.py)
after what is transparent was laid on black. The orientation that a camera or scanner wrote is applied. Faults: another format
is `WRONG_KIND`; pixels that would take more than `largest` bytes, or more than Pillow's own bound, are `TOO_LARGE`, before any
is decoded; what Pillow cannot decode is `UNREADABLE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_core.data.decoding import Found
from ssl_core.data.picture import Pixels, evenly, luma, to_record
from ssl_core.data.reading import Fault
from ssl_core.data.rows import Values
from ssl_core.spec.data import ImageData

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b"),
}
_GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_BYTES_A_PIXEL = {"1": 1, "L": 1, "P": 1, "LA": 2, "PA": 2, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2, "RGB": 3}


@dataclass(frozen=True, slots=True)
class PictureDecoder:
    """One file to its records; `largest`: bytes that the pixels of a page may take."""

    pages: int
    largest: int
    data: ImageData

    def __call__(self, path: Path) -> Sequence[Found]:
        """The chosen pages of the file, or one fault of the whole."""
        from PIL import Image

        # Opened here, for Pillow would map a file that it opens itself, and turns a mapped TIFF wrongly (13.0.0).
        with path.open("rb") as stream:
            head = stream.read(8)
            found = [name for name, marks in _FORMATS.items() if head.startswith(marks)]
            if not found:
                return [Found(None, "", Fault.WRONG_KIND)]
            try:
                with Image.open(stream, formats=found) as picture:
                    count = getattr(picture, "n_frames", 1) if found == ["TIFF"] else 1
                    # All of one name: records of one name keep the order in which they are given.
                    return [Found(None, "", self._page(picture, place)) for place in evenly(0, count, self.pages)]
            except Image.DecompressionBombError:
                return [Found(None, "", Fault.TOO_LARGE)]

    def _page(self, picture: Image, place: int) -> Values | Fault:
        from PIL.Image import DecompressionBombError

        try:
            if place:
                picture.seek(place)
            if picture.width * picture.height * _BYTES_A_PIXEL.get(picture.mode, 4) > self.largest:
                return Fault.TOO_LARGE
            return to_record(_grey(picture), self.data)
        except (MemoryError, DecompressionBombError):
            return Fault.TOO_LARGE
        except Exception:
            # As for a whole file (decoding.py); its other pages may be well.
            return Fault.UNREADABLE


def _grey(picture: Image) -> Pixels:
    """Grey [h, w] in stored units, upright."""
    from PIL import ImageOps

    # Pillow turns white and black of such pages round itself, but for those of 16 bits.
    inverted = picture.mode.startswith("I;16") and getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in _GREY:
        stored = np.asarray(upright)
        return np.iinfo(np.uint16).max - stored if inverted else stored
    if upright.mode in ("RGB", "CMYK", "YCbCr", "HSV") and "transparency" not in upright.info:
        return luma(np.asarray(upright.convert("RGB")))
    colours = np.asarray(upright.convert("RGBA"))
    return luma(colours) * (colours[..., 3].astype(np.float32) / 255)
