"""Before step 1: public streams of coded events from a seed, of nobody, with what they were made from.

Comes in: a seed, a number of records, and what a study says of its events. Goes out: of each record the place of each code in
the study's vocabulary, int64 [n], the hours since the first event, float64 [n], rising, with n between half of `data.events`
and all of it; and four factors, bool [4] in FACTORS' order. A record is a marked point process (Daley and Vere-Jones, "An
Introduction to the Theory of Point Processes", 2003, section 6.4): codes fall into six groups, the group of the next event
follows from the last one's, the gap from a quantile, spread evenly over the study's buckets of gaps:

    forward        the groups come in their order rather than against it: no count of codes or gaps tells it
    early return   group 0 is followed soon and group 3 late, or the other way round: only code and gap together tell it
    quickening     gaps shorten along the record, or they lengthen: no count tells it
    burdened       the last group comes more often, with shorter gaps: counts tell it

How often anything occurs is no claim about medicine. Each record comes from a generator of its own, so that the first ones do
not depend on how many are asked for. `ConfigError` for a study of fewer than six codes or four events.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ConfigError
from ssl_core.spec.data import EventData

FACTORS = ("forward", "early return", "quickening", "burdened")
GROUPS, _SOON, _LATE = 6, 0, 3
_PREVALENCE = 0.4
_ONWARDS, _STAY = 0.6, 0.15
_LEAST_EVENTS = 4
_ZIPF = 0.7
_BEFORE_FIRST, _BEYOND_LAST = 0.1, 4.0
_DAY = 24.0

Places = npt.NDArray[np.int64]
Hours = npt.NDArray[np.float64]
Factors = npt.NDArray[np.bool_]


def made_events(seed: int, count: int, data: EventData) -> Iterator[tuple[Places, Hours, Factors]]:
    """The first `count` records of `seed`: places in the vocabulary, hours since the first event, factors."""
    if len(data.vocabulary) < GROUPS or data.events < _LEAST_EVENTS:
        raise ConfigError(
            "study has too few codes or events to make streams for",
            field="vocabulary, events",
            value=(len(data.vocabulary), data.events),
            limit=f"at least {GROUPS} codes, {_LEAST_EVENTS} events",
        )
    edges = _edges(data)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        factors = rng.random(len(FACTORS)) < _PREVALENCE
        length = int(rng.integers(data.events // 2, data.events + 1))
        groups = _groups(rng, length, factors)
        gaps = np.interp(_quantiles(rng, groups, factors), np.linspace(0.0, 1.0, len(edges)), np.log(edges))
        hours = np.concatenate([np.zeros(1), np.cumsum(np.exp(gaps[1:]))])
        yield _codes(rng, groups, len(data.vocabulary)), hours, factors


def group_of(places: Places) -> Places:
    """The group of each place in the vocabulary."""
    return places % GROUPS


def _groups(rng: np.random.Generator, length: int, factors: Factors) -> Places:
    forward, burdened = factors[0], factors[3]
    found = np.empty(length, np.int64)
    found[0] = rng.integers(GROUPS)
    for place in range(1, length):
        draw = rng.random()
        if draw < _ONWARDS:
            found[place] = (found[place - 1] + (1 if forward else -1)) % GROUPS
        elif draw < _ONWARDS + _STAY:
            found[place] = found[place - 1]
        else:
            found[place] = GROUPS - 1 if burdened and rng.random() < 0.5 else rng.integers(GROUPS)
    return found


def _quantiles(rng: np.random.Generator, groups: Places, factors: Factors) -> Hours:
    """Of the gap before each event, within 0 .. 1; over a record that is not burdened about evenly spread."""
    _, early, quickening, burdened = factors
    count = len(groups)
    found = rng.random(count)
    past = (np.arange(count) + rng.random(count)) / count
    timed = rng.random(count) < 0.5
    found[timed] = (1.0 - past if quickening else past)[timed]
    before = np.concatenate([np.full(1, -1), groups[:-1]])
    soon, late = (_SOON, _LATE) if early else (_LATE, _SOON)
    found = np.where(before == soon, found / 2, np.where(before == late, (1.0 + found) / 2, found))
    quantiles: Hours = found**1.5 if burdened else found
    return quantiles


def _codes(rng: np.random.Generator, groups: Places, codes: int) -> Places:
    """A code of each group, the earlier in the vocabulary the more often: Zipf's law with exponent .7."""
    found = np.empty(len(groups), np.int64)
    for group in range(GROUPS):
        own = np.arange(group, codes, GROUPS)
        odds = 1.0 / np.arange(1, len(own) + 1) ** _ZIPF
        at = groups == group
        found[at] = rng.choice(own, int(at.sum()), p=odds / odds.sum())
    return found


def _edges(data: EventData) -> Hours:
    """Bounds in hours of equally frequent gaps: the study's, one below the first and one above the last."""
    bounds = np.array(data.gap_hours or (_DAY,), np.float64)
    return np.concatenate([bounds[:1] * _BEFORE_FIRST, bounds, bounds[-1:] * _BEYOND_LAST])
