"""The bench of the pretext tasks: its rows resume, its neighbours are scikit-learn's, its words follow from its numbers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from tests_benches import bench_module

from ssl_core.encoders.vector import to_vector
from ssl_core.errors import ConfigError, DataError
from ssl_core.objectives.build import build_model
from ssl_core.privacy.accountant import Schedule, epsilon
from ssl_core.spec.fit import TOGETHER


@pytest.fixture
def bench() -> Iterator[ModuleType]:
    with bench_module("bench_objectives") as module:
        yield module


def write_arrays(folder: Path) -> None:
    """Arrays of the shapes that the bench reads, of nobody."""
    rng = np.random.default_rng(0)
    kinds = np.array(["normal", "bacterial", "viral"])[np.arange(240) % 3]
    patients = np.array([f"p{row // 2:03d}" for row in range(240)])
    np.savez(folder / "chest_xray_64.npz", image=rng.integers(0, 256, (240, 64, 64), np.uint8), patient=patients, label=kinds)
    signals = rng.integers(-500, 500, (240, 1200)).astype(np.int16)
    np.savez(folder / "ecg_cinc2017_100hz.npz", signal=signals, label=np.array(list("NAO~"))[np.arange(240) % 4])


def row(bench: ModuleType, arm: str, seed: int | None, score: float, method: str = "m") -> Any:
    scores = {"linear_50": score, "knn_50": None}
    return bench.Row("table", method, arm, seed, "AUROC", 100, 100, 10, None, None, 1.0, scores)


def test_quick_run_resumes_and_writes_what_it_says(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, drawn, told = tmp_path / "rows.csv", tmp_path / "figure.svg", tmp_path / "rows.json"
    asked = ["--quick", "--data", "table", "--csv", str(rows), "--seeds"]
    assert bench.main([*asked, "0"]) == 0
    first = rows.read_text().splitlines()
    assert len(first) == 1 + 5
    assert bench.main([*asked, "0", "1", "2", "--figure", str(drawn), "--json", str(told)]) == 0
    second = rows.read_text().splitlines()
    assert second[: len(first)] == first and len(second) == 1 + 5 + 8
    shown = capsys.readouterr().out
    assert (
        "| raw floor | - |" in shown
        and "table, masked-features / table-transformer-tiny, over the raw floor: no privacy:" in shown
    )
    written = json.loads(told.read_text())
    private = {entry["arm"]: entry for entry in written["rows"] if entry["seed"] == 1 and entry["sigma"]}
    for arm, target in (("eps8", 8.0), ("eps3", 3.0)):
        assert private[arm]["epsilon"] == pytest.approx(epsilon([Schedule(private[arm]["sigma"], 32 / 400, 2)], 1e-5))
        assert private[arm]["epsilon"] <= target
    assert "<svg" in drawn.read_text() and "no privacy" in drawn.read_text()
    assert bench.main([*asked[:-1], "--show"]) == 0
    assert rows.read_text().splitlines() == second


def test_rows_of_other_settings_are_refused(bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    bench.append_row(rows, row(bench, "random", 0, 0.5))
    with pytest.raises(ConfigError, match="other settings"):
        bench.read_rows(rows, steps=99, draws=10, columns=["linear_50", "knn_50"])
    with pytest.raises(ConfigError, match="other settings"):
        bench.read_rows(rows, steps=100, draws=10, columns=["linear_20", "knn_20"])
    assert bench.read_rows(rows, steps=100, draws=10, columns=["linear_50", "knn_50"]) == [row(bench, "random", 0, 0.5)]
    assert bench.main(["--show", "--csv", str(tmp_path / "none.csv")]) == 2
    assert "no rows to show" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no method to draw"):
        sys.modules["objectives_table"].figure([row(bench, "floor", None, 0.5)], "linear_50", tmp_path / "figure.svg")


def test_words_follow_from_paired_differences(bench: ModuleType) -> None:
    table = sys.modules["objectives_table"]
    rows = [row(bench, "floor", None, 0.7, "raw floor")]
    for seed, (random, none, private) in enumerate([(0.60, 0.551, 0.651), (0.66, 0.609, 0.709), (0.72, 0.670, 0.770)]):
        rows += [row(bench, "random", seed, random), row(bench, "none", seed, none), row(bench, "eps8", seed, private)]
    assert bench.words(rows) == [
        "table, m, over the random encoder: no privacy: nothing is gained, clear loss at linear 50; "
        "epsilon 8: clear gain at linear 50.",
        "table, m, over the raw floor: no privacy: nothing is gained; epsilon 8: nothing is left.",
    ]
    shown = bench.difference_lines(rows)
    assert "| random encoder | epsilon 8 | 3 | **+0.050 (0.001)** | - |" in shown
    assert "| raw floor | epsilon 8 | 3 | +0.010 (0.060) | - |" in shown
    # Two seeds say nothing; a seed without its partner is left out.
    assert bench.words(rows[:7]) == [] and len(bench.difference_lines(rows[:7])) == 2
    only = [each for each in rows if (each.arm, each.seed) != ("random", 2)]
    assert table.differences(only, "eps8", "random", "table", "m", "linear_50") == pytest.approx([0.051, 0.049])
    # Student's t of three is 4.303: the interval of these ends at 0.02 - 4.303 x 0.01 / sqrt(3) < 0, of those above.
    assert (table.sign([0.01, 0.02, 0.03]), table.sign([0.015, 0.02, 0.025]), table.sign([-0.015, -0.02, -0.025])) == (0, 1, -1)


def test_neighbours_are_those_of_scikit_learn(bench: ModuleType) -> None:
    arms, rng = sys.modules["objectives_arms"], np.random.default_rng(3)
    known, asked = (rng.normal(size=(count, 6)) for count in (40, 25))
    known, asked = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (known, asked))
    labels = rng.integers(0, 2, 40)
    theirs = KNeighborsClassifier(10, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.1)).fit(known, labels)
    ours = arms.neighbours(asked @ known.T, labels[:, None].astype(np.int8), balanced=False)
    np.testing.assert_allclose(ours[:, 0], theirs.predict_proba(asked)[:, 1], rtol=0, atol=1e-9)
    two = np.stack([labels, 1 - labels], axis=1).astype(np.int8)
    balanced = arms.neighbours(asked @ known.T, two, balanced=True)
    np.testing.assert_allclose(balanced, np.stack([ours[:, 0], 1 - ours[:, 0]], axis=1) / two.sum(axis=0))


def test_every_method_is_a_plan_and_no_test_patient_trains(bench: ModuleType, tmp_path: Path) -> None:
    write_arrays(tmp_path)
    arms, compared = sys.modules["objectives_arms"], set()
    for data, read in bench.TASKS.items():
        task = (bench.generated_text if data == "text" else read)(tmp_path, 16)
        # Short reports of two patients can be equal, so texts are told apart by patient, the others by their records.
        parts = (task.train, task.pool.patients, task.test.patients)
        train, pool, test = (set(part.units if data == "text" else map(bytes, part.records)) for part in parts)
        assert pool and test and train and test.isdisjoint(train | pool)
        for recipe in bench.USUAL[data] + bench.MORE[data]:
            plan = arms.plan_of(task, recipe, seed=1, steps=3, sigma=1.0)
            assert (plan.data.kind, plan.objective.name) == (data, recipe.objective["name"])
            assert plan.privacy.sampling_rate == 16 / task.nominal
            compared.add((data, plan.objective.name))
    # There is no real array of sounds or pairs to compare tasks on.
    joint = {("image", "joint"), ("signal", "joint")}
    assert compared == joint | {(data, task) for data, _, task in TOGETHER if data in bench.TASKS}


def test_arms_begin_alike_and_differ_by_training(bench: ModuleType, tmp_path: Path) -> None:
    write_arrays(tmp_path)
    arms, task = sys.modules["objectives_arms"], bench.TASKS["signal"](tmp_path, 1000)
    recipe = replace(bench.USUAL["signal"][1], encoder={"name": "conv1d", "size": "nano"})
    plan = arms.plan_of(task, recipe, seed=5, steps=2, sigma=1.0)
    trained = [build_model(plan) for _ in range(2)]
    for model in trained:
        arms.train_plain(model, task, plan)
    np.testing.assert_array_equal(to_vector(trained[0]), to_vector(trained[1]))
    made = {
        name: arms.arm_features(task, recipe, target=target, seed=5, steps=steps)
        for name, target, steps in (("random", None, 0), ("again", None, 0), ("none", None, 2), ("eps8", 8.0, 2))
    }
    test = {name: features[1] for name, features in made.items()}
    np.testing.assert_array_equal(test["random"], test["again"])
    assert not np.array_equal(test["random"], test["none"]) and not np.array_equal(test["random"], test["eps8"])
    scores = arms.score(task, made["eps8"], [20, 5000], 2)
    assert scores["linear_5000"] is None and scores["knn_5000"] is None and 0 < scores["knn_20"] < 1
    assert scores == arms.score(task, made["eps8"], [20, 5000], 2)


@pytest.mark.parametrize("arm", ["none", "eps8"])
def test_what_stands_still_within_a_round_is_taken_anew_every_ten_steps(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    write_arrays(tmp_path)
    arms, task = sys.modules["objectives_arms"], bench.TASKS["signal"](tmp_path, 1000)
    recipe = arms.Recipe({"name": "conv1d", "size": "nano"}, {"name": "byol", "projector": 16, "predictor": 8})
    plan = arms.plan_of(task, recipe, seed=5, steps=20, sigma=1.0)
    model = build_model(plan)
    begun, real = [to_vector(model)], type(model).start_round

    def noted(self: Any) -> None:
        begun.append(to_vector(self))
        real(self)

    monkeypatch.setattr(type(model), "start_round", noted)
    (arms.train_plain if arm == "none" else arms.train_privately)(model, task, plan)
    if arm != "none":
        # By weights of its own it was seen in which shapes passes are made.
        del begun[1:-2]
    assert plan.rounds.rounds == 2 and plan.rounds.steps_per_round == 10 and len(begun) == 3
    np.testing.assert_array_equal(begun[0], begun[1])
    slow = np.concatenate([part.detach().numpy().ravel() for kept in model.__dict__["slow"] for part in kept.parameters()])
    np.testing.assert_array_equal(slow, begun[2][: len(slow)])
    assert not np.array_equal(begun[1], begun[2]) and not np.array_equal(begun[2], to_vector(model))


def test_missing_arrays_are_named_or_left_out(bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="array of the bench is missing"):
        bench.TASKS["image"](tmp_path, None)
    assert bench.main(["--quick", "--data", "image", "--folder", str(tmp_path), "--csv", str(tmp_path / "rows.csv")]) == 2
    assert "chest_xray_64.npz" in capsys.readouterr().err
