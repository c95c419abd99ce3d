"""Step 1 of 12: the files of a declared folder, and whose they are.

Comes in: a `FolderSource` and the folder of its TOML. Goes out: `Listed` files, sorted by name below the declared folder, each
with the patient that the declared rule gives, or None where the file itself must say or nobody can. Folders are never entered
through symbolic links, and a file that a link leads out of the declared folder, or to what the rule gives to another patient,
is not opened. What a file itself says counts only where the rule is `header`: elsewhere a header's id and the rule's are names
of two kinds, and may be equal for two patients. Raises `DataError` for what
concerns the whole folder: it is missing, lies outside, holds no file, or the index cannot be read or names a file twice.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from ssl_core.data.csv_rows import csv_rows, open_text
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.patients import unit_id
from ssl_core.data.reading import is_clean
from ssl_core.errors import DataError

T = TypeVar("T")

Named = tuple[str, str]
"""A key of the source file, and the column that it names."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One file: its name below the declared folder, its path, whose it is by the declared rule.

    inside: no link leads elsewhere; says: without an owner, what the file itself says counts.
    """

    name: str = field(repr=False)
    path: Path = field(repr=False)
    owner: str | None = field(repr=False)
    inside: bool = True
    says: bool = True


def list_files(source: FolderSource, folder: Path) -> list[Listed]:
    """All files that the source declares; see the module docstring."""
    root = _root(source, folder)
    owner_of = _rule(source, folder)
    index = None if source.index is None else inside(folder, source.index, "index")
    found = []
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        if not asked_for(source, path.name):
            continue
        real = _real(path)
        if real is not None and real == index:
            continue
        # Bytes of a name that are no UTF-8 cannot name a patient, and are shown as they can be.
        shown = name if is_clean(name) else os.fsencode(name).decode("utf-8", "replace")
        owner = owner_of(name) if is_clean(name) else None
        stays = real is not None and real.is_relative_to(root)
        if real is not None and stays and real != path:
            of = owner_of(real.relative_to(root).as_posix())
            stays = of is None or of == owner
        found.append(Listed(shown, path, owner, stays, source.patient_from == "header"))
    if not found:
        raise DataError(
            "the declared folder holds no file that the source asks for",
            field="files",
            value=", ".join(source.files),
            remedy="correct path or files in the source file",
        )
    return sorted(found, key=lambda each: each.name)


def asked_for(source: FolderSource, name: str) -> bool:
    """Is a file of this name, without its folder, one that the source reads?"""
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in source.files)


def evenly(things: Sequence[T], most: int) -> Sequence[T]:
    """At most `most` of the things, in their order, as far apart from each other as that allows."""
    return things[:: max(1, -(-len(things) // most))]


def _real(path: Path) -> Path | None:
    """The file that a path leads to; None where that is no file, or cannot be told."""
    try:
        real = path.resolve()
        return real if real.is_file() else None
    except (OSError, RuntimeError):
        # Links in a circle, a target whose name is too long, or that may not be looked at: the text would name the file.
        return None


def inside(folder: Path, name: str, field: str) -> Path:
    """The path of a declared `name`, resolved; `DataError` naming `field` where it leaves `folder`, that of the source file."""
    try:
        base = folder.resolve()
        path = (base / name).resolve()
        path.exists()
        if path.is_symlink():
            # Of links in a circle Python 3.13 says nothing.
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    except (OSError, RuntimeError, ValueError):
        # Links in a circle, a name that is too long or holds a NUL: the text would name the file's whole path.
        raise DataError("what is declared cannot be a path", field=field, remedy="correct the source file") from None
    if not path.is_relative_to(base):
        raise DataError(
            "what is declared lies outside the folder of its source file",
            field=field,
            value=name,
            remedy="replace the symbolic link by what it leads to, or move the source file beside the data",
        )
    return path


def _root(source: FolderSource, folder: Path) -> Path:
    root = inside(folder, source.path, "path")
    if not root.is_dir():
        raise DataError("the declared folder is missing", field="path", value=source.path, remedy="correct the source file")
    return root


def _walk(root: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise DataError(
            "a folder of the source cannot be read", field="path", remedy=f"give the site's user access: {error.strerror}"
        ) from error

    for folder, folders, names in os.walk(root, onerror=fail):
        folders.sort()
        yield from (Path(folder, name) for name in names)


def _rule(source: FolderSource, folder: Path) -> Callable[[str], str | None]:
    """File name below the declared folder -> patient id, or None."""
    if source.index is not None:
        columns = ("file_column", source.file_column), ("patient_column", source.patient_column)
        return read_index(folder, source.index, *columns, "patient").get
    if source.patient_pattern is not None:
        pattern = re.compile(source.patient_pattern)

        def matched(name: str) -> str | None:
            match = pattern.search(name)
            return unit_id(match["patient"] or "") or None if match else None

        return matched
    if source.patient_from == "folder":

        def first(name: str) -> str | None:
            parts = PurePosixPath(name).parts
            return unit_id(parts[0]) or None if len(parts) > 1 else None

        return first
    return lambda name: None


def read_index(
    folder: Path, index: str, file_column: Named, of_column: Named, what: Literal["patient", "study"]
) -> dict[str, str]:
    """File name below the declared folder -> its `what` (a patient, a study), from a CSV file beside the source file.

    A file without a patient is refused; one without a study is left out: an image may have no report.
    """
    path = inside(folder, index, "index")
    found: dict[str, str] = {}
    with open_text(path, index) as stream:
        for number, row in enumerate(csv_rows(stream, index, [file_column, of_column], multiline=False), start=2):
            if (
                not isinstance(row, list)
                or not all(map(is_clean, row))
                or not row[0].strip()
                or not (unit_id(row[1]) or what == "study")
            ):
                raise DataError(f"a row of the index does not name a file and a {what}", field="index", value=f"row {number}")
            name, of = PurePosixPath(row[0].strip()).as_posix(), unit_id(row[1])
            if of and found.setdefault(name, of) != of:
                raise DataError(
                    f"the index gives a file to two {'patients' if what == 'patient' else 'studies'}",
                    field="index",
                    value=f"row {number}",
                )
    return found
