"""Step 13: what a split leaves on disk: who is in which part, and for each part its labels and the source that reads it alone.

Comes in: an `Assignment`, a label table, the path of a source TOML. Goes out: a new folder (mode 0700, files of mode 0600) with
`split.csv` and, of each part, `<labels>-<part>.csv`, rows as they stand in the label file; and beside the source TOML, because
its paths are relative to it, `<source>-<folder>-<part>.toml`: the same source with the keys `split` and `part` (part.py). All
but the TOML files name patients. Nothing that exists is written over. Raises `ConfigError` for names that cannot be taken.
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import tomli_w

from ssl_core.chain import write_durably
from ssl_core.data.assignment import Assignment
from ssl_core.data.declared import Declared
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.drawing import PATIENT
from ssl_core.data.folder_files import asked_for
from ssl_core.data.label_table import LabelTable
from ssl_core.errors import ConfigError
from ssl_core.folder import new_folder

_SPLIT = "split.csv"
_OTHER = re.compile(r"[^A-Za-z0-9_-]+")


def check_out(out: Path, source: Path | None = None, declared: Declared | None = None) -> None:
    """Refuse a folder that cannot be taken, before anything is read; `declared`: what stands in `source`."""
    if out.exists():
        raise ConfigError("folder exists and is not written over", field="--out", value=str(out), remedy="name a new one")
    if source is None or declared is None:
        return
    here = source.parent.resolve()
    if not out.resolve().is_relative_to(here):
        raise ConfigError(
            "a source reads what lies in its own folder, its split too", field="--out", value=str(out), limit=str(here),
            remedy="name a new folder there",
        )  # fmt: skip
    for part in declared.parts if isinstance(declared, PairsSource) else (declared,):
        if isinstance(part, FolderSource):
            # A folder of files that are known by their names must not take those of the split for records.
            root = (here / part.path).resolve()
            written = (out.resolve() / _SPLIT, here / _beside(source, out, "part").name)
            if any(path.is_relative_to(root) and asked_for(part, path.name) for path in written):
                raise ConfigError(
                    "the source would read the split's files as its own", field="files", value=", ".join(part.files),
                    remedy='name its files in the source file, such as files = ["*.dcm"], or put them into a folder: path',
                )  # fmt: skip


def write_split(made: Assignment, out: Path, table: LabelTable | None = None, source: Path | None = None) -> list[Path]:
    """Write it all; the files, in order. A part of whose patients nobody has a row of labels has no label file."""
    short = _file_names(made)
    sources = (
        {} if source is None else {_beside(source, out, short[part]): _restricted(source, out, part) for part in made.names}
    )
    for path in sources:
        if path.exists():
            raise ConfigError("file exists and is not written over", field="--source", value=path.name, remedy="rename it")
    files = {} if table is None else _label_files(made, table, short)
    try:
        with new_folder(out) as draft:
            made.save(draft / _SPLIT)
            for name, text in files.items():
                write_durably(draft / name, text.encode())
            for path, text in sources.items():
                write_durably(path, text.encode())
    except BaseException:
        # Before the folder is there: nothing that names it may be left.
        for path in sources:
            path.unlink(missing_ok=True)
        raise
    return [out / name for name in (_SPLIT, *files)] + [*sources]


def _beside(source: Path, out: Path, name: str) -> Path:
    return source.parent / f"{source.stem}-{out.name}-{name}.toml"


def _restricted(source: Path, out: Path, part: str) -> str:
    """The TOML of one part. Of a source that is a part itself, the new split names patients of that part alone."""
    split = (out.resolve() / _SPLIT).relative_to(source.parent.resolve()).as_posix()
    keys = tomllib.loads(source.read_text(encoding="utf-8"))
    # Above all else: what follows a table's name in a TOML belongs to that table.
    return tomli_w.dumps({"split": split, "part": part} | {key: keys[key] for key in keys if key not in ("split", "part")})


def _file_names(made: Assignment) -> dict[str, str]:
    """Part -> what stands for it in names of files: ASCII letters, digits, hyphens, underscores."""
    found = {part: _OTHER.sub("_", part)[:60] for part in made.names}
    if len({name.lower() for name in found.values()}) != len(found):
        raise ConfigError(
            "two parts would have files of the same name", field="part", limit="distinct in ASCII letters, digits, - and _",
            remedy="name the parts or domains otherwise",
        )  # fmt: skip
    return found


def _label_files(made: Assignment, table: LabelTable, short: Mapping[str, str]) -> dict[str, str]:
    """Name -> the CSV of one part's patients: their rows, in their order."""
    rows: dict[str, list[list[str]]] = {part: [] for part in made.names}
    for unit, row in zip(table.ids(PATIENT), table.rows, strict=True):
        if unit in made.parts:
            rows[made.parts[unit]].append(row)
    files = {}
    for part, held in rows.items():
        if held:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([table.header, *held])
            files[f"{Path(table.name).stem}-{short[part]}.csv"] = text.getvalue()
    return files
