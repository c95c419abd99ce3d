"""A site's own private pretraining: the same steps 1 to 6 without a federation; the encoder never leaves the hospital.

The plan says `alone = true` and names this site only. It is the site's own word, so nothing is signed; it is RESERVEd in
the same ledger as every federated study, and its rounds are COMMITted before they train. The declared files are read
once: what was checked is what is trained on; since one process does it all, no copy of the records is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from client.budget import census_lines, cohort_of, include, include_again, site_ledger, take_census
from client.home import SiteHome
from client.isolation import another_pace, pace_here
from client.policy import check_plan
from ssl_core.card import make_card, save_encoder
from ssl_core.config import StudyPlan, read_toml
from ssl_core.errors import ConfigError, StateError
from ssl_core.privacy.accountant import Schedule
from ssl_core.privacy.statement import rounded_up
from ssl_core.trust.envelope import canonical, digest


def quote_alone(home: SiteHome, path: Path) -> list[tuple[str, Any]]:
    """What the plan would cost here; raises `PolicyError`, `ConfigError`."""
    plan, schedule = _read(home, path)
    quote = site_ledger(home, cohort_of(home)).quote(schedule, plan.privacy.delta)
    return [
        ("study", f"{plan.name} (this site alone)"),
        ("epsilon of this study", f"{rounded_up(quote.study_epsilon)} at delta {plan.privacy.delta:g}"),
        (
            "spent before / after",
            f"{rounded_up(quote.spent_before)} / {rounded_up(quote.spent_after)} of {quote.limit:g} for life",
        ),
        ("cohort", quote.cohort),
        ("noised steps", plan.total_steps),
    ]


def pretrain_alone(
    home: SiteHome,
    path: Path,
    start: Path | None = None,
    ask: Callable[[list[str], bool], bool] | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Run the study to its end; returns the folder of the encoder. An interrupted run is not taken up again.

    `start`: the prepared weights whose hash the plan names. `ask`: shows a person how many patients are known, and answers
    whether ids that are spelled alike, where there are any, are of different people; without it nobody says so. `tell`: hears,
    line by line, what is done.
    """
    from client.approval import delta_lines
    from ssl_core.data.check import check_and_load
    from ssl_core.data.source import read_source
    from ssl_core.objectives.build import build_model
    from ssl_core.privacy.absence import check_absence
    from ssl_core.privacy.isolation import check_isolation
    from ssl_core.privacy.training import train_round
    from ssl_core.start_weights import start_weights

    plan, schedule = _read(home, path)
    plan_hash = digest(canonical(plan.model_dump(mode="json")))
    cohort, speed = cohort_of(home, plan_hash), home.config.speed
    ledger = site_ledger(home, cohort)
    folder = home.root / "encoders" / f"{plan.name}-{plan_hash[:8]}"
    if folder.exists():
        raise StateError(
            "this study was run here already", field="encoder", value=folder.name, remedy="take its encoder, or another plan"
        )
    if any(entry.body["study"] == plan_hash for entry in home.chain.entries("commit")):
        raise _cut_short("this study was begun here before and did not come to its end", plan)
    _check_writable(folder.parent)
    weights = start_weights(plan, start)
    admission = ledger.admit(plan_hash, schedule, plan.privacy.delta)
    tell("Reading and checking the records.")
    source = read_source(home.source_path)
    patients = check_and_load(source, plan.data, home.effort).patients
    census = take_census(home, cohort, patients)
    told = [*delta_lines(home.policy.delta, len(patients.tags)), *census_lines(cohort, census)]
    differ = ask is not None and ask(told, census.alike)
    nominal_size = plan.nominal_size(home.config.name)
    tell("Checking that no patient's part depends on another's (isolation check).")
    report = check_isolation(plan, speed=speed, declared=source.declared, nominal_size=nominal_size)
    model, state = build_model(plan), None
    pace = pace_here(model, plan.data, speed)
    if pace.facts != report.pace.facts:
        raise another_pace("run the command again")
    check_absence(model, weights, plan, nominal_size, speed, pace)
    if admission.quote is None:
        # A run that was killed before its first round reserved it, perhaps for other records than these.
        include_again(home, plan_hash, cohort, patients, different_people=differ)
    else:
        units = include(home, plan_hash, cohort, patients, different_people=differ)
        ledger.reserve(plan_hash, plan.name, schedule, plan.privacy.delta, units=units)
    steps = plan.rounds.steps_per_round
    one_round = partial(
        train_round,
        model=model,
        patients=patients,
        plan=plan,
        nominal_size=nominal_size,
        total_steps=plan.rounds.rounds * steps,
        speed=speed,
        pace=pace,
    )
    try:
        for number in range(1, plan.rounds.rounds + 1):
            ledger.commit(plan_hash, number, steps)
            result = one_round(start=weights, first_step=(number - 1) * steps, state=state)
            weights, state = (weights + result.delta).astype(np.float32), result.state
            tell(f"Round {number} of {plan.rounds.rounds} is done: {number * steps} of {plan.total_steps} steps.")
    except KeyboardInterrupt:
        raise _cut_short("interrupted", plan) from None
    card = make_card(plan, plan_hash, weights, kind="alone", closed=plan.rounds.rounds, void=0)
    save_encoder(folder, weights, card)
    return folder


def _cut_short(problem: str, plan: StudyPlan) -> StateError:
    return StateError(
        f"{problem}; what it was charged stays spent, and it is not taken up again",
        field="study",
        value=plan.name,
        remedy="with another seed the plan is another study, charged anew; choral site ledger shows what is left",
    )


def _check_writable(folder: Path) -> None:
    """Before anything is charged: an encoder that cannot be written is lost, and its budget with it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder):
            pass
    except OSError as error:
        raise StateError(
            f"no encoder could be written here: {error.strerror}",
            field="path",
            value=str(folder),
            limit="a folder in which this user may write",
            remedy="give the folder its rights back, or make room; nothing was charged",
        ) from error


def _read(home: SiteHome, path: Path) -> tuple[StudyPlan, Schedule]:
    plan = read_toml(StudyPlan, path, "study plan")
    if not plan.alone:
        raise ConfigError("plan is for a federation", field="alone", value=False, remedy="set alone = true")
    if plan.sites[0].name != home.config.name:
        raise ConfigError("plan names another site", field="sites", value=plan.sites[0].name, limit=home.config.name)
    if plan.rounds.max_void:
        raise ConfigError(
            "nothing can void a round here", field="rounds.max_void", value=plan.rounds.max_void, limit=0,
            remedy="write max_void = 0 under [rounds]: left out it is 2, which a site alone would pay for",
        )  # fmt: skip
    check_plan(plan, home.policy, home.config.name)
    privacy = plan.privacy
    return plan, Schedule(privacy.noise_multiplier, privacy.sampling_rate, plan.total_steps)
