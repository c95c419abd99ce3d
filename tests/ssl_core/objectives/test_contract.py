"""The contract of every pretext task: isolation, rows equal to single backward passes, harmless bad records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssl_core.data.patients import Patients, group
from ssl_core.errors import PrivacyError


def owners_of(patients: Patients) -> list[str]:
    return [unit for unit, count in zip(patients.units, patients.counts(), strict=True) for _ in range(count)]


def without(patients: Patients, place: int) -> Patients:
    return patients.take(np.delete(np.arange(len(patients)), place))


def replaced(patients: Patients, place: int) -> Patients:
    """Other records, and more of them, for the unit at `place`: all others move."""
    donor = (place + 1) % len(patients)
    owners, records = owners_of(patients), patients.records
    kept = [row for row, owner in enumerate(owners) if owner != patients.units[place]]
    extra = np.repeat(records[patients.offsets[donor] : patients.offsets[donor] + 1], 7, axis=0)
    return group([*(owners[row] for row in kept), *[patients.units[place]] * 7], np.concatenate([records[kept], extra]))


def extreme(patients: Patients, place: int) -> Patients:
    """The greatest values the type of records can hold within its meaning."""
    records = patients.records.copy()
    mine = slice(patients.offsets[place], patients.offsets[place + 1])
    records[mine] = 0 if records.dtype == np.int32 else 1e30
    return Patients(patients.units, patients.tags, patients.offsets, records)


@pytest.mark.parametrize("change", [without, replaced, extreme])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_changing_or_removing_a_patient_changes_no_other_row(task: Any, change: object, place: int) -> None:
    before = task.patients
    after: Patients = change(before, place)
    others = [unit for unit in before.units if unit != before.units[place]]
    views_before = task.views(before, np.arange(len(before)))
    views_after = task.views(after, np.arange(len(after)))
    rows_before, rows_after = task.rows(views_before), task.rows(views_after)
    old = [before.units.index(unit) for unit in others]
    new = [after.units.index(unit) for unit in others]
    for name, view in views_before.items():
        assert torch.equal(view[old], views_after[name][new])
    for name, row in rows_before.items():
        scale = float(row[old].abs().max())
        assert float((row[old] - rows_after[name][new]).abs().max()) <= 1e-6 * max(scale, 1.0)


def test_a_row_does_not_depend_on_who_else_was_sampled(task: Any) -> None:
    everybody = task.views(task.patients, np.arange(len(task.patients)))
    some = np.array([12, 4, 17])
    for name, view in task.views(task.patients, some).items():
        assert torch.equal(view, everybody[name][some])


def test_the_isolation_test_catches_a_batch_statistic(task: Any) -> None:
    """Negative control: views centred over the batch must fail the comparison above."""
    before, after = task.patients, replaced(task.patients, 7)

    def centred(patients: Patients) -> dict[str, torch.Tensor]:
        views = task.views(patients, np.arange(len(patients)))
        return {name: view - view.float().mean(dim=0) for name, view in views.items()}

    first, second = centred(before), centred(after)
    name = next(iter(first))
    assert not torch.equal(first[name][:7], second[name][:7])


def test_rows_equal_single_backward_passes(task: Any) -> None:
    views = task.views(task.patients, np.arange(len(task.patients)))
    rows = task.rows(views)
    for place in range(len(task.patients)):
        task.model.zero_grad()
        task.model({name: view[place] for name, view in views.items()}).backward()
        for name, parameter in task.model.named_parameters():
            assert parameter.grad is not None
            # Of the whole tensor: how the terms of a small entry are rounded away depends on the processor.
            apart = float((rows[name][place] - parameter.grad).norm())
            assert apart <= 1e-5 * float(parameter.grad.norm()) + 1e-6, name


def test_losses_of_a_batch_are_forward_of_each_unit(task: Any) -> None:
    views = task.views(task.patients, np.arange(len(task.patients)))
    together = task.model.losses(views)
    assert together.shape == (len(task.patients),) and together.dtype == torch.float32
    for place in range(len(task.patients)):
        alone = task.model({name: view[place] for name, view in views.items()})
        assert alone.shape == () and torch.allclose(together[place], alone, rtol=1e-5, atol=1e-5)
    weights = torch.linspace(0.5, 2.0, len(task.patients))
    summed = torch.autograd.grad((weights * together).sum(), list(task.model.parameters()))
    for row, found in zip(task.rows(views).values(), summed, strict=True):
        expected = torch.einsum("b,b...->...", weights, row)
        assert float((found - expected).norm()) <= 1e-5 * max(float(expected.norm()), 1.0)


def test_losses_of_a_batch_let_no_unit_meet_another(task: Any) -> None:
    views = task.views(task.patients, np.arange(6))
    real = {name: view.requires_grad_(True) for name, view in views.items() if view.dtype == torch.float32}
    found = torch.autograd.grad(task.model.losses(views)[4], list(real.values()))
    assert any(view[4].any() for view in found)
    assert not any(view[[0, 1, 2, 3, 5]].any() for view in found)


def test_rows_are_contiguous_so_that_clipping_reads_them_once(task: Any) -> None:
    rows = task.rows(task.views(task.patients, np.arange(8)))
    large = max(rows.values(), key=lambda row: row.numel())
    assert all(row.is_contiguous() for row in rows.values() if row.numel() == large.numel())


def test_bad_records_give_a_finite_loss_and_an_exact_zero_row(task: Any) -> None:
    index = np.array([task.patients.units.index(unit) for unit in task.bad])
    views = task.views(task.patients, index)
    assert all(torch.isfinite(task.model({n: v[i] for n, v in views.items()})) for i in range(len(index)))
    assert all(not row.any() for row in task.rows(views).values())
    good = task.rows(task.views(task.patients, np.array([0])))
    assert any(row.any() for row in good.values())


def test_no_unit_gives_empty_views(task: Any) -> None:
    views = task.model.draw(task.patients, np.array([], np.int64), np.zeros((0, task.model.coins)))
    assert all(len(view) == 0 and view.dtype in (torch.float32, torch.int64) for view in views.values())


def test_views_are_a_function_of_the_coins(task: Any) -> None:
    index = np.arange(len(task.patients))
    coins = np.random.default_rng(3).random((len(index), task.model.coins))
    first, same = task.model.draw(task.patients, index, coins), task.model.draw(task.patients, index, coins.copy())
    other = task.model.draw(task.patients, index, 1.0 - coins)
    assert all(torch.equal(view, same[name]) for name, view in first.items())
    assert any(not torch.equal(view, other[name]) for name, view in first.items())


def test_coins_of_a_wrong_shape_are_refused(task: Any) -> None:
    for shape in ((1, task.model.coins), (2, task.model.coins - 1), (2,)):
        with pytest.raises(PrivacyError, match="coins do not fit"):
            task.model.draw(task.patients, np.arange(2), np.full(shape, 0.5))


def test_every_extreme_coin_is_legal(task: Any) -> None:
    index = np.arange(len(task.patients))
    for value in (2.0**-53, 1.0):
        views = task.model.draw(task.patients, index, np.full((len(index), task.model.coins), value))
        assert all(torch.isfinite(view).all() for view in views.values())


def test_models_hold_float32_parameters_and_nothing_else(task: Any) -> None:
    assert not list(task.model.buffers())
    assert all(parameter.dtype == torch.float32 for parameter in task.model.parameters())
    forbidden = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    assert not any(isinstance(module, forbidden) for module in task.model.modules())
    owned = {id(parameter) for parameter in task.model.encoder.parameters()}
    assert owned and owned <= {id(parameter) for parameter in task.model.parameters()}
