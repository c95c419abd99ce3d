from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ssl_core.errors import ConfigError
from ssl_core.folder import new_folder


def fill(folder: Path) -> None:
    (folder / "one").write_text("1")
    (folder / "two").write_text("2")


def test_everything_is_synced_before_the_rename_and_the_parent_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        done.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        real_sync(descriptor)

    def replace(source: Any, target: Any) -> None:
        done.append(("rename", Path(target).name))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    with new_folder(tmp_path / "place" / "made") as draft:
        fill(draft)
        assert not (tmp_path / "place" / "made").exists() and done == []
    at = done.index(("rename", "made"))
    assert {("sync", "one"), ("sync", "two")} <= set(done[:at]) and done[at - 1] == ("sync", draft.name)
    assert done[at + 1 :] == [("sync", "place")]
    assert {path.name: path.read_text() for path in (tmp_path / "place" / "made").iterdir()} == {"one": "1", "two": "2"}
    assert stat.S_IMODE((tmp_path / "place" / "made").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "place" / "made" / "one").stat().st_mode) == 0o600


def test_what_is_there_is_not_overwritten_nor_what_came_meanwhile(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with new_folder(made) as draft:
        fill(draft)
    with pytest.raises(ConfigError, match="not overwritten") as caught, new_folder(made):
        pytest.fail("the block must not run")
    assert (caught.value.field, caught.value.value) == ("folder", "made") and caught.value.remedy
    late = tmp_path / "late"
    with pytest.raises(ConfigError, match="not overwritten"), new_folder(late) as draft:
        fill(draft)
        late.mkdir()  # empty: rename(2) alone would replace it
    assert {path.name for path in tmp_path.iterdir()} == {"made", "late"} and list(late.iterdir()) == []


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "made") as draft:
        fill(draft)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
