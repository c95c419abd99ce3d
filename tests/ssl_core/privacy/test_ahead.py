"""Between steps 2 and 4: drawing ahead changes neither what is drawn nor in which order it is used."""

import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ssl_core.objectives.base import Views
from ssl_core.privacy.ahead import Index, drawn_ahead


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as one:
        yield one


def _draw(index: Index) -> Views:
    return {"x": torch.from_numpy(2.0 * index)}


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_parts_come_in_order_with_their_own_views(thread: ThreadPoolExecutor, count: int) -> None:
    parts = [np.arange(number, number + 3) for number in range(count)]
    found = [(index, views(index)) for index, views in drawn_ahead(iter(parts), _draw, thread)]
    assert [index.tolist() for index, _ in found] == [part.tolist() for part in parts]
    assert all(torch.equal(views["x"], torch.from_numpy(2.0 * index)) for index, views in found)


def test_one_part_is_drawn_while_another_is_used_and_no_more(thread: ThreadPoolExecutor) -> None:
    drawn: list[int] = []
    second = threading.Event()

    def draw(index: Index) -> Views:
        drawn.append(int(index[0]))
        if index[0] == 1:
            second.set()
        return _draw(index)

    parts = drawn_ahead((np.array([number]) for number in range(4)), draw, thread)
    index, views = next(parts)
    assert index.tolist() == [0] and second.wait(60), "the second is drawn before the first is asked for"
    assert views(index)["x"].tolist() == [0.0] and drawn == [0, 1]
    assert [index.tolist() for index, _ in parts] == [[1], [2], [3]]


def test_an_error_is_raised_where_the_part_is_used_and_halves_are_drawn_anew(thread: ThreadPoolExecutor) -> None:
    asked: list[int] = []

    def draw(index: Index) -> Views:
        asked.append(len(index))
        if len(index) > 2:
            raise MemoryError
        return _draw(index)

    ((index, views),) = drawn_ahead([np.arange(4)], draw, thread)
    with pytest.raises(MemoryError):
        views(index)
    assert views(index[:2])["x"].tolist() == [0.0, 2.0] and views(index[2:])["x"].tolist() == [4.0, 6.0]
    assert asked == [4, 2, 2]


def test_views_are_given_away(thread: ThreadPoolExecutor) -> None:
    ((index, views),) = drawn_ahead([np.arange(4)], _draw, thread)
    taken = views(index)["x"]
    alive = weakref.ref(taken)
    del taken
    assert alive() is None
