"""Each kind of recording from its source TOML, decoded in worker processes, checked as before approval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tomli_w
from pydicom.data import get_testdata_file
from tests_recordings import DATA, waves, write_wfdb

from ssl_core.data.check import check_and_load, inspect_source
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import DataError
from ssl_core.spec.data import Data, SoundData

LEADS = DATA.model_copy(update={"rate_hz": 1000.0})
SOUND = SoundData(kind="sound", rate_hz=4000, seconds=1.056, mels=32, low_hz=50, high_hz=1800)


def _wfdb(path: Path, seed: int) -> None:
    write_wfdb(path.parent, path.name, waves(500, seed=seed))


def _edf(path: Path, seed: int) -> None:
    import edfio

    lines = zip(waves(500, seed=seed).T, ("II", "V1"), strict=True)
    edfio.Edf([edfio.EdfSignal(line, 100, label=name, physical_dimension="mV") for line, name in lines]).write(
        path.with_suffix(".edf")
    )


def _dicom(path: Path, seed: int) -> None:
    path.with_suffix(".dcm").write_bytes(Path(str(get_testdata_file("waveform_ecg.dcm"))).read_bytes())


def _sound(path: Path, seed: int) -> None:
    soundfile.write(path.with_suffix(".wav"), np.random.default_rng(seed).uniform(-0.5, 0.5, 4224), 4000)


CHANNELS = {"units": ["mV"], "channels": ["II", "V1"]}
KINDS: dict[str, tuple[Any, Data, dict[str, Any]]] = {
    "wfdb": (_wfdb, DATA, CHANNELS),
    "edf": (_edf, DATA, CHANNELS),
    "dicom-waveform": (_dicom, LEADS, CHANNELS | {"channels": [["II", "Lead II"], ["V1", "Lead V1"]], "files": ["*.dcm"]}),
    "sound": (_sound, SOUND, {}),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_source_is_read_in_workers_as_in_this_process(tmp_path: Path, kind: str) -> None:
    write, data, keys = KINDS[kind]
    for number, patient in enumerate(("p1", "p1", "p2")):
        (tmp_path / "records" / patient).mkdir(parents=True, exist_ok=True)
        write(tmp_path / "records" / patient / f"r{number}", number)
    toml = tmp_path / "source.toml"
    toml.write_text(tomli_w.dumps({"kind": kind, "path": "records"} | keys), encoding="utf-8")
    here, there = (load_patients(read_source(toml), data, Effort(workers=workers)) for workers in (0, 2))
    assert here.units == there.units == ("p1", "p2") and here.counts().tolist() == [2, 1]
    assert here.records.tobytes() == there.records.tobytes() and here.records.any(axis=1).all()
    assert check_and_load(read_source(toml), data, Effort(workers=0)).patients.records.tobytes() == here.records.tobytes()
    suffix = {"wfdb": ".hea", "edf": ".edf", "dicom-waveform": ".dcm", "sound": ".wav"}[kind]
    (tmp_path / "records" / "p2" / f"SECRET{suffix}").write_bytes(b"SECRET" * 100)
    report = inspect_source(read_source(toml), data, Effort(workers=1))
    assert sum(report.files[0].faults.values()) == 1 and set(report.files[0].faults) <= {Fault.UNREADABLE, Fault.WRONG_KIND}
    with pytest.raises(DataError) as caught:
        check_and_load(read_source(toml), data, Effort(workers=0))
    assert "SECRETSECRET" not in str(caught.value)
