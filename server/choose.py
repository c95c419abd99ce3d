"""Before step 1: `choral operator prepare --choose`: which pretext task a plan should have; what asking patients would cost.

Comes in: a study plan that a person wrote. Goes out: a `Ranking` (ssl_core/warm_start/choosing.py) on generated or public
units, which costs no epsilon, and the epsilon that choosing on patients would cost every site: each task trained at the plan's
own noise and steps, all of them counted together by PLD, since each is a release. Nothing is written, no ledger is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ssl_core.config import StudyPlan, read_toml
from ssl_core.errors import ConfigError
from ssl_core.privacy.accountant import Schedule as PrivateSchedule
from ssl_core.privacy.accountant import epsilon

if TYPE_CHECKING:
    from ssl_core.warm_start.choosing import Ranking
    from ssl_core.warm_start.pretraining import Schedule


def choose(
    path: Path, *, units: int, schedule: Schedule, public: Path | None, labels: Path | None
) -> tuple[StudyPlan, Ranking]:
    """Rank the tasks for the plan at `path`; with `public`, `labels` of that corpus are what they are ranked by."""
    from ssl_core.warm_start.choosing import corpus_exam, generated_exam, rank

    plan = read_toml(StudyPlan, path, "study plan")
    if (public is None) != (labels is None):
        raise ConfigError(
            "a public corpus and its labels go together", field="--labels", value=None if labels is None else labels.name,
            remedy="name both --public and --labels, or neither",
        )  # fmt: skip
    exam = generated_exam(plan, units, schedule.seed) if public is None or labels is None else corpus_exam(plan, public, labels)
    return plan, rank(plan, exam, schedule)


def price(plan: StudyPlan, tasks: int) -> float:
    """Epsilon at the plan's delta of training `tasks` tasks on patients as the plan trains one, add or remove one patient."""
    privacy = plan.privacy
    return epsilon([PrivateSchedule(privacy.noise_multiplier, privacy.sampling_rate, plan.total_steps * tasks)], privacy.delta)


def lines(plan: StudyPlan, ranking: Ranking) -> list[tuple[str, str]]:
    """For a terminal: scores, what they say, and the price of any other way."""
    tasks = ranking.tasks
    rows = [
        ("measured by", f"{ranking.measure}, frozen features, units not trained on"),
        ("raw records", f"{ranking.floor:.3f}"),
    ]
    rows += [(each.task, f"{each.after:.3f} (start weights {each.before:.3f})") for each in tasks]
    rows += [(f"{task} left out", why) for task, why in ranking.unfit.items()]
    best = max(tasks, key=lambda each: each.after)
    if best.after <= best.before:
        verdict = "none: no task is better than the weights that it starts from"
    elif best.after <= ranking.floor:
        verdict = f"{best.task}, but the raw records do as well or better: a study may not be worth its budget"
    else:
        verdict = f"{best.task}: the greatest score, above its start weights and the raw records"
    rows.append(("choose", verdict))
    one, all_ = price(plan, 1), price(plan, len(tasks))
    rows.append(
        (
            "what it cost",
            f"epsilon 0. On patients: {all_:.2f} for {len(tasks)} tasks as the plan trains one ({one:.2f}), "
            f"delta {plan.privacy.delta:g}, at every site",
        )
    )
    return rows
