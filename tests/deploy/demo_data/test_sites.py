"""Demo data on disk: whole or not at all; patients in one group only; the generated and the image sites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests_demo_sites import check_shape, digest

from deploy.demo_data import images, procedural
from deploy.demo_data.sites import new_folder, require_disjoint
from ssl_core.data.labels import read_labels
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import ImageData, TextData

TEXT = TextData(kind="text")
REAL = Path(__file__).parents[4] / "shared" / "data" / "chest_xray_64.npz"
SIZES = (400, 400, 400, 400, 400)


def test_procedural_sites(tmp_path: Path) -> None:
    demo = procedural.write_sites(tmp_path / "a", nominal_sizes=SIZES, seed=3, patients=150)
    check_shape(demo, TEXT)
    again = procedural.write_sites(tmp_path / "b", nominal_sizes=SIZES, seed=3, patients=150)
    other = procedural.write_sites(tmp_path / "c", nominal_sizes=SIZES, seed=4, patients=150)
    assert digest(demo.folder) == digest(again.folder) != digest(other.folder)
    assert [site.nominal_size for site in demo.sites] == list(SIZES) and "no real patient" in demo.notice


def test_procedural_words_tell_findings_and_sites_differ(tmp_path: Path) -> None:
    demo = procedural.write_sites(tmp_path / "a", nominal_sizes=SIZES, patients=150)
    bags = []
    for site in demo.sites[:2]:
        patients = load_patients(read_source(site.test), TEXT)
        _, values = read_labels(site.labels).align(patients)
        bag = np.zeros((len(patients), 512))
        for row, record in enumerate(patients.records):
            bag[row, record[record[:, 0] >= 0, 0]] = 1
        with_it, without = (bag[values[:, 9] == flag].mean(axis=0) for flag in (1, 0))
        assert (with_it - without).max() > 0.1
        bags.append(bag.mean(axis=0))
    assert np.abs(bags[0] - bags[1]).max() > 0.05


def fake_array(path: Path, **changes: object) -> Path:
    rng = np.random.default_rng(1)
    count = 600
    patient = np.array([f"person{n}" for n in rng.integers(0, 200, count)])
    fields: dict[str, object] = {
        "image": rng.integers(0, 256, (count, 8, 8), dtype=np.uint8),
        "patient": patient,
        "label": np.array(["normal", "bacterial", "viral"])[rng.integers(0, 3, count)],
    }
    np.savez(path, **(fields | changes))
    return path


@pytest.mark.parametrize(
    ("classes", "names"), [(("bacterial", "viral"), ("bacterial",)), (None, ("bacterial", "normal", "viral"))]
)
def test_image_sites(tmp_path: Path, classes: tuple[str, ...] | None, names: tuple[str, ...]) -> None:
    demo = images.write_sites(fake_array(tmp_path / "x.npz"), tmp_path / "a", nominal_sizes=SIZES, classes=classes)
    assert demo.label_names == names
    data = ImageData(kind="image", height=8, width=8)
    check_shape(demo, data)
    for site in demo.sites:
        trained = set(load_patients(read_source(site.source), data).units)
        tested = {unit.rsplit("/", 1)[0] for unit in load_patients(read_source(site.test), data).units}
        pooled = {unit.rsplit("/", 1)[0] for unit in load_patients(read_source(site.pool), data).units}
        assert not tested & trained and not tested & pooled and pooled <= trained


@pytest.mark.parametrize(
    ("changes", "classes", "message"),
    [
        ({"image": np.zeros((600, 8, 8))}, None, "uint8"),
        ({"label": np.zeros(600)}, None, "one text per record"),
        ({"patient": np.array(["a"])}, None, "one text per record"),
        ({}, ("bacterial", "fungal"), "fungal"),
        ({}, ("bacterial",), "at least two"),
    ],
)
def test_bad_arrays_write_nothing(
    tmp_path: Path, changes: dict[str, object], classes: tuple[str, ...] | None, message: str
) -> None:
    path = fake_array(tmp_path / "x.npz", **changes)
    with pytest.raises(DataError, match=message):
        images.write_sites(path, tmp_path / "a", nominal_sizes=SIZES, classes=classes)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npz"]


@pytest.mark.skipif(not REAL.is_file(), reason="chest_xray_64.npz is not beside the project")
def test_real_image_sites(tmp_path: Path) -> None:
    demo = images.write_sites(REAL, tmp_path / "a", nominal_sizes=SIZES, classes=("bacterial", "viral"))
    check_shape(demo, ImageData(kind="image", height=64, width=64, pool=2))


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), new_folder(tmp_path / "a") as draft:
        (draft / "x").write_text("1", encoding="utf-8")
        raise RuntimeError("half way")
    assert not list(tmp_path.iterdir())
    (tmp_path / "b").mkdir()
    with new_folder(tmp_path / "b") as draft:
        (draft / "x").write_text("1", encoding="utf-8")
    assert (tmp_path / "b" / "x").read_text(encoding="utf-8") == "1"
    with pytest.raises(ConfigError, match="not empty"), new_folder(tmp_path / "b"):
        pass


def test_a_patient_in_two_groups_is_refused() -> None:
    require_disjoint([["a", "a"], ["b"], []])
    with pytest.raises(DataError) as raised:
        require_disjoint([["a", "SECRET"], ["SECRET"]])
    assert "SECRET" not in str(raised.value)
