"""Step 1: parts of one file from one worker process; whatever ends it is a fault, and no part is unpickled or too large."""

from __future__ import annotations

from functools import partial

import pytest
from tests_decoders import parts

from ssl_core.data.reading import Fault
from ssl_core.data.row_stream import Broken, streamed


def test_parts_come_as_they_were_yielded() -> None:
    found = list(streamed(partial(parts, "end"), memory=1 << 30, seconds=20.0, most=1 << 16))
    assert found == list(parts("end")) == [["é \udcff", 1], None]


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ("die", Fault.CRASHED), ("raise", Fault.CRASHED), ("sleep", Fault.TOO_SLOW), ("fill", Fault.CRASHED),
        ("hijack", Fault.CRASHED), ("huge", Fault.CRASHED), ("two", Fault.CRASHED), ("large", Fault.CRASHED),
    ],
)  # fmt: skip
def test_what_ends_the_worker_is_a_fault_after_what_came_before(
    how: str, fault: Fault, capfd: pytest.CaptureFixture[str]
) -> None:
    found = streamed(partial(parts, how), memory=1 << 30, seconds=1.0, most=1 << 16)
    assert next(found) == ["é \udcff", 1]
    with pytest.raises(Broken) as raised:
        list(found)
    assert raised.value.fault is fault and "patient" not in "".join(capfd.readouterr())


def test_a_reader_that_stops_early_leaves_no_process() -> None:
    found = streamed(partial(parts, "sleep"), memory=1 << 30, seconds=20.0, most=1 << 16)
    next(found)
    found.close()  # type: ignore[attr-defined]  # a generator
    assert list(found) == []
