"""Step 13: the numbers of a collapse, against loops, closed forms and scikit-learn."""

import math
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from ssl_core.errors import DataError
from ssl_core.evaluation.collapse import effective_rank, health, neighbours


def _some(count: int = 60, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    return generator.standard_normal((count, width)).astype(np.float32), np.sort(generator.integers(0, count // 3, count))


def test_the_effective_rank_of_what_is_known() -> None:
    corners = np.concatenate([np.eye(5), -np.eye(5)]).astype(np.float32)
    assert effective_rank(corners) == pytest.approx(5.0)
    assert effective_rank(np.ones((9, 4), np.float32)) == 1.0
    assert effective_rank(np.linspace(0, 1, 9, dtype=np.float32)[:, None] * np.ones(4, np.float32)) == pytest.approx(1.0)
    values = np.array([3.0, 1.0]) / 4.0
    wide = np.diag([3.0, 1.0])
    both = np.concatenate([wide, -wide]).astype(np.float32)
    assert effective_rank(both) == pytest.approx(math.exp(-(values * np.log(values)).sum()))


def test_alignment_and_uniformity_are_those_of_a_loop_over_pairs() -> None:
    features, owners = _some()
    rows = [row / np.linalg.norm(row) for row in features.astype(np.float64)]
    pairs = [(a, b, float(((rows[a] - rows[b]) ** 2).sum())) for a, b in combinations(range(len(rows)), 2)]
    found = health(features, owners)
    assert found.alignment == pytest.approx(np.mean([d for a, b, d in pairs if owners[a] == owners[b]]))
    assert found.uniformity == pytest.approx(math.log(np.mean([math.exp(-2 * d) for _, _, d in pairs])))
    apart = [1 - float(rows[a] @ rows[b]) for a in range(len(rows)) for b in range(len(rows)) if owners[a] != owners[b]]
    assert found.apart == pytest.approx(np.mean(apart))
    assert health(features, np.arange(60)).alignment is None
    assert health(features, np.zeros(60, np.int64)).apart is None


def test_a_collapsed_encoder_shows_in_every_number() -> None:
    features, owners = _some()
    healthy, dead = health(features, owners), health(np.ones_like(features), owners)
    assert (dead.effective_rank, dead.uniformity, dead.apart) == (1.0, pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert healthy.effective_rank > 8 and healthy.uniformity < -3 and healthy.apart is not None and healthy.apart > 0.9
    assert dead.in_one_place and not healthy.in_one_place
    nothing = health(np.zeros_like(features), owners)
    assert (nothing.apart, nothing.alignment, nothing.uniformity) == (0.0, 0.0, 0.0) and nothing.in_one_place


@pytest.mark.parametrize("noise", [1e-3, 1e-6])
def test_features_in_nearly_one_point_show_in_what_has_a_scale_and_not_in_their_rank(noise: float) -> None:
    generator = np.random.default_rng(6)
    point = generator.standard_normal((1, 64)).astype(np.float32)
    features = (point + noise * generator.standard_normal((300, 64))).astype(np.float32)
    found = health(features, np.arange(300) // 2)
    assert found.effective_rank > 55, "noise has full rank"
    # Of independent noise in F numbers, what is not along the point: noise^2 (F - 1) / |point|^2.
    assert found.apart == pytest.approx(noise**2 * 63 / float((point**2).sum()), rel=0.05)
    assert found.in_one_place
    far = (point + generator.standard_normal((300, 64))).astype(np.float32)
    assert not health(far, np.arange(300) // 2).in_one_place


def test_of_patients_with_one_record_it_is_what_simsiam_watches() -> None:
    features, _ = _some(600, 20)
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    # Over all pairs, a record with itself too: 1 - |mean row|^2 is the sum of the variances of the numbers.
    assert health(features, np.arange(600)).apart == pytest.approx(rows.var(axis=0, dtype=np.float64).sum() * 600 / 599)


def test_neighbours_are_scikit_learns_of_other_patients() -> None:
    features, _ = _some()
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 2, (60, 2)).astype(np.int8)
    features[:, 0] += 3 * labels[:, 0]
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    index = NearestNeighbors(n_neighbors=11, metric="cosine").fit(rows).kneighbors(rows, return_distance=False)
    votes = np.stack([labels[[n for n in near if n != place][:10]].mean(axis=0) for place, near in enumerate(index)])
    assert neighbours(features, np.arange(60), labels) == pytest.approx(roc_auc_score(labels, votes, average="macro"))
    assert neighbours(features, np.zeros(60, np.int64), labels) is None
    assert neighbours(features, np.arange(60), np.ones((60, 1), np.int8)) is None
    twins = np.concatenate([features, features])
    owners = np.tile(np.arange(60), 2)
    assert neighbours(twins, owners, np.concatenate([labels, labels])) < 0.95, "a patient's own record is no neighbour"


def test_too_few_records_and_a_diverged_encoder_are_refused() -> None:
    features, owners = _some()
    with pytest.raises(DataError, match="too few"):
        health(features[:2], owners[:2])
    features[3, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        health(features, owners)
