"""The arithmetic behind the search, for every roster of 3 to 200 sites: thresholds, and sums in two contexts at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """`settings` of (N, |C|) that the rules allow; `unsafe` ones; pairs of |C| in which two contexts can both be opened."""

    settings: int
    unsafe: int
    pairs: int
    double: int
    double_with_all: int
    double_of_roster: int


def count(largest: int = 200) -> Counts:
    """All rosters up to `largest`.

    Unsafe: two sets of honest sites, each t - c strong, fit beside each other, or c sites reach t, or fewer than two
    honest sites remain in a sum. The same count with two contexts A and B: t_A + t_B <= N + c lets both be opened;
    never when all N are invited to both, as 2t > N + c.
    """
    settings = unsafe = pairs = double = double_with_all = double_of_roster = 0
    for roster in range(3, largest + 1):
        corrupt = (roster - 1) // 3
        of_roster = (roster + corrupt) // 2 + 1
        allowed = list(_allowed(roster, corrupt))
        for at, (invited, shares, least) in enumerate(allowed):
            settings += 1
            unsafe += 2 * shares <= invited + corrupt or shares <= corrupt or shares > invited or least - corrupt < 2
            for also, other, _ in allowed[at:]:
                both = shares + other <= roster + corrupt
                pairs += 1
                double += both
                double_with_all += both and invited == also == roster
                double_of_roster += 2 * of_roster <= roster + corrupt
    return Counts(
        settings=settings,
        unsafe=unsafe,
        pairs=pairs,
        double=double,
        double_with_all=double_with_all,
        double_of_roster=double_of_roster,
    )


def _allowed(roster: int, corrupt: int) -> Iterator[tuple[int, int, int]]:
    """(|C|, t, m) for every |C| that a site accepts."""
    for invited in range(3 * corrupt + 1, roster + 1):
        shares = (invited + corrupt) // 2 + 1
        least = max(3, shares, corrupt + 2)
        if invited >= least:
            yield invited, shares, least
