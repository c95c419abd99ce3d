"""One site's evaluation as a process: the folder's layout is the demo data's, its JSON fits the demo's result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import evaluate_site as module
from deploy.demo_data import procedural
from deploy.demo_result import Scores
from ssl_core.card import Card, save_encoder
from ssl_core.config import StudyPlan, parse
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.evaluation.label_efficiency import Arm
from ssl_core.objectives.build import build_model

REST: dict[str, Any] = {
    "name": "small",
    "purpose": "a test",
    "alone": True,
    "sites": [{"name": "a", "nominal_size": 100}],
    "data": {"kind": "text"},
    "encoder": {"name": "hashed-words", "width": 16},
    "objective": {"name": "masked-words"},
    "privacy": {
        "unit": "patient", "adjacency": "add-or-remove-one", "noise": "site", "sampling_rate": 0.1,
        "noise_multiplier": 1.0, "max_grad_norm": 1.0, "delta": 1e-5,
    },
    "training": {"optimizer": "adam", "learning_rate": 0.01},
    "rounds": {"rounds": 1, "steps_per_round": 1},
    "aggregation": {"update_range": 1.0},
}  # fmt: skip


TABLE: dict[str, Any] = {
    "data": {
        "kind": "table",
        "numeric": [{"name": "age", "unit": "years", "centre": 60, "typical": 15}],
        "categorical": [{"name": "smoker", "levels": ["no", "yes"]}],
    },
    "encoder": {"name": "table-transformer", "size": "nano"},
    "objective": {"name": "masked-features"},
}


def folder(path: Path, *, seed: int, shift: float = 0.0, width: int = 16, **parts: Any) -> Path:
    plan = parse(StudyPlan, REST | {"seed": seed, "encoder": {"name": "hashed-words", "width": width}} | parts, "plan")
    weights = (to_vector(build_model(plan)) + np.float32(shift)).astype(np.float32)
    card = Card(
        name="small", kind="initial", plan=plan, plan_hash="0" * 64, weights=weights_hash(weights), rounds_closed=0,
        rounds_void=0, accountant="none", site_privacy=(), software={},
    )  # fmt: skip
    save_encoder(path, weights, card)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    sites = procedural.write_sites(root / "sites", nominal_sizes=(100,) * 5, patients=20)
    folder(root / "federated", seed=1, shift=0.01)
    folder(root / "own", seed=2)
    folder(root / "random", seed=1)
    folder(root / "wide", seed=1, width=8)
    (root / "site").symlink_to(sites.sites[0].folder)
    return root


def run(place: Path, out: Path, *more: str) -> int:
    given = ["--site-folder", str(place / "site"), "--federated", str(place / "federated"), "--out", str(out)]
    return module.main([*given, "--budgets", "20", "50", "999", "--draws", "2", *more])


def test_one_json_with_every_arm(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation.json"
    assert run(place, out, "--own", str(place / "own")) == 0
    found = json.loads(out.read_text())
    scores = [Scores(arm=Arm(s["arm"]), budget=s["budget"], auroc=tuple(s["auroc"])) for s in found["scores"]]
    assert {(s.arm, s.budget) for s in scores} == {(arm, budget) for arm in Arm for budget in (20, 50)}
    assert found["left_out"] == [999] and found["short"] == []


def test_the_random_encoder_is_the_plans_start(place: Path, tmp_path: Path) -> None:
    names = ("built", "given")
    assert run(place, tmp_path / "built") == run(place, tmp_path / "given", "--random", str(place / "random")) == 0
    built, given = (json.loads((tmp_path / name).read_text())["scores"] for name in names)
    assert built == given


def test_own_encoder_of_another_kind_is_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place, tmp_path / "x", "--own", str(place / "wide")) == 2
    assert "of another kind" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_table_is_evaluated_against_its_columns(tmp_path: Path) -> None:
    """A finding that smoking tells, which is not said of every patient: the floor's one-hot columns know it."""
    rng = np.random.default_rng(0)
    labels = ["patient,finding"]
    for part in ("pool", "test"):
        rows = ["patient,age,smoker"]
        for number in range(80):
            finding = int(rng.integers(2))
            rows.append(f"{part}{number},{60 + 15 * rng.normal():.1f},{('no', 'yes')[finding] if rng.integers(10) else ''}")
            labels.append(f"{part}{number},{finding}")
        (tmp_path / f"{part}.csv").write_text("\n".join(rows) + "\n")
        (tmp_path / f"{part}.toml").write_text(
            f'kind = "columns"\npath = "{part}.csv"\npatient_column = "patient"\nunits = {{ age = "years" }}\n'
        )
    (tmp_path / "labels.csv").write_text("\n".join(labels) + "\n")
    federated = folder(tmp_path / "federated", seed=1, shift=0.01, **TABLE)
    found = module.evaluate_site(tmp_path, federated=federated, own=None, budgets=(40,), draws=3)
    scores = {row.arm: np.mean(row.auroc) for row in found.scores}
    arms = {Arm.FLOOR, Arm.RANDOM, Arm.SCRATCH, Arm.FEDERATED, Arm.FEDERATED_TUNED, Arm.COMBINED}
    assert scores.keys() == arms and min(scores.values()) > 0.8 and scores[Arm.FLOOR] > 0.9
