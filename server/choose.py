"""Before step 1: `choral operator prepare --choose`: which pretext task a plan should have; what asking patients would cost.

Comes in: a study plan that a person wrote. Goes out: a `Ranking` (ssl_core/warm_start/choosing.py) on generated or public
units, which costs no epsilon, and the epsilon that choosing so on patients would cost every site: each task trained at each
seed at the plan's own noise and steps, all of them counted together by PLD, since each is a release. Nothing is written, no
ledger is opened.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from ssl_core.config import StudyPlan, read_toml
from ssl_core.errors import ConfigError
from ssl_core.privacy.accountant import Schedule as PrivateSchedule
from ssl_core.privacy.accountant import epsilon
from ssl_core.spec.objective import Joint

if TYPE_CHECKING:
    from ssl_core.warm_start.choosing import Ranked, Ranking
    from ssl_core.warm_start.pretraining import Schedule


def choose(
    path: Path, *, units: int, schedule: Schedule, seeds: int, public: Path | None, labels: Path | None
) -> tuple[StudyPlan, Ranking]:
    """Rank the tasks for the plan at `path`; with `public`, `labels` of that corpus are what they are ranked by."""
    from ssl_core.warm_start.choosing import corpus_exams, generated_exam, rank

    plan = read_toml(StudyPlan, path, "study plan")
    if (public is None) != (labels is None):
        raise ConfigError(
            "a public corpus and its labels go together", field="--labels", value=None if labels is None else labels.name,
            remedy="name both --public and --labels, or neither",
        )  # fmt: skip
    if public is None or labels is None:
        return plan, rank(plan, lambda seed: generated_exam(plan, units, seed), schedule, seeds)
    return plan, rank(plan, corpus_exams(plan, public, labels), schedule, seeds)


def price(plan: StudyPlan, trainings: int) -> float:
    """Epsilon at the plan's delta of so many `trainings` on patients as the plan's own, add or remove one patient."""
    privacy = plan.privacy
    steps = plan.total_steps * trainings
    return epsilon([PrivateSchedule(privacy.noise_multiplier, privacy.sampling_rate, steps)], privacy.delta)


def lines(plan: StudyPlan, ranking: Ranking) -> list[tuple[str, str]]:
    """For a terminal: scores, what they say, and the price of any other way."""
    from ssl_core.warm_start.choosing import by_chance

    tasks, seeds = ranking.tasks, len(ranking.seeds)
    rows = [
        ("measured by", f"{ranking.measure}, frozen features, units not trained on"),
        ("seeds", f"{', '.join(map(str, ranking.seeds))}: each its own data, order and start weights"),
        ("raw records", f"{fmean(ranking.floor):.3f} ({min(ranking.floor):.3f} to {max(ranking.floor):.3f})"),
        ("task", "mean gain (least to greatest), start weights -> after (least to greatest)"),
    ]
    rows += [(_name(plan, each.task), _scores(each)) for each in tasks]
    if seeds > 1:
        share = by_chance(len(tasks), seeds)
        rows.append(
            ("by chance", f"the best of {len(tasks)} is clear of its start weights {share:.0%} of the time if none gains")
        )
    rows += [(f"{task} left out", why) for task, why in ranking.unfit.items()]
    rows.append(("choose", _verdict(plan, ranking)))
    if ranking.flattered:
        rows.append(
            (
                "flattered",
                f"{', '.join(ranking.flattered)}: compared in training with records of the very generator that made this exam. "
                "Of real records less may stay: moco-bank kept the effective rank of made-up images at 13.6 of 14.5, and left "
                "chest X-rays 5.6 of 12.7",
            )
        )
    trainings = len(tasks) * seeds
    patients = f"{price(plan, trainings):.2f} for {len(tasks)} tasks at {seeds} seeds, {trainings} trainings as the plan's own"
    rest = f"({price(plan, 1):.2f}), delta {plan.privacy.delta:g}, at every site; the labels to compare them by are not counted"
    rows.append(("what it cost", f"epsilon 0. On patients: {patients} {rest}"))
    return rows


def _name(plan: StudyPlan, task: str) -> str:
    if isinstance(plan.objective, Joint) and task == plan.objective.name:
        return f"{task} ({' + '.join(part.name for part in plan.objective.tasks)})"
    return task


def _scores(each: Ranked) -> str:
    gains, after = each.gains, each.after
    return (
        f"{fmean(gains):+.3f} ({min(gains):+.3f} to {max(gains):+.3f}), {fmean(each.before):.3f} -> {fmean(after):.3f} "
        f"({min(after):.3f} to {max(after):.3f})"
    )


def _verdict(plan: StudyPlan, ranking: Ranking) -> str:
    from ssl_core.warm_start.choosing import clear

    if len(ranking.seeds) < 2:
        return "no clear winner: one seed shows no spread; give --seeds 3"
    winners = ranking.winners()
    if not clear(winners[0].gains):
        return "none: no task is clear of the weights that it starts from"
    names = ", ".join(_name(plan, each.task) for each in winners)
    word = f"no clear winner among {names}" if len(winners) > 1 else f"{names}: its gain is clear of all others"
    best = max(winners, key=lambda each: fmean(each.after))
    leads = [after - floor for after, floor in zip(best.after, ranking.floor, strict=True)]
    if fmean(leads) <= 0:
        return f"{word}; the raw records do as well or better: a study may not be worth its budget"
    if not clear(leads):
        return f"{word}; not clear of the raw records"
    return f"{word}; above the raw records"
