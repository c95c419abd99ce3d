"""Step 1 of 12: elements of a DICOM header that may tell of a person, at its top and in sequences, in the order of depth.

Comes in: a path, whether the source reads PatientID as the patient's id. Goes out: keywords of elements that are not blank,
each once, never their values; "private tags" for those that no standard names, whatever is in them; "elements outside the
standard" where the number is public, unknown to pydicom, and text stands there. A date or time of zeros alone is blank, as
de-identifying programs write it. Raises what pydicom raises for a damaged file. A file without the preamble is read too, as the
reader does, and gives nothing where it is no DICOM. Bulk data are not read, but of elements that dicom_elements.py names; nor
is what stands in or behind pixels, or in the preamble. At most `_MOST` elements, to a depth of `_DEEPEST`: what lies beyond is
an entry of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, MutableSequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.tag import BaseTag

from ssl_core.datacheck.dicom_elements import CLOCKS, may_tell

_MOST, _DEEPEST = 20_000, 16
_BEYOND = f"elements beyond the first {_MOST:,}, not looked at"
_TOO_DEEP = f"sequences deeper than {_DEEPEST}, not looked at"
_TEXTS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"})


def dicom_entries(path: Path, id_is_read: bool) -> list[str]:
    """Keywords, as the module docstring says."""
    dataset: Any = dcmread(path, stop_before_pixels=True, defer_size=1 << 16, force=True)
    if not dataset.preamble and "Modality" not in dataset and "SOPClassUID" not in dataset:
        return []
    found: dict[str, None] = {}
    # By depth: a long sequence, such as one item a frame, hides nothing that stands above it.
    waiting: deque[tuple[Any, int]] = deque([(dataset.file_meta, 0), (dataset, 0)])
    left = _MOST
    while waiting and left > 0:
        items, depth = waiting.popleft()
        left -= 1
        for tag in islice(items.keys(), max(0, left)):
            left -= 1
            found.update(dict.fromkeys(_names(items, tag, at_top=depth == 0, id_is_read=id_is_read)))
            if not tag.is_private and _vr_of(items, tag) == "SQ":
                below = list(islice(items[tag].value, max(0, left)))
                if depth < _DEEPEST:
                    waiting.extend((item, depth + 1) for item in below)
                elif below:
                    found[_TOO_DEEP] = None
    if waiting or left <= 0:
        found[_BEYOND] = None
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        found["BurnedInAnnotation = YES"] = None
    return list(found)


def _names(items: Any, tag: BaseTag, *, at_top: bool, id_is_read: bool) -> Iterator[str]:
    """What to call the element; nothing where it tells of nobody."""
    if tag.is_private:
        yield "private tags"
        return
    keyword, vr = keyword_for_tag(tag), _vr_of(items, tag)
    if keyword == "PatientID":
        if not (at_top and id_is_read) and _says_something(items[tag].value, vr):
            yield "PatientID" if at_top else "PatientID in a sequence"
    elif keyword and may_tell(keyword, vr) and _says_something(items[tag].value, vr):
        yield keyword
    elif not keyword and vr in _TEXTS and _says_something(items[tag].value, vr):
        yield "elements outside the standard"


def _vr_of(items: Any, tag: BaseTag) -> str:
    """As the standard says, or the file, of what the standard does not know."""
    return dictionary_VR(tag) if keyword_for_tag(tag) else str(items[tag].VR)


def _says_something(value: Any, vr: str) -> bool:
    """Is there a value, of several one, that is neither blank nor, of dates and times, zeros alone?"""
    if value is None:
        return False
    if isinstance(value, bytes):
        return bool(value.strip(b"\0 "))
    if vr == "SQ":
        return len(value) > 0
    blank = "0.:+- \0" if vr in CLOCKS else " \0^="
    several = value if isinstance(value, MutableSequence) else [value]
    return any(str(each).strip(blank) for each in several)
