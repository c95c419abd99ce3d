"""The page of `choral site data check`: a record of every kind, before and after preparation, escaped, without script."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import tomli_w
from PIL import Image
from tests_dicom import made, written
from tests_fhir import bundle, report, to_me

from deploy.data_page import render_page
from ssl_core.data.reading import Effort
from ssl_core.data.source import read_source
from ssl_core.datacheck.look import Look, look_at
from ssl_core.spec.data import (
    CategoricalColumn,
    Data,
    EventData,
    ImageData,
    ImageForm,
    NumericColumn,
    PairData,
    SignalData,
    SoundData,
    TableData,
    TextData,
    TextForm,
)

NOTE = "<b>Lungs</b> are clear & the heart, seen before, is not large"
IMAGE = ImageForm(height=16, width=16, fit="pad")
TEXT = TextForm(words=4)
DRAW = np.random.default_rng(0)


def looked(folder: Path, data: Data, patient: str | None = None, **body: Any) -> Look:
    (folder / "s.toml").write_text(tomli_w.dumps(body), encoding="utf-8")
    return look_at(read_source(folder / "s.toml"), data, Effort(0), patient=patient, picture=True)


def images(folder: Path) -> dict[str, Any]:
    for number, patient in enumerate(("ann", "ben")):
        (folder / "x" / patient).mkdir(parents=True)
        picture = DRAW.integers(0, 255, (20, 24)).astype(np.uint8)
        Image.fromarray(picture).save(folder / "x" / patient / f"s{number}.png")
    return {"kind": "pictures", "path": "x"}


def table(folder: Path, form: str = "csv") -> dict[str, Any]:
    rows = {"patient": ["ann", "ann", "ben"], "study": ["s9", "s0", "s1"], "text": ["another report", NOTE, NOTE + " again"]}
    path = folder / f"r.{form}"
    if form == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(rows), path)
    elif form == "jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(rows, row, strict=True))) + "\n" for row in zip(*rows.values(), strict=True))
        )
    else:
        path.write_text("patient,study,text\n" + "".join(",".join(row) + "\n" for row in _quoted(rows)))
    return {"kind": "table", "path": path.name, "format": form, "patient_column": "patient", "record_column": "study",
            "text_column": "text"}  # fmt: skip


def _quoted(rows: dict[str, list[str]]) -> list[list[str]]:
    return [[f'"{cell}"' for cell in row] for row in zip(*rows.values(), strict=True)]


def pairs(folder: Path) -> Look:
    body = {"kind": "pairs", "study_from": "pattern", "study_pattern": "(?P<study>s[0-9])"}
    data = PairData(kind="pair", image=IMAGE, text=TEXT)
    return looked(folder, data, **body, image=images(folder), text=table(folder))


def array_pairs(folder: Path) -> Look:
    pixels = DRAW.integers(0, 255, (3, 16, 16)).astype(np.uint8)
    np.savez(folder / "i.npz", image=pixels, patient=np.array(["zoe", "ann", "ben"]), study=np.array(["s5", "s0", "s1"]))
    data = PairData(kind="pair", image=ImageForm(height=16, width=16), text=TEXT)
    image = {"kind": "npz", "path": "i.npz"}
    return looked(folder, data, kind="pairs", study_from="field", image=image, text=table(folder, "parquet"))


def test_of_a_pair_both_halves_stand_before_and_after(tmp_path: Path) -> None:
    look = pairs(tmp_path)
    shown = look.shown
    assert shown is not None and shown.patient == "ann" and shown.report is not None
    assert np.array_equal(shown.before, np.asarray(Image.open(tmp_path / "x" / "ann" / "s0.png"), np.float64))  # type: ignore[arg-type]
    # The report of this study, not the patient's first.
    assert shown.report.before == NOTE and shown.report.words == ("b", "lungs", "b", "are")
    page = render_page(look, PairData(kind="pair", image=IMAGE, text=TEXT))
    assert [size for _, size in drawn(page)] == [(484, 403), (484, 484)]
    assert page.index("The image") < page.index("Its report") < page.index("As it lies in the file:</p>")
    assert "&lt;b&gt;Lungs&lt;/b&gt; are clear &amp; the heart" in page and '<span class="cut">clear</span>' in page


def test_of_a_pair_from_an_array_the_row_is_shown(tmp_path: Path) -> None:
    shown = array_pairs(tmp_path).shown
    assert shown is not None and shown.patient == "ann" and shown.report is not None and shown.report.before == NOTE
    assert np.array_equal(shown.before, np.load(tmp_path / "i.npz")["image"][1])  # type: ignore[arg-type]
    standard = (np.asarray(shown.before) - np.mean(shown.before)) / np.std(shown.before)  # type: ignore[arg-type]
    assert np.allclose(shown.after, standard.ravel(), atol=1e-5)


def test_the_pair_is_that_of_the_patient_who_is_asked_for(tmp_path: Path) -> None:
    body = {"kind": "pairs", "study_from": "pattern", "study_pattern": "(?P<study>s[0-9])"}
    data = PairData(kind="pair", image=IMAGE, text=TEXT)
    shown = looked(tmp_path, data, "ben", **body, image=images(tmp_path), text=table(tmp_path)).shown
    assert shown is not None and shown.patient == "ben" and shown.report is not None
    assert shown.report.before == f"{NOTE} again"


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_texts_of_every_table_are_shown(tmp_path: Path, form: str) -> None:
    data = TextData(kind="text", words=4)
    look = looked(tmp_path, data, "ben", **table(tmp_path, form))
    assert look.shown is not None and look.shown.before == f"{NOTE} again"
    page = render_page(look, data)
    assert page.count("<span>") == 4 and "&lt;b&gt;Lungs" in page and "<b>Lungs" not in page


def fhir(folder: Path) -> dict[str, Any]:
    bodies = [report(f"r{who}{n}", to_me(f"Patient/{who}"), f"{NOTE} {who} {n}") for n in "12" for who in ("ann", "ben")]
    (folder / "x").mkdir()
    (folder / "x" / "a.json").write_text(json.dumps(bundle(*bodies)))
    return {"kind": "fhir", "path": "x"}


def xml(folder: Path) -> dict[str, Any]:
    records = "".join(
        f"<r><who>{who}</who><say>&lt;b&gt;{NOTE[3:8]} {who} {n}</say></r>" for n in "12" for who in ("ann", "ben")
    )
    (folder / "x").mkdir()
    (folder / "x" / "a.xml").write_text(f"<all>{records}</all>")
    return {"kind": "xml", "path": "x", "record": "r", "text": ["say"], "patient_from": "header", "patient_path": "who"}


@pytest.mark.parametrize("make", [fhir, xml])
def test_texts_of_files_are_shown(tmp_path: Path, make: Callable[[Path], dict[str, Any]]) -> None:
    data = TextData(kind="text", words=3)
    look = looked(tmp_path, data, "ben", **make(tmp_path))
    assert look.shown is not None and str(look.shown.before).endswith("ben 1")
    page = render_page(look, data)
    assert page.count("<span>") == 3 and "&lt;b&gt;Lungs" in page


def test_events_stand_beside_what_the_study_sees(tmp_path: Path) -> None:
    rows = ["ben,2024-01-01,<i>x</i>", "ann,2024-01-03,scan", "ann,2024-01-01,admit", "ann,2024-01-02T12:00,<i>x</i>",
            "ann,never,admit", "ann,2026-01-03,scan"]  # fmt: skip
    (tmp_path / "e.csv").write_text("patient,when,code\n" + "\n".join(rows) + "\n")
    data = EventData(kind="events", vocabulary=("admit", "scan"), gap_hours=(24.0, 720.0))
    look = looked(tmp_path, data, "ann", kind="events", path="e.csv", patient_column="patient", time_column="when",
                  code_column="code", max_bad_share=0.9)  # fmt: skip
    page = render_page(look, data)
    cells = re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td>', page)
    assert cells == [
        ("2024-01-01", "admit", "code 1 of 2, the first"),
        ("2024-01-02T12:00", "&lt;i&gt;x&lt;/i&gt;", "a code that is not declared, 24 h to 720 h later"),
        ("2024-01-03", "scan", "code 2 of 2, less than 24 h later"),
        ("2026-01-03", "scan", "code 2 of 2, 720 h or more later"),
    ]
    assert not drawn(page)


def test_of_vital_signs_the_grid_is_drawn_and_nothing_is_warned_of(tmp_path: Path) -> None:
    rows = [
        f"{who},{hour},{name},{value}"
        for who in ("ann", "ben")
        for hour in range(20)
        for name, value in (("HR", 60 + 7 * (hour % 9) + (who == "ben")), ("T", 36 + (hour % 5) / 4), ("note", 3))
    ]
    (tmp_path / "v.csv").write_text("patient,hour,name,value\n" + "\n".join(rows) + "\n")
    data = SignalData(
        kind="signal", channels=2, samples=8, rate_hz=1 / 3600, units=("1/min", "Cel"), centre=(80, 37), typical=(20, 0.7)
    )
    body = {"kind": "vitals", "path": "v.csv", "patient_column": "patient", "time_column": "hour", "time_unit": "hours"}
    body |= {"name_column": "name", "value_column": "value"}
    look = looked(tmp_path, data, "ben", **body, channels=["HR", "T"], units=["1/min", "Cel"])
    assert look.exit_code == 0 and look.report.records == 6 and look.report.files[0].undeclared == 40
    page = render_page(look, data)
    assert len(drawn(page)) == 1 and "As the study sees it" in page
    rows = re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td>', page)
    assert len(rows) == 16 and rows[2:4] == [
        ("1", "HR", "68", "channel 1, sample 2 of 8: -0.600"), ("1", "T", "36.25", "channel 2, sample 2 of 8: -1.071"),
    ]  # fmt: skip
    assert "Not shown: 24 later than it, 20 of names that are not declared." in page


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_row_of_a_table_says_how_numbers_are_scaled(tmp_path: Path, form: str) -> None:
    columns = {"patient": ["ann", "ben"], "age": ["40", "56"], "sex": ["f", "?"]}
    if form == "csv":
        (tmp_path / "c.csv").write_text("patient,age,sex\nann,40,f\nben,56,?\n")
    else:
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "c.parquet")
    age = NumericColumn(name="age", unit="years", centre=50, typical=10)
    data = TableData(kind="table", numeric=(age,), categorical=(CategoricalColumn(name="sex", levels=("f", "m")),))
    body = {"kind": "columns", "format": form, "path": f"c.{form}", "patient_column": "patient", "units": {"age": "years"}}
    page = render_page(looked(tmp_path, data, "ben", **body), data)
    assert "<td>56</td><td>+0.600 = (number - 50) / 10 years</td>" in page and "<td>?</td><td>not declared</td>" in page


def test_bytes_that_are_no_utf_8_do_not_break_the_page(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(b"patient,age,sex\nann,40,m\xfcnnlich\nben,56,f\n")
    sex = CategoricalColumn(name="sex", levels=("f", "m"))
    data = TableData(kind="table", numeric=(NumericColumn(name="age", typical=10),), categorical=(sex,))
    body = {"kind": "columns", "path": "c.csv", "patient_column": "patient", "max_bad_share": 0.9}
    page = render_page(looked(tmp_path, data, "ann", **body), data)
    assert "<td>m?nnlich</td>" in page and page.encode()
    (tmp_path / "n.csv").write_bytes(b"patient,text\nann,m\xfcde\nben,fine\n")
    words = TextData(kind="text")
    body = {"kind": "table", "path": "n.csv", "format": "csv", "patient_column": "patient", "text_column": "text"}
    page = render_page(looked(tmp_path, words, "ann", **body, max_bad_share=0.9), words)
    assert ">m?de</p>" in page and page.encode()


def test_of_a_volume_the_slice_or_patch_is_shown_that_is_read(tmp_path: Path) -> None:
    values = DRAW.integers(0, 255, (24, 20, 9)).astype(np.int16)
    (tmp_path / "x" / "ann").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "x" / "ann" / "a.nii.gz")
    data = ImageData(kind="image", height=8, width=8, fit="stretch")
    shown = looked(tmp_path, data, kind="nifti", path="x", slices=3).shown
    assert shown is not None and np.array_equal(shown.before, values[:, :, 1].T[::-1])  # type: ignore[arg-type]
    patches = {"size": [8, 8], "margin": [2, 4]}
    shown = looked(tmp_path, data, kind="nifti", path="x", slices=3, patches=patches).shown
    # Sixteen voxels are left down and across: two patches each way, none left over.
    assert shown is not None and np.array_equal(shown.before, values[:, :, 1].T[::-1][2:10, 4:12])  # type: ignore[arg-type]


@pytest.mark.parametrize(("several", "first"), [(1, 2), (2, 1), (9, 0)])
def test_of_pages_and_frames_the_one_is_shown_that_is_read(tmp_path: Path, several: int, first: int) -> None:
    pages = DRAW.integers(0, 255, (5, 8, 12)).astype(np.uint8)
    (tmp_path / "x" / "ann").mkdir(parents=True)
    whole = [Image.fromarray(page) for page in pages]
    whole[0].save(tmp_path / "x" / "ann" / "a.tif", save_all=True, append_images=whole[1:])
    data = ImageData(kind="image", height=8, width=12)
    shown = looked(tmp_path, data, kind="pictures", path="x", pages=several).shown
    assert shown is not None and np.array_equal(shown.before, pages[first])  # type: ignore[arg-type]
    assert np.allclose(shown.after, ((pages[first] - pages[first].mean()) / pages[first].std()).ravel(), atol=1e-5)
    (tmp_path / "d").mkdir()
    written(tmp_path / "d" / "a.dcm", made(pages.astype(np.uint16), PatientID="ann"))
    shown = looked(tmp_path, data, kind="dicom", path="d", modalities=["CT"], frames=several).shown
    assert shown is not None and np.array_equal(shown.before, pages[first])  # type: ignore[arg-type]


def test_signals_and_sounds_are_drawn_over_their_seconds(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", signal=DRAW.normal(size=(4, 2, 100)).astype(np.float32), patient=np.array(list("abcd")))
    data: Data = SignalData(kind="signal", channels=2, samples=100, rate_hz=50, units=("mV",), typical=(0.5,))
    page = render_page(looked(tmp_path, data, kind="signals", path="e.npz", rate_hz=50, units=["mV"]), data)
    assert [size for _, size in drawn(page)] == [(968, 319), (968, 319)]
    (tmp_path / "x" / "ann").mkdir(parents=True)
    soundfile.write(tmp_path / "x" / "ann" / "a.wav", 0.1 * DRAW.normal(size=4000), 4000)
    data = SoundData(kind="sound", rate_hz=4000, seconds=1, high_hz=1800, mels=16)
    page = render_page(looked(tmp_path, data, kind="sound", path="x"), data)
    (_, curve), (_, bands) = drawn(page)
    assert curve[0] == bands[0] == 968


def test_nothing_of_a_page_comes_from_elsewhere_or_runs(tmp_path: Path) -> None:
    page = render_page(pairs(tmp_path), PairData(kind="pair", image=IMAGE, text=TEXT))
    assert "default-src 'none'" in page and "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert not re.search(r"(?:src|href)=\"(?!data:image/png)", page)


def drawn(page: str) -> list[tuple[str, tuple[int, int]]]:
    """Caption and size in pixels of each picture of a page."""
    found = re.findall(r'<figcaption>([^<]*)</figcaption><img src="data:image/png;base64,([^"]*)"', page)
    return [(caption, Image.open(io.BytesIO(base64.b64decode(content))).size) for caption, content in found]
