"""Random schedules of losses, delays, repetitions and deaths: every sum that comes out is exact, or its round is void.

`CHORAL_SCHEDULES` says how many are tried, 10,000 unless given (`make schedules`: 200,000). The machine is in
tests/shared/tests_schedules.py; there hypothesis draws only bytes, so that what it finds is a few bytes to read.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests_mortal import remembered
from tests_schedules import World

SCHEDULES = int(os.environ.get("CHORAL_SCHEDULES", "10000"))
# Of a hundred schedules; rounds of six sites cost three times those of three, and alone need BACKUP.
SHARES = {3: 50, 4: 30, 5: 8, 6: 12}
OUTCOMES = {
    "closed",
    "closed without all",
    "closed by backup",
    "void: too few uploads",
    "void: too many lost",
    "void: given up",
    "site restarted in a round",
    "killed at a write",
    "killed before it was sent",
    "declined",
    "server restarted in a round",
    "late",
    "twice",
    "new epoch",
    "checkpoint taken",
    "participants changed",
    "16 bits",
}
# A server that starts again has no agreements, and a site that answered without having been asked gives none (ruling 10).
RARE = {"void: answered before it agreed"}
schedules = st.integers(0, 48).flatmap(lambda size: st.binary(min_size=size, max_size=size))


@pytest.fixture(scope="module", autouse=True)
def cheap_rounds():
    with remembered():
        yield


@pytest.mark.timeout(max(300, SCHEDULES // 20))
@pytest.mark.parametrize("count", SHARES)
def test_every_sum_is_exact_or_its_round_void(count):
    @settings(max_examples=max(1, SCHEDULES * SHARES[count] // 100), deadline=None)
    @given(schedules)
    def sums_are_exact(schedule):
        seen = World(count, schedule).run()
        assert set(seen) <= OUTCOMES | RARE
        for outcome in sorted(+seen):
            event(outcome)

    sums_are_exact()


def test_schedules_reach_every_outcome():
    draw = random.Random(5)
    seen: Counter[str] = Counter()
    for _ in range(300):
        seen += World(draw.choice(list(SHARES)), draw.randbytes(draw.randint(0, 48))).run()
    assert set(+seen) - RARE == OUTCOMES, OUTCOMES ^ set(+seen)
    assert seen["closed"] > 200 and seen["closed without all"] > 30, seen


@pytest.mark.parametrize("count", SHARES)
@pytest.mark.parametrize("rounds", [b"\0", b"\0\1", b"\0\2"])
def test_a_quiet_schedule_closes_every_round_with_all(count, rounds):
    schedule = bytes(2 if count < 6 else 3) + rounds[-1:]
    assert World(count, schedule).run() == Counter(closed=1 + rounds[-1])
