"""Step 13: patients to parts: training and test by a keyed hash; simulated sites by label, size or real acquisition domain.

Comes in: patient ids, and for some draws a class or a domain of each. Goes out: an `Assignment`: every patient once, the same
on every machine and for every order of the ids. Sites: label skew after Hsu, Qi and Brown, "Measuring the Effects of
Non-Identical Data Distribution" (2019), each class shared out by a draw from Dirichlet(alpha); sizes from a log-normal; both
drawn anew until each site has `least` patients. A real domain (machine, view) is to be preferred, and sites that are drawn are
called simulated. For research on data that a person holds: no study asks a site for any of this. Raises `DataError` for what
cannot be met.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ssl_core.data.assignment import Assignment, Parameter, keyed
from ssl_core.errors import DataError

_DRAWS = 1000
# Far beyond any use; no sum of shares overflows up to there.
_MOST_ALPHA, _MOST_SIGMA = 1e6, 10.0
_PURPOSE = b"choral/split"


def split_patients(
    units: Sequence[str], shares: Mapping[str, float], *, key: str, strata: Mapping[str, str] | None = None
) -> Assignment:
    """Each patient to a part by a hash of the id under `key` and `shares` (adding up to 1), in whatever order these are named.

    A part that is divided again under the same key, by other shares or names, is divided anew. Without `strata` the part of a
    patient depends on that id alone, whoever else there is, and shares are met on average. With them (patient -> class) they
    are met in each class, to the nearest patient, and a new patient may move others.
    """
    if not shares or not all(share > 0 for share in shares.values()) or not abs(sum(shares.values()) - 1) <= 1e-9:
        raise DataError("shares must be above 0 and add up to 1", field="shares", value=dict(shares))
    names = sorted(shares)
    sizes = np.array([shares[name] for name in names])
    ends = np.cumsum(sizes)
    try:
        secret = key.encode()
    except UnicodeEncodeError:
        raise DataError("the key of a split is no text", field="key", remedy="take letters and digits") from None
    if len(secret) > 64:
        raise DataError("the key of a split is too long", field="key", limit="64 bytes")
    first = json.dumps([[name, shares[name]] for name in names])
    number = {unit: keyed(secret, _PURPOSE, first + unit) for unit in _distinct(units)}
    parts: dict[str, str] = {}
    if strata is None:
        for unit, hashed in number.items():
            # The last end may lie below 1 by rounding.
            parts[unit] = names[min(int(np.searchsorted(ends, hashed / 2.0**64, side="right")), len(names) - 1)]
    else:
        for members in _by_class(units, strata).values():
            ranked = sorted(members, key=lambda unit: (number[unit], unit))
            places = np.repeat(np.arange(len(names)), _quota(len(ranked), sizes))
            parts |= {unit: names[place] for unit, place in zip(ranked, places, strict=True)}
    told = {"made by": "split_patients", "key": key, "stratified": str(strata is not None).lower()}
    return Assignment(parts, told | {f"share {name}": share for name, share in shares.items()})


def dirichlet_sites(classes: Mapping[str, str], *, sites: int, alpha: float, seed: int, least: int = 1) -> Assignment:
    """Label skew: `classes` patient -> class; small `alpha`, few classes a site; alpha = 100 is next to none."""
    if not 0 < alpha <= _MOST_ALPHA:
        raise DataError(
            "alpha is outside what can be drawn", field="alpha", value=alpha, limit=f"above 0, at most {_MOST_ALPHA:g}"
        )
    groups = _by_class(list(classes), classes)

    def draw(source: np.random.Generator) -> npt.NDArray[np.int64]:
        drawn = []
        for members in groups.values():
            shares = source.dirichlet(np.full(sites, alpha))
            drawn.append(source.permutation(np.repeat(np.arange(sites), _quota(len(members), shares))))
        return np.concatenate(drawn)

    units = [unit for members in groups.values() for unit in members]
    told: dict[str, Parameter] = {"made by": "dirichlet_sites", "alpha": alpha}
    return _until(draw, units, sites=sites, seed=seed, least=least, told=told)


def sized_sites(units: Sequence[str], *, sites: int, sigma: float, seed: int, least: int = 1) -> Assignment:
    """Size skew alone: sizes in proportion to exp(sigma * normal); sigma = 0 gives equal ones."""
    if not 0 <= sigma <= _MOST_SIGMA:
        raise DataError("sigma is outside what can be drawn", field="sigma", value=sigma, limit=f"0 .. {_MOST_SIGMA:g}")
    known = sorted(_distinct(units))

    def draw(source: np.random.Generator) -> npt.NDArray[np.int64]:
        sizes = np.exp(sigma * source.standard_normal(sites))
        return source.permutation(np.repeat(np.arange(sites), _quota(len(known), sizes / sizes.sum())))

    return _until(draw, known, sites=sites, seed=seed, least=least, told={"made by": "sized_sites", "sigma": sigma})


def domain_sites(domains: Mapping[str, Sequence[str]], *, least: int = 1) -> Assignment:
    """A site for each real domain (machine, view); `domains` patient -> those of all his records.

    A patient with records of several domains belongs to the one with most of them, the first in the alphabet where two have as
    many; domains with fewer than `least` patients are refused: join them, or leave them out, by a person's decision.
    """
    parts = {}
    for unit, found in domains.items():
        counts = Counter(found)
        if not counts:
            raise DataError("a patient has no domain", field="domains", remedy="give every patient one, such as 'unknown'")
        parts[unit] = min(counts, key=lambda name: (-counts[name], name))
    made = Assignment(parts, {"made by": "domain_sites", "least": least})
    small = {name: count for name, count in made.sizes().items() if count < least}
    if small or not parts:
        raise DataError(
            "domains have too few patients", field="domains", value=len(small), limit=least,
            remedy="join such domains under one name, or leave them out",
        )  # fmt: skip
    return made


def _until(
    draw: Callable[[np.random.Generator], npt.NDArray[np.int64]],
    units: Sequence[str],
    *,
    sites: int,
    seed: int,
    least: int,
    told: Mapping[str, Parameter],
) -> Assignment:
    """Draw until every site has `least` patients; the number of draws is told."""
    if sites < 2 or least < 1 or sites * least > len(units):
        most = len(units) // max(1, least)
        raise DataError("so many sites of this size cannot be made", field="sites", value=sites, limit=f"2 .. {most}")
    if seed < 0:
        raise DataError("a seed must not be below 0", field="seed", value=seed)
    for number in range(_DRAWS):
        found = draw(np.random.default_rng([seed, number]))
        if np.bincount(found, minlength=sites).min() >= least:
            parts = {unit: f"site-{site + 1}" for unit, site in zip(units, found.tolist(), strict=True)}
            return Assignment(parts, {**told, "sites": sites, "seed": seed, "least": least, "draws": number + 1})
    raise DataError(
        f"in {_DRAWS} draws no one gave every site so many patients", field="least", value=least,
        remedy="take a larger alpha, a smaller sigma, fewer sites or a smaller least",
    )  # fmt: skip


def _by_class(units: Sequence[str], classes: Mapping[str, str]) -> dict[str, list[str]]:
    """Class -> patients, both sorted."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for unit in sorted(_distinct(units)):
        if unit not in classes:
            raise DataError("a patient has no class", field="strata", remedy="give every patient one, such as 'unknown'")
        groups[classes[unit]].append(unit)
    return dict(sorted(groups.items()))


def _quota(count: int, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """`count` in whole parts in proportion to `shares` (adding up to 1): the largest remainders get one more."""
    exact = count * shares
    whole = np.floor(exact).astype(np.int64)
    rest = count - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:rest]] += 1
    return whole


def _distinct(units: Sequence[str]) -> Sequence[str]:
    if not units or len(set(units)) != len(units):
        raise DataError("there is no patient, or one is named twice", field="units", value=len(units))
    return units
