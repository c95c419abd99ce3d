"""Step 1: files decoded in worker processes; a bad file costs itself alone."""

import os
import stat
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker, spawn
from pathlib import Path

import numpy as np
import pytest
from tests_decoders import decode

from ssl_core.data import child, pipe
from ssl_core.data.decoding import Bounds, Found, decode_all
from ssl_core.data.folder_files import Listed
from ssl_core.data.found import unpacked
from ssl_core.data.reading import Fault
from ssl_core.errors import ConfigError

BOUNDS = Bounds(largest=1 << 20, seconds=2.0)


def _files(folder: Path, texts: list[str]) -> list[Listed]:
    out = []
    for number, text in enumerate(texts):
        path = folder / f"{number:04d}.txt"
        path.write_text(text)
        out.append(Listed(path.name, path, None))
    return out


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_files(tmp_path: Path, workers: int) -> None:
    counts = [3, 1, 2, 5, 1, 4, 2, 2, 1, 3] * 4
    files = _files(tmp_path, [str(count) for count in counts])
    results = list(decode_all(files, decode, BOUNDS, workers=workers))
    assert [file for file, _ in results] == files
    assert [len(found) for _, found in results if not isinstance(found, Fault)] == counts


def test_a_file_that_kills_fills_or_delays_its_worker_is_counted_and_the_next_are_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = _files(tmp_path, ["1", "die", "2", "sleep", "1", "fill", "3", "print", "no number", "", "nothing", "fault"])
    results = [found for _, found in decode_all(files, decode, BOUNDS, workers=2)]
    shown = [found if isinstance(found, Fault) else len(found) for found in results]
    assert shown == [
        1, Fault.CRASHED, 2, Fault.TOO_SLOW, 1, Fault.TOO_LARGE, 3, 0, Fault.UNREADABLE, Fault.EMPTY, 0, 1,
    ]  # fmt: skip
    assert "patient" not in "".join(capfd.readouterr())
    # One whose worker ends once it has answered: the file after it, and the last one, are read all the same.
    (tmp_path / "later").mkdir()
    results = [found for _, found in decode_all(_files(tmp_path / "later", ["1", "then die", "3"]), decode, BOUNDS, workers=1)]
    assert [len(found) for found in results if not isinstance(found, Fault)] == [1, 1, 3]


def test_the_size_of_a_file_and_links_are_looked_at_before_it_is_opened(tmp_path: Path) -> None:
    files = _files(tmp_path, ["1" * (1 << 20) + "1"])
    outside = Listed("x", tmp_path / "absent", None, inside=False)
    assert [found for _, found in decode_all([*files, outside], decode, BOUNDS, workers=0)] == [Fault.TOO_LARGE, Fault.OUTSIDE]


def test_what_was_found_shows_nothing_of_it() -> None:
    assert repr(Found("p1", "name", np.zeros(3, np.float32))) == "Found()"


def test_what_a_hostile_worker_sends_is_never_run_nor_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "_SENDING_SECONDS", 0.5)
    files = _files(tmp_path, ["hijack", "half", "huge", "core", "2"])
    results = [found for _, found in decode_all(files, decode, BOUNDS, workers=1)]
    assert results[:3] == [Fault.CRASHED, Fault.TOO_SLOW, Fault.CRASHED]
    assert [len(found) for found in results[3:] if not isinstance(found, Fault)] == [0, 2]
    assert not list(tmp_path.glob("*.run"))


def test_what_a_file_leaves_behind_costs_no_other(tmp_path: Path) -> None:
    """One answers for the file after it, too; another's worker ends once it has answered."""
    files = _files(tmp_path, ["1", "twice", "2", "then die", "3"])
    results = [found for _, found in decode_all(files, decode, BOUNDS, workers=1)]
    assert [len(found) for found in results if not isinstance(found, Fault)] == [1, 1, 2, 1, 3]
    assert [float(each.content[0]) for each in results[2] if not isinstance(each.content, Fault)] == [0.0, 1.0]


def test_a_worker_gives_what_this_process_would_find(tmp_path: Path) -> None:
    files = _files(tmp_path, ["mixed"])
    ((_, here),), ((_, there),) = (list(decode_all(files, decode, BOUNDS, workers=workers)) for workers in (0, 1))
    assert not isinstance(here, Fault) and not isinstance(there, Fault) and len(here) == len(there) == 4
    for mine, other in zip(here, there, strict=True):
        assert (mine.owner, mine.name, mine.study) == (other.owner, other.name, other.study)
        if isinstance(mine.content, Fault) or isinstance(other.content, Fault):
            assert mine.content is other.content
        else:
            assert mine.content.dtype == other.content.dtype and np.array_equal(mine.content, other.content)


@pytest.mark.parametrize(
    "told",
    ['{"a": 1}', "[1]", '[["a"]]', '[[1, "", null, "empty"]]', '[["a", "", 1, "empty"]]', '[["a", "", null, "no fault"]]',
     '"no fault"', "[", "\xff", "3",
     '[["a", "", null, ["|O8", [1]]]]', '[["a", "", null, ["<f4", [-1]]]]', '[["a", "", null, ["<f4", [9]]]]',
     '[["a", "", null, ["<f4", [true]]]]',
     '[["a", "", null, ["<f4", 1]]]', "[" * 100_000,
     '[["a", "", null, ["<f4", [4611686018427387904, 4]]]]', f'[["a", "", null, ["<f4", [{10**30}]]]]',
     '[["a", "", null, "empty"]]'],
)  # fmt: skip
def test_no_other_message_is_taken(told: str) -> None:
    text = told.encode("latin-1")
    with pytest.raises((ValueError, TypeError, RecursionError)):
        unpacked(bytearray(len(text).to_bytes(8, "big") + text + bytes(4)))


@pytest.fixture
def started_by(tmp_path: Path) -> Iterator[Path]:
    """A shell script that workers are started by."""
    # Another process than the workers, which is started the same way.
    resource_tracker.ensure_running()
    script, before = tmp_path / "python", spawn.get_executable()
    script.touch(stat.S_IRWXU)
    spawn.set_executable(str(script))
    yield script
    spawn.set_executable(before)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('ulimit -v 40000; exec {python} "$@"', "ended"),
        ('ulimit -d 200000; exec {python} "$@"', "ended with status 1"),
        ('PYTHONHOME=/nowhere exec {python} "$@"', "ended with status 1"),
        ("exit 3", "ended with status 3"),
        ("kill -11 $$", "ended by signal 11"),
    ],
)
def test_where_no_worker_can_start_that_is_said_and_no_file_is_blamed(
    tmp_path: Path, started_by: Path, capfd: pytest.CaptureFixture[str], line: str, told: str
) -> None:
    started_by.write_text(f"#!/bin/sh\necho >> {tmp_path}/starts\n{line.format(python=sys.executable)}\n")
    files = _files(tmp_path, ["1", "2"])
    with pytest.raises(ConfigError, match=told) as raised:
        list(decode_all(files, decode, BOUNDS, workers=1))
    assert raised.value.field == "workers" and raised.value.limit and raised.value.remedy
    assert len((tmp_path / "starts").read_text()) == 2


def test_a_decoder_whose_module_cannot_be_imported_is_no_file_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "decoder_of_one_process.py").write_text(
        f"import os\nif os.getpid() != {os.getpid()}:\n    raise ImportError('only there')\n\n"
        "def decode(path):\n    return []\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from decoder_of_one_process import decode as broken  # type: ignore[import-not-found]

    with pytest.raises(ConfigError, match="nothing is wrong with a file"):
        list(decode_all(_files(tmp_path, ["1", "2", "3"]), broken, BOUNDS, workers=2))
    assert "only there" in capfd.readouterr().err


def test_a_worker_that_starts_at_the_second_time_is_taken(tmp_path: Path, started_by: Path) -> None:
    started_by.write_text(
        f'#!/bin/sh\n[ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; exit 1; }}\nexec {sys.executable} "$@"\n'
    )
    (found,) = (found for _, found in decode_all(_files(tmp_path, ["2"]), decode, BOUNDS, workers=1))
    assert not isinstance(found, Fault) and len(found) == 2


def test_a_worker_that_keeps_silent_is_not_waited_for(
    tmp_path: Path, started_by: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "START_SECONDS", 0.2)
    started_by.write_text("#!/bin/sh\nexec sleep 3600\n")
    with pytest.raises(ConfigError, match="signal 9"):
        list(decode_all(_files(tmp_path, ["2"]), decode, BOUNDS, workers=1))


def test_a_program_that_is_missing_starts_no_worker(tmp_path: Path, started_by: Path) -> None:
    started_by.unlink()
    with pytest.raises(ConfigError, match="cannot be started"):
        list(decode_all(_files(tmp_path, ["2"]), decode, BOUNDS, workers=1))
