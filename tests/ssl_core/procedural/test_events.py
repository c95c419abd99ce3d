"""Generated streams of events: the same of a seed, within the study's form, and each factor is where it is said to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ssl_core.errors import ConfigError
from ssl_core.evaluation.auroc import macro_auroc
from ssl_core.evaluation.floor import log_counts
from ssl_core.finetuning.probe import fit_ridge, standardise
from ssl_core.procedural.events import FACTORS, GROUPS, group_of, made_events
from ssl_core.spec.data import EventData

GAPS = (1.0, 24.0, 168.0, 720.0)


def study(**changes: Any) -> EventData:
    given: dict[str, Any] = {
        "kind": "events",
        "vocabulary": tuple(f"C{n:02d}" for n in range(18)),
        "events": 32,
        "gap_hours": GAPS,
    }
    return EventData.model_validate(given | changes)


@pytest.fixture(scope="module")
def made() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return list(made_events(1, 1500, study()))


def test_the_same_seed_gives_the_same_streams_and_the_first_do_not_depend_on_how_many_are_asked_for() -> None:
    few, many, other = (list(made_events(seed, count, study())) for seed, count in ((5, 4), (5, 9), (6, 4)))
    for one, two in zip(few, many, strict=False):
        assert all(first.tobytes() == second.tobytes() for first, second in zip(one, two, strict=True))
    assert any(one[0].tobytes() != two[0].tobytes() for one, two in zip(few, other, strict=True))


@pytest.mark.parametrize("changes", [{}, {"gap_hours": ()}, {"events": 4}, {"vocabulary": tuple("ABCDEF")}])
def test_they_fit_the_study(changes: dict[str, Any]) -> None:
    data = study(**changes)
    for places, hours, factors in made_events(0, 30, data):
        assert data.events // 2 <= len(places) == len(hours) <= data.events and factors.shape == (len(FACTORS),)
        assert places.min() >= 0 and places.max() < len(data.vocabulary)
        assert hours[0] == 0 and (np.diff(hours) > 0).all()


@pytest.mark.parametrize("changes", [{"vocabulary": tuple("ABCDE")}, {"events": 3}])
def test_a_study_that_cannot_hold_them_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="too few codes or events"):
        next(made_events(0, 1, study(**changes)))


def test_each_factor_is_measured_where_it_was_put(made: list[Any]) -> None:
    factors = np.stack([each[2] for each in made])
    steps = [np.diff(group_of(places)) % GROUPS for places, _, _ in made]
    onwards = np.array([(step == 1).mean() - (step == GROUPS - 1).mean() for step in steps])
    logs = [np.log(np.diff(hours)) for _, hours, _ in made]
    early = np.array([_mean(log, group_of(places)[:-1], 3) - _mean(log, group_of(places)[:-1], 0) for (places, _, _), log in
                      zip(made, logs, strict=True)])  # fmt: skip
    slope = np.array([-np.corrcoef(np.arange(len(log)), log)[0, 1] for log in logs])
    last = np.array([(group_of(places) == GROUPS - 1).mean() for places, _, _ in made])
    for factor, (measure, least) in enumerate(((onwards, 0.99), (early, 0.9), (slope, 0.9), (last, 0.7))):
        whole = np.isfinite(measure)
        assert macro_auroc(measure[whole, None], factors[whole, factor : factor + 1].astype(np.int8)) > least, FACTORS[factor]


def test_counts_of_codes_and_gaps_tell_the_last_factor_alone(made: list[Any]) -> None:
    data = study()
    records = np.full((len(made), *data.shape), -1, np.int32)
    for row, (places, hours, _) in enumerate(made):
        records[row, : len(places), 0] = places
        records[row, : len(places), 1] = [0, *(1 + np.searchsorted(GAPS, np.diff(hours), "right"))]
    counts = log_counts(records, data)
    labels = np.stack([each[2] for each in made]).astype(np.int8)
    rows = standardise(counts[:1000])(counts)
    scores = fit_ridge(rows[:1000], labels[:1000]).scores(rows[1000:])
    found = [macro_auroc(scores[:, [place]], labels[1000:, [place]]) for place in range(len(FACTORS))]
    assert max(found[:3]) < 0.65 and found[3] > 0.75, found


def _mean(logs: np.ndarray, before: np.ndarray, group: int) -> float:
    return float(logs[before == group].mean()) if (before == group).any() else np.nan
