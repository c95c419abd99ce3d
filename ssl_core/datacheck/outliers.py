"""Step 1 of 12: records, and whole sources, that lie far from the constants which the plan declares.

Comes in: prepared records [m, ...] and the plan's data. Goes out: findings. A wrong unit, gain or window shows here: it is the
plan's constants that records are measured by, in units of `typical`; medians over records say whether it is some or all.
Nothing is corrected and nothing is fitted: a person corrects the declaration, or leaves files out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from ssl_core.data.reading import Reading
from ssl_core.datacheck.findings import MOST_PLACES, Finding, Weight
from ssl_core.spec.data import Data, EventData, PairData, TableData, TextData

_CHUNK = 1024
_FAR = 5.0
_FAR_SHARE = 0.01
_CLAMPED = 0.95
_WEAK, _STRONG = 0.02, 5.0
_DEVIATIONS = 8.0
_FEW_WORDS = 3
_MOSTLY = 0.5
_Records = npt.NDArray[np.int32] | npt.NDArray[np.float32]
_UNIT = "compare unit, scale and missing in the source file with the files: a factor of 1000 is a unit, such as µV for mV"


def outlier_findings(reading: Reading, data: Data) -> list[Finding]:
    """What lies far from the plan's constants; padding and zero records, which stand for bad ones, are left aside."""
    return _LOOKS.get(data.kind, _values)(reading.records, data)


def _parts(records: _Records) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Parts of m flat float records [k, values] that hold something, with the place of the first: never all at once."""
    for begin in range(0, len(records), _CHUNK):
        yield begin, np.asarray(records[begin : begin + _CHUNK], np.float64).reshape(len(records[begin : begin + _CHUNK]), -1)


def _values(records: _Records, data: object) -> list[Finding]:
    """Signals, and any other numbers in units of what is typical."""
    channels = int(getattr(data, "channels", 1))
    far = np.zeros(len(records))
    size = np.zeros(len(records))
    dead = np.zeros(len(records), np.bool_)
    for begin, part in _parts(records):
        rows = slice(begin, begin + len(part))
        far[rows] = (np.abs(part) > _FAR).mean(axis=1)
        size[rows] = np.sqrt((part * part).mean(axis=1))
        if channels > 1 and part.shape[1] % channels == 0:
            each = part.reshape(len(part), channels, -1)
            dead[rows] = (each == each[:, :, :1]).all(axis=2).any(axis=1)
    there = size > 0
    count = int(there.sum())
    if not count:
        return []
    out = [*_typical_size(size[there], count)]
    out += _counted(
        "outliers", f"records with more than 1 % of values beyond {_FAR:g} times typical",
        "look at the first of them in a viewer: artefacts, another unit or another device; the study clips nothing of them",
        (far > _FAR_SHARE) & there, count,
    )  # fmt: skip
    logs = np.log(np.where(there, size, 1.0))
    middle = float(np.median(logs[there]))
    spread = 1.4826 * float(np.median(np.abs(logs[there] - middle)))
    out += _counted(
        "outliers", f"records whose size lies {_DEVIATIONS:g} robust deviations from that of the others",
        "look at the first of them: another gain or unit, a lead that was off",
        (np.abs(logs - middle) > _DEVIATIONS * max(spread, 0.05)) & there, count,
    )  # fmt: skip
    return out + _counted(
        "constant", "records in which a channel never changes", "a lead that was off: leave it, or leave the record out",
        dead & there, count, Weight.NOTE,
    )  # fmt: skip


def _typical_size(size: npt.NDArray[np.float64], count: int) -> list[Finding]:
    median = float(np.median(size))
    if _WEAK <= median <= _STRONG:
        return []
    larger = "larger" if median > 1 else "smaller"
    what = f"half of all records are {larger} than {_times(median)} times what the plan calls typical"
    return [Finding("outliers", what, _UNIT, int((size >= median).sum() if median > 1 else (size <= median).sum()), count)]


def _times(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _image(records: _Records, data: object) -> list[Finding]:
    """Pictures of which nearly all is black, white, or both: a window that clamps, or an empty exposure."""
    clamped = np.zeros(len(records), np.bool_)
    there = np.zeros(len(records), np.bool_)
    for begin, part in _parts(records):
        low, high = part.min(axis=1, keepdims=True), part.max(axis=1, keepdims=True)
        rows = slice(begin, begin + len(part))
        there[rows] = (high > low)[:, 0]
        clamped[rows] = ((part == low) | (part == high)).mean(axis=1) > _CLAMPED
    return _counted(
        "outliers", "pictures of which more than 95 % is the darkest or the brightest value",
        "compare the declared window with the pictures: it clamps nearly all of them; or leave empty exposures out",
        clamped & there, int(there.sum()),
    )  # fmt: skip


def _text(records: _Records, data: TextData) -> list[Finding]:
    words = np.concatenate(
        [np.zeros(0, np.int64), *((records[b : b + _CHUNK, :, 0] >= 0).sum(1) for b in range(0, len(records), _CHUNK))]
    )
    there = words > 0
    count = int(there.sum())
    short = _counted(
        "outliers", f"notes of fewer than {_FEW_WORDS} words", "look whether the text stands in another column or section",
        there & (words < _FEW_WORDS), count,
    )  # fmt: skip
    return short + _counted(
        "outliers", f"notes that fill all {data.words} words: what stands after them is not read",
        "nothing, if what matters stands first; else ask the operator for more words in the plan",
        words == data.words, count, Weight.NOTE,
    )  # fmt: skip


def _events(records: _Records, data: EventData) -> list[Finding]:
    codes = np.concatenate([np.zeros((0, data.events), np.int64), *(r[:, :, 0] for r in _chunks(records))])
    length = (codes >= 0).sum(axis=1)
    there = length > 0
    count = int(there.sum())
    unknown = np.where(there, (codes == data.codes - 1).sum(axis=1) / np.maximum(length, 1), 0.0)
    out = _counted(
        "outliers", "records most of whose events have codes that the study does not declare",
        "compare how the codes are written with the plan's; else ask the operator for more of them in the plan",
        unknown > _MOSTLY, count,
    )  # fmt: skip
    out += _counted(
        "outliers", "records of one event, in which there is nothing to predict",
        "look whether record_column parts what belongs together",
        length == 1, count, Weight.NOTE,
    )  # fmt: skip
    return out


def _sound(records: _Records, data: object) -> list[Finding]:
    """Log-mel pictures that lie at the floor nearly throughout."""
    silent, there = np.zeros(len(records), np.bool_), np.zeros(len(records), np.bool_)
    for begin, part in _parts(records):
        rows = slice(begin, begin + len(part))
        there[rows] = (part != part[:, :1]).any(axis=1)
        silent[rows] = (part == part.min(axis=1, keepdims=True)).mean(axis=1) > _CLAMPED
    return _counted(
        "outliers", "sounds that are silent for more than 95 % of their picture",
        "listen to the first of them; a microphone that was off, or a floor_db of the plan that is too high",
        silent & there, int(there.sum()),
    )  # fmt: skip


def _chunks(records: _Records) -> Iterator[_Records]:
    return (records[begin : begin + _CHUNK] for begin in range(0, len(records), _CHUNK))


def _pair(records: _Records, data: PairData) -> list[Finding]:
    """Pictures as such; of the notes the first code of each word is looked at. Both are views: nothing is copied."""
    count = data.shape[0]
    return [*_image(records[:, :count], data), *_text(records[:, count :: data.text.codes, None], data.words)]


def _table(records: _Records, data: TableData) -> list[Finding]:
    out = []
    numbers = len(data.numeric)
    for place, column in enumerate(data.numeric):
        value, there = records[:, place], records[:, numbers + place] > 0
        out += _column(column.name, np.asarray(value[there], np.float64), int(there.sum()), len(records))
    for place, named in enumerate(data.categorical, start=2 * numbers):
        codes = np.asarray(records[:, place])
        cells = int((codes > 0).sum())
        undeclared = int((codes == 1).sum())
        if undeclared:
            out.append(
                Finding(
                    "outliers",
                    f"column {named.name!r}: cells whose level the plan does not declare",
                    "write the level as the plan does, declare it as missing, or ask the operator to declare it",
                    undeclared,
                    cells,
                    weight=Weight.WARNING if undeclared > _FAR_SHARE * cells else Weight.NOTE,
                )
            )
        out += _absent(named.name, cells, len(records))
    return out


def _column(name: str, values: npt.NDArray[np.float64], cells: int, rows: int) -> list[Finding]:
    out = _absent(name, cells, rows)
    if not cells:
        return out
    far = int((np.abs(values) > _FAR).sum())
    if float(np.median(np.abs(values))) > _STRONG:
        out.append(
            Finding("outliers", f"column {name!r}: half of all values lie beyond {_FAR:g} times typical", _UNIT, far, cells)
        )
    elif far > _FAR_SHARE * cells:
        remedy = "look at them: another unit in some rows, a code for missing such as 999, or a slip of the comma"
        out.append(Finding("outliers", f"column {name!r}: values beyond {_FAR:g} times typical", remedy, far, cells))
    if cells > 1 and (values == values[0]).all():
        out.append(
            Finding("constant", f"column {name!r} holds one value alone", "look whether it is the right column", cells, cells)
        )
    return out


def _absent(name: str, cells: int, rows: int) -> list[Finding]:
    if not rows or cells > rows / 2:
        return []
    remedy = (
        "compare its header in `columns` and the codes in `missing` with the file; a missing value is a value, if it is true"
    )
    return [Finding("missing", f"column {name!r}: cells without a value", remedy, rows - cells, rows, weight=Weight.NOTE)]


def _counted(
    topic: str, what: str, remedy: str, which: npt.NDArray[np.bool_], of: int, weight: Weight = Weight.WARNING
) -> list[Finding]:
    places = tuple(f"record {place + 1} as read" for place in np.flatnonzero(which)[:MOST_PLACES])
    return [Finding(topic, what, remedy, int(which.sum()), of, places, weight)] if which.any() else []


_LOOKS: dict[str, Callable[..., list[Finding]]] = {
    "image": _image, "text": _text, "table": _table, "pair": _pair, "events": _events, "sound": _sound
}  # fmt: skip
