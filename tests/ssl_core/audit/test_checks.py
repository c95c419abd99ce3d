"""The checks of the parts: what each sees beyond the five builds of tests/adversary/test_broken_builds.py."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy import stats
from tests_broken_builds import clip_by

from ssl_core.audit import checks
from ssl_core.audit.bucket_canary import TurningModel, along, turning
from ssl_core.audit.canary import CanaryModel, canaries
from ssl_core.config import SpeedSpec
from ssl_core.errors import PrivacyError
from ssl_core.privacy import shapes, training
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.buckets import BucketEngine
from ssl_core.privacy.engines import choose_engine
from ssl_core.privacy.gradients import ClippedSum, PerUnitGradients, clip_and_sum, empty_sum
from ssl_core.privacy.hooks import HooksEngine
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.privacy.reference import LoopEngine

REAL_NOISE = GaussianNoise.normal


def canary_views():
    """The canaries' model, and views of three of them."""
    patients = canaries(np.eye(3, 64, dtype=np.float32))
    model = CanaryModel(64, patients)
    return model, model.draw(patients, np.arange(3), np.zeros((3, 0)))


def noise_checks():
    return {check.name: check.passed for check in checks.check_noise()}


def test_noise_that_is_five_per_cent_too_small_or_too_large_is_seen(monkeypatch):
    for factor in (0.95, 1.05):
        monkeypatch.setattr(GaussianNoise, "normal", lambda self, count, scale, f=factor: REAL_NOISE(self, count, f * scale))
        assert noise_checks() == {"noise scale": False, "fresh noise": True}


def test_noise_that_is_the_same_in_both_layers_is_seen(monkeypatch):
    """Both have as many weights, and a release draws for all of them at once."""
    monkeypatch.setattr(GaussianNoise, "normal", lambda self, count, scale: REAL_NOISE(self, count // 2, scale).repeat(2))
    assert noise_checks() == {"noise scale": True, "fresh noise": False}


def test_a_noise_source_that_begins_anew_each_round_with_the_same_draws_is_seen(monkeypatch):
    streams: dict[int, tuple[GaussianNoise, torch.Generator]] = {}

    def normal(self, count, scale):
        _, stream = streams.setdefault(id(self), (self, torch.Generator().manual_seed(1)))
        return scale * torch.randn(count, generator=stream)

    monkeypatch.setattr(GaussianNoise, "normal", normal)
    assert noise_checks() == {"noise scale": True, "fresh noise": False}


def test_greatest_correlation_is_numpys_and_rows_of_zeros_have_none():
    rows = np.random.default_rng(0).standard_normal((6, 40))
    table = np.abs(np.corrcoef(rows) - np.eye(6))
    assert checks._greatest_correlation(rows) == pytest.approx(table.max())
    assert checks._greatest_correlation(np.zeros((3, 5))) == 0.0


def test_the_limit_on_correlations_is_scipys_chance():
    limit = checks._correlation_limit(50, 1e-3)
    one = np.zeros(50)
    one[0], one[1] = 1.0, -1.0
    other = np.zeros(50)
    other[2], other[3] = 1.0, -1.0
    mixed = limit * one + np.sqrt(1 - limit**2) * other
    assert stats.pearsonr(one, mixed).pvalue == pytest.approx(1e-3, rel=1e-6)


def test_clipping_layer_by_layer_is_seen(monkeypatch):
    def by_layer(rows, clip_norm):
        return ClippedSum(tuple(clip_and_sum([row], clip_norm).grads[0] for row in rows), clip_norm)

    clip_by(monkeypatch, by_layer)
    found = checks.check_contribution()
    assert not found.passed and 1.3 < float(found.measured.split()[0]) < 1.5


def test_rows_that_are_not_finite_are_part_of_the_check(monkeypatch):
    """Finite rows clipped well, the others let through: the release is no number, which is a fault."""

    def careless(rows, clip_norm):
        norms = sum(row.double().flatten(1).square().sum(dim=1) for row in rows).sqrt()
        factors = (clip_norm / norms).clamp(max=1.0).nan_to_num(nan=1.0)
        return ClippedSum(tuple(torch.tensordot(factors, row.double(), dims=1) for row in rows), clip_norm)

    clip_by(monkeypatch, careless)
    found = checks.check_contribution()
    assert not found.passed and found.measured.startswith("not a number")


def test_every_engine_in_every_precision_that_a_site_may_choose_is_part_of_the_check(monkeypatch):
    """An engine whose sum is twice what it should be is seen, or refused by its own dry run; either is a fault."""
    engines = set(get_args(SpeedSpec.model_fields["engine"].annotation))
    # Of the canaries' model "auto" takes bookkeeping; the others know float32 alone (privacy/planner.py).
    assert {engine for engine, _ in checks.WAYS} == engines
    assert ("bookkeeping", "bfloat16") in checks.WAYS and choose_engine(*canary_views(), "auto").name == "bookkeeping"
    ways = {"hooks": HooksEngine, "vmap": PerUnitGradients, "reference": LoopEngine, "bookkeeping": BookkeepingEngine}
    for way in checks.WAYS:
        if way[0] == "auto":
            continue
        with monkeypatch.context() as patch:
            honest = ways[way[0]].clipped_sum

            def double(self, views, clip_norm, honest=honest, way=way):
                found = honest(self, views, clip_norm)
                return found + found if way[1] == getattr(self, "_precision", "float32") else found

            if way[1] == "bfloat16":
                # Looked at before each round: what the audit sees is what that look would let pass.
                patch.setattr(shapes, "check_fixed_shape", lambda *_: None)
            patch.setattr(checks, "WAYS", (("auto", "float32"), way))
            patch.setattr(ways[way[0]], "clipped_sum", double)
            found = checks.check_contribution()
            refused = f"{way[0]} in {way[1]} refused" in found.measured
            assert not found.passed and (refused if way[0] == "hooks" else found.measured.startswith("2")), way


def test_a_processor_that_does_not_keep_units_apart_in_bfloat16_is_no_fault_of_the_build(monkeypatch):
    def apart(*_):
        raise PrivacyError("units of a batch are not kept apart")

    monkeypatch.setattr(shapes, "check_fixed_shape", apart)
    monkeypatch.setattr(checks, "WAYS", (("auto", "float32"), ("bookkeeping", "bfloat16")))
    found = checks.check_contribution()
    assert found.passed and found.measured.endswith("; bookkeeping in bfloat16 refused")


def test_canaries_that_do_not_arrive_break_the_audit(monkeypatch):
    clip_by(monkeypatch, lambda rows, clip_norm: clip_and_sum([0 * row.nan_to_num() for row in rows], clip_norm))
    with pytest.raises(PrivacyError, match="did not arrive"):
        checks.check_contribution()


def test_a_bucket_that_is_turned_by_more_or_less_than_two_c_is_seen(monkeypatch):
    def by_layer(self, views, clip_norm):
        return ClippedSum(tuple(clip_and_sum([row], clip_norm).grads[0] for row in self.rows(views)), clip_norm, reach=2)

    noise, fresh, contribution = checks.check_buckets()
    assert noise.passed and fresh.passed and contribution.passed and 1.7 < float(contribution.measured.split()[0]) < 2.21
    monkeypatch.setattr(BucketEngine, "clipped_sum", by_layer)
    noise, _, contribution = checks.check_buckets()
    assert noise.passed and not contribution.passed and 2.6 < float(contribution.measured.split()[0]) < 3.1
    monkeypatch.setattr(
        BucketEngine, "clipped_sum", lambda self, views, clip_norm: empty_sum(tuple(self._model.parameters()), clip_norm, 2)
    )
    with pytest.raises(PrivacyError, match="did not arrive"):
        checks.check_buckets()


def test_a_bucket_that_is_not_finite_and_not_left_out_is_seen(monkeypatch):
    def careless(self, views, clip_norm):
        rows = self.rows(views)
        if all(bool(row.isfinite().all()) for row in rows):
            return clip_and_sum(rows, clip_norm, reach=2)
        return ClippedSum(tuple(row[0].double() for row in rows), clip_norm, reach=2)

    monkeypatch.setattr(BucketEngine, "clipped_sum", careless)
    contribution = checks.check_buckets()[2]
    assert (contribution.passed, contribution.measured) == (False, "not a number")


def test_noise_that_is_all_in_one_layer_of_a_bucket_task_is_seen(monkeypatch):
    """The sum of both layers' squares is what it should be."""

    def normal(self, count, scale):
        noise = REAL_NOISE(self, count, scale * 2**0.5)
        noise[count // 2 :] = 0
        return noise

    monkeypatch.setattr(GaussianNoise, "normal", normal)
    assert not checks.check_buckets()[0].passed


def test_the_canary_that_turns_a_bucket_is_as_bad_as_the_argument_allows():
    """One step without noise, by the loop written here: from -C to C, whatever C is."""
    for inside, wanted in ((True, 1.0), (False, -1.0)):
        patients = turning(np.array([inside]))
        model = TurningModel(64, patients)
        index = np.arange(len(patients))
        views = model.draw(patients, index, np.zeros((len(index), 0)))
        row = np.concatenate([part.numpy().ravel() for part in clip_and_sum(BucketEngine(model).rows(views), 0.7).grads])
        assert float(np.linalg.norm(row)) == pytest.approx(0.7, rel=1e-3)
        assert float(along(row[None])[0]) == pytest.approx(0.7 * wanted, rel=1e-3)
        # Its turn is over: with the holders alone or with others, the bucket is at -C.
        row = clip_and_sum(BucketEngine(model).rows(model.draw(patients, index, np.zeros((len(index), 0)))), 0.7).grads[0]
        assert float(row.sum()) < 0


def sampler(monkeypatch, sample):
    monkeypatch.setattr(training, "poisson_sample", sample)
    return checks.check_sampling()


def test_fixed_batches_one_coin_for_two_and_a_coin_kept_over_steps_are_seen(monkeypatch):
    def fixed(tags, rate, coins):
        return np.sort(np.argsort(coins.uniform(tags, "sample", 1)[:, 0])[: round(rate * len(tags))])

    def in_pairs(tags, rate, coins):
        return np.flatnonzero(np.repeat(coins.uniform(tags, "sample", 1)[::2, 0], 2) <= rate)

    kept: list[np.ndarray] = []

    def kept_over_steps(tags, rate, coins):
        if not kept:
            kept.extend([np.flatnonzero(coins.uniform(tags, "sample", 1)[:, 0] <= rate)] * 2)
        return kept.pop()

    def too_often(tags, rate, coins):
        return np.flatnonzero(coins.uniform(tags, "sample", 1)[:, 0] <= 1.05 * rate)

    for sample, why in (
        (fixed, "how many a step"), (in_pairs, "one patient beside another"),
        (kept_over_steps, "one step after another"), (too_often, "how many in all"),
    ):  # fmt: skip
        found = sampler(monkeypatch, sample)
        assert not found.passed and why in found.measured, why
