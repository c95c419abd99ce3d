"""A signal array as a demo's sites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests_demo_sites import check_shape

from deploy.demo_data import signals
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import DataError
from ssl_core.spec.data import SignalData

DATA = SignalData(kind="signal", channels=1, samples=60, rate_hz=100.0, units=("mV",), typical=(0.2,))
REAL = Path(__file__).parents[4] / "shared" / "data" / "ecg_cinc2017_100hz.npz"
SIZES = (800, 800, 800, 800, 800)


def fake_array(path: Path, **changes: object) -> Path:
    rng = np.random.default_rng(1)
    fields: dict[str, object] = {
        "signal": rng.integers(-900, 900, (600, 60), dtype=np.int16),
        "record": np.array([f"A{number:05d}" for number in range(600)]),
        "label": np.array(["N", "A", "O", "~"])[rng.integers(0, 4, 600)],
    }
    np.savez(path, **(fields | changes))
    return path


@pytest.mark.parametrize(("classes", "names"), [(("A", "N"), ("A",)), (None, ("A", "N", "O", "~"))])
def test_signal_sites(tmp_path: Path, classes: tuple[str, ...] | None, names: tuple[str, ...]) -> None:
    demo = signals.write_sites(fake_array(tmp_path / "x.npz"), tmp_path / "a", DATA, nominal_sizes=SIZES, classes=classes)
    assert demo.label_names == names and "not by hospital" in demo.notice
    check_shape(demo, DATA)
    for site in demo.sites:
        trained = set(load_patients(read_source(site.source), DATA).units)
        tested = {unit.rsplit("/", 1)[0] for unit in load_patients(read_source(site.test), DATA).units}
        pooled = {unit.rsplit("/", 1)[0] for unit in load_patients(read_source(site.pool), DATA).units}
        assert not tested & trained and not tested & pooled and pooled <= trained


def test_counts_are_microvolts_and_floats_are_in_the_study_s_units(tmp_path: Path) -> None:
    counts = np.full((600, 60), 100, np.int16)
    counts[:, ::2] = 0
    floats = (counts / 1000).astype(np.float32)[:, None, :]
    for name, array in (("a", counts), ("b", floats)):
        path = fake_array(tmp_path / f"{name}.npz", signal=array)
        demo = signals.write_sites(path, tmp_path / name, DATA, nominal_sizes=SIZES)
        records = load_patients(read_source(demo.sites[0].source), DATA).records
        assert np.allclose(np.unique(records), [0.0, 0.5])


@pytest.mark.parametrize(
    ("changes", "classes", "message"),
    [
        ({"signal": np.zeros((600, 61), np.int16)}, None, "needs others"),
        ({"signal": np.zeros((600, 60))}, None, "needs others"),
        ({"record": np.arange(600)}, None, "one text per record"),
        ({"label": np.array(["N"])}, None, "one text per record"),
        ({}, ("N", "B"), "B"),
    ],
)
def test_bad_arrays_write_nothing(
    tmp_path: Path, changes: dict[str, object], classes: tuple[str, ...] | None, message: str
) -> None:
    path = fake_array(tmp_path / "x.npz", **changes)
    with pytest.raises(DataError, match=message):
        signals.write_sites(path, tmp_path / "a", DATA, nominal_sizes=SIZES, classes=classes)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.skipif(not REAL.is_file(), reason="ecg_cinc2017_100hz.npz is not beside the project")
def test_real_signal_sites(tmp_path: Path) -> None:
    data = DATA.model_copy(update={"samples": 3000})
    demo = signals.write_sites(REAL, tmp_path / "a", data, nominal_sizes=SIZES)
    check_shape(demo, data)
