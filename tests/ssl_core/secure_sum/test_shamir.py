"""Any t shares give the secret, fewer give nothing; against Lagrange's formula in rational arithmetic mod p."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum.shamir import PRIME, combine, element, from_bytes, point, split, to_bytes


def interpolate(shares, at):
    """Lagrange's formula, written out, at any point; inverses by Fermat."""
    total = 0
    for x, y in shares.items():
        term = y
        for other in shares:
            if other != x:
                term = term * (at - other) * pow(x - other, PRIME - 2, PRIME) % PRIME
        total += term
    return total % PRIME


def seeded(seed):
    return random.Random(seed).randbytes


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_t_shares_give_the_secret(data):
    count = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(1, count))
    secret = data.draw(st.integers(0, PRIME - 1))
    points = data.draw(st.lists(st.integers(1, 2000), min_size=count, max_size=count, unique=True))
    shares = split(secret, threshold, points, seeded(data.draw(st.integers(0, 99))))
    chosen = data.draw(st.lists(st.sampled_from(range(count)), min_size=threshold, unique=True))
    some = {points[at]: shares[at] for at in chosen}
    assert combine(some) == interpolate(some, 0) == secret


def plain_split(secret, threshold, points, draw):
    """Horner's rule mod p, one reduction a step: what `split` does without the steps in between."""
    drawn = draw(48 * (threshold - 1))
    falling = [int.from_bytes(drawn[48 * at : 48 * at + 48], "big") % PRIME for at in range(threshold - 1)] + [secret]
    shares = []
    for x in points:
        value = 0
        for coefficient in falling:
            value = (value * x + coefficient) % PRIME
        shares.append(value)
    return shares


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_split_is_the_plain_reference(data):
    points = data.draw(st.lists(st.integers(1, 2000) | st.integers(PRIME - 9, PRIME - 1), min_size=1, max_size=12, unique=True))
    threshold = data.draw(st.integers(1, len(points)))
    secret, seed = data.draw(st.integers(0, PRIME - 1)), data.draw(st.integers(0, 99))
    assert split(secret, threshold, points, seeded(seed)) == plain_split(secret, threshold, points, seeded(seed))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(0, PRIME - 1), st.integers(0, PRIME - 1), st.integers(0, 99))
def test_fewer_shares_fit_any_secret(threshold, secret, other, seed):
    """t - 1 shares and any claimed secret lie on one polynomial of degree t - 1: they tell nothing."""
    points = list(range(1, 11))
    shares = dict(zip(points, split(secret, threshold, points, seeded(seed)), strict=True))
    few = {x: shares[x] for x in points[: threshold - 1]}
    claimed = {**few, 0: other}
    assert interpolate(claimed, 0) == other
    assert all(interpolate(claimed, x) == y for x, y in few.items())
    assert (interpolate(claimed, points[-1]) == shares[points[-1]]) == (other == secret)


def test_shares_have_degree_t_minus_one_and_no_less():
    points = list(range(1, 8))
    shares = dict(zip(points, split(5, 4, points, seeded(1)), strict=True))
    assert combine({x: shares[x] for x in points[:4]}) == 5
    assert combine({x: shares[x] for x in points[:3]}) != 5


def test_wrong_share_gives_another_secret():
    shares = dict(zip((1, 2, 3), split(5, 2, (1, 2, 3), seeded(1)), strict=True))
    assert combine({1: shares[1], 2: shares[2] + 1}) != 5


def test_elements_are_uniform_below_the_prime():
    draw = seeded(2)
    values = [element(draw) for _ in range(2000)]
    assert all(0 <= value < PRIME for value in values) and len(set(values)) == 2000
    assert 900 < sum(value > PRIME // 2 for value in values) < 1100
    assert element(lambda count: b"\xff" * count) == (2**384 - 1) % PRIME


@pytest.mark.parametrize("data", [to_bytes(0)[:31], bytes(33), PRIME.to_bytes(32, "big"), b"\xff" * 32])
def test_bytes_that_are_no_element_are_refused(data):
    with pytest.raises(ProtocolError, match="not an element of the field"):
        from_bytes(data)


def test_elements_have_one_spelling():
    assert [from_bytes(to_bytes(value)) for value in (0, 1, PRIME - 1)] == [0, 1, PRIME - 1]


@pytest.mark.parametrize(
    ("secret", "threshold", "points", "message"),
    [
        (PRIME, 2, (1, 2), "secret is not an element"),
        (-1, 2, (1, 2), "secret is not an element"),
        (1, 0, (1, 2), "threshold does not fit"),
        (1, 3, (1, 2), "threshold does not fit"),
        (1, 2, (0, 1), "points must be distinct and not zero"),
        (1, 2, (1, 1), "points must be distinct and not zero"),
        (1, 2, (1, PRIME), "points must be distinct and not zero"),
    ],
)
def test_split_refuses(secret, threshold, points, message):
    with pytest.raises(ProtocolError, match=message):
        split(secret, threshold, points, seeded(1))


@pytest.mark.parametrize("shares", [{}, {0: 1, 1: 2}])
def test_combine_refuses(shares):
    with pytest.raises(ProtocolError, match="points must be distinct"):
        combine(shares)


def test_no_member_has_the_point_of_the_secret():
    assert point(0) == 1 and point(1023) == 1024
