"""Synthetic recordings as WFDB, EDF, DICOM and WAV files, written by the libraries' own writers; for the isolation check.

Comes in: a folder, the site's declaration, the plan's data, and rows (patient, float32 [channels, samples] in the plan's
units). Goes out: one file, or header and signals, a row, at the plan's rate; and the declaration that reads them. Values are
whole thousandths of a unit in 16 bits: what is beyond them is the greatest that they hold, and one that is no number the one
count that the format has for none; a sound is written in float32, which holds all. Where the site takes the patient from
folder, pattern or index, it is a folder here: the rule is one of names, the same for all formats (folder_files.py). Nothing
here is private.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.declared import Declared
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_recordings import EdfSource, PiecesSource, SoundSource, WaveformSource, WfdbSource
from ssl_core.data.optional import needed
from ssl_core.errors import DataError
from ssl_core.spec.data import SignalData, SoundData

_PER_UNIT = 1000
_MOST = 32000
_NONE = -32768
# More windows than this show no more of the reader.
_MOST_WINDOWS = 2

Rows = Sequence[tuple[str, object]]
Counts = npt.NDArray[np.int16]


def write_wfdb(folder: Path, declared: WfdbSource, data: SignalData, rows: Rows) -> Declared:
    """One record of format 16 a row, the second one of a patient in two segments.

    Where headers name the patient, each also has a header that names the segment of another one, whose header says so.
    """
    needed("wfdb", "files of this kind")
    units = _units(data, 20)
    with warnings.catch_warnings():
        # Of the library's own imports; it warns of nothing that it writes.
        warnings.simplefilter("ignore")
        import wfdb

        for unit, path, counts in _each(folder, declared, rows):
            said = [f"{declared.patient_comment}: {unit}"] if declared.patient_comment else []
            for part, piece in _segments(path, counts, data, said):
                wfdb.wrsamp(
                    part.name, fs=data.rate_hz, units=units, sig_name=[names[0] for names in declared.names],
                    d_signal=piece.T.astype(np.int64), fmt=["16"] * data.channels, adc_gain=[float(_PER_UNIT)] * data.channels,
                    baseline=[0] * data.channels, write_dir=str(part.parent), comments=said or None,
                )  # fmt: skip
    return _read_here(declared, "*.hea")


def _segments(path: Path, counts: Counts, data: SignalData, said: Sequence[str]) -> Iterator[tuple[Path, Counts]]:
    """The records of one segment that a row is written as; the headers that name them as segments are written here."""

    def name_segments(header: Path, lengths: dict[str, int]) -> None:
        lines = [f"{header.name}/{len(lengths)} {data.channels} {data.rate_hz} {sum(lengths.values())}"]
        lines += [*(f"{name} {length}" for name, length in lengths.items()), *(f"# {line}" for line in said)]
        header.with_suffix(".hea").write_text("\n".join(lines) + "\n", encoding="utf-8")

    length, number = counts.shape[1], int(path.name)
    unit = path.parent.name
    if said and number == 1 and unit[-1].isdecimal():
        # Two and two, by their names alone, so that no third patient changes it; nobody may read the other's.
        other = f"{unit[:-1]}{int(unit[-1]) ^ 1}"
        name_segments(path.parent.parent / f"shared-{unit}", {f"shared-{unit}_s1": length})
        yield path.parent.parent / f"shared-{other}_s1", counts
    if number != 2 or length < 2:
        yield path, counts
        return
    parts = {f"{path.name}_s1": counts[:, : length // 2], f"{path.name}_s2": counts[:, length // 2 :]}
    name_segments(path, {name: part.shape[1] for name, part in parts.items()})
    yield from ((path.with_name(name), part) for name, part in parts.items())


def write_edf(folder: Path, declared: EdfSource, data: SignalData, rows: Rows) -> Declared:
    """One EDF file of one data record a row."""
    needed("edfio", "files of this kind")
    import edfio

    units = _units(data, 8)
    ends = (-_MOST / _PER_UNIT, _MOST / _PER_UNIT)
    for unit, path, counts in _each(folder, declared, rows):
        # As the format writes it: eight characters.
        duration = float(f"{counts.shape[1] / data.rate_hz:.6g}")
        signals = []
        for names, dimension, line in zip(declared.names, units, counts, strict=True):
            signal = edfio.EdfSignal.from_digital(
                np.zeros(len(line), np.int16), len(line) / duration, label=names[0], physical_dimension=dimension,
                physical_range=ends, digital_range=(-_MOST, _MOST),
            )  # fmt: skip
            signal.digital[:] = line
            signals.append(signal)
        edfio.Edf(signals, patient=edfio.Patient(code=unit), data_record_duration=duration).write(path.with_suffix(".edf"))
    return _read_here(declared, "*.edf")


def write_waveforms(folder: Path, declared: WaveformSource, data: SignalData, rows: Rows) -> Declared:
    """One object of general ECG with one multiplex group a row."""
    needed("pydicom", "files of this kind")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, GeneralECGWaveformStorage, generate_uid
    from pydicom.valuerep import format_number_as_ds

    def channel(name: str, unit: str) -> Dataset:
        source, units, out = Dataset(), Dataset(), Dataset()
        source.CodeMeaning, units.CodeValue = name, unit
        out.ChannelSourceSequence, out.ChannelSensitivityUnitsSequence = [source], [units]
        out.ChannelSensitivity, out.ChannelSensitivityCorrectionFactor, out.ChannelBaseline = str(1 / _PER_UNIT), "1", "0"
        return out

    channels = [channel(names[0], unit) for names, unit in zip(declared.names, _units(data, 16), strict=True)]
    for unit, path, counts in _each(folder, declared, rows):
        group, whole, meta = Dataset(), Dataset(), FileMetaDataset()
        group.MultiplexGroupLabel = declared.multiplex or "RHYTHM"
        group.SamplingFrequency = format_number_as_ds(data.rate_hz)
        group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = counts.shape
        group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
        group.ChannelDefinitionSequence = channels
        group.add_new("WaveformPaddingValue", "OW", np.int16(_NONE).astype("<i2").tobytes())
        group.add_new("WaveformData", "OW", counts.T.astype("<i2").tobytes())
        whole.PatientID, whole.WaveformSequence = unit, [group]
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = whole.SOPClassUID = GeneralECGWaveformStorage
        meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
        whole.file_meta = meta
        whole.save_as(path.with_suffix(".dcm"), enforce_file_format=True)
    return _read_here(declared, "*.dcm")


def write_sounds(folder: Path, declared: SoundSource, data: SoundData, rows: Rows) -> Declared:
    """One WAV file a row, of one channel; libsndfile takes whole rates alone."""
    needed("soundfile", "files of this kind")
    import soundfile

    if data.rate_hz != int(data.rate_hz):
        raise DataError("sound files have a whole number of samples a second", field="rate_hz", value=data.rate_hz)
    for _, path, content in _paths(folder, rows):
        values = np.tile(np.asarray(content, np.float32), min(declared.windows, _MOST_WINDOWS))
        # In memory first: closing a file, the library waits until it is on the disk, which is most of this check's time.
        whole = io.BytesIO()
        soundfile.write(whole, values.T, int(data.rate_hz), format="WAV", subtype="FLOAT")
        path.with_suffix(".wav").write_bytes(whole.getvalue())
    return _read_here(declared, "*.wav")


def _paths(folder: Path, rows: Rows) -> Iterator[tuple[str, Path, object]]:
    """Patient, path without a suffix, content; numbered within each patient, in his folder."""
    numbers: Counter[str] = Counter()
    for unit, content in rows:
        numbers[unit] += 1
        path = folder / unit / f"{numbers[unit]:04d}"
        path.parent.mkdir(exist_ok=True)
        yield unit, path, content


def _each(folder: Path, declared: PiecesSource, rows: Rows) -> Iterator[tuple[str, Path, Counts]]:
    """Patient, path, counts int16 [channels, samples]."""
    for unit, path, content in _paths(folder, rows):
        values = np.asarray(content, np.float64)
        held = _PER_UNIT * np.clip(np.nan_to_num(values), -_MOST / _PER_UNIT, _MOST / _PER_UNIT)
        counts = np.where(np.isnan(values), _NONE, held.round()).astype(np.int16)
        yield unit, path, np.tile(counts, min(declared.windows, _MOST_WINDOWS))


def _units(data: SignalData, longest: int) -> list[str]:
    """The plan's units as a file's header can hold them, one a channel."""
    units = [unit.replace("µ", "u") for unit in (data.units if len(data.units) > 1 else data.units * data.channels)]
    for unit in units:
        if not unit.isascii() or len(unit) > longest:
            raise DataError(
                "files of this kind cannot say the study's unit",
                field="units",
                value=unit,
                limit=f"ASCII, {longest} characters",
            )
    return units


def _read_here(declared: FolderSource, pattern: str) -> Declared:
    """The declaration, for what was written: everything in the folder, a patient's header or folder."""
    rule = "header" if declared.patient_from == "header" else "folder"
    changes = {"path": ".", "files": (pattern,), "patient_from": rule, "patient_pattern": None, "index": None}
    return declared.model_copy(update=changes)
