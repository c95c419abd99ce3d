"""Our AUROC equals scikit-learn's, ties included, and says where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score, roc_auc_score

from ssl_core.errors import DataError
from ssl_core.evaluation.auroc import auroc, balanced_accuracy, macro_auroc


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(4, 60), groups=st.integers(1, 5), values=st.integers(2, 50))
def test_equals_scikit_learn_with_ties(seed: int, rows: int, groups: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, (rows, groups)) / 7.0
    labels = rng.integers(0, 2, (rows, groups))
    labels[0], labels[1] = 0, 1
    expected = [roc_auc_score(labels[:, k], scores[:, k]) for k in range(groups)]
    np.testing.assert_allclose(auroc(scores, labels), expected, rtol=0, atol=1e-12)
    assert macro_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores, average="macro"), abs=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(3, 60), classes=st.integers(2, 6))
def test_balanced_accuracy_is_that_of_scikit_learn(seed: int, rows: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    scores, kind = rng.normal(size=(rows, classes)), rng.integers(0, classes, rows)
    # Recall of the classes that there are: scikit-learn's own balanced accuracy warns of the others.
    wanted = recall_score(kind, scores.argmax(axis=1), labels=np.unique(kind), average="macro")
    assert balanced_accuracy(scores, np.eye(classes, dtype=np.int8)[kind]) == pytest.approx(wanted, abs=1e-12)


def test_a_group_with_one_class_is_left_out_of_the_mean() -> None:
    labels = np.array([[1, 0], [0, 0], [1, 0]])
    scores = np.array([[0.9, 0.1], [0.2, 0.5], [0.1, 0.3]])
    areas = auroc(scores, labels)
    assert areas[0] == 0.5 and np.isnan(areas[1])
    assert macro_auroc(scores, labels) == 0.5
    with pytest.raises(DataError, match="no group"):
        macro_auroc(scores[:, 1:], labels[:, 1:])


def test_bad_scores_are_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        auroc(np.array([[np.nan], [1.0]]), np.array([[0], [1]]))
    with pytest.raises(DataError, match="differ in shape"):
        auroc(np.zeros((2, 1)), np.zeros((3, 1), np.int8))
