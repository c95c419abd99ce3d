"""`choral operator prepare --choose`: tasks ranked where it costs nothing, with the price of asking patients."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from sklearn.metrics import r2_score
from tests_commands import refused
from tests_commands import run as choral
from tests_plans import IMAGE, ORDER, SIGNAL, SOUND, plan_of, written

from server.choose import lines, price
from ssl_core.config import StudyPlan
from ssl_core.objectives.base import PretextModel
from ssl_core.objectives.build import build_model
from ssl_core.privacy.accountant import Schedule, epsilon
from ssl_core.spec.fit import TOGETHER
from ssl_core.spec.objective import Joint
from ssl_core.warm_start import choosing
from ssl_core.warm_start.choosing import Ranked, Ranking, by_chance, clear, explained, generated_exam, rank
from ssl_core.warm_start.pretraining import Schedule as Steps

run = partial(choral, "operator", "prepare")
QUICK = ("--steps", 4, "--batch", 16, "--units", 16)


def _plan(tmp_path: Path, parts: dict[str, Any]) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(tomli_w.dumps(written(parts)))
    return path


def test_every_task_that_fits_the_encoder_is_ranked_and_nothing_is_written(tmp_path: Path) -> None:
    facts = json.loads(run(_plan(tmp_path, SIGNAL), "--choose", "--json", "--seeds", 2, "--seed", 4, *QUICK).stdout)
    named = {each["task"] for each in facts["tasks"]} | set(facts["unfit"])
    assert named == {task for kind, encoder, task in TOGETHER if (kind, encoder) == ("signal", "signal-transformer")}
    scores = [np.subtract(each["after"], each["before"]).mean() for each in facts["tasks"]]
    assert len(scores) >= 4 and scores == sorted(scores, reverse=True) and facts["unfit"].keys() == {"own-contrast"}
    assert facts["seeds"] == [4, 5] and {len(each[name]) for each in facts["tasks"] for name in ("before", "after")} == {2}
    assert facts["winners"][0] == facts["tasks"][0]["task"] and len(set(facts["floor"])) == 2
    assert facts["flattered"] == ["dino-bank", "moco-bank", "simclr-bank", "swav-bank"]
    plan = plan_of(SIGNAL)
    steps = plan.total_steps * len(scores) * 2
    assert facts["epsilon_on_patients"] == pytest.approx(
        epsilon([Schedule(plan.privacy.noise_multiplier, plan.privacy.sampling_rate, steps)], plan.privacy.delta)
    )
    assert facts["epsilon_on_patients"] > price(plan, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]
    words = run(_plan(tmp_path, IMAGE), "--choose", *QUICK).output
    assert "denoising" in words and "masked-image" in words and "epsilon 0" in words and "choose" in words
    assert "0, 1, 2: each its own data" in words and "2 tasks at 3 seeds, 6 trainings" in words and "flattered" not in words


def test_a_batch_that_fills_no_bucket_leaves_the_task_with_buckets_out(tmp_path: Path) -> None:
    few = ("--steps", 1, "--batch", 8, "--units", 16, "--seeds", 1)
    facts = json.loads(run(_plan(tmp_path, ORDER), "--choose", "--json", *few).stdout)
    assert "the plan's bucket_size" in facts["unfit"]["simclr-buckets"]
    assert "simclr-buckets" not in {each["task"] for each in facts["tasks"]}


JOINT: dict[str, Any] = IMAGE | {
    "objective": {
        "name": "joint",
        "tasks": [{"name": "masked-image", "mask_fraction": 0.25}, {"name": "denoising", "noise": 1.5}],
        "weights": [1.0, 2.0],
    }
}


def test_a_joint_task_is_ranked_and_its_parts_keep_the_plans_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, built = plan_of(JOINT, seed=11), list[StudyPlan]()

    def heard(given: StudyPlan) -> PretextModel:
        built.append(given)
        return build_model(given)

    monkeypatch.setattr(choosing, "build_model", heard)
    ranking = rank(plan, lambda seed: generated_exam(plan, 16, seed), Steps(steps=1, batch=4, seed=3), 2)
    assert {each.task for each in ranking.tasks} == {"joint", "masked-image", "denoising"} and not ranking.unfit
    assert isinstance(plan.objective, Joint)
    asked = {plan.objective.name: plan.objective} | {task.name: task for task in plan.objective.tasks}
    assert [given.seed for given in built] == [11, 11, 11, 12, 12, 12] and ranking.seeds == (3, 4)
    assert all(given.objective == asked[given.objective.name] for given in built)
    assert {"joint (masked-image + denoising)", "masked-image"} <= dict(lines(plan, ranking)).keys()


def test_tasks_that_start_the_encoder_apart_are_ranked_by_what_each_gained() -> None:
    plan = plan_of(IMAGE)
    ranking = rank(plan, lambda seed: generated_exam(plan, 64, seed), Steps(steps=2, batch=8), 1)
    first, second = ranking.tasks
    assert first.before != second.before and first.gains > second.gains
    assert first.gains[0] == pytest.approx(first.after[0] - first.before[0])


def test_sounds_are_ranked_by_what_the_generator_drew_beside_their_loudness(tmp_path: Path) -> None:
    facts = json.loads(run(_plan(tmp_path, SOUND), "--choose", "--json", "--seeds", 1, *QUICK).stdout)
    named = {each["task"] for each in facts["tasks"]} | set(facts["unfit"])
    assert named == {task for kind, encoder, task in TOGETHER if (kind, encoder) == ("sound", "vit")}
    # Mean and deviation of eight bands tell rates and murmurs in part.
    assert "factors" in facts["measure"] and 0.0 < facts["floor"][0] < 0.9


def test_more_training_is_seen_in_the_score() -> None:
    assert generated_exam(plan_of(SIGNAL), 8, 3).training.factors is None
    plan = plan_of(IMAGE)
    schedules = (Steps(steps=steps, batch=64, learning_rate=3e-3, seed=3) for steps in (1, 60))
    short, long = (rank(plan, lambda seed: generated_exam(plan, 512, seed), schedule, 1) for schedule in schedules)
    scores = [{each.task: each.after[0] for each in ranking.tasks}["masked-image"] for ranking in (short, long)]
    assert scores[1] > scores[0] + 0.02


def test_the_score_is_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    truth = generator.standard_normal((50, 3))
    guess = truth + 0.7 * generator.standard_normal((50, 3))
    assert explained(guess, truth) == pytest.approx(r2_score(truth, guess, multioutput="uniform_average"))
    constant = np.concatenate([truth, np.ones((50, 1))], axis=1)
    assert explained(np.concatenate([guess, guess[:, :1]], axis=1), constant) == pytest.approx(explained(guess, truth))


@pytest.mark.parametrize(
    ("after", "floor", "word"),
    [
        ((0.1, 0.1, 0.1), 0.0, "none: "),
        ((0.2, 0.3, 0.4), 0.0, "none: "),
        ((0.3, 0.3, 0.31), 0.5, "raw records do as well"),
        ((0.6, 0.61, 0.6), 0.55, "above the raw records"),
        ((0.6, 0.65, 0.62), 0.6, "not clear of the raw records"),
        ((0.6,), 0.5, "one seed shows no spread"),
    ],
)
def test_the_verdict_says_when_nothing_is_gained(after: tuple[float, ...], floor: float, word: str) -> None:
    seeds = tuple(range(len(after)))
    given = Ranked("denoising", (0.2,) * len(after), after)
    ranking = Ranking("R squared", seeds, (floor,) * len(after), (given,), {}, ())
    assert word in dict(lines(plan_of(SIGNAL), ranking))["choose"]


def test_a_winner_is_clear_of_the_others_seed_by_seed_or_there_is_none() -> None:
    def ranking(**after: tuple[float, ...]) -> Ranking:
        tasks = tuple(Ranked(task, (0.2, 0.3, 0.1), scores) for task, scores in after.items())
        return Ranking("R squared", (0, 1, 2), (0.0, 0.0, 0.0), tasks, {}, ())

    # Each seed is worth more to both than a task to any: paired, the first is clear.
    paired = ranking(byol=(0.40, 0.52, 0.29), simsiam=(0.38, 0.50, 0.27))
    assert [each.task for each in paired.winners()] == ["byol"]
    assert "byol: its gain is clear of all others; above" in dict(lines(plan_of(SIGNAL), paired))["choose"]
    close = ranking(byol=(0.40, 0.52, 0.29), simsiam=(0.40, 0.49, 0.29), denoising=(0.30, 0.40, 0.20))
    assert "no clear winner among byol, simsiam; above" in dict(lines(plan_of(SIGNAL), close))["choose"]


@pytest.mark.parametrize(
    ("leads", "found"),
    [((0.02, 0.02, 0.02), True), ((0.01, 0.03, 0.04), False), ((0.02, 0.03, 0.035), True), ((-0.01, 0.05, 0.05), False),
     ((0.5,), False), ((0.0, 0.0), False), ((-0.2, -0.2), False)],
)  # fmt: skip
def test_a_lead_is_clear_where_its_mean_is_above_its_range(leads: tuple[float, ...], found: bool) -> None:
    assert clear(leads) == found


def test_how_often_chance_alone_is_clear_grows_with_the_tasks_and_is_printed() -> None:
    # Of two normal numbers the mean is above the distance in the share of a circle that lies within atan(1/2) of a half line.
    assert by_chance(1, 2) == pytest.approx(math.atan(0.5) / math.pi, abs=0.015)
    # Of three, one time in 25 (Lord, 1947).
    assert by_chance(1, 3) == pytest.approx(0.04, abs=0.006)
    shares = [by_chance(tasks, 3) for tasks in (1, 4, 12)]
    assert shares == sorted(shares) and shares[2] > 0.15
    tasks = tuple(Ranked(str(number), (0.0,) * 3, (0.1, 0.2, 0.3)) for number in range(12))
    said = dict(lines(plan_of(SIGNAL), Ranking("R squared", (0, 1, 2), (0.0,) * 3, tasks, {}, ())))["by chance"]
    assert said == f"the best of 12 is clear of its start weights {shares[2]:.0%} of the time if none gains"


def test_three_normal_numbers_around_nothing_are_clear_one_time_in_twenty_five() -> None:
    draws = np.random.default_rng(5).standard_normal((20_000, 3))
    assert np.mean([clear(draw) for draw in draws.tolist()]) == pytest.approx(0.04, abs=0.005)


@pytest.mark.parametrize(
    "words",
    [
        ("--choose", "--task", "simclr"), ("--choose", "--from", "x"), ("--choose", "--partial"), ("--choose", "--out", "x"),
        ("--out", "x", "--labels", "x"), ("--out", "x", "--seeds", 3), ("--out", "x", "--public", "x", "--units", 8),
        ("--out", "x", "--steps", 0, "--from", "x", "--batch", 8), ("--out", "x", "--steps", 0, "--from", "x", "--public", "x"),
    ],
)  # fmt: skip
def test_an_option_that_would_do_nothing_is_refused(tmp_path: Path, words: tuple[object, ...]) -> None:
    idle = [str(word) for word in words if str(word).startswith("--")]
    one = idle[-1] if "--labels" in idle or "--seeds" in idle or idle[0] == "--out" else idle[1]
    refused(run(_plan(tmp_path, IMAGE), *words), f"{one} does nothing with", f"field: {one}", "remedy: leave it out")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]


def test_a_corpus_is_ranked_by_its_public_labels(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    truth = np.arange(120) % 2
    images = (100 + 60 * truth[:, None, None] * (np.arange(16) > 7) + 20 * generator.random((120, 16, 16))).astype(np.uint8)
    np.savez(tmp_path / "images.npz", image=images, patient=np.arange(120))
    (tmp_path / "source.toml").write_text('kind = "npz"\npath = "images.npz"\n')
    (tmp_path / "labels.csv").write_text("patient,bright\n" + "".join(f"{n},{label}\n" for n, label in enumerate(truth)))
    plan = _plan(tmp_path, IMAGE)
    corpus = ("--public", tmp_path / "source.toml")
    quick = ("--choose", "--steps", 4, "--batch", 8, *corpus)
    facts = json.loads(run(plan, *quick, "--json", "--labels", tmp_path / "labels.csv").stdout)
    assert min(facts["floor"]) > 0.95 and len(facts["floor"]) == 3 and "AUROC" in facts["measure"]
    # Another split and another start a seed.
    assert len(set(facts["tasks"][0]["before"])) > 1 and facts["flattered"] == []
    refused(run(plan, *quick), "--labels")
    refused(run(plan, "--choose", "--steps", 0), "--steps")
    refused(run(plan), "--out")
