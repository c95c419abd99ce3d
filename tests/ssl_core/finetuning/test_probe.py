"""Ridge and its leave-one-out error against brute force and scikit-learn's RidgeCV, in both forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

from ssl_core.errors import DataError
from ssl_core.finetuning import probe
from ssl_core.finetuning.probe import fit_ridge, standardise


def problem(seed: int, rows: int, width: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) + 3.0
    labels = (features @ rng.normal(size=(width, groups)) + rng.normal(size=(rows, groups)) * 5 > 0).astype(np.int8)
    return features, labels


def mean_square(features: np.ndarray) -> float:
    return float(((features - features.mean(axis=0)) ** 2).sum() / len(features))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(3, 14), width=st.integers(1, 25), power=st.integers(-3, 2))
def test_leave_one_out_is_that_of_leaving_one_out(seed: int, rows: int, width: int, power: int) -> None:
    features, labels = problem(seed, rows, width, 2)
    head = fit_ridge(features, labels, penalties=np.array([10.0**power]))
    np.testing.assert_allclose(head.penalty, 10.0**power * mean_square(features), rtol=1e-9)
    errors = np.zeros((rows, 2))
    for left in range(rows):
        rest = np.delete(np.arange(rows), left)
        fitted = Ridge(alpha=head.penalty[0], solver="cholesky").fit(features[rest], labels[rest])
        errors[left] = labels[left] - fitted.predict(features[left : left + 1])[0]
    np.testing.assert_allclose(head.loo_error, (errors**2).mean(axis=0), rtol=1e-5, atol=1e-9)
    fitted = Ridge(alpha=head.penalty[0], solver="cholesky").fit(features, labels)
    np.testing.assert_allclose(head.scores(features), fitted.predict(features), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("rows", "width"), [(20, 64), (200, 64), (64, 64), (50, 300)])
def test_choice_and_scores_are_those_of_ridgecv(rows: int, width: int) -> None:
    features, labels = problem(rows + width, rows, width, 3)
    fresh, _ = problem(7, 30, width, 3)
    grid = 10.0 ** np.arange(-4.0, 3.01, 0.5)
    head = fit_ridge(features, labels, penalties=grid)
    reference = RidgeCV(alphas=grid * mean_square(features), alpha_per_target=True).fit(features, labels)
    np.testing.assert_allclose(head.penalty, reference.alpha_, rtol=1e-9)
    np.testing.assert_allclose(head.scores(fresh), reference.predict(fresh), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(head.loo_error, -reference.best_score_, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), rows=st.integers(4, 24), width=st.integers(1, 12), power=st.integers(-3, 2),
    patients=st.integers(2, 8),
)  # fmt: skip
def test_leaving_a_patient_out_is_that_of_leaving_all_of_his_rows_out(
    seed: int, rows: int, width: int, power: int, patients: int
) -> None:
    """Blocks of one row to almost all, of more rows than the rank too, in any order; scikit-learn fits without each."""
    features, labels = problem(seed, rows, width, 2)
    owners = np.unique(np.random.default_rng(seed).integers(0, patients, rows), return_inverse=True)[1]
    owners[:2] = 0, 1
    head = fit_ridge(features, labels, penalties=np.array([10.0**power]), owners=owners)
    fitted = Ridge(alpha=head.penalty[0], solver="cholesky")
    left_out = cross_val_predict(fitted, features, labels, groups=owners, cv=LeaveOneGroupOut())
    np.testing.assert_allclose(head.loo_error, ((labels - left_out) ** 2).mean(axis=0), rtol=1e-5, atol=1e-9)


def test_patients_of_one_row_each_are_left_out_as_rows_are() -> None:
    features, labels = problem(5, 40, 7, 3)
    plain, alone = fit_ridge(features, labels), fit_ridge(features, labels, owners=np.arange(40)[::-1].copy())
    np.testing.assert_array_equal(plain.weight, alone.weight)
    with pytest.raises(DataError, match="of one patient"):
        fit_ridge(features, labels, owners=np.zeros(40, np.int64))
    with pytest.raises(DataError, match="do not fit"):
        fit_ridge(features, labels, owners=np.zeros(39, np.int64))


def test_many_rows_are_gathered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = problem(6, 60, 5, 2)
    owners = np.arange(60) // 3
    whole = fit_ridge(features, labels, owners=owners)
    monkeypatch.setattr(probe, "_AT_ONCE", 10)
    np.testing.assert_allclose(fit_ridge(features, labels, owners=owners).loo_error, whole.loo_error, rtol=1e-12)


def test_kernel_and_primal_form_agree() -> None:
    features, labels = problem(3, 30, 20, 2)
    # Zero columns change the form that is taken (30 <= 40), not the problem.
    wide = np.hstack([features, np.zeros((30, 20))])
    one, other = fit_ridge(features, labels), fit_ridge(wide, labels)
    np.testing.assert_allclose(one.scores(features), other.scores(wide), atol=1e-8)
    np.testing.assert_allclose(one.loo_error, other.loo_error, rtol=1e-8)


def test_a_constant_label_and_constant_features_give_the_mean() -> None:
    features, _ = problem(1, 10, 4, 1)
    head = fit_ridge(features, np.ones((10, 1)))
    np.testing.assert_allclose(head.scores(features), 1.0, atol=1e-9)
    head = fit_ridge(np.ones((4, 3)), np.array([[0], [1], [1], [1]]))
    np.testing.assert_allclose(head.scores(np.ones((2, 3))), 0.75, atol=1e-9)


def test_one_against_the_rest_ranks_classes() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 300)
    features = np.eye(3)[kind] * 4 + rng.normal(size=(300, 3))
    head = fit_ridge(features[:200], np.eye(3, dtype=np.int8)[kind[:200]])
    assert (head.scores(features[200:]).argmax(axis=1) == kind[200:]).mean() > 0.9


def test_scaling_is_frozen_and_ignores_columns_that_do_not_vary() -> None:
    rng = np.random.default_rng(0)
    features = np.hstack([rng.normal(2, 5, (100, 3)), np.full((100, 1), 7.0)])
    scaling = standardise(features)
    scaled = scaling(features)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), [0.5, 0.5, 0.5, 0], atol=1e-12)
    np.testing.assert_array_equal(scaling(features[:3]), scaled[:3])


@pytest.mark.parametrize(
    ("features", "targets"),
    [(np.zeros((1, 2)), np.zeros((1, 1))), (np.zeros((3, 2)), np.zeros((2, 1))), (np.full((3, 2), np.inf), np.zeros((3, 1)))],
)
def test_bad_input_is_refused(features: np.ndarray, targets: np.ndarray) -> None:
    with pytest.raises(DataError):
        fit_ridge(features, targets)
