"""Step 1 of 12: one frame of a DICOM data set to a grey picture in the units of its modality.

Comes in: a data set that pydicom read, and the number of a frame. Goes out: real [rows, columns]: for MONOCHROME1 and 2 the
stored values after rescale slope and intercept or the modality's table (PS3.3, C.11.1), of the frame where the frame has its
own (C.7.6.16.2.9); for colours and palettes their grey in stored units. Raises what pydicom raises for pixels that cannot be
decoded; a photometric interpretation that is no picture's is a `Fault`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_core.data.picture import Pixels, luma
from ssl_core.data.reading import Fault

_GREY = ("MONOCHROME1", "MONOCHROME2")
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


def check_codec(header: Any) -> Fault | None:
    """Can the pixels be decoded with what is installed here?"""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = _syntax(header)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return Fault.CODEC
    if not decoder.is_available:
        return Fault.CODEC
    few_bits = set(decoder.available_plugins) <= {"pillow", "gdcm"}
    # They say that they have this one, and mean its form of 8 bits.
    return Fault.CODEC if few_bits and syntax == _JPEG_EXTENDED and header.get("BitsStored") != 8 else None


def is_inverted(header: Any) -> bool:
    """Does the greatest value mean black?"""
    return bool(header.get("PhotometricInterpretation") == "MONOCHROME1")


def grey_frame(header: Any, place: int) -> Pixels | Fault:
    """Frame `place`, counted from 0; see the module docstring."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    stored: Pixels
    decoder = get_decoder(_syntax(header))
    # A record does not depend on which further decoders a site has installed.
    plugin = next((name for name in ("pydicom", "pillow") if name in decoder.available_plugins), "")
    stored, found = decoder.as_array(header, index=place, decoding_plugin=plugin)
    how = found["photometric_interpretation"]
    if how in _GREY and stored.ndim == 2:
        scaled: Pixels = apply_modality_lut(stored, _scaling(header, place))
        return scaled
    if how == "PALETTE COLOR" and stored.ndim == 2:
        stored = apply_color_lut(stored, header)
    elif how != "RGB":
        return Fault.WRONG_KIND
    return luma(np.asarray(stored))


def _syntax(header: Any) -> str:
    """The transfer syntax; of a file that does not name one, what pydicom found it to be written in."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    named = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    if named:
        return str(named)
    implicit, little = header.original_encoding
    return str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _scaling(header: Any, place: int) -> Any:
    """The data set that says how stored values become units: an item of this frame, of all frames, or the whole."""
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*frames[place : place + 1], *(header.get("SharedFunctionalGroupsSequence") or [])[:1]]
    for group in groups:
        found = group.get("PixelValueTransformationSequence")
        if found:
            return found[0]
    return header
