"""EDF and BDF files that another implementation (EDFlib) wrote, every sample compared with what its own reader says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from tests_recordings import decode

from ssl_core.data.declared_recordings import EdfSource
from ssl_core.data.edf_files import EdfDecoder
from ssl_core.data.reading import Fault
from ssl_core.spec.data import SignalData

pyedflib = pytest.importorskip("pyedflib", reason="pyedflib has no wheel for this Python")

SHIPPED = Path(pyedflib.__file__).parent
FILES = sorted(path for path in SHIPPED.rglob("*") if path.suffix in (".edf", ".bdf"))
_MOST_SAMPLES = 1 << 16
"""Of a piece; recordings are cut into equal ones, so that each sample is compared."""


def test_the_package_carries_the_files_that_are_compared() -> None:
    assert len(FILES) >= 8 and {path.suffix for path in FILES} == {".edf", ".bdf"}


@dataclass(frozen=True)
class Theirs:
    """What EDFlib reads: signals float64 [samples] by rate and label, the patient code, when the recording began."""

    by_rate: dict[float, dict[str, np.ndarray]]
    code: str
    begun: datetime


def theirs_of(path: Path) -> Theirs:
    """One file by EDFlib's own reader, which opens a file once at a time; channels of annotations are none."""
    with pyedflib.EdfReader(str(path)) as reader:
        places = [i for i in range(reader.signals_in_file) if reader.getLabel(i) != "EDF Annotations"]
        assert places and {reader.getPhysicalDimension(i) for i in places} == {"uV"}
        by_rate: dict[float, dict[str, np.ndarray]] = {}
        for i in places:
            by_rate.setdefault(reader.getSampleFrequency(i), {})[reader.getLabel(i)] = reader.readSignal(i)
        assert sum(map(len, by_rate.values())) == len(places)
        return Theirs(by_rate, reader.getPatientCode(), reader.getStartdatetime().replace(microsecond=0))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SHIPPED).as_posix())
def test_every_sample_is_that_of_edflib(path: Path) -> None:
    theirs = theirs_of(path)
    for rate, signals in theirs.by_rate.items():
        lines = np.stack(list(signals.values()))
        count = lines.shape[1]
        windows = next(k for k in range(1, count) if count % k == 0 and count // k <= _MOST_SAMPLES)
        form = {"channels": len(lines), "samples": count // windows, "rate_hz": rate, "typical": (1.0,)}
        data = SignalData(kind="signal", units=("uV",), **form)
        source = EdfSource(kind="edf", channels=tuple(signals), units=("uV",), windows=windows, patient_from="header")
        found = decode(EdfDecoder(source, data), path, path.stat().st_size)
        assert not isinstance(found, Fault) and len(found) == windows
        assert {each.owner for each in found} == {theirs.code or None}
        assert {each.name for each in found} == {theirs.begun.isoformat()}
        ours = np.concatenate([np.asarray(each.content).reshape(data.shape) for each in found], axis=1)
        # One unit in the last place of float32, and what a double loses where an offset is added to a sample near zero.
        allowed = np.spacing(np.abs(lines).astype(np.float32)) + 1e-12 * np.abs(lines).max()
        assert (np.abs(ours - lines) <= allowed).all() and (lines.max(axis=1) > lines.min(axis=1)).all()
