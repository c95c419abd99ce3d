"""Step 1 of 12: what a site declares of a folder of recordings: ECG, EEG, pressures, sounds; each file of one patient.

    kind = "wfdb"                                kind = "edf"
    path = "ecg"                                 path = "sleep"
    channels = [["I", "MDC_ECG_LEAD_I"], "II"]   channels = ["EEG Fpz-Cz"]
    units = ["mV"]                               units = ["uV"]
    resample = false                             resample = true
    windows = 4                                  pad = false
    patient_from = "header"                      patient_from = "header"
    patient_comment = "subject id"

    kind = "dicom-waveform"                      kind = "sound"
    path = "ecg"                                 path = "lungs"
    channels = ["Lead I (Einthoven)", "Lead II"] patient_from = "pattern"
    units = ["mV"]                               patient_pattern = "^(?P<patient>[0-9]+)_"
    multiplex = "RHYTHM"                         resample = true
    patient_from = "header"

`channels` names the file's channels that are the plan's, in the plan's order; several names are alternatives, of which the
first that a file has is taken. `units` must be the plan's; a file in another power of ten of the same unit (uV, mV, V) is
converted by that power. `resample = true` brings a file at another rate to the plan's, by itself. `windows`: how many pieces
of the plan's length become records, evenly spaced, none over another, fewer where a recording is too short for so many.
`pad = true`: what is shorter than one piece is followed by zeros (the plan's centre).
`patient_comment`, for patient_from = "header": the key of the comment line of a WFDB header that names the patient.
`multiplex` is the label of the multiplex group to read; without it, the first one that has all channels.
The rest is that of any folder (declared_folder.py).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_core.data.declared_folder import FolderSource, Patterns
from ssl_core.spec.data import Unit

Label = Annotated[str, Field(min_length=1, max_length=80)]


class PiecesSource(FolderSource):
    """A folder of recordings that are cut into pieces."""

    resample: bool = False
    windows: Annotated[int, Field(ge=1, le=1000)] = 1
    pad: bool = False


class RecordingSource(PiecesSource):
    """Recordings of named channels in units."""

    channels: Annotated[tuple[Label | Annotated[tuple[Label, ...], Field(min_length=1)], ...], Field(min_length=1)]
    units: Annotated[tuple[Unit, ...], Field(min_length=1)]

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The alternative names of each channel."""
        return tuple((each,) if isinstance(each, str) else each for each in self.channels)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [name for each in self.names for name in each]
        if len(set(names)) != len(names):
            raise ValueError("a name stands for one channel: each may be written once")
        return self


class WfdbSource(RecordingSource):
    """WFDB records: a header (.hea) each, and the signal files that it names, beside it."""

    kind: Literal["wfdb"]
    files: Patterns = ("*.hea",)
    patient_comment: Annotated[str, Field(pattern=r"^[^:#\s](?:[^:]{0,78}[^:\s])?\z")] | None = None

    @model_validator(mode="after")
    def _comment(self) -> Self:
        if (self.patient_from == "header") != (self.patient_comment is not None):
            raise ValueError("patient_comment goes with patient_from = 'header', and with it alone")
        return self


class EdfSource(RecordingSource):
    """EDF, EDF+C, BDF and BDF+C files; the patient code of the header may name the patient."""

    kind: Literal["edf"]
    files: Patterns = ("*.edf", "*.bdf")

    @model_validator(mode="after")
    def _short(self) -> Self:
        if any(len(name) > 16 or name != name.strip() for each in self.names for name in each):
            raise ValueError("a label of EDF has at most 16 characters, without space around them")
        return self


class WaveformSource(RecordingSource):
    """DICOM objects with waveforms; PatientID may name the patient."""

    kind: Literal["dicom-waveform"]
    multiplex: Label | None = None


class SoundSource(PiecesSource):
    """WAV and FLAC files; they name no patient."""

    kind: Literal["sound"]
    files: Patterns = ("*.wav", "*.flac")

    @model_validator(mode="after")
    def _no_header(self) -> Self:
        if self.patient_from == "header":
            raise ValueError("a sound file names no patient: take folder, pattern or index")
        return self
