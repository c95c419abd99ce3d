"""The whole look at a folder of pictures and at label splits; what is in files is never in what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tests_dicom import made, pixels, same, written
from tests_pictures import register

from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import Source, read_source
from ssl_core.datacheck.findings import Finding, Weight, remedy_of
from ssl_core.datacheck.formats import Format, format_of
from ssl_core.datacheck.look import Look, look_at
from ssl_core.errors import ConfigError
from ssl_core.spec.data import ImageData, ImageForm, PairData, TextForm

DATA = ImageData(kind="image", height=16, width=16)


def folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    register(monkeypatch)
    draw = np.random.default_rng(0)
    for patient in ("ann", "ben", "cid"):
        (root / "x" / patient).mkdir(parents=True)
        for number in range(2):
            pixels = draw.integers(0, 255, (16, 16)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "x" / patient / f"{number}.png")
    (root / "s.toml").write_text('kind = "tested-pictures"\npath = "x"\nmax_bad_share = 0.5\n')
    return read_source(root / "s.toml")


def of(look: Look, topic: str) -> list[Finding]:
    return [finding for finding in look.findings if finding.topic == topic]


def test_a_good_folder_has_nothing_to_say_and_shows_the_patient_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder(tmp_path, monkeypatch)
    look = look_at(source, DATA, Effort(0), patient="ben", picture=True)
    assert (look.findings, look.exit_code, look.files) == ((), 0, 6)
    assert look.histogram == (("1", 0), ("2", 3)) and look.cost.kept == 6 * 256 * 4
    assert look.shown is not None and look.shown.patient == "ben"
    before = np.asarray(Image.open(tmp_path / "x" / "ben" / "0.png"), np.float64)
    assert np.array_equal(look.shown.before, before)  # type: ignore[arg-type]
    assert np.allclose(look.shown.after, ((before - before.mean()) / before.std()).reshape(-1), atol=1e-5)
    assert "ben" not in repr(look) and "ben" not in str(look.to_json())
    with pytest.raises(ConfigError, match="no record of this patient"):
        look_at(source, DATA, Effort(0), patient="dan", picture=True)


def test_bad_files_copies_and_headers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path, monkeypatch)
    x = tmp_path / "x"
    (x / "ann" / "1.png").write_bytes((x / "ann" / "0.png").read_bytes())
    (x / "ben" / "1.png").write_bytes((x / "cid" / "1.png").read_bytes())
    (x / "cid" / "0.png").write_bytes(b"SECRET is no picture")
    info = PngInfo()
    info.add_text("Comment", "SECRET")
    Image.open(x / "ben" / "0.png").save(x / "ben" / "0.png", pnginfo=info)
    look = look_at(source, DATA, Effort(0))
    assert [(each.count, each.weight) for each in of(look, "duplicates")] == [(2, Weight.WARNING), (1, Weight.NOTE)]
    (bad,) = of(look, "bad records")
    assert (bad.what, bad.places, bad.weight) == (Fault.UNREADABLE, ("'cid/0.png'",), Weight.NOTE)
    (header,) = of(look, "headers")
    assert header.what == "headers that hold Comment (1)" and header.places == ("ben/0.png",)
    assert look.exit_code == 1 and "SECRET" not in str(look.to_json())


def test_a_link_that_leads_nowhere_is_a_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path, monkeypatch)
    whole = look_at(source, DATA, Effort(0)).cost
    (tmp_path / "x" / "ann" / "2.png").symlink_to(tmp_path / "x" / "SECRET")
    look = look_at(source, DATA, Effort(0))
    (bad,) = of(look, "bad records")
    assert (bad.places, look.files) == (("'ann/2.png'",), 7) and "SECRET" not in str(look.to_json())
    assert look.cost.file_bytes == whole.file_bytes > 0


def test_more_bad_files_than_declared_are_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path, monkeypatch)
    for name in ("ann/0", "ann/1", "ben/0", "ben/1"):
        (tmp_path / "x" / f"{name}.png").write_bytes(b"?")
    look = look_at(source, DATA, Effort(0), picture=True)
    assert look.exit_code == 2 and look.findings[0].weight is Weight.REFUSED
    assert of(look, "bad records")[0].weight is Weight.WARNING
    assert look.shown is not None and look.shown.patient == "cid"


def test_leaks_between_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path, monkeypatch)
    (tmp_path / "x" / "ben" / "0.png").write_bytes((tmp_path / "x" / "cid" / "1.png").read_bytes())
    train, test, other = tmp_path / "train.csv", tmp_path / "test.csv", tmp_path / "other.csv"
    train.write_text("patient,y\nann,1\nben,0\n")
    test.write_text("patient,note\nann,a\ncid,b\n")
    other.write_text("patient,y\nzoe,1\nann ,0\n")
    look = look_at(source, DATA, Effort(0), labels=[train, test])
    one, two = of(look, "leaks")
    assert "both train.csv and test.csv" in one.what and (one.count, one.of) == (1, 3)
    assert "under different patients" in two.what and two.count == 2
    look = look_at(source, DATA, Effort(0), labels=[train, other])
    (labels,) = of(look, "labels")
    assert (labels.count, labels.of, labels.weight) == (1, 2, Weight.NOTE)


def test_leaks_and_partners_of_labels_of_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path, monkeypatch)
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("patient,image,y\nann,ann/0.png,1\nben,ben/0.png,0\nben,ben/1.png,1\n")
    test.write_text("patient,image,y\nann,ann/1.png,0\ncid,SECRET.png,0\n")
    for record_column in (None, "image"):
        # Other records of one patient in two files are a leak, whether or not the column of records is named.
        look = look_at(source, DATA, Effort(0), labels=[train, test], record_column=record_column)
        (leak,) = of(look, "leaks")
        assert "both train.csv and test.csv" in leak.what and (leak.count, leak.of, leak.weight) == (1, 3, Weight.WARNING)
    strangers, bare = of(look, "labels")
    assert (strangers.what, strangers.count, strangers.of) == ("records of test.csv that are not in the source", 1, 2)
    assert (bare.what, bare.count, bare.of, bare.weight) == ("records without a label", 2, 6, Weight.NOTE)
    assert "SECRET" not in str(look.to_json())


def test_labels_of_records_for_a_source_without_ids_are_a_warning(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 16, 16))
    np.savez(tmp_path / "x.npz", image=pixels, patient=np.array(["a", "a", "b"]), scan=np.arange(3))
    (tmp_path / "s.toml").write_text('kind = "npz"\npath = "x.npz"\n')
    (tmp_path / "l.csv").write_text("patient,scan,y\na,0,1\na,1,0\nb,2,0\n")
    how: dict[str, Any] = {"labels": [tmp_path / "l.csv"], "record_column": "scan"}
    (finding,) = of(look_at(read_source(tmp_path / "s.toml"), DATA, Effort(0), **how), "labels")
    assert finding.weight is Weight.WARNING and "record_field" in finding.remedy
    (tmp_path / "s.toml").write_text('kind = "npz"\npath = "x.npz"\nrecord_field = "scan"\n')
    assert not of(look_at(read_source(tmp_path / "s.toml"), DATA, Effort(0), **how), "labels")


def test_pictures_with_text_are_found_in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageDraw, ImageFont

    register(monkeypatch)
    (tmp_path / "x" / "ann").mkdir(parents=True)
    picture = Image.new("L", (256, 256), 60)
    ImageDraw.Draw(picture).text((8, 8), "SECRET NAME", fill=255, font=ImageFont.load_default(16))
    picture.save(tmp_path / "x" / "ann" / "1.png")
    (tmp_path / "s.toml").write_text('kind = "tested-pictures"\npath = "x"\n')
    data = ImageData(kind="image", height=256, width=256)
    look = look_at(read_source(tmp_path / "s.toml"), data, Effort(1))
    (finding,) = of(look, "burnt-in text")
    assert (finding.count, finding.of, finding.places) == (1, 1, ("ann/1.png",))


def test_formats_are_told_by_first_bytes_and_names(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    path = get_testdata_file("CT_small.dcm")
    assert path is not None and format_of(Path(path)) is Format.DICOM
    for name, content, expected in [
        ("a.hea", b"100 2 360", Format.WFDB), ("b.bin", b"RIFF\0\0\0\0WAVEfmt ", Format.WAV),
        ("c.nii.gz", b"\x1f\x8b", Format.NIFTI), ("h", b"RF64\xff\xff\xff\xffWAVEds64", Format.WAV),
        ("i", b"II+\0\x08\0\0\0", Format.TIFF), ("j", b"MM\0+\0\x08\0\0", Format.TIFF),
        ("k", b"\xffBIOSEMI", Format.BDF), ("l", b"RIFF\0\0\0\0AVI LIST", None),
        ("d", b"fLaC", Format.FLAC), ("e.csv", b"a,b", Format.CSV), ("f.csv", b"", None), ("g.txt", b"hello", None),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert format_of(tmp_path / name) is expected
    assert format_of(tmp_path / "absent") is None


def test_the_picture_that_is_shown_is_the_patients_where_all_files_have_one_name(tmp_path: Path) -> None:
    """As archives name them: IM0001 in each folder."""
    for number, owner in enumerate(("ann", "ben")):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        written(tmp_path / "data" / str(number) / "IM0001", made(pixels(number), PatientID=owner))
    (tmp_path / "source.toml").write_text('kind = "dicom"\npath = "data"\nmodalities = ["CT"]\n')
    data = ImageData(kind="image", height=8, width=12)
    shown = look_at(read_source(tmp_path / "source.toml"), data, Effort(0), patient="ben", picture=True).shown
    assert shown is not None and shown.patient == "ben"
    assert np.array_equal(shown.before, pixels(1))  # type: ignore[arg-type]
    assert same(shown.after, pixels(1))


def test_both_halves_of_pairs_are_looked_at_each_as_what_it_is(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = ["patient,study,text"]
    for number, patient in enumerate(("ann", "ben", "cid")):
        (tmp_path / "x" / patient).mkdir(parents=True)
        Image.fromarray(draw.integers(0, 255, (16, 16)).astype(np.uint8)).save(tmp_path / "x" / patient / f"s{number}.png")
        rows.append(f"{patient},s{number},the lungs are clear and the heart is not large" + " on 2024-03-05" * (number == 1))
    (tmp_path / "x" / "ann" / "s0.png").write_bytes(b"broken")
    (tmp_path / "x" / "ben" / "s1.png").rename(tmp_path / "x" / "ben" / "20240305_s1.png")
    (tmp_path / "reports.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "s.toml").write_text(
        'kind = "pairs"\nmax_bad_share = 0.5\nstudy_from = "pattern"\nstudy_pattern = "(?P<study>s[0-9])"\n'
        '[image]\nkind = "pictures"\npath = "x"\n[text]\nkind = "table"\npath = "reports.csv"\nformat = "csv"\n'
        'patient_column = "patient"\nrecord_column = "study"\ntext_column = "text"\n'
    )
    data = PairData(kind="pair", image=ImageForm(height=16, width=16), text=TextForm(words=24, buckets=512))
    look = look_at(read_source(tmp_path / "s.toml"), data, Effort(0), patient="cid", picture=True)
    assert {finding.topic for finding in look.findings} == {"bad records", "file names", "notes"}
    (note,), (name,) = of(look, "notes"), of(look, "file names")
    assert "date" in note.what and "date" in name.what
    assert look.shown is not None and look.shown.patient == "cid" and "cid" not in str(look.to_json())


def test_what_to_do_about_a_fault_is_what_helps_most_people() -> None:
    """Pictures of a hospital are rarely of a plan's size, and a spreadsheet's texts rarely UTF-8."""
    assert "fit" in remedy_of(Fault.SHAPE) and "UTF-8" in remedy_of(Fault.UNREADABLE)
