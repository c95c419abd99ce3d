"""Step 1 of 12: reader of DICOM objects with waveforms (12-lead and general ECG, hemodynamic, EEG) with pydicom.

Comes in: a declared folder and the plan's signals. Goes out: a `Reading` with float32 [m, channels * samples] in the plan's
scale. Format: DICOM PS3.3, section C.10.9 (Waveform Module).

An object may hold several multiplex groups (a rhythm of 10 s, a median beat): read is the one whose label is declared, or
else the first that has all channels, at the plan's rate if one of these has. A channel is known by its label, or the meaning
or value of its source's code. Value = sample * sensitivity * correction + baseline, in the code of the sensitivity's units; a
channel without a sensitivity has none. The padding value stands for no sample. Time skew between channels is not corrected.
An object without a waveform is of another kind. PatientID may name the patient; time order: acquisition, content or study.
Labels name it by its SOPInstanceUID.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_core.data.declared_recordings import WaveformSource
from ssl_core.data.decoding import Found
from ssl_core.data.dicom import data_set, patient_of, sop_instance
from ssl_core.data.gathering import gather_folder
from ssl_core.data.optional import needed
from ssl_core.data.reading import Fault, Reading
from ssl_core.data.recordings import Channel, Floats, check_meaning, chosen, most_samples, records
from ssl_core.spec.data import SignalData

if TYPE_CHECKING:
    from ssl_core.data.reading import Effort
    from ssl_core.data.source import Source

_TYPES = {(8, "SB"): "i1", (8, "UB"): "u1", (16, "SS"): "<i2", (16, "US"): "<u2", (32, "SL"): "<i4", (32, "UL"): "<u4"}


def read_waveforms(source: Source, data: SignalData, effort: Effort) -> Reading:
    """All objects of the declared folder; see the module docstring."""
    declared = source.declared
    if not isinstance(declared, WaveformSource):
        raise TypeError(type(declared).__name__)
    needed("pydicom", "files of this kind")
    check_meaning(declared, data)
    return gather_folder(declared, source.folder, WaveformDecoder(declared, data), data, effort)


@dataclass(frozen=True, slots=True)
class WaveformDecoder:
    """A file's path -> the records of its waveform."""

    source: WaveformSource
    data: SignalData

    def __call__(self, path: Path) -> Sequence[Found]:
        """See the module docstring."""
        dataset = data_set(path)
        record = sop_instance(dataset)
        return [replace(found, record=record) for found in self._found(dataset)]

    def _found(self, dataset: Any) -> list[Found]:
        owner = patient_of(dataset) if self.source.patient_from == "header" else None
        start = _start(dataset)
        group = self._group(list(dataset.get("WaveformSequence") or []))
        if isinstance(group, Fault):
            return [Found(owner, start, group)]
        item, places = group
        samples = _samples(item, dataset.original_encoding[1], most_samples(self.source))
        if isinstance(samples, Fault):
            return [Found(owner, start, samples)]
        rate = float(item.SamplingFrequency)
        channels = [_channel(samples[:, place], item.ChannelDefinitionSequence[place], rate) for place in places]
        return records(channels, self.source, self.data, owner=owner, start=start)

    def rates(self, path: Path) -> Sequence[float]:
        """The rate in Hz of the group that is read; none where there is none."""
        group = self._group(list(data_set(path).get("WaveformSequence") or []))
        return [] if isinstance(group, Fault) else [float(group[0].SamplingFrequency)]

    def _group(self, items: Sequence[Any]) -> tuple[Any, list[int]] | Fault:
        """The multiplex group to read, and the places of the wanted channels in it."""
        if not items:
            return Fault.WRONG_KIND
        fitting = []
        for item in items:
            if self.source.multiplex is None or str(item.get("MultiplexGroupLabel", "")).strip() == self.source.multiplex:
                places = chosen([_names(each) for each in item.ChannelDefinitionSequence], self.source.names)
                if not isinstance(places, Fault):
                    fitting.append((item, places))
        if not fitting:
            return Fault.CHANNELS
        return next((each for each in fitting if float(each[0].SamplingFrequency) == self.data.rate_hz), fitting[0])


def _names(channel: Any) -> set[str]:
    """Under which names a channel may be declared."""
    sources = channel.get("ChannelSourceSequence") or []
    texts = [channel.get("ChannelLabel"), *(each.get(key) for each in sources[:1] for key in ("CodeMeaning", "CodeValue"))]
    return {str(text).strip() for text in texts if text}


def _samples(item: Any, little: bool | None, most: int) -> Floats | Fault:
    """Samples of a group float64 [samples, channels], NaN where padded."""
    kind = _TYPES.get((int(item.WaveformBitsAllocated), str(item.WaveformSampleInterpretation)))
    if kind is None:
        return Fault.CODEC
    count, width = int(item.NumberOfWaveformSamples), int(item.NumberOfWaveformChannels)
    if width != len(item.ChannelDefinitionSequence):
        return Fault.UNREADABLE
    if count * width > most:
        return Fault.TOO_LARGE
    # Of a big-endian file pydicom gives the bytes as they lie there.
    dtype = np.dtype(kind) if little else np.dtype(kind).newbyteorder(">")
    if len(item.WaveformData) < count * width * dtype.itemsize:
        return Fault.UNREADABLE
    raw = np.frombuffer(item.WaveformData, dtype, count * width).reshape(count, width)
    values = raw.astype(np.float64)
    padding = item.get("WaveformPaddingValue")
    if padding is not None:
        values[raw == (np.frombuffer(padding, dtype, 1)[0] if isinstance(padding, bytes) else int(padding))] = np.nan
    return values


def _channel(values: Floats, channel: Any, rate: float) -> Channel:
    """A channel in its units; "" where it gives no sensitivity."""
    units = channel.get("ChannelSensitivityUnitsSequence") or []
    if channel.get("ChannelSensitivity") is None or not units:
        return Channel(values, "", rate)
    factor = float(channel.ChannelSensitivity) * float(channel.get("ChannelSensitivityCorrectionFactor") or 1.0)
    baseline = float(channel.get("ChannelBaseline") or 0.0)
    return Channel(values * factor + baseline, str(units[0].CodeValue).strip(), rate)


def _start(dataset: Any) -> str:
    """Date and time as digits; "" where the object has none."""
    whole = str(dataset.get("AcquisitionDateTime") or "")
    if not whole:
        kind = "Content" if dataset.get("ContentDate") else "Study"
        whole = f"{dataset.get(f'{kind}Date') or ''}{dataset.get(f'{kind}Time') or ''}"
    found = re.match(r"\d{8}(?:\d{6}(?:\.\d{1,6})?)?", whole, re.ASCII)
    return found[0] if found else ""
