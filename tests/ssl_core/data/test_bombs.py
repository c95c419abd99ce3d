"""Tables and arrays that take little room and would fill the memory: refused by name, in a process whose memory is measured."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.data import csv_rows
from ssl_core.data.check import inspect_source
from ssl_core.data.npz import load_fields
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import read_records, read_source
from ssl_core.errors import DataError
from ssl_core.spec.data import ImageData, TextData

ROOT = Path(__file__).resolve().parents[3]
TEXT = TextData(kind="text", words=6, codes=2, buckets=64)
IMAGE = ImageData(kind="image", height=8, width=12)
MIB = 1 << 20
GROWTH_MIB = 160
"""Of this process while it refuses a bomb; pyarrow's libraries alone take 60."""

_PROGRAM = """
import json, resource, sys
from pathlib import Path
from ssl_core.data.reading import Effort
from ssl_core.data.source import read_records, read_source
from ssl_core.errors import DataError
from ssl_core.spec.data import ImageData, TextData

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

if __name__ == "__main__":
    source = read_source(Path(sys.argv[1]))
    data = ImageData(kind="image", height=8, width=12) if source.declared.kind == "npz" else None
    data = data or TextData(kind="text", words=6, codes=2, buckets=64)
    before, told = peak(), None
    try:
        reading = read_records(source, data, Effort(workers=1))
        told = {"rows": len(reading.owners), "faults": dict(reading.tallies[0].faults)}
    except DataError as error:
        told = {"field": error.field, "limit": str(error.limit), "remedy": error.remedy, "text": str(error)}
    print(json.dumps({**told, "growth": peak() - before}))
"""


def declare(folder: Path, kind: str = "table", form: str = "parquet", **changes: Any) -> Path:
    if kind == "npz":
        body: dict[str, Any] = {"kind": kind, "path": "x.npz", **changes}
    else:
        body = {"kind": kind, "path": f"t.{form}", "format": form, "patient_column": "p", "text_column": "t", **changes}
    (folder / "source.toml").write_text(tomli_w.dumps(body), encoding="utf-8")
    return folder / "source.toml"


def read_alone(folder: Path, source: Path) -> dict[str, Any]:
    """What a process of its own says of a source, and by how many MiB its memory grew at most."""
    (folder / "program.py").write_text(_PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, folder / "program.py", source], capture_output=True, text=True, check=True, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["growth"] < GROWTH_MIB, told
    return told


def refused(folder: Path, source: Path, field: str) -> dict[str, Any]:
    told = read_alone(folder, source)
    assert told.get("field") == field and told["limit"] != "None" and told["remedy"], told
    return told


def bomb(path: Path, shape: tuple[int, ...], size: int) -> None:
    """An npz file whose images are `size` zeros, whatever its header says."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("image.npy", "w") as member:
            member.write(head.getvalue())
            for _ in range(size // MIB):
                member.write(bytes(MIB))
        archive.writestr("patient.npy", head.getvalue())


def test_an_array_that_deflated_to_almost_nothing_is_not_inflated(tmp_path: Path) -> None:
    bomb(tmp_path / "x.npz", (3 * MIB, 8, 12), 288 * MIB)
    assert (tmp_path / "x.npz").stat().st_size < 3 * MIB
    assert "almost nothing" in refused(tmp_path, declare(tmp_path, "npz"), "path")["text"]


def test_an_array_larger_than_declared_is_not_inflated(tmp_path: Path) -> None:
    images = np.zeros((90_000, 8, 12), np.float32)
    images[::50] = np.random.default_rng(0).normal(size=(1800, 8, 12))
    np.savez_compressed(tmp_path / "x.npz", image=images, patient=np.arange(90_000))
    told = refused(tmp_path, declare(tmp_path, "npz", largest_mib=16), "largest_mib")
    assert told["growth"] < 16 and told["limit"] == "16 MiB"
    with pytest.raises(DataError, match="larger"):
        # The images alone would fit, with their patients they do not.
        read_records(read_source(declare(tmp_path, "npz", largest_mib=33)), IMAGE)
    assert len(read_records(read_source(declare(tmp_path, "npz", largest_mib=34)), IMAGE).owners) == 90_000


@pytest.mark.parametrize("shape", [(2, 8, 12), (1 << 40, 8, 12), (0, 8, 12), (1 << 62, 1 << 62, 8)])
def test_a_header_that_says_another_size_than_the_directory_is_damaged(tmp_path: Path, shape: tuple[int, ...]) -> None:
    bomb(tmp_path / "x.npz", shape, MIB)
    with pytest.raises(DataError, match="cannot be read as npz"):
        load_fields(tmp_path / "x.npz", "x.npz", ("image",))


def test_a_header_that_pythons_parser_has_no_memory_for_is_damaged(tmp_path: Path) -> None:
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"-" * 9000 + b"1,)}\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("image.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    with pytest.raises(DataError, match="cannot be read as npz"):
        load_fields(tmp_path / "x.npz", "x.npz", ("image",))


def test_a_directory_of_very_many_members_is_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(DataError, match="cannot be read as npz"):
        load_fields(tmp_path / "x.npz", "x.npz", ("image",))


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_codec_that_numpy_does_not_write_is_refused(tmp_path: Path, how: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", how) as archive:
        archive.writestr("image.npy", bytes(MIB))
    with pytest.raises(DataError, match="cannot be read as npz"):
        load_fields(tmp_path / "x.npz", "x.npz", ("image",))


def test_what_is_read_is_what_numpy_reads(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "a": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)), "b": np.array(["x", "élan"]), "c": np.int16(3),
        "d": np.zeros((0, 4), ">f4"), "e": np.array([True, False]),
    }  # fmt: skip
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "x.npz", **arrays)
        found = load_fields(tmp_path / "x.npz", "x.npz", tuple(arrays))
        with np.load(tmp_path / "x.npz") as stored:
            for name in arrays:
                assert found[name].dtype == stored[name].dtype and np.array_equal(found[name], stored[name])


def dictionary(path: Path, text: str, groups: int) -> None:
    """A million equal texts in each group, which a dictionary holds once."""
    million = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int8)), pa.array([text]))
    table = pa.table({"p": million, "t": million})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(groups):
            writer.write_table(table)
    assert path.stat().st_size < MIB


def test_a_hundred_million_equal_texts_are_refused_by_their_number_or_their_size(tmp_path: Path) -> None:
    dictionary(tmp_path / "t.parquet", "x", 100)
    assert "100000000" not in refused(tmp_path, declare(tmp_path), "max_rows")["text"]
    dictionary(tmp_path / "t.parquet", "word " * 2000, 1)
    refused(tmp_path, declare(tmp_path, largest_mib=64), "largest_mib")


@pytest.mark.parametrize("codec", ["gzip", "brotli", "zstd"])
def test_a_page_that_inflates_to_far_more_fills_its_worker_alone(tmp_path: Path, codec: str) -> None:
    texts = pa.array([bytes(128 * MIB).decode()], pa.large_string())
    table = pa.table({"p": ["a"], "t": texts})
    pq.write_table(table, tmp_path / "t.parquet", compression=codec, use_dictionary=False, write_statistics=False)
    assert (tmp_path / "t.parquet").stat().st_size < MIB
    refused(tmp_path, declare(tmp_path), "path")
    with pytest.raises(DataError, match="larger") as raised:
        read_records(read_source(declare(tmp_path, largest_mib=100)), TEXT, Effort(workers=0))
    assert raised.value.field == "largest_mib" and raised.value.limit == "100 MiB"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_line_that_does_not_end_is_not_read(tmp_path: Path, form: str) -> None:
    with (tmp_path / f"t.{form}").open("wb") as stream:
        stream.write(b"p,t\n" if form == "csv" else b'{"p": "a", "t": "')
        stream.truncate(1024 * MIB)
    told = refused(tmp_path, declare(tmp_path, form=form), "path")
    assert "too long" in told["text"]
    with pytest.raises(DataError, match="larger than the source allows"):
        read_records(read_source(declare(tmp_path, form=form, largest_mib=1000)), TEXT)


def test_a_record_that_does_not_end_is_bad_to_the_end_of_the_file(tmp_path: Path) -> None:
    # Each line closes one quoted cell and opens the next.
    (tmp_path / "t.csv").write_text('p,t\na,one\nb,"' + 'x\n","' * (5 * MIB // 5) + "\n", encoding="utf-8")
    told = read_alone(tmp_path, declare(tmp_path, form="csv", multiline=True))
    lines = (tmp_path / "t.csv").read_text().count("\n")
    assert told["rows"] == 1 and told["faults"] == {Fault.QUOTES.value: lines - 2}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_more_rows_than_declared_are_refused(tmp_path: Path, form: str) -> None:
    (tmp_path / "t.csv").write_text("p,t\n" + "a,one\n" * 5)
    (tmp_path / "t.jsonl").write_text('{"p": "a", "t": "one"}\n' * 5)
    pq.write_table(pa.table({"p": ["a"] * 5, "t": ["one"] * 5}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="more rows") as raised:
        read_records(read_source(declare(tmp_path, form=form, max_rows=4)), TEXT, Effort(workers=0))
    assert raised.value.field == "max_rows" and raised.value.limit == 4 and raised.value.value is None
    assert inspect_source(read_source(declare(tmp_path, form=form, max_rows=5)), TEXT, Effort(workers=0)).records == 5


def test_a_long_line_is_named_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "LONGEST", 30)
    (tmp_path / "t.csv").write_text("p,t\na,one\nb,SECRET" + "x" * 30 + "\n")
    with pytest.raises(DataError, match="line 3") as raised:
        read_records(read_source(declare(tmp_path, form="csv")), TEXT)
    assert raised.value.limit == "30 characters" and "SECRET" not in str(raised.value)


def mutated(whole: bytes, seed: int) -> bytes:
    rng, raw = random.Random(seed), bytearray(whole)
    for _ in range(rng.randint(1, 6)):
        # Directory and headers stand at the ends.
        place = rng.choice([rng.randrange(len(raw)), rng.randrange(min(200, len(raw))), -rng.randrange(1, min(200, len(raw)))])
        match rng.randrange(4):
            case 0:
                raw[place] ^= 1 << rng.randrange(4)
            case 1:
                raw[place] = rng.choice([0, 255])
            case 2:
                del raw[place : place + rng.randrange(1, 20)]
            case _:
                raw[place:place] = raw[: rng.randrange(1, 200)]
    return bytes(raw)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.sampled_from(["npz", "deflated", "csv", "jsonl"]))
def test_a_damaged_array_or_table_is_read_or_refused(seed: int, kind: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind in ("npz", "deflated"):
            write = np.savez if kind == "npz" else np.savez_compressed
            images = np.random.default_rng(0).integers(0, 255, (6, 8, 12)).astype(np.uint8)
            write(folder / "x.npz", image=images, patient=np.array([f"SECRET{n}" for n in range(6)]))
            source, data = declare(folder, "npz", largest_mib=1), IMAGE
        else:
            rows = [{"p": f"SECRET{n}", "t": f'one "{n}", two'} for n in range(9)]
            csv_text = "p,t\n" + "".join('{},"one ""{}"", two"\n'.format(row["p"], n) for n, row in enumerate(rows))
            (folder / "t.csv").write_text(csv_text)
            (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            source, data = declare(folder, form=kind, multiline=kind == "csv"), TEXT
        path = folder / ("x.npz" if data is IMAGE else f"t.{kind}")
        path.write_bytes(mutated(path.read_bytes(), seed))
        try:
            inspect_source(read_source(source), data, Effort(workers=0))
        except DataError as error:
            assert "SECRET" not in str(error)


def test_a_damaged_parquet_file_ends_no_process_but_its_worker(tmp_path: Path) -> None:
    columns = {"p": [f"SECRET{n}" for n in range(400)], "t": pa.array(["one two"] * 400).dictionary_encode()}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=100)
    whole = (tmp_path / "t.parquet").read_bytes()
    for seed in range(4):
        (tmp_path / "t.parquet").write_bytes(mutated(whole, seed))
        try:
            read_records(read_source(declare(tmp_path)), TEXT, Effort(workers=1))
        except DataError as error:
            assert "SECRET" not in str(error)
    (tmp_path / "t.parquet").write_bytes(whole)
    assert len(read_records(read_source(declare(tmp_path)), TEXT, Effort(workers=1)).owners) == 400
