"""Every patient once, shares as asked, the same from a seed whatever the order; saved and read back."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.data.assignment import Assignment, read_assignment, require_disjoint
from ssl_core.data.splits import dirichlet_sites, domain_sites, sized_sites, split_patients
from ssl_core.errors import DataError

SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
names = st.text(st.characters(codec="ascii", min_codepoint=48, max_codepoint=126), min_size=1, max_size=6)
many = st.lists(names, min_size=6, max_size=60, unique=True)
quick = settings(max_examples=50, deadline=None, derandomize=True)


@quick
@given(many, st.text(max_size=8), st.randoms(use_true_random=False))
def test_a_hash_puts_everybody_into_one_part_whatever_the_order_and_the_others(
    units: list[str], key: str, order: random.Random
) -> None:
    one = split_patients(units, SHARES, key=key)
    assert list(one.parts) == sorted(units) and set(one.parts.values()) <= set(SHARES)
    order.shuffle(units)
    assert split_patients(units, SHARES, key=key) == one
    fewer = split_patients(units[1:], SHARES, key=key)
    assert all(one.parts[unit] == part for unit, part in fewer.parts.items())


@quick
@given(many, st.data())
def test_strata_meet_their_shares_to_the_nearest_patient(units: list[str], data: st.DataObject) -> None:
    strata = {unit: data.draw(st.sampled_from("ab")) for unit in units}
    made = split_patients(units, SHARES, key="k", strata=strata)
    assert sorted(made.parts) == sorted(units)
    for name, count in Counter(strata.values()).items():
        held = Counter(made.parts[unit] for unit in units if strata[unit] == name)
        assert all(abs(held[part] - share * count) < 1 for part, share in SHARES.items())


def test_shares_are_met_on_average_and_keys_differ() -> None:
    units = [f"p{number}" for number in range(4000)]
    made = split_patients(units, SHARES, key="a")
    assert all(abs(made.sizes()[part] / 4000 - share) < 0.03 for part, share in SHARES.items())
    other = split_patients(units, SHARES, key="b")
    assert sum(made.parts[unit] == other.parts[unit] for unit in units) < 3000


def test_the_order_of_the_shares_does_not_count_and_a_part_is_divided_anew() -> None:
    units = [f"p{number}" for number in range(4000)]
    outer = split_patients(units, {"train": 0.8, "test": 0.2}, key="k")
    assert outer == split_patients(units, {"test": 0.2, "train": 0.8}, key="k")
    strata = {unit: unit[-1] for unit in units}
    assert split_patients(units, {"b": 0.3, "a": 0.7}, key="k", strata=strata) == split_patients(
        units, {"a": 0.7, "b": 0.3}, key="k", strata=strata
    )
    inner = split_patients(outer.units("train"), {"fit": 0.8, "valid": 0.2}, key="k")
    assert abs(inner.sizes()["valid"] / outer.sizes()["train"] - 0.2) < 0.03


@quick
@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.5, 100.0]), st.integers(2, 5))
def test_label_skew_covers_everybody_and_holds_the_least(seed: int, alpha: float, sites: int) -> None:
    classes = {f"p{number}": "abc"[number % 3] for number in range(300)}
    made = dirichlet_sites(classes, sites=sites, alpha=alpha, seed=seed, least=10)
    assert set(made.parts) == set(classes) and len(made.names) == sites and min(made.sizes().values()) >= 10
    again = dirichlet_sites(dict(reversed(classes.items())), sites=sites, alpha=alpha, seed=seed, least=10)
    assert again == made


def spread(made: Assignment, classes: dict[str, str]) -> float:
    """How far the class shares of the sites lie from those of all."""
    out = 0.0
    for site in made.names:
        held = Counter(classes[unit] for unit in made.units(site))
        out += sum(abs(held[name] / sum(held.values()) - 1 / 2) for name in "ab")
    return out / len(made.names)


def test_a_small_alpha_skews_and_a_large_one_does_not() -> None:
    classes = {f"p{number}": "ab"[number % 2] for number in range(2000)}
    skewed = [spread(dirichlet_sites(classes, sites=4, alpha=0.1, seed=seed), classes) for seed in range(5)]
    even = [spread(dirichlet_sites(classes, sites=4, alpha=1000.0, seed=seed), classes) for seed in range(5)]
    assert min(skewed) > 2 * max(even)


@quick
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.8]))
def test_size_skew(seed: int, sigma: float) -> None:
    units = [f"p{number}" for number in range(203)]
    made = sized_sites(units, sites=5, sigma=sigma, seed=seed, least=5)
    assert sorted(made.parts) == sorted(units) and min(made.sizes().values()) >= 5
    assert made == sized_sites(units[::-1], sites=5, sigma=sigma, seed=seed, least=5)
    if sigma == 0:
        assert set(made.sizes().values()) <= {40, 41}


def test_real_domains() -> None:
    made = domain_sites({"a": ["Philips"], "b": ["Siemens", "Philips"], "c": ["Siemens", "Siemens", "Philips"]})
    assert dict(made.parts) == {"a": "Philips", "b": "Philips", "c": "Siemens"}
    with pytest.raises(DataError, match="too few patients") as raised:
        domain_sites({"SECRET": ["Philips"], "b": ["Siemens"], "c": ["Siemens"]}, least=2)
    assert raised.value.value == 1 and "SECRET" not in str(raised.value)


def test_what_cannot_be_met_is_refused() -> None:
    units = [f"p{number}" for number in range(20)]
    for call in (
        lambda: split_patients(units, {"a": 0.5, "b": 0.4}, key=""),
        lambda: split_patients(units, {"a": 1.5, "b": -0.5}, key=""),
        lambda: split_patients(units, {"a": float("nan"), "b": 0.5}, key=""),
        lambda: split_patients([*units, "p1"], SHARES, key=""),
        lambda: split_patients([], SHARES, key=""),
        lambda: split_patients(units, SHARES, key="k" * 65),
        lambda: split_patients(units, SHARES, key="", strata={"p1": "x"}),
        lambda: sized_sites(units, sites=5, sigma=0.1, seed=0, least=5),
        lambda: sized_sites(units, sites=4, sigma=9.0, seed=0, least=5),
        lambda: sized_sites(units, sites=4, sigma=-1.0, seed=0),
        lambda: sized_sites(units, sites=4, sigma=1.0, seed=-1),
        lambda: sized_sites(units, sites=4, sigma=float("inf"), seed=0),
        lambda: sized_sites(units, sites=4, sigma=float("nan"), seed=0),
        lambda: dirichlet_sites(dict.fromkeys(units, "a"), sites=2, alpha=float("inf"), seed=0),
        lambda: dirichlet_sites(dict.fromkeys(units, "a"), sites=2, alpha=0.0, seed=0),
        lambda: dirichlet_sites(dict.fromkeys(units, "a"), sites=1, alpha=1.0, seed=0),
    ):
        with pytest.raises(DataError):
            call()


def test_saved_and_read_back_with_its_parameters(tmp_path: Path) -> None:
    units = ["b", 'with "quotes", and a comma', "ü"]
    made = sized_sites([*units, "c", "d", "e"], sites=2, sigma=0.8, seed=7, least=2)
    made.save(tmp_path / "sites.csv")
    assert read_assignment(tmp_path / "sites.csv") == made
    assert hashlib.sha256((tmp_path / "sites.csv").read_bytes()).hexdigest() == made.digest
    assert (tmp_path / "sites.csv").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "sites.csv").read_text().startswith('# {"draws": ')
    assert "quotes" not in repr(made)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient,part\nSECRET,a\nSECRET ,b\n", "again in line 3"),
        ("patient,part\nSECRET\n", "line 2"),
        ("# {}\npatient,part\nSECRET,\n", "line 3"),
        ('# {}\npatient,part\nSECRET,"a\nSECRET2,b"\n', "lines 3-4 of split file"),
        ("patient,part\n", "no rows"),
        ("", "no rows"),
        ("# [1]\npatient,part\nSECRET,a\n", "how it was made"),
        ("# nonsense\npatient,part\nSECRET,a\n", "how it was made"),
    ],
)
def test_bad_split_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match=message) as raised:
        read_assignment(tmp_path / "s.csv")
    assert "SECRET" not in str(raised.value)


def test_groups_with_a_patient_in_common_are_refused() -> None:
    require_disjoint({"train": ["a", "a"], "test": ["b"]})
    with pytest.raises(DataError, match="'train' and in 'test'") as raised:
        require_disjoint({"train": ["SECRET"], "test": ["b", "SECRET"]})
    assert "SECRET" not in str(raised.value)
