"""Thresholds are the site's own arithmetic on signed parameters; what could give no safe sum is refused by name."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from ssl_core.errors import ConfigError, ProtocolError
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.params import SumParams


@pytest.mark.parametrize(
    ("count", "corrupt", "shares", "survivors"),
    [(3, 0, 2, 3), (4, 1, 3, 3), (5, 1, 4, 4), (10, 3, 7, 7), (50, 16, 34, 34), (200, 66, 134, 134)],
)
def test_thresholds_of_the_notes(kit, count, corrupt, shares, survivors):
    params = kit.make_params(count, dimension=1)
    assert params.corrupt == corrupt
    assert params.thresholds(count).shares == shares
    assert params.thresholds(count).survivors == survivors


def test_corruption_is_counted_on_the_roster(kit):
    params = kit.make_params(5, corrupt=1)
    for count in range(4):
        with pytest.raises(ProtocolError, match="no threshold is safe"):
            params.thresholds(count)
    # nine members of a roster of twelve that bears three corrupt: refused
    with pytest.raises(ConfigError, match=r"too few sites of the roster take part.*value: 9; limit: 10"):
        kit.make_params(9, corrupt=3)
    with pytest.raises(ConfigError, match="corrupt sites are counted on the roster"):
        kit.make_params(7, corrupt=1)


def test_roster_of_ten_with_four_invited_is_refused(kit):
    with pytest.raises(ConfigError, match="too few sites of the roster"):
        kit.make_params(4, corrupt=3)
    with pytest.raises(ProtocolError, match="limit: 10"):
        kit.make_params(10).thresholds(4)


@pytest.mark.parametrize("count", range(3, 40))
def test_two_sets_of_answers_share_an_honest_site_whatever_sets_a_server_invites(kit, count):
    # t of the invited alone lets a server open two sums of one round: six members, four invited to each (docs/proofs).
    params = kit.make_params(count)
    for one in range(3 * params.corrupt + 1, count + 1):
        for other in range(3 * params.corrupt + 1, count + 1):
            assert params.thresholds(one).shares + params.thresholds(other).shares > count + params.corrupt


def test_levels_leave_headroom_for_all_weights(kit):
    params = kit.make_params(6)
    weight = sum(member.weight for member in params.members)
    assert params.levels * weight < 2**31 <= (params.levels + 1) * weight
    assert params.word == np.uint32 and not params.rotated
    params = replace(params, bits=16)
    assert params.levels * weight < 2**15 <= (params.levels + 1) * weight
    assert params.word == np.uint16 and params.rotated


def test_narrow_ring_bears_weights_up_to_thirty_one(kit):
    params = kit.make_params(5, bits=16)
    fits = tuple(replace(m, weight=27 if at == 0 else 1) for at, m in enumerate(params.members))
    assert replace(params, members=fits).levels == 1057
    coarse = tuple(replace(m, weight=28 if at == 0 else 1) for at, m in enumerate(params.members))
    message = 'Q is too small; field: Q; value: 1023; limit: 1024; .*at most 31, or set bandwidth to "full": at most 2097151'
    with pytest.raises(ConfigError, match=message):
        replace(params, members=coarse)
    assert replace(params, members=coarse, bits=32).levels == (2**31 - 1) // 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_sites": 2}, "least number of participants does not fit"),
        ({"min_sites": 6}, "least number of participants does not fit"),
        ({"bits": 24}, "ring has two legal sizes"),
        ({"bits": 8}, "ring has two legal sizes"),
        ({"dimension": 0}, "dimension and max_rounds"),
        ({"max_churn": 1}, "differ by exactly one site tell that site's update"),
        ({"max_rounds": 0}, "dimension and max_rounds"),
        ({"update_range": 0.0}, "update range is not a positive number"),
        ({"update_range": float("inf")}, "update range is not a positive number"),
        ({"update_range": float("nan")}, "update range is not a positive number"),
        ({"update_range": 2.0**-65}, "update range is not a positive number"),
        ({"update_range": 2.0**65}, "update range is not a positive number"),
    ],
)
def test_parameters_that_give_no_safe_sum_are_refused(kit, changes, message):
    with pytest.raises(ConfigError, match=message):
        kit.make_params(5, **changes)


def with_members(kit, change):
    params = kit.make_params(5)
    return replace(params, members=tuple(change(list(params.members))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m[::-1], "not sorted by name"),
        (lambda m: [m[0], m[0], *m[1:]], "not sorted by name"),
        (lambda m: [replace(m[0], identity=m[1].identity), *m[1:]], "one key stands for two parties"),
        (lambda m: m[:2], "at least three sites"),
        (lambda m: [replace(m[0], weight=0), *m[1:]], "weight is below 1"),
        (lambda m: [replace(m[0], weight=2**22), *m[1:]], "too coarse a grid: Q is too small; field: Q; value: 511"),
    ],
)
def test_members_that_give_no_safe_sum_are_refused(kit, change, message):
    with pytest.raises(ConfigError, match=message):
        with_members(kit, change)


def test_backup_has_a_largest_number_of_sites(kit):
    assert kit.make_params(256).backup
    with pytest.raises(ConfigError, match=r"backup shares grow with the square.*value: 257; limit: 256"):
        kit.make_params(257)
    assert not kit.make_params(257, backup=False).backup


def test_server_that_is_also_a_site_is_refused(kit):
    with pytest.raises(ConfigError, match="one key stands for two parties"):
        kit.make_params(5, server=kit.identity_of("site-00").public)


def test_least_levels_is_exactly_two_to_the_ten(kit):
    members = kit.make_params(3).members
    weight = (2**31 - 1) // 1024
    fits = tuple(replace(m, weight=w) for m, w in zip(members, (weight - 2, 1, 1), strict=True))
    assert replace(kit.make_params(3), members=fits).levels == 1024
    coarse = tuple(replace(m, weight=w) for m, w in zip(members, (weight - 1, 1, 1), strict=True))
    with pytest.raises(ConfigError, match="Q is too small"):
        replace(kit.make_params(3), members=coarse)


def test_hash_binds_every_field(kit):
    base = kit.make_params(5)
    other = kit.make_params(5, corrupt=1)
    assert base.hash == other.hash
    changes = {
        "session": b"2" * 32,
        "roster": b"2" * 32,
        "members": (replace(base.members[0], weight=2), *base.members[1:]),
        "server": b"2" * 32,
        "dimension": 12,
        "update_range": 2.5,
        "min_sites": 4,
        "max_rounds": 21,
        "bits": 16,
        "backup": False,
        "max_churn": 2,
    }
    unchanged = {"corrupt"}  # has one legal value here
    assert set(changes) | unchanged == {field.name for field in fields(SumParams)}
    hashes = {replace(base, **{name: value}).hash for name, value in changes.items()}
    assert len(hashes | {base.hash}) == len(changes) + 1
    assert kit.make_params(4, corrupt=1).hash != base.hash


def test_params_have_a_wire_form(kit):
    params = kit.make_params(5)
    assert decode(SumParams, encode(params)) == params
    with pytest.raises(ProtocolError):
        kit.make_params(5, session=b"short")


def test_unknown_site_is_refused(kit):
    with pytest.raises(ConfigError, match="site is not a member"):
        kit.make_params(3).index("nobody")
