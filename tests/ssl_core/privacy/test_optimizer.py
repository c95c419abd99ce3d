from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ssl_core.config import StudyPlan
from ssl_core.data.patients import Patients
from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.errors import PrivacyError
from ssl_core.privacy.descent import Descent
from ssl_core.privacy.gradients import GAMMA, ClippedSum, PerUnitGradients
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.privacy.optimizer import PrivateOptimizer
from ssl_core.privacy.sampling import batches, draw_coins
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream, FreshStream, UnitCoins

MakePlan = Callable[..., StudyPlan]


def _optimizer(model: Any, plan: StudyPlan, nominal_size: int = 40, reach: int = 1) -> PrivateOptimizer:
    descent = Descent(model, plan.training, total_steps=10, state=None)
    return PrivateOptimizer(descent, plan.privacy, nominal_size=nominal_size, noise=GaussianNoise(), reach=reach)


def _silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a test can take the noise away: by replacing the method, on synthetic patients."""
    monkeypatch.setattr(GaussianNoise, "normal", lambda self, count, scale: torch.zeros(count))


def _sums(model: Any, plan: StudyPlan, patients: Patients, coins: UnitCoins, size: int = 64) -> list[ClippedSum]:
    engine, clip_norm = PerUnitGradients(model), plan.privacy.max_grad_norm
    return [
        engine.clipped_sum(model.draw(patients, index, draw_coins(patients.tags[index], coins, model.coins)), clip_norm)
        for index in batches(np.arange(len(patients)), patients.tags, coins, groups=1, size=size)
    ]


def _released(model: Any, plan: StudyPlan, parts: list[ClippedSum]) -> np.ndarray:
    seen: list[np.ndarray] = []
    optimizer = _optimizer(model, plan)
    for part in parts:
        optimizer.add(part)
    optimizer.release(0, seen.append)
    assert optimizer.releases == len(seen) == 1
    return seen[0].astype(np.float64)


def test_the_noise_has_the_plans_scale_in_every_entry(tiny: Any, make_plan: MakePlan) -> None:
    plan = make_plan(privacy={"noise_multiplier": 1.7, "max_grad_norm": 0.5})
    optimizer = _optimizer(tiny, plan)
    seen: list[np.ndarray] = []
    for number in range(300):
        optimizer.release(number, seen.append)
    scaled = np.stack(seen) * optimizer.divisor / (1.7 * 0.5)
    assert stats.kstest(scaled.ravel(), "norm").pvalue > 1e-7
    per_entry = (scaled**2).sum(axis=0)
    assert stats.chi2.sf(per_entry.max(), 300) * scaled.shape[1] > 1e-6
    assert stats.chi2.cdf(per_entry.min(), 300) * scaled.shape[1] > 1e-6


def test_an_empty_sample_is_noised_stepped_and_counted_once(tiny: Any, make_plan: MakePlan) -> None:
    optimizer = _optimizer(tiny, make_plan())
    before = to_vector(tiny)
    optimizer.release(0)
    after = to_vector(tiny)
    assert optimizer.releases == 1 and optimizer.descent.steps == 1
    assert (before != after).all() and np.isfinite(after).all()


def test_chunks_are_neither_noised_nor_counted(
    tiny: Any, make_plan: MakePlan, patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = GaussianNoise.normal

    def counted(self: GaussianNoise, count: int, scale: float) -> Tensor:
        asked.append(count)
        return real(self, count, scale)

    monkeypatch.setattr(GaussianNoise, "normal", counted)
    optimizer, before = _optimizer(tiny, make_plan()), to_vector(tiny)
    for part in _sums(tiny, make_plan(), patients, UnitCoins.fresh(), 3):
        optimizer.add(part)
    assert not asked and optimizer.releases == 0 and np.array_equal(before, to_vector(tiny))
    optimizer.release(0)
    assert sum(asked) == len(before) and optimizer.releases == 1


def test_the_way_of_chunking_does_not_change_the_sum(
    tiny: Any, make_plan: MakePlan, patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    _silence(monkeypatch)
    # Known ones: where a sum nearly cancels by chance, its norm is no measure of its rounding.
    plan, coins, start = make_plan(), UnitCoins(Secret(bytes(32))), to_vector(tiny)
    found = []
    for size in (1, 7, 64):
        load_vector(tiny, start)
        found.append(_released(tiny, plan, _sums(tiny, plan, patients, coins, size)))
    for other in found[1:]:
        assert np.linalg.norm(other - found[0]) <= 1e-6 * np.linalg.norm(found[0])


def _made_up(model: Any, plan: StudyPlan, seed: int) -> ClippedSum:
    rng = np.random.default_rng(seed)
    grads = tuple(torch.from_numpy(rng.standard_normal(tuple(p.shape))) for p in model.parameters())
    return ClippedSum(grads, plan.privacy.max_grad_norm)


def _vector(clipped: ClippedSum) -> np.ndarray:
    return torch.cat([part.flatten() for part in clipped.grads]).numpy()


def test_every_step_is_of_all_its_own_parts_and_of_none_before(
    tiny: Any, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum of several parts after one of several, of one, and of none; against numpy's."""
    _silence(monkeypatch)
    plan, seen = make_plan(), list[np.ndarray]()
    optimizer = _optimizer(tiny, plan)
    for number, seeds in enumerate(([1, 2, 3], [4, 5], [], [6], [7, 8, 9])):
        for seed in seeds:
            optimizer.add(_made_up(tiny, plan, seed))
            # A part that was taken up is not held beside the next one.
            assert all(parameter.grad_sample is None for parameter in optimizer.params)
        optimizer.release(number, seen.append)
        wanted = sum((_vector(_made_up(tiny, plan, seed)) for seed in seeds), np.zeros(len(seen[0])))
        np.testing.assert_allclose(seen[-1] * optimizer.divisor, wanted, rtol=1e-6, atol=1e-6)
    assert optimizer.releases == 5


def test_sum_and_noise_are_rounded_to_float32_once(tiny: Any, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, seen = make_plan(), list[np.ndarray]()
    noise = np.random.default_rng(0).standard_normal(len(to_vector(tiny))).astype(np.float32)
    monkeypatch.setattr(GaussianNoise, "normal", lambda *_: torch.from_numpy(noise.copy()))
    # At 4 patients the divisor is 1, and dividing rounds nothing.
    optimizer = _optimizer(tiny, plan, nominal_size=4)
    optimizer.add(_made_up(tiny, plan, 1))
    optimizer.release(0, seen.append)
    exact = _vector(_made_up(tiny, plan, 1)) + noise.astype(np.float64)
    assert optimizer.divisor == 1.0 and np.array_equal(seen[0], exact.astype(np.float32))
    # Positive control: rounded before as well, some would be another.
    twice = _vector(_made_up(tiny, plan, 1)).astype(np.float32) + noise
    assert not np.array_equal(seen[0], twice)


def test_one_patient_moves_the_complete_step_by_at_most_c(
    tiny: Any, make_plan: MakePlan, patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finite difference of everything from draw to p.grad, noise off, the patient's gradient far above C."""
    _silence(monkeypatch)
    plan = make_plan(privacy={"max_grad_norm": 0.01})
    coins, start, divisor = UnitCoins.fresh(), to_vector(tiny), _optimizer(tiny, plan).divisor
    found = []
    for kept in (np.arange(40), np.delete(np.arange(40), 11)):
        load_vector(tiny, start)
        found.append(_released(tiny, plan, _sums(tiny, plan, patients.take(kept), coins, 7)) * divisor)
    contribution = np.linalg.norm(found[0] - found[1])
    # p.grad is float32, rounded after the noise is added: with the noise off that rounding is seen here.
    rounding = 2 * 2.0**-24 * np.linalg.norm(found[0])
    assert 0.01 * (1 - 2 * GAMMA) - rounding <= contribution <= 0.01 + rounding


def test_the_divisor_is_public_and_constant(tiny: Any, make_plan: MakePlan) -> None:
    plan = make_plan(privacy={"sampling_rate": 0.125})
    assert _optimizer(tiny, plan, 9000).divisor == 0.125 * 9000


def test_it_fails_closed_when_the_noise_is_not_ours(tiny: Any, make_plan: MakePlan) -> None:
    class Quiet(GaussianNoise):
        def normal(self, count: int, standard_deviation: float) -> Tensor:
            return torch.zeros(count)

    class Still(FreshStream):
        def uniform(self, count: int) -> np.ndarray:
            return np.full(count, 0.5)

    class Alike:
        uniform = Still.uniform

    def reading(stream: Any) -> GaussianNoise:
        source = GaussianNoise()
        source._stream = stream
        return source

    plan = make_plan()
    descent = Descent(tiny, plan.training, total_steps=10, state=None)
    foreign = [reading(stream) for stream in (Still(), Alike(), AesCtrStream(Secret(bytes(32))), None)]
    for source in (Quiet(), torch.Generator(), None, *foreign):
        with pytest.raises(PrivacyError, match="noise"):
            PrivateOptimizer(descent, plan.privacy, nominal_size=40, noise=source, reach=1)
    for name, value in (
        ("_noise", Quiet()),
        *(("_noise", source) for source in foreign),
        ("generator", torch.Generator()),
        ("secure_mode", True),
        ("noise_multiplier", 0.0),
        ("max_grad_norm", 0.1),
    ):
        optimizer, before = _optimizer(tiny, plan), to_vector(tiny)
        setattr(optimizer, name, value)
        with pytest.raises(PrivacyError, match="noise"):
            optimizer.release(0)
        assert np.array_equal(before, to_vector(tiny)) and optimizer.releases == 0
    with pytest.raises(AttributeError):
        GaussianNoise()._stream.uniform = Still.uniform


def test_a_gradient_is_never_used_twice(tiny: Any, make_plan: MakePlan, patients: Patients) -> None:
    plan = make_plan()
    optimizer = _optimizer(tiny, plan)
    part = _sums(tiny, plan, patients, UnitCoins.fresh())[0]
    optimizer.add(part)
    with pytest.raises(ValueError, match="zero_grad"):
        optimizer.add(part)


def test_a_sum_that_was_noised_is_never_noised_again(tiny: Any, make_plan: MakePlan) -> None:
    """Two noises on one sum would be worth half of each: also after a step that failed once its noise was seen."""
    plan = make_plan()
    optimizer = _optimizer(tiny, plan)

    def failing(_: np.ndarray) -> None:
        raise OSError("disk is full")

    optimizer.add(_made_up(tiny, plan, 1))
    with pytest.raises(OSError, match="disk is full"):
        optimizer.release(0, failing)
    with pytest.raises(ValueError, match="zero_grad"):
        optimizer.release(0)


def test_a_sum_that_is_not_the_plans_is_refused(tiny: Any, make_plan: MakePlan) -> None:
    plan = make_plan()
    optimizer, clip_norm = _optimizer(tiny, plan), plan.privacy.max_grad_norm
    zeros = tuple(p.detach().double() for p in tiny.parameters())
    for wrong in (tuple(part.float() for part in zeros), tuple(part[:1] for part in zeros)):
        with pytest.raises(PrivacyError, match="does not fit"):
            optimizer.add(ClippedSum(wrong, clip_norm))
    with pytest.raises(PrivacyError, match="another norm"):
        optimizer.add(ClippedSum(zeros, 2 * clip_norm))
    assert optimizer.releases == 0
