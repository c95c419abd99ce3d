"""Grouping records into units, and taking units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_core.data.patients import Patients, group, unit_id
from ssl_core.errors import DataError
from ssl_core.trust.random import unit_tag


@given(st.lists(st.sampled_from(["a", "b", "cc", "d"]), max_size=30), st.randoms(use_true_random=False))
def test_units_do_not_depend_on_the_order_of_rows(owners: list[str], shuffle: object) -> None:
    records = np.arange(len(owners), dtype=np.float32)[:, None]
    order = [f"{row:03d}" for row in range(len(owners))]
    first = group(owners, records, order)
    rows = list(range(len(owners)))
    shuffle.shuffle(rows)
    second = group([owners[r] for r in rows], records[rows], [order[r] for r in rows])
    assert first.units == second.units == tuple(sorted(set(owners)))
    assert np.array_equal(first.offsets, second.offsets) and np.array_equal(first.records, second.records)
    for index, unit in enumerate(first.units):
        mine = first.records[first.offsets[index] : first.offsets[index + 1], 0]
        assert mine.tolist() == [row for row, owner in enumerate(owners) if owner == unit]
        assert first.tags[index].tobytes() == unit_tag(unit)


def test_take_and_means() -> None:
    patients = group(["b", "a", "b", "c"], np.array([[1.0], [2.0], [3.0], [4.0]], np.float32))
    taken = patients.take(np.array([2, 1]))
    assert taken.units == ("c", "b") and taken.counts().tolist() == [1, 2]
    assert taken.records[:, 0].tolist() == [4.0, 1.0, 3.0]
    assert taken.mean_by_unit(taken.records.astype(np.float32))[:, 0].tolist() == [4.0, 2.0]
    assert len(patients.take(np.array([], np.int64))) == 0
    with pytest.raises(DataError):
        patients.mean_by_unit(np.zeros((3, 1), np.float32))


def test_repr_names_no_patient() -> None:
    assert "patient-77" not in repr(group(["patient-77"], np.zeros((1, 1), np.float32)))


def test_offsets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError):
        Patients(("a",), np.zeros((1, 16), np.uint8), np.array([0, 0]), np.zeros((0, 1), np.float32))


def test_spellings_of_one_patient_id_are_one_unit() -> None:
    assert unit_id(" A-7\t") == "A-7" and unit_id("e\u0301") == unit_id("\u00e9") and unit_id("  ") == ""
