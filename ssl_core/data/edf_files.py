"""Step 1 of 12: reader of EDF, EDF+C, BDF and BDF+C files with edfio.

Comes in: a declared folder and the plan's signals. Goes out: a `Reading` with float32 [m, channels * samples] in the plan's
scale. Format: Kemp and Olivan, "European data format 'plus' (EDF+)" (Clinical Neurophysiology 114, 2003).

A value outside the digital range that the header declares stands for no sample. A discontinuous file (EDF+D, BDF+D) has
samples missing between its data records, and only its annotations say where: it is refused as that, whole; its parts are what
a site exports as files of their own. A file that holds fewer or more data records than it declares is unreadable: it was cut
or spliced; -1 of them, which a recorder writes before it knows, means as many as there are. A signal without a physical range
has no units. Annotations are not read. The patient code is read of a header that follows EDF+ in this field, written by
whatever program; free text there names nobody: two patients' texts may begin alike, and one patient's may be written in two
ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_core.data.declared_recordings import EdfSource
from ssl_core.data.decoding import Found
from ssl_core.data.gathering import gather_folder
from ssl_core.data.optional import needed
from ssl_core.data.reading import Fault, Reading
from ssl_core.data.recordings import Channel, Floats, check_meaning, chosen, most_samples, records
from ssl_core.spec.data import SignalData

if TYPE_CHECKING:
    from ssl_core.data.reading import Effort
    from ssl_core.data.source import Source

_HEADER = 256
_BDF = b"\xffBIOSEMI"
_EDF = b"0       "


def read_edf(source: Source, data: SignalData, effort: Effort) -> Reading:
    """All recordings of the declared folder; see the module docstring."""
    declared = source.declared
    if not isinstance(declared, EdfSource):
        raise TypeError(type(declared).__name__)
    needed("edfio", "files of this kind")
    check_meaning(declared, data)
    return gather_folder(declared, source.folder, EdfDecoder(declared, data), data, effort)


@dataclass(frozen=True, slots=True)
class EdfDecoder:
    """A file's path -> the records of its recording."""

    source: EdfSource
    data: SignalData

    def __call__(self, path: Path) -> Sequence[Found]:
        """See the module docstring."""
        with path.open("rb") as stream:
            head = stream.read(_HEADER)
        if head[:8] not in (_BDF, _EDF):
            return [Found(None, "", Fault.WRONG_KIND)]
        import edfio

        # Latin-1 keeps every byte apart: no two patients' codes become equal.
        edf: Any = (edfio.read_bdf if head[:8] == _BDF else edfio.read_edf)(path, header_encoding="latin-1")
        owner = _code(edf) if self.source.patient_from == "header" else None
        fault = _whole(head, edf, path, most_samples(self.source))
        if fault is not None:
            return [Found(owner, "", fault)]
        start = _start(head, edf)
        places = chosen([{label} for label in edf.labels], self.source.names)
        if isinstance(places, Fault):
            return [Found(owner, start, places)]
        channels = [_channel(edf.signals[place]) for place in places]
        return records(channels, self.source, self.data, owner=owner, start=start)

    def rates(self, path: Path) -> Sequence[float]:
        """The rates in Hz of the wanted channels, as the header says them; none where there is no such channel."""
        import edfio

        with path.open("rb") as stream:
            head = stream.read(_HEADER)
        if head[:8] not in (_BDF, _EDF):
            return []
        edf: Any = (edfio.read_bdf if head[:8] == _BDF else edfio.read_edf)(path, header_encoding="latin-1")
        places = chosen([{label} for label in edf.labels], self.source.names)
        return [] if isinstance(places, Fault) else [float(edf.signals[place].sampling_frequency) for place in places]


def _whole(head: bytes, edf: Any, path: Path, most: int) -> Fault | None:
    """Does the file hold what its header says, without gaps?"""
    if head[192:197] in (b"EDF+D", b"BDF+D"):
        return Fault.MISSING
    said = int(head[236:244].decode("ascii"))
    lengths = [signal.samples_per_data_record for signal in edf._signals]
    width = 3 if head[:8] == _BDF else 2
    held, rest = divmod(path.stat().st_size - edf.bytes_in_header_record, width * sum(lengths))
    if min(lengths) < 0 or rest or held != (held if said == -1 else said):
        return Fault.UNREADABLE
    if not held:
        return Fault.EMPTY
    return Fault.TOO_LARGE if held * sum(lengths) > most else None


def _channel(signal: Any) -> Channel:
    """Physical values, NaN outside the digital range; unit "" where the header gives no scale."""
    low, high = signal.digital_min, signal.digital_max
    if low >= high:
        raise ValueError("no digital range")
    digital = np.asarray(signal.digital)
    bottom, top = signal.physical_min, signal.physical_max
    values: Floats = bottom + (digital.astype(np.float64) - low) * ((top - bottom) / (high - low))
    values[(digital < low) | (digital > high)] = np.nan
    unit = "" if bottom == top else signal.physical_dimension.strip()
    return Channel(values, unit, float(signal.sampling_frequency))


def _code(edf: Any) -> str | None:
    """The patient code of a field "code sex birthdate name"; None where it is unknown or the field is another text."""
    import edfio.edf_header

    cells = edf.local_patient_identification.split()
    if len(cells) < 4 or cells[0] == "X" or cells[1] not in ("F", "M", "X"):
        return None
    try:
        _ = edf.patient.birthdate
    except edfio.edf_header.AnonymizedDateError:
        return str(cells[0])
    except ValueError:
        return None
    return str(cells[0])


def _start(head: bytes, edf: Any) -> str:
    """When the recording began, to the second; "" where the header hides the day or says none that can be read."""
    import edfio.edf_header

    try:
        clock = datetime.strptime(head[176:184].decode("latin-1"), "%H.%M.%S").time()
        try:
            day = edf.recording.startdate
        except edfio.edf_header.AnonymizedDateError:
            return ""
        except ValueError:
            day = datetime.strptime(head[168:176].decode("latin-1"), "%d.%m.%y").date()
            # Two digits of the year mean 1985 to 2084.
            day = day.replace(year=day.year + 100) if day.year < 1985 else day
    except ValueError:
        return ""
    return datetime.combine(day, clock).isoformat()
