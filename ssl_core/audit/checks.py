"""Audit 1, the parts: noise, clipping and sampling of the private step, each by a test of its own.

A bound on epsilon sees gross faults alone and not which one. These see what it cannot: noise that is a few per cent too
small, noise that is drawn once for two releases, a contribution above C, samples that are not Poisson's. Each is a test of
the product's `train_round` with a false alarm in 10^6 audits, all its comparisons together (Bonferroni).

  noise scale    nobody is there: sums of squares of 32 releases, by layer, against chi-squared; 3 % of sigma are seen
  fresh noise    the same releases, cut into two halves (layers) each: correlation of every pair of halves, exactly
                 Student-t for independent normals; sees repeats within a release, between steps and between rounds
  contribution   patients with gradients of norm 2 C to 10^30 C or not finite: mean of 400 releases along each, at most C;
                 by each engine in each precision that a site may train with; in float32 none may refuse them
  sampling       400 patients, 400 steps: all inclusions, those of each patient and of each step against the binomial;
                 neighbouring steps and neighbouring patients uncorrelated
  buckets        tasks that compare patients: noise of 32 releases of nobody, for 2 C in each layer and fresh as above; one
                 canary turns a bucket round, mean of 400 releases with it less 400 without it: finite and at most 2 C
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ssl_core.audit.bucket_canary import LOUD, along, bucket_plan, observe_buckets, turning
from ssl_core.audit.canary import canaries, canary_plan, observe
from ssl_core.config import Precision
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.privacy.bookkeeping import GAMMA
from ssl_core.privacy.engines import Choice

FALSE_ALARM = 1e-6
WAYS: tuple[tuple[Choice, Precision], ...] = (
    ("auto", "float32"),
    ("hooks", "float32"),
    ("vmap", "float32"),
    ("reference", "float32"),
    ("bookkeeping", "bfloat16"),
)
"""Engine and precision: all that a site may train with where patients are not compared."""

_NORMS = (2.0, 3.0, 10.0, 1e3, 1e6, 1e15, 1e30, np.inf, np.nan)
_FINITE_NORMS = 6
"""Those whose square float32 can hold: they must arrive as C. The others must arrive as nothing, or as C at most."""


@dataclass(frozen=True, slots=True)
class Check:
    """One test: what was measured, what is demanded."""

    name: str
    passed: bool
    measured: str
    demanded: str


def run_checks() -> tuple[Check, ...]:
    """All, in the order of the module docstring."""
    scale, fresh = check_noise()
    return scale, fresh, check_contribution(), check_sampling(), *check_buckets()


def check_noise() -> tuple[Check, Check]:
    """Scale and freshness of the noise of 2 rounds of 16 releases of nothing, float [32, 1024]."""
    plan = canary_plan(size=1024, sampling_rate=0.25, noise_multiplier=1.0, steps=16)
    noise = observe(plan, canaries(np.zeros((0, 1024), np.float32)), rounds=2).sums
    return _scale("noise scale", noise, "sigma C"), _fresh("fresh noise", noise)


def _fresh(name: str, noise: npt.NDArray[np.float64]) -> Check:
    """Correlation of every pair of halves, which are layers, of releases of nobody [T, 1024]."""
    halves = noise.reshape(-1, noise.shape[1] // 2)
    worst = _greatest_correlation(halves)
    pairs = len(halves) * (len(halves) - 1) // 2
    limit = _correlation_limit(halves.shape[1], FALSE_ALARM / pairs)
    return Check(name, bool(worst <= limit), f"|correlation| {worst:.2f} at most, {pairs} pairs", f"<= {limit:.2f}")


def _scale(name: str, noise: npt.NDArray[np.float64], unit: str) -> Check:
    """Releases of nobody [T, P], in `unit`: sums of squares of each layer if they are independent standard normals."""
    layers = np.split(noise, 2, axis=1)
    chances = [_both_sides(stats.chi2, float(np.square(layer).sum()), layer.size) for layer in layers]
    found = [float(np.sqrt(np.square(layer).mean())) for layer in layers]
    share, size = FALSE_ALARM / len(layers), layers[0].size
    low, high = (float(np.sqrt(stats.chi2.ppf(p, size) / size)) for p in (share / 2, 1 - share / 2))
    measured = " and ".join(f"{scale:.3f}" for scale in found)
    return Check(name, min(chances) > share, f"{measured} {unit}", f"{low:.3f} .. {high:.3f} {unit}")


def _greatest_correlation(rows: npt.NDArray[np.float64]) -> float:
    """Greatest |correlation| of two different rows [k, d]; rows of zeros, which is noise that is missing, have none."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    units = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    found = np.abs(units @ units.T)
    np.fill_diagonal(found, 0.0)
    return float(found.max())


def _correlation_limit(count: int, chance: float) -> float:
    """|correlation| of `count` pairs of independent normals that is passed with `chance`, both signs together."""
    t = float(stats.t.isf(chance / 2, count - 2))
    return t / float(np.sqrt(count - 2 + t * t))


def check_contribution() -> Check:
    """The greatest mean contribution of one patient, in units of C; `PrivacyError` when canaries do not arrive at all."""
    plan = canary_plan(size=64, sampling_rate=1.0, noise_multiplier=0.3, steps=400)
    directions = np.zeros((len(_NORMS), 64))
    records = np.zeros((len(_NORMS), 64), np.float32)
    for number, norm in enumerate(_NORMS):
        # Half of it in each layer: clipped layer by layer it would arrive as 1.41 C.
        places = [number, 32 + number]
        directions[number, places] = np.sqrt(0.5)
        records[number, places] = norm * np.sqrt(0.5)
    arrived, refused = [], []
    for engine, precision in WAYS:
        try:
            sums = observe(plan, canaries(records), engine=engine, precision=precision).sums
        except (ConfigError, PrivacyError):
            # A round is refused where a dry run finds other rows or sums than a loop of single units gives. In bfloat16 that
            # may be this processor's doing, and nothing is trained so: it is said, and is no fault of the build.
            refused.append((engine, precision))
            continue
        # A build that does not clip releases infinities: they are its result, not a fault of this arithmetic.
        with np.errstate(invalid="ignore", over="ignore"):
            arrived.append(np.where(directions > 0, sums.mean(axis=0) * directions, 0.0).sum(axis=1))
    if not arrived:
        raise PrivacyError("the audit is broken: no engine takes the canaries", field="contribution")
    found = np.stack(arrived)
    error = (
        plan.privacy.noise_multiplier / np.sqrt(plan.rounds.steps_per_round) * float(stats.norm.isf(FALSE_ALARM / found.size))
    )
    if bool((found[:, :_FINITE_NORMS] < 1.0 / (1.0 + GAMMA) - error).any()):
        raise PrivacyError("the audit is broken: a canary did not arrive in the release", field="contribution")
    greatest = f"{found.max():.3g} C" if np.isfinite(found).all() else "not a number"
    # Written so that a contribution that is not a number is a fault too.
    passed = all(precision != "float32" for _, precision in refused) and bool((found <= 1.0 + error).all())
    measured = "; ".join([greatest, *(f"{engine} in {precision} refused" for engine, precision in refused)])
    return Check("contribution", passed, measured, f"<= {1.0 + error:.3f} C")


def check_sampling() -> Check:
    """The least of five chances, times five: how strange the samples are if they are Poisson's with rate q."""
    units, steps, rate = 400, 400, 0.25
    plan = canary_plan(size=64, sampling_rate=rate, noise_multiplier=1.0, steps=steps)
    sampled = observe(plan, canaries(np.zeros((units, 64), np.float32))).sampled
    spread = rate * (1.0 - rate)
    by_step = float((np.square(sampled.sum(axis=1) - rate * units) / (spread * units)).sum())
    by_unit = float((np.square(sampled.sum(axis=0) - rate * steps) / (spread * steps)).sum())
    centred = sampled - rate
    in_time = float((centred[1:] * centred[:-1]).sum() / (spread * np.sqrt((steps - 1) * units)))
    in_space = float((centred[:, 1:] * centred[:, :-1]).sum() / (spread * np.sqrt(steps * (units - 1))))
    chances = {
        "how many in all": _binomial(int(sampled.sum()), steps * units, rate),
        "how many a step": _both_sides(stats.chi2, by_step, steps),
        "how often a patient": _both_sides(stats.chi2, by_unit, units),
        "one step after another": 2.0 * float(stats.norm.sf(abs(in_time))),
        "one patient beside another": 2.0 * float(stats.norm.sf(abs(in_space))),
    }
    name, least = min(chances.items(), key=lambda item: item[1])
    chance = min(1.0, len(chances) * least)
    return Check("sampling", bool(chance > FALSE_ALARM), f"chance {chance:.2g} ({name})", f"> {FALSE_ALARM:.0e}")


def check_buckets() -> tuple[Check, Check, Check]:
    """Noise and contribution of a task that compares patients; `PrivacyError` where the canary does not arrive."""
    nobody = bucket_plan(1.0, 16, size=1024)
    noise = observe_buckets(nobody, canaries(np.zeros((0, 1024), np.float32)), rounds=2).sums / 2.0
    plan = bucket_plan(0.3, 400)
    steps = plan.rounds.steps_per_round
    absent = along(observe_buckets(plan, turning(np.zeros(steps, np.bool_))).sums)
    found = []
    for pull in (LOUD, np.inf, np.nan):
        sums = observe_buckets(plan, turning(np.ones(steps, np.bool_), pull=pull)).sums
        with np.errstate(invalid="ignore", over="ignore"):
            found.append(float(along(sums).mean() - absent.mean()) if np.isfinite(sums).all() else np.nan)
    spread = 2.0 * plan.privacy.noise_multiplier * float(np.sqrt(2.0 / steps))
    error = spread * float(stats.norm.isf(FALSE_ALARM / len(found)))
    if found[0] < 2.0 / (1.0 + GAMMA) - error:
        raise PrivacyError("the audit is broken: a canary did not arrive in the release", field="bucket contribution")
    greatest = f"{max(found):.3g} C" if np.isfinite(found).all() else "not a number"
    limit = 2.0 + error
    return (
        _scale("bucket noise", noise, "sigma 2 C"),
        _fresh("fresh bucket noise", noise),
        Check("bucket contribution", all(each <= limit for each in found), greatest, f"<= {limit:.3f} C"),
    )


def _binomial(hits: int, trials: int, rate: float) -> float:
    return min(1.0, 2.0 * float(min(stats.binom.cdf(hits, trials, rate), stats.binom.sf(hits - 1, trials, rate))))


def _both_sides(distribution: stats.rv_continuous, value: float, freedom: int) -> float:
    return 2.0 * float(min(distribution.cdf(value, freedom), distribution.sf(value, freedom)))
