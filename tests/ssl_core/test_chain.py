from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ssl_core import chain as module
from ssl_core.chain import Chain, write_durably
from ssl_core.errors import ChainError, StateError


def made(folder: Path, entries: int = 3) -> tuple[Path, Path]:
    path, anchor = folder / "chain.db", folder / "outside" / "a.head"
    chain = Chain(path, anchor=anchor, create=True)
    for number in range(entries):
        chain.append("note", {"number": number})
    chain.close()
    return path, anchor


def test_entries_survive_reopening_in_order(tmp_path: Path) -> None:
    path, anchor = made(tmp_path)
    chain = Chain(path, anchor=anchor)
    chain.append("other", {"x": 1.5})
    assert [e.body for e in chain.entries("note")] == [{"number": n} for n in range(3)]
    assert [e.sequence for e in chain.entries()] == [1, 2, 3, 4]
    assert path.stat().st_mode & 0o077 == 0


def test_nothing_is_kept_of_a_block_that_raises(tmp_path: Path) -> None:
    path, anchor = made(tmp_path)
    chain = Chain(path, anchor=anchor)
    with pytest.raises(RuntimeError), chain.transaction():
        chain.append("note", {"number": 99})
        raise RuntimeError
    assert len(chain.entries()) == 3
    Chain(path, anchor=anchor)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET body = '{\"number\":7}' WHERE sequence = 2",
        "UPDATE log SET kind = 'else' WHERE sequence = 1",
        "DELETE FROM log WHERE sequence = 2",
        "DELETE FROM log WHERE sequence = 3",
        "UPDATE log SET hash = '00' WHERE sequence = 3",
        "DELETE FROM log",
    ],
)
def test_an_edited_or_truncated_log_is_refused(tmp_path: Path, statement: str) -> None:
    path, anchor = made(tmp_path)
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()
    with pytest.raises(ChainError):
        Chain(path, anchor=anchor)


def test_a_rolled_back_folder_is_refused_by_the_anchor_outside_it(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    path, anchor = tmp_path / "site" / "chain.db", tmp_path / "anchors" / "a.head"
    first = Chain(path, anchor=anchor, create=True)
    first.append("note", {"number": 0})
    first.close()
    shutil.copytree(tmp_path / "site", tmp_path / "backup")
    chain = Chain(path, anchor=anchor)
    chain.append("note", {"number": 1})
    chain.close()
    old = tmp_path / "backup" / "chain.db"
    with pytest.raises(ChainError, match="anchor"):
        Chain(old, anchor=anchor)
    # A log that crashed between its commit and its head is ahead of the head, which is no roll-back.
    shutil.copy(tmp_path / "backup" / "chain.db.head", tmp_path / "site" / "chain.db.head")
    assert len(Chain(path, anchor=anchor).entries()) == 2


@pytest.mark.parametrize("first", [0, 1])
def test_of_a_log_and_a_copy_of_it_beside_one_goes_on_and_the_other_stops(tmp_path: Path, first: int) -> None:
    """Both were opened while they were alike; the anchor, outside both, is of the one that went on."""
    (tmp_path / "one").mkdir()
    path, anchor = made(tmp_path / "one")
    shutil.copytree(path.parent, tmp_path / "two", ignore=shutil.ignore_patterns("outside"))
    logs = [Chain(place / path.name, anchor=anchor) for place in (tmp_path / "one", tmp_path / "two")]
    on, off = logs[first], logs[1 - first]
    on.append("spent", {"by": "the one"})
    with pytest.raises(ChainError, match="another copy of it has gone on"):
        off.append("spent", {"by": "the other"})
    with pytest.raises(ChainError, match="another copy"), off.transaction():
        pytest.fail("a block is not even begun")
    assert len(off.entries()) == 3 and not off._database.in_transaction
    on.append("spent", {"by": "the one"})
    assert len(on.entries()) == 5
    # Caught up by the same number of entries it is another log still.
    with sqlite3.connect(off.path) as database:
        database.execute("INSERT INTO log SELECT sequence + 3, kind, body, hash FROM log WHERE sequence < 3")
    database.close()
    with pytest.raises(ChainError, match="another copy"):
        off.append("spent", {"by": "the other"})


def test_an_anchor_that_is_gone_is_warned_of_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    anchor = tmp_path / "elsewhere" / "anchor"
    chain = Chain(tmp_path / "chain.db", anchor=anchor, create=True)
    chain.append("note", {"n": 1})
    assert not caplog.records
    anchor.unlink()
    Chain(tmp_path / "chain.db", anchor=anchor)
    assert "anchor outside the state folder is missing" in caplog.text and anchor.is_file()
    caplog.clear()
    Chain(tmp_path / "chain.db", anchor=anchor)
    assert not caplog.records


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChainError):
        Chain(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(ChainError):
        Chain(tmp_path / "text.db")
    path, anchor = made(tmp_path)
    with pytest.raises(StateError):
        Chain(path, anchor=anchor, create=True)


def _append_many(path: str, count: int) -> None:
    chain = Chain(Path(path))
    for _ in range(count):
        chain.append("note", {"by": "child"})


def test_two_processes_append_to_one_chain(tmp_path: Path) -> None:
    path, _ = made(tmp_path, entries=0)
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_append_many, args=(str(path), 20)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert len(Chain(path).entries()) == 40


def test_a_log_that_another_thread_collects_is_closed_and_only_its_own_thread_appends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swallowed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", swallowed.append)
    with ThreadPoolExecutor(1) as other:
        held = [Chain(tmp_path / "log.db", create=True)]
        with pytest.raises(StateError, match="another thread"):
            other.submit(held[0].append, "note", {}).result()
        held[0].append("note", {})
        assert len(other.submit(held[0].entries).result()) == 1
        other.submit(held.clear).result()
    assert not swallowed and not list(tmp_path.glob("*-wal")), "closed: SQLite's log is merged"


def test_what_is_written_never_goes_through_a_link_that_waited(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")
    elsewhere.chmod(0o644)
    (tmp_path / f".page.html.{os.getpid()}").symlink_to(elsewhere)
    write_durably(tmp_path / "page.html", b"a record")
    assert elsewhere.read_bytes() == b"" and (tmp_path / "page.html").read_bytes() == b"a record"
    assert not (tmp_path / "page.html").is_symlink() and (tmp_path / "page.html").stat().st_mode & 0o777 == 0o600


def test_of_two_writers_the_slower_one_sets_back_no_anchor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had looked at the anchor, which the other wrote before it did: a log without that entry would be taken for whole."""
    path, anchor = tmp_path / "chain.db", tmp_path / "anchors" / "head"
    slow = Chain(path, anchor=anchor, create=True)
    slow.append("reserve", {"study": "first"})
    write, others = module.write_durably, list[threading.Thread]()

    def append() -> None:
        Chain(path, anchor=anchor).append("commit", {"round": 1})

    def late(where: Path, data: bytes) -> None:
        if where == anchor and not others:
            others.append(threading.Thread(target=append))
            others[0].start()
            others[0].join(1.0)
        write(where, data)

    monkeypatch.setattr(module, "write_durably", late)
    slow.append("reserve", {"study": "second"})
    others[0].join()
    assert [entry.kind for entry in slow.entries()] == ["reserve", "reserve", "commit"]
    assert {head.read_text().split()[0] for head in (anchor, path.with_name("chain.db.head"))} == {"3"}
