"""What a person sees before approving a study, and the two checks that run before the budget is reserved (rulings 3, 15, 24).

The data are read and checked once, here; what was checked is kept and trained on, so afterwards a bad record is a zero
row. The isolation check drives sampler, draw and engine with the study's own model on synthetic patients, on the device
that the site trains on. Nothing of either check leaves the site.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from client.budget import census_lines, take_census
from client.isolation import check_study
from client.study import Study
from deploy.console import confirm
from ssl_core.data.source import read_source
from ssl_core.errors import ConfigError, DataError, PolicyError, StateError, TrustError
from ssl_core.privacy.cohorts import Census
from ssl_core.privacy.statement import rounded_down, rounded_up
from ssl_core.spec.objective import clip_line
from ssl_core.trust.identity import fingerprint


def consent_screen(study: Study) -> list[tuple[str, Any]]:
    """Rows of (what, value): cost, remainder, unit, sigma, q, steps, C, participants, who sees the sum."""
    plan, quote = study.plan, study.quote()
    privacy, buckets = plan.privacy, clip_line(plan.objective)
    return [
        ("study", f"{plan.name}: {plan.purpose}"),
        ("plan hash", study.plan_hash),
        ("epsilon of this study", f"{rounded_up(quote.study_epsilon)} at delta {privacy.delta:g}, add or remove one patient"),
        (
            "spent before / after",
            f"{rounded_up(quote.spent_before)} / {rounded_up(quote.spent_after)} of {quote.limit:g} for life",
        ),
        ("remains after", rounded_down(quote.remaining)),
        ("cohort", f"{quote.cohort}: the limit is for each of its patients"),
        ("unit", f"{privacy.unit}: all records of one patient together"),
        ("sigma, q, C", f"{privacy.noise_multiplier:g}, {privacy.sampling_rate:g}, {privacy.max_grad_norm:g}"),
        *([("what C bounds", buckets)] if buckets else []),
        ("noised steps", f"{plan.total_steps} reserved ({plan.rounds.rounds} rounds + {plan.rounds.max_void} void)"),
        ("participants (size)", ", ".join(f"{site.name} ({site.nominal_size})" for site in plan.sites)),
        ("minimum in a sum", plan.rounds.min_sites),
        ("declared size of this site", study.nominal_size),
        ("start weights", _start_line(study)),
        ("who sees the sum", "every participant and the operator; nobody sees this site's own update"),
    ]


def prepare(study: Study) -> tuple[str, Census]:
    """Check the declared data and the isolation of the study's gradients; raises `DataError` or `PrivacyError`.

    Goes out: what a person reads before the answer, and the numbers of patients in it: who some of them are, only a person
    can say. `PolicyError` where the plan says that it starts from its seed, and names other weights.
    """
    check_start(study)
    check_size(study)
    report = study.checked.report
    isolation = check_study(study, read_source(study.home.source_path).declared)
    whose = "bucket's but his own" if clip_line(study.plan.objective) else "other's"
    census = take_census(study.home, study.cohort, study.checked.patients)
    passed = f"Isolation check passed: on synthetic patients, changing one changed no {whose} gradient."
    lines = [
        *report.lines(),
        *size_lines(study.nominal_size, report.patients),
        *delta_lines(study.home.policy.delta, report.patients),
        *census_lines(study.cohort, census),
        passed,
        isolation.why,
    ]
    return "\n".join(lines), census


def confirm_shown(yes: bool, question: str, shown: list[tuple[str, Any]], again: Callable[[], list[tuple[str, Any]]]) -> None:
    """Ask, unless `yes`; `StateError` where `again` gives other rows than those `shown` once a person has answered.

    Meanwhile another study may have been approved here, or somebody wrote another plan, policy or cohort into the files.
    """
    confirm(yes, question)
    if yes:
        # Nobody looked; the limit is held by the ledger.
        return
    for (name, before), (_, now) in zip(shown, again(), strict=True):
        if before != now:
            raise StateError(
                "what this study costs here changed while the question stood", field=name, value=now,
                limit=f"{before}, as it was shown",
                remedy="run the command again and look at the new numbers; nothing was charged",
            )  # fmt: skip


def people_differ(alike: bool, said: bool, yes: bool) -> bool:
    """Does a person say that ids which differ in spelling alone are of different people? `said`: by an option already.

    `--yes` alone does not say it, so that `include` then refuses.
    """
    if alike and not said and not yes:
        confirm(False, "Some patients' ids differ in spelling alone. Are they different people, each with one id?")
    return said or (alike and not yes)


def asking(said: bool, yes: bool, quiet: bool) -> Callable[[list[str], bool], bool]:
    """The same where the patients are read after the first question: shows the census first, unless `quiet`."""

    def ask(lines: list[str], alike: bool) -> bool:
        if not quiet:
            typer.echo("\n".join(lines))
        return people_differ(alike, said, yes)

    return ask


def check_size(study: Study) -> None:
    """Where patients are compared in buckets, which are never split, memory is demanded for those of three nominal sizes.

    `DataError`, since the records decide it: a rule must not tell the server so (site_service.py).
    """
    most = 3 * study.nominal_size
    if clip_line(study.plan.objective) and study.checked.report.patients > most:
        raise DataError(
            "this site has more patients than buckets of the plan are made for", field="nominal_size", value=study.nominal_size,
            limit=f"a third of the patients at least, for objective {study.plan.objective.name}",
            remedy="ask the operator for a plan that declares this site's size, or declare fewer of the patients",
        )  # fmt: skip


def size_lines(nominal: int, patients: int) -> list[str]:
    """Says so where the plan was made for less than half or more than twice as many patients as there are."""
    if nominal <= 2 * patients and patients <= 2 * nominal:
        return []
    return [
        f"The plan declares {nominal} patients for this site, and the source has {patients}: what is promised to a patient is "
        "the same, what is learnt is not. Ask the operator for a plan that declares about as many."
    ]


def delta_lines(delta: float, patients: int) -> list[str]:
    """Says so where the delta for life is too great for the patients that there are, whatever size the operator declared."""
    if delta * patients < 1:
        return []
    return [
        f"WARNING: the delta for life of policy.toml, {delta:g}, is not below 1 in {patients} patients: it alone would allow "
        "one patient's records to be published whole. Decide on a smaller one; what is spent is counted at it anew."
    ]


def check_start(study: Study) -> None:
    """A plan without `start` must name the very weights that its seed gives; this site makes them anew to see."""
    from ssl_core.encoders.vector import to_vector, weights_hash

    if study.plan.start is not None:
        return
    made = weights_hash(to_vector(study.model))
    if made != study.plan.initial_weights:
        raise PolicyError(
            "plan starts from other weights than its seed gives, and does not say so", field="initial_weights",
            value=study.plan.initial_weights, limit=made, remedy="ask the operator to name them: start in the plan",
        )  # fmt: skip


def start_card_rows(study: Study, folder: Path) -> list[tuple[str, Any]]:
    """What the operator signed of the start weights in `folder`, which must be those of the plan.

    The operator is the one of the roster that this site accepted. Raises `ConfigError`, `TrustError`.
    """
    from ssl_core.start_card import load_start

    if study.plan.start is None:
        raise ConfigError("plan starts from its seed, not from prepared weights", field="--start", value=str(folder))
    operator = bytes.fromhex(study.home.roster()[0].server.operator)
    loaded = load_start(folder, keys=[operator])
    if loaded.card.weights != study.plan.start:
        raise TrustError(
            "these are not the weights that the plan starts from", field="--start", value=loaded.card.weights,
            limit=study.plan.start, remedy="ask the operator for the folder of this study's start weights",
        )  # fmt: skip
    return [
        ("card of the start weights", f"signed by operator {fingerprint(operator)}: epsilon 0 added, as far as its word holds"),
        *((f"on its word, {number}", line) for number, line in enumerate(loaded.card.rests_on, 1)),
    ]


def _start_line(study: Study) -> str:
    """Where the weights come from that the study starts from; they bear on its use, not on this site's guarantee."""
    if study.plan.start is None:
        return f"from the plan's seed, {study.plan.seed}"
    return f"prepared by the operator, who answers for what went into them: SHA-256 {study.plan.start}"
