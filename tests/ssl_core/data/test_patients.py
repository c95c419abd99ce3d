"""Grouping records into units, and taking units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_core.data.patients import Patients, folded_id, group, unit_id
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
    others = ["00123", "123", "123.0", "P-7", "p-7", "\uff11\uff12\uff13", "P7", "P 7"]
    assert len({unit_id(other) for other in others}) == len(others), (
        "any other spelling is another patient, of whom one is warned"
    )


@pytest.mark.parametrize(
    ("folded", "spellings"),
    [
        ("123", ["123", "00123", "123.0", "123.00", "0123.0", "\uff11\uff12\uff13"]),
        ("12-3", ["12-3", "12 3", "12\u20113", "12\u2013 3", "12\u00a03", "012-3"]),
        ("p7", ["P7", "p-7", "P 7", "\uff30\uff17", "0P-7"]),
        ("0", ["0", "000", "0.0"]),
        ("0-0", ["0-0", "00-0"]),
        ("0.5", ["0.5", "00.5"]),
        ("strasse", ["Stra\u00dfe", "STRASSE"]),
        ("p7.0", ["P7.0"]),
        ("1.20", ["1.20", "01.20"]),
        ("--", ["--"]),
    ],
)
def test_what_an_export_changes_by_itself_is_folded(folded: str, spellings: list[str]) -> None:
    assert {folded_id(unit_id(each)) for each in spellings} == {folded}


@pytest.mark.parametrize(
    "pair",
    [
        ("12 3456", "123456"),
        ("123-456-789", "123456789"),
        ("MRN 12 34", "MRN1234"),
        ("P-007", "P-7"),
        ("P-12.0", "P-12"),
        ("0-5", "-5"),
        ("0.5", ".5"),
    ],
)
def test_what_may_well_be_different_people_is_not_folded(pair: tuple[str, str]) -> None:
    """The exceptions that the screen of an approval and docs/privacy.md name."""
    assert len({folded_id(unit_id(each)) for each in pair}) == 2


@given(st.text(), st.text("0.7-aB ", min_size=1))
def test_folding_leaves_something_of_every_id_and_is_done_at_once(text: str, plain: str) -> None:
    assert bool(folded_id(unit_id(text))) == bool(unit_id(text))
    assert folded_id(folded_id(plain)) == folded_id(plain) == folded_id(plain.upper())
    assert folded_id(f"A{plain}") == folded_id(f"00a{plain.replace('-', ' ')}")
