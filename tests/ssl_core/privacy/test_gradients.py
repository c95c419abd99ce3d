from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ssl_core.config import StudyPlan
from ssl_core.data.patients import Patients
from ssl_core.errors import PrivacyError
from ssl_core.objectives.build import build_model
from ssl_core.privacy.gradients import GAMMA, ClippedSum, PerUnitGradients, check_model, clip_and_sum, row_norms
from ssl_core.privacy.reference import exact_sum, loop_rows
from ssl_core.privacy.sampling import draw_coins
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.trust.random import UnitCoins


def _views(model: Any, patients: Patients) -> dict[str, Tensor]:
    coins = UnitCoins.fresh()
    return dict(model.draw(patients, np.arange(len(patients)), draw_coins(patients.tags, coins, model.coins)))


def _whole(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.double().reshape(-1) for part in parts])


def test_rows_equal_a_loop_of_single_backward_passes(make_plan: Callable[..., StudyPlan], kind: dict[str, Any]) -> None:
    plan = make_plan(kind)
    model = build_model(plan)
    views = _views(model, synthetic_patients(plan.data, 9))
    for fast, slow in zip(PerUnitGradients(model).rows(views), loop_rows(model, views), strict=True):
        assert fast.shape == slow.shape and fast.dtype == torch.float32
        scale = slow.flatten(1).norm(dim=1).clamp(min=1e-3)
        assert ((fast - slow).flatten(1).norm(dim=1) <= 1e-5 * scale).all()


def test_clipped_sum_equals_the_exact_one(tiny: Any, patients: Patients) -> None:
    views = _views(tiny, patients)
    rows = PerUnitGradients(tiny).rows(views)
    for clip_norm in (1e-3, 0.3, 100.0):
        fast, exact = _whole(clip_and_sum(rows, clip_norm).grads), _whole(exact_sum(loop_rows(tiny, views), clip_norm))
        assert (fast - exact).norm() <= (GAMMA + 1e-5) * exact.norm()


def test_changing_one_patient_changes_no_other_row(tiny: Any, patients: Patients) -> None:
    engine, coins = PerUnitGradients(tiny), UnitCoins.fresh()
    index = np.arange(len(patients))
    uniforms = draw_coins(patients.tags, coins, tiny.coins)
    before = engine.rows(tiny.draw(patients, index, uniforms))
    for place, value in ((0, 3.0), (17, 1e30), (39, float("nan"))):
        records = patients.records.copy()
        records[patients.offsets[place] : patients.offsets[place + 1]] = value
        other = Patients(patients.units, patients.tags, patients.offsets, records)
        after = engine.rows(tiny.draw(other, index, uniforms))
        others = index != place
        assert all(torch.equal(a[others], b[others]) for a, b in zip(before, after, strict=True))
        assert not all(torch.equal(a[place], b[place]) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_a_row_that_is_not_finite_is_exactly_zero_and_changes_nothing_else(bad: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = (torch.randn(11, 30, 7, generator=generator), torch.randn(11, 5000, generator=generator))
    kept = [i for i in range(11) if i != 4]
    spoilt = tuple(row.clone() for row in rows)
    spoilt[0][4, 3, 2] = bad
    zeroed = tuple(row.clone() for row in rows)
    for row in zeroed:
        row[4] = 0.0
    found = clip_and_sum(spoilt, 0.7)
    assert all(torch.equal(a, b) for a, b in zip(found.grads, clip_and_sum(zeroed, 0.7).grads, strict=True))
    without = clip_and_sum(tuple(row[kept] for row in rows), 0.7)
    torch.testing.assert_close(_whole(found.grads), _whole(without.grads), rtol=1e-12, atol=1e-12)
    assert spoilt[0][4, 3, 2].isnan() or spoilt[0][4, 3, 2] == bad, "the caller's rows are left as they are"
    lonely = clip_and_sum(tuple(row[4:5] for row in spoilt), 0.7)
    assert not _whole(lonely.grads).any()


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([1, 3, 4095, 4096, 4097, 70_001]),
    exponents=st.tuples(st.integers(-12, 12), st.integers(-12, 12)),
    share=st.floats(0, 1),
    clip_exponent=st.integers(-6, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_gamma_bounds_the_rounding_of_one_row(
    size: int, exponents: tuple[int, int], share: float, clip_exponent: int, seed: int
) -> None:
    """Judged in float64: norms of few or many, equal or very unequal entries; the clipped row never passes C."""
    generator = np.random.default_rng(seed)
    large = generator.random(size) < share
    row = np.where(large, 10.0 ** exponents[0], 10.0 ** exponents[1]) * generator.choice([1.0, 0.9999999], size)
    rows = (torch.from_numpy(row.astype(np.float32))[None],)
    true = float(rows[0].double().norm())
    assert abs(float(row_norms(rows)[0]) - true) <= GAMMA / 2 * true
    clip_norm = 10.0**clip_exponent
    clipped = float(_whole(clip_and_sum(rows, clip_norm).grads).norm())
    assert clipped <= clip_norm
    assert clipped >= min(true, clip_norm) * (1 - 2 * GAMMA)


def test_worst_rounding_in_one_block_stays_below_gamma() -> None:
    """1 followed by squares of half an ulp: naive float32 addition loses all of them."""
    row = torch.full((1, 4096), 2.0**-12.5)
    row[0, 0] = 1.0
    true = float(row.double().norm())
    assert abs(float(row_norms((row,))[0]) - true) <= GAMMA / 2 * true


def test_worst_rounding_of_norms_and_of_sums_stays_below_gamma() -> None:
    """The same for each of a processor's lanes: only blocks of bounded length keep the bound at this size.

    Then 200,000 units whose rows point the same way, added one after another: in float32 the last would move the sum by more
    or less than it has, by up to C / 128. Each must add at most C, and within gamma what it adds alone.
    """
    row = torch.full((1, 1 << 23), 2.0**-12.5)
    row[0, :64] = 1.0
    true = float(row.double().norm())
    assert abs(float(row_norms((row,))[0]) - true) <= GAMMA / 2 * true
    rows = 1.0 + torch.rand(200_000, 3, generator=torch.Generator().manual_seed(0))
    whole = _whole(clip_and_sum((rows,), 1.0).grads)
    for place in (0, 77_777, 199_999):
        rest = torch.cat([rows[:place], rows[place + 1 :]])
        added = whole - _whole(clip_and_sum((rest,), 1.0).grads)
        alone = _whole(clip_and_sum((rows[place : place + 1],), 1.0).grads)
        assert float(added.norm()) <= 1.0 and float((added - alone).norm()) <= GAMMA / 2


def test_one_unit_contributes_at_most_c_whatever_the_others_are(tiny: Any, patients: Patients) -> None:
    rows = PerUnitGradients(tiny).rows(_views(tiny, patients))
    scaled = tuple(1e4 * row for row in rows)
    clip_norm = 0.37
    everyone = _whole(clip_and_sum(scaled, clip_norm).grads)
    for place in range(0, 40, 7):
        kept = [i for i in range(40) if i != place]
        fewer = _whole(clip_and_sum(tuple(row[kept] for row in scaled), clip_norm).grads)
        contribution = float((everyone - fewer).norm())
        assert clip_norm * (1 - 2 * GAMMA) <= contribution <= clip_norm


def test_aligned_rows_in_many_tiles_add_up_without_passing_their_number_times_c() -> None:
    rows = (torch.ones(333, 40_000),)
    total = clip_and_sum(rows, 1.0)
    assert 333 * (1 - 2 * GAMMA) <= float(total.grads[0].norm()) <= 333


def test_a_sum_knows_its_sensitivity_and_adds_to_its_like() -> None:
    one = clip_and_sum((torch.ones(2, 3),), 0.5)
    assert one.sensitivity() == 0.5 and one.sensitivity("replace-one") == 1.0
    both = one + clip_and_sum((-torch.ones(2, 3),), 0.5)
    assert both.sensitivity() == 0.5 and not both.grads[0].any()
    with pytest.raises(PrivacyError, match="clip_norm"):
        _ = one + ClippedSum(one.grads, 0.6)


def test_no_rows_give_zeros() -> None:
    empty = clip_and_sum((torch.zeros(0, 3, 2), torch.zeros(0, 5000)), 1.0)
    assert [tuple(g.shape) for g in empty.grads] == [(3, 2), (5000,)] and not _whole(empty.grads).any()
    for clip_norm in (0.0, 1e-7, float("inf"), float("nan")):
        with pytest.raises(PrivacyError, match="max_grad_norm"):
            clip_and_sum((torch.zeros(1, 3),), clip_norm)


def test_models_that_could_couple_units_are_refused_by_name(tiny: Any) -> None:
    check_model(tiny)
    for layer in (nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False, track_running_stats=False), nn.Dropout(0.1)):
        model = nn.Sequential(nn.Linear(2, 3), layer)
        with pytest.raises(PrivacyError, match=type(layer).__name__):
            PerUnitGradients(model)
    tiny.register_buffer("seen_so_far", torch.zeros(1))
    with pytest.raises(PrivacyError, match="seen_so_far"):
        check_model(tiny)
    for model in (nn.Linear(2, 3).double(), nn.Linear(2, 3).requires_grad_(False)):
        with pytest.raises(PrivacyError, match="weight"):
            check_model(model)


def test_randomness_inside_the_loss_is_refused() -> None:
    class Careless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, views: dict[str, Tensor]) -> Tensor:
            return (self.weight * views["x"] * torch.rand(3)).sum()

    with pytest.raises(RuntimeError, match="random"):
        PerUnitGradients(Careless()).rows({"x": torch.ones(4, 3)})
