"""What is read before any worker, in the site's own process: names, links, indices, headers that name others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings
from tests_recordings import mutate

from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_recordings import WfdbSource
from ssl_core.data.folder_files import list_files, read_index
from ssl_core.data.source import MODELS
from ssl_core.data.wfdb_files import _without_segments
from ssl_core.errors import DataError

KINDS = sorted(kind for kind, model in MODELS.items() if issubclass(model, FolderSource))
OWN: dict[str, dict[str, Any]] = {
    "dicom": {"modalities": ("CR",)},
    "wfdb": {"channels": ("II",), "units": ("mV",)},
    "edf": {"channels": ("II",), "units": ("mV",)},
    "dicom-waveform": {"channels": ("II",), "units": ("mV",)},
    "xml": {"text": ("a",)},
}
RULES: list[dict[str, Any]] = [
    {"patient_from": "folder"},
    {"patient_from": "pattern", "patient_pattern": r"^(?P<patient>p\d+)?"},
    {"patient_from": "index", "index": "index.csv"},
]
BY_HEADER = {"patient_from": "header", "patient_comment": "subject"}
FUZZ = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = st.lists(
    st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b"..")), max_size=4
)


def test_every_kind_of_folder_is_tried() -> None:
    assert set(KINDS) >= {"dicom", "pictures", "nifti", "wfdb", "edf", "dicom-waveform", "sound", "xml", "fhir"}


def _folder(root: Path, names: list[bytes]) -> None:
    for place, name in enumerate(names):
        path = os.path.join(os.fsencode(root), name)
        if os.path.lexists(path):
            continue
        match place % 4:
            case 0:
                Path(os.fsdecode(path)).write_bytes(b"x")
            case 1:
                os.mkfifo(path)
            case 2:
                os.symlink(os.path.join(b"..", *names[:1]), path)
            case _:
                os.symlink(name, path)


@FUZZ
@given(kind=st.sampled_from(KINDS), rule=st.sampled_from(RULES), names=NAMES, index=st.binary(max_size=60))
@example(kind="pictures", rule=RULES[2], names=[b"p1", b"\xff"], index=b"file,patient\np1,\xff\n")
def test_no_names_and_no_index_make_the_listing_raise_but_for_the_source(
    tmp_path_factory: pytest.TempPathFactory, kind: str, rule: dict[str, Any], names: list[bytes], index: bytes
) -> None:
    root = tmp_path_factory.mktemp("listing")
    (root / "p1").mkdir()
    _folder(root, names)
    _folder(root / "p1", names)
    if not os.path.lexists(root / "index.csv"):
        (root / "index.csv").write_bytes(b"file,patient\n" * (len(index) % 2) + index)
    source = MODELS[kind].model_validate({"kind": kind, "files": ("*",)} | OWN.get(kind, {}) | rule)
    assert isinstance(source, FolderSource)
    try:
        found = list_files(source, root)
    except DataError as error:
        assert error.field in ("index", "file_column", "patient_column", "multiline", "files", "path")
    else:
        for file in found:
            # Whoever opens a listed file opens a regular one below the folder, and no pipe.
            assert not file.inside or (file.path.resolve().is_relative_to(root.resolve()) and file.path.is_file())


@FUZZ
@given(index=st.binary(max_size=80), headed=st.booleans())
def test_no_index_of_studies_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, index: bytes, headed: bool) -> None:
    root = tmp_path_factory.mktemp("index")
    (root / "index.csv").write_bytes(b"file,study\n" * headed + index)
    try:
        found = read_index(root, "index.csv", ("file_column", "file"), ("study_column", "study"), "study")
    except DataError as error:
        assert error.field in ("index", "file_column", "study_column", "multiline")
    else:
        assert all(name and study for name, study in found.items())


HEADER = b"p1/3 2 100 1300\np1_1 500\n~ 100\np1_2 700\n# subject: p1\n"
LINES = st.lists(
    st.one_of(
        st.binary(max_size=20), st.sampled_from([b"p1_1 500", b"p1 1", b"~ 1", b"../x 1", b"s/x 1", b". 1", b".. 1", b"a\0b 1",
                                                 b"x" * 400 + b" 1", b"\xff 1", b"# subject: p2", b"# subject: p1", b"/ 1"]),
    ), max_size=6,
)  # fmt: skip


@FUZZ
@given(data=st.data(), rule=st.sampled_from([*RULES, BY_HEADER]), lines=LINES)
@example(data=None, rule=BY_HEADER, lines=[b"s/x 1"])
def test_no_header_makes_the_look_for_segments_raise(
    tmp_path_factory: pytest.TempPathFactory, data: Any, rule: dict[str, Any], lines: list[bytes]
) -> None:
    root = tmp_path_factory.mktemp("wfdb")
    (root / "index.csv").write_text("file,patient\np1.hea,p1\np1_1.hea,p1\np1_2.hea,p2\n")
    (root / "p1_1.hea").write_bytes(b"p1_1 1 100 500\np1_1.dat 16\n" + b"\n".join(lines))
    (root / "p1_2.hea").symlink_to(root / "p1_1.hea")
    whole = b"p1/2 2 100 1300\n" + b"\n".join(lines) + HEADER.partition(b"\n")[2]
    (root / "p1.hea").write_bytes(whole if data is None else mutate(whole, data.draw, st))
    source = WfdbSource.model_validate({"kind": "wfdb"} | OWN["wfdb"] | rule)
    files = list_files(source, root)
    kept = _without_segments(files, source)
    assert {file.path for file in kept} <= {file.path for file in files}
