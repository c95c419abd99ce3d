"""A source of one part reads what a source of these patients' records alone would, whatever kind it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w
from PIL import Image

from ssl_core.data import rows as rows_module
from ssl_core.data.assignment import Assignment
from ssl_core.data.check import check_and_load
from ssl_core.data.folder_files import inside
from ssl_core.data.patients import Patients
from ssl_core.data.reading import Effort
from ssl_core.data.source import MODELS, Source, load_patients, read_records, read_source
from ssl_core.datacheck.look import look_at
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import Data, ImageData, ImageForm, NumericColumn, PairData, TableData, TextData, TextForm

TEXT = TextData(kind="text", words=4, codes=2, buckets=64)
IMAGE = ImageData(kind="image", height=8, width=8)
TABLE = TableData(kind="table", numeric=tuple(NumericColumn(name=name, centre=30, typical=15) for name in ("age", "beats")))
PAIR = PairData(kind="pair", image=ImageForm(height=8, width=8), text=TextForm(words=4, codes=2, buckets=64))
HERE = Effort(workers=0)
MINE = ("p1", "p4", "p5")
UNITS = [f"p{number}" for number in range(7)]
TEXTS: dict[str, Any] = {
    "kind": "table", "path": "t.csv", "format": "csv", "patient_column": "patient", "text_column": "text",
    "record_column": "study",
}  # fmt: skip
COLUMNS = {"kind": "columns", "path": "t.csv", "patient_column": "patient", "time_column": "day", "time_unit": "hours"}
PICTURES = {"kind": "pictures", "path": "x"}
PAIRS = {"kind": "pairs", "study_from": "pattern", "study_pattern": "(?P<study>s[0-9]+)", "image": PICTURES, "text": TEXTS}
KINDS: dict[str, tuple[dict[str, Any], Data]] = {
    "texts": (TEXTS, TEXT), "columns": (COLUMNS, TABLE), "pictures": (PICTURES, IMAGE), "pairs": (PAIRS, PAIR),
    "array": ({"kind": "npz", "path": "x.npz"}, IMAGE),
}  # fmt: skip


def files_of(folder: Path, units: list[str] | tuple[str, ...]) -> None:
    """Everything that any kind reads, of some of the patients alone; each patient's content is his own."""
    folder.mkdir(exist_ok=True)
    rows, images, owners = [], [], []
    for unit in units:
        draw = np.random.default_rng(int(unit[1:]))
        for number in range(1 + int(unit[1:]) % 3):
            picture = draw.integers(0, 255, (8, 8)).astype(np.uint8)
            place = folder / "x" / unit / f"s{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place)
            images.append(picture)
            owners.append(unit)
            rows.append(
                (unit, f"s{number}", f"words of {unit} {number}", 10 * int(unit[1:]) + number, 90 - number, draw.random())
            )
    frame = pd.DataFrame(rows, columns=["patient", "study", "text", "age", "beats", "day"])
    frame.sample(frac=1, random_state=0).to_csv(folder / "t.csv", index=False)
    np.savez(folder / "x.npz", image=np.stack(images), patient=np.array(owners))


def part_of(folder: Path, declared: dict[str, Any], part: str = "mine") -> Source:
    """A source of `part` in a folder with the files of all patients."""
    files_of(folder, UNITS)
    Assignment({unit: "mine" if unit in MINE else "theirs" for unit in UNITS}, {}).save(folder / "sites.csv")
    (folder / "s.toml").write_text(tomli_w.dumps({"split": "sites.csv", "part": part} | declared))
    return read_source(folder / "s.toml")


def same(one: Patients, other: Patients) -> bool:
    return one.units == other.units and all(
        np.asarray(getattr(one, name)).tobytes() == np.asarray(getattr(other, name)).tobytes()
        for name in ("tags", "offsets", "records")
    )


@pytest.mark.parametrize("name", KINDS)
def test_it_reads_what_a_source_of_these_patients_alone_would(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared, data = KINDS[name]
    files_of(tmp_path / "alone", MINE)
    (tmp_path / "alone" / "s.toml").write_text(tomli_w.dumps(declared))
    alone = load_patients(read_source(tmp_path / "alone" / "s.toml"), data, HERE)
    source = part_of(tmp_path / "all", declared)
    checked = check_and_load(source, data, HERE)
    assert alone.units == MINE and same(checked.patients, alone)
    assert same(load_patients(source, data, HERE), alone)
    report = checked.report
    assert (report.patients, report.records, report.left_out, report.absent) == (3, len(alone.records), 6, 0)
    assert any(line.startswith("6 records of other parts' patients left out") for line in report.lines())
    # Records that do not fit in memory lie in a file, and those of the part in another.
    monkeypatch.setattr(rows_module, "IN_MEMORY", 64)
    assert same(load_patients(source, data, HERE), alone)


def test_record_ids_stay_with_their_records(tmp_path: Path) -> None:
    source = part_of(tmp_path, TEXTS | {"time_column": "day", "time_unit": "hours"})
    whole = read_records(Source(tmp_path, source.declared.model_copy(update={"split": None, "part": None})), TEXT, HERE)
    reading = read_records(source, TEXT, HERE)
    assert whole.names is not None and reading.names is not None and whole.names != whole.order
    rows = zip(whole.owners, whole.order, whole.names, whole.records.tolist(), strict=True)
    kept = zip(reading.owners, reading.order, reading.names, reading.records.tolist(), strict=True)
    assert list(kept) == [row for row in rows if row[0] in MINE]


def test_patients_of_the_part_without_a_record_are_counted(tmp_path: Path) -> None:
    source = part_of(tmp_path, TEXTS)
    Assignment(dict.fromkeys(("p1", "absent", "gone"), "mine"), {}).save(tmp_path / "sites.csv")
    report = check_and_load(source, TEXT, HERE).report
    assert (report.patients, report.absent) == (1, 2)


@pytest.mark.parametrize(
    ("text", "part", "field"),
    [
        ("patient,part\nSECRET,SECRET2\n", "mine", "part"),
        ("patient,part\nSECRET,mine\n", "mine", "part"),
        ("patient,part\nSECRET,mine\nSECRET,mine\n", "mine", "column"),
        (None, "mine", "split"),
    ],
)
def test_split_files_that_do_not_fit_are_refused_without_a_patients_name(
    tmp_path: Path, text: str | None, part: str, field: str
) -> None:
    source = part_of(tmp_path, TEXTS, part)
    (tmp_path / "sites.csv").unlink()
    if text is not None:
        (tmp_path / "sites.csv").write_text(text)
    for read in (load_patients, check_and_load):
        with pytest.raises(DataError) as raised:
            read(source, TEXT, HERE)
        assert raised.value.field == field and "SECRET" not in str(raised.value)


def test_a_split_file_outside_the_folder_and_keys_without_each_other_are_refused(tmp_path: Path) -> None:
    source = part_of(tmp_path / "in", TEXTS)
    (tmp_path / "in" / "sites.csv").rename(tmp_path / "sites.csv")
    (tmp_path / "in" / "sites.csv").symlink_to(tmp_path / "sites.csv")
    with pytest.raises(DataError, match="outside"):
        read_records(source, TEXT, HERE)
    (tmp_path / "in" / "sites.csv").unlink()
    (tmp_path / "in" / "sites.csv").symlink_to("sites.csv")
    for name in ("sites.csv", "a\0b", "x" * 900):
        with pytest.raises(DataError, match="cannot be a path") as raised:
            inside(tmp_path / "in", name, "split")
        assert raised.value.field == "split" and raised.value.__cause__ is None
    path = tmp_path / "in" / "s.toml"
    for declared in (TEXTS | {"split": "a.csv"}, TEXTS | {"part": "a"}, TEXTS | {"split": "../a.csv", "part": "a"}):
        path.write_text(tomli_w.dumps(declared))
        with pytest.raises(ConfigError):
            read_source(path)
    path.write_text(tomli_w.dumps(PAIRS | {"text": TEXTS | {"split": "a.csv", "part": "a"}}))
    with pytest.raises(ConfigError, match="write it above"):
        read_source(path)


def test_every_kind_of_source_can_be_restricted() -> None:
    assert all({"split", "part"} <= set(model.model_fields) for model in MODELS.values())


@pytest.mark.parametrize("name", KINDS)
def test_the_page_shows_a_patient_of_the_part(tmp_path: Path, name: str) -> None:
    declared, data = KINDS[name]
    source = part_of(tmp_path, declared)
    look = look_at(source, data, HERE, picture=True)
    assert look.shown is not None and look.shown.patient in MINE
    assert look_at(source, data, HERE, patient="p5", picture=True).shown is not None
    with pytest.raises(ConfigError, match="no record of this patient"):
        look_at(source, data, HERE, patient="p3", picture=True)
