"""`choral operator prepare --choose`: tasks ranked where it costs nothing, with the price of asking patients."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from sklearn.metrics import r2_score
from tests_commands import refused
from tests_commands import run as choral
from tests_plans import IMAGE, SIGNAL, SOUND, plan_of, written

from server.choose import lines, price
from ssl_core.privacy.accountant import Schedule, epsilon
from ssl_core.spec.fit import TOGETHER
from ssl_core.warm_start.choosing import Ranked, Ranking, explained, generated_exam, rank
from ssl_core.warm_start.pretraining import Schedule as Steps

run = partial(choral, "operator", "prepare")
QUICK = ("--steps", 4, "--batch", 8, "--units", 16)


def _plan(tmp_path: Path, parts: dict[str, Any]) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(tomli_w.dumps(written(parts)))
    return path


def test_every_task_that_fits_the_encoder_is_ranked_and_nothing_is_written(tmp_path: Path) -> None:
    facts = json.loads(run(_plan(tmp_path, SIGNAL), "--choose", "--json", *QUICK).stdout)
    named = {each["task"] for each in facts["tasks"]} | set(facts["unfit"])
    assert named == {task for kind, encoder, task in TOGETHER if (kind, encoder) == ("signal", "signal-transformer")}
    scores = [each["after"] for each in facts["tasks"]]
    assert len(scores) >= 4 and scores == sorted(scores, reverse=True) and facts["unfit"].keys() == {"own-contrast"}
    plan = plan_of(SIGNAL)
    steps = plan.total_steps * len(scores)
    assert facts["epsilon_on_patients"] == pytest.approx(
        epsilon([Schedule(plan.privacy.noise_multiplier, plan.privacy.sampling_rate, steps)], plan.privacy.delta)
    )
    assert facts["epsilon_on_patients"] > price(plan, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]
    words = run(_plan(tmp_path, IMAGE), "--choose", *QUICK).output
    assert "denoising" in words and "masked-image" in words and "epsilon 0" in words and "choose" in words


def test_sounds_are_ranked_by_what_the_generator_drew_beside_their_loudness(tmp_path: Path) -> None:
    facts = json.loads(run(_plan(tmp_path, SOUND), "--choose", "--json", *QUICK).stdout)
    named = {each["task"] for each in facts["tasks"]} | set(facts["unfit"])
    assert named == {task for kind, encoder, task in TOGETHER if (kind, encoder) == ("sound", "vit")}
    # Mean and deviation of eight bands tell rates and murmurs in part.
    assert "factors" in facts["measure"] and 0.0 < facts["floor"] < 0.9


def test_more_training_is_seen_in_the_score() -> None:
    assert generated_exam(plan_of(SIGNAL), 8, 3).training.factors is None
    plan = plan_of(IMAGE)
    exam = generated_exam(plan, 512, 3)
    short, long = (rank(plan, exam, Steps(steps=steps, batch=64, learning_rate=3e-3)) for steps in (1, 60))
    scores = [{each.task: each.after for each in ranking.tasks}["masked-image"] for ranking in (short, long)]
    assert scores[1] > scores[0] + 0.02


def test_the_score_is_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    truth = generator.standard_normal((50, 3))
    guess = truth + 0.7 * generator.standard_normal((50, 3))
    assert explained(guess, truth) == pytest.approx(r2_score(truth, guess, multioutput="uniform_average"))
    constant = np.concatenate([truth, np.ones((50, 1))], axis=1)
    assert explained(np.concatenate([guess, guess[:, :1]], axis=1), constant) == pytest.approx(explained(guess, truth))


@pytest.mark.parametrize(
    ("after", "floor", "word"), [(0.1, 0.0, "none"), (0.3, 0.5, "raw records do as well"), (0.6, 0.5, "above")]
)
def test_the_verdict_says_when_nothing_is_gained(after: float, floor: float, word: str) -> None:
    ranking = Ranking("R squared", floor, (Ranked("denoising", 0.2, after),), {})
    assert word in dict(lines(plan_of(SIGNAL), ranking))["choose"]


def test_a_corpus_is_ranked_by_its_public_labels(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    truth = np.arange(120) % 2
    images = (100 + 60 * truth[:, None, None] * (np.arange(16) > 7) + 20 * generator.random((120, 16, 16))).astype(np.uint8)
    np.savez(tmp_path / "images.npz", image=images, patient=np.arange(120))
    (tmp_path / "source.toml").write_text('kind = "npz"\npath = "images.npz"\n')
    (tmp_path / "labels.csv").write_text("patient,bright\n" + "".join(f"{n},{label}\n" for n, label in enumerate(truth)))
    plan = _plan(tmp_path, IMAGE)
    corpus = ("--public", tmp_path / "source.toml")
    facts = json.loads(run(plan, "--choose", "--json", *QUICK, *corpus, "--labels", tmp_path / "labels.csv").stdout)
    assert facts["floor"] > 0.95 and "AUROC" in facts["measure"]
    refused(run(plan, "--choose", *QUICK, *corpus), "--labels")
    refused(run(plan, "--choose", "--steps", 0), "--steps")
    refused(run(plan), "--out")
