"""Sealed backups on disk come back as they were put, and a full disk is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.shelf import FileShelf
from ssl_core.errors import StateError
from ssl_core.secure_sum.shelf import MemoryShelf


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_each_backup_comes_back_and_a_second_set_replaces_the_first(tmp_path: Path, kind: str) -> None:
    shelf = FileShelf(tmp_path / "open") if kind == "file" else MemoryShelf()
    blobs = {dealer: [b"" if at == dealer else os.urandom(40 + at) for at in range(5)] for dealer in range(5)}
    for dealer, kept in blobs.items():
        shelf.put(dealer, [b"other"] * 5)
        shelf.put(dealer, kept)
    assert all(shelf.get(dealer, at) == kept[at] for dealer, kept in blobs.items() for at in range(5))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "open").write_text("a file where the folder should be")
    with pytest.raises(StateError, match="sealed backups cannot be written"):
        FileShelf(tmp_path / "open").put(0, [b"x"])
