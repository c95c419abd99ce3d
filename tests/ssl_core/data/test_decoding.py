"""Step 1: files decoded in worker processes; a bad file costs itself alone."""

from pathlib import Path

import numpy as np
import pytest
from tests_decoders import decode

from ssl_core.data import decoding
from ssl_core.data.decoding import Bounds, Found, decode_all
from ssl_core.data.folder_files import Listed
from ssl_core.data.reading import Fault

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


def test_the_size_of_a_file_and_links_are_looked_at_before_it_is_opened(tmp_path: Path) -> None:
    files = _files(tmp_path, ["1" * (1 << 20) + "1"])
    outside = Listed("x", tmp_path / "absent", None, inside=False)
    assert [found for _, found in decode_all([*files, outside], decode, BOUNDS, workers=0)] == [Fault.TOO_LARGE, Fault.OUTSIDE]


def test_what_was_found_shows_nothing_of_it() -> None:
    assert repr(Found("p1", "name", np.zeros(3, np.float32))) == "Found()"


def test_what_a_hostile_worker_sends_is_never_run_nor_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_SENDING_SECONDS", 0.5)
    files = _files(tmp_path, ["hijack", "half", "huge", "core", "2"])
    results = [found for _, found in decode_all(files, decode, BOUNDS, workers=1)]
    assert results[:3] == [Fault.CRASHED, Fault.TOO_SLOW, Fault.CRASHED]
    assert [len(found) for found in results[3:] if not isinstance(found, Fault)] == [0, 2]
    assert not list(tmp_path.glob("*.run"))


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
     '[["a", "", null, ["<f4", 1]]]', "[" * 100_000],
)  # fmt: skip
def test_no_other_message_is_taken(told: str) -> None:
    text = told.encode("latin-1")
    with pytest.raises((ValueError, TypeError, RecursionError)):
        decoding._unpacked(bytearray(len(text).to_bytes(8, "big") + text + bytes(4)))
