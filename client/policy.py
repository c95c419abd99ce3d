"""This hospital's own limits; they always win over what a server asks.

Comes in: a signed study plan and the accepted roster. Goes out: nothing, or `PolicyError` naming the first limit that
the plan would pass. The lifetime epsilon itself is checked by the ledger at RESERVE (ssl_core/privacy/ledger.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ssl_core.config import StudyPlan
from ssl_core.errors import PolicyError
from ssl_core.spec.strict import StrictModel
from ssl_core.trust.roster import Roster

DEFAULT_POLICY = """\
# This hospital's limits. A study that passes any of them is declined, whatever the server says.
max_epsilon = 10.0            # for life, for any patient, over all studies
delta = 3e-5                  # of that epsilon; below 1 / this site's nominal size in any plan
composition = "smaller of RDP filter and sum"
min_noise_multiplier = 0.5    # least sigma of a study
max_sampling_rate = 0.1       # greatest q of a study
max_steps = 2000              # greatest number of noised steps of a study, void rounds included
max_rounds = 500
min_sites = 3                 # fewest sites in a sum
max_weight_share = 0.5        # greatest share of one site in the smallest sum: a larger one would be that site's update
# A study that costs at most this epsilon is approved without a person. 0 = a person approves every study.
# Above 0 the operator sees, of a plan it makes, whether your records pass its check: so it can ask if anybody has a code.
# One such question is answered until a person approves a study; after the first plan that they do not pass, none (choral site
# status shows it).
auto_approve_epsilon = 0.0
# What rounds make from your records leaves at multiples of so many seconds: if one takes less, its time tells nothing of them.
# 0 = at once.
answer_grid_s = 0.0
# After each round the daemon looks how the encoder stands on your records, for choral site watch. Nothing of it leaves.
watch = true
"""


class SitePolicy(StrictModel):
    """policy.toml; floors and ceilings of ruling 3."""

    max_epsilon: Annotated[float, Field(gt=0, le=100)]
    delta: Annotated[float, Field(gt=0, lt=1e-3)]
    composition: Literal["smaller of RDP filter and sum"]
    min_noise_multiplier: Annotated[float, Field(gt=0)]
    max_sampling_rate: Annotated[float, Field(gt=0, le=1)]
    max_steps: Annotated[int, Field(ge=1)]
    max_rounds: Annotated[int, Field(ge=1)]
    min_sites: Annotated[int, Field(ge=3)]
    max_weight_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    auto_approve_epsilon: Annotated[float, Field(ge=0)] = 0.0
    answer_grid_s: Annotated[float, Field(ge=0, le=86400)] = 0.0
    watch: bool = True


def check_plan(plan: StudyPlan, policy: SitePolicy, site: str) -> None:
    """Raise `PolicyError` for the first of this hospital's limits that the plan passes; `site`: its name in the plan."""
    privacy, rounds = plan.privacy, plan.rounds
    _check_delta(policy, plan.nominal_size(site))
    _at_least("privacy.noise_multiplier", privacy.noise_multiplier, policy.min_noise_multiplier)
    _at_most("privacy.sampling_rate", privacy.sampling_rate, policy.max_sampling_rate)
    _at_most("privacy.delta", privacy.delta, policy.delta)
    _at_most("steps (rounds + max_void) x steps_per_round", plan.total_steps, policy.max_steps)
    _at_most("rounds.rounds + rounds.max_void", rounds.rounds + rounds.max_void, policy.max_rounds)
    if not plan.alone:
        _at_least("rounds.min_sites", rounds.min_sites, policy.min_sites)
        _at_least("sites", len(plan.sites), policy.min_sites)
        _at_least("rounds.patience_s (twice the policy's answer_grid_s)", rounds.patience_s, 2 * policy.answer_grid_s)


def check_members(plan: StudyPlan, policy: SitePolicy, roster: Roster, roster_digest: str, accepted: dict[str, str]) -> None:
    """Raise `PolicyError` unless the plan is for this very roster and every participant was accepted here by a person."""
    if plan.roster != roster_digest:
        raise PolicyError(
            "plan was made for another roster",
            field="roster",
            value=plan.roster,
            limit=roster_digest,
            remedy="accept the roster that the plan names, or ask the operator to launch again",
        )
    for site in plan.sites:
        if accepted.get(site.name) != roster.member(site.name).identity:
            raise PolicyError(
                "plan names a site that nobody here accepted",
                field="sites",
                value=site.name,
                remedy=f"compare the fingerprint by telephone, then: choral site accept {site.name} FINGERPRINT",
            )
    if len(plan.sites) < 3 * roster.corrupt + 1:
        raise PolicyError(
            "too few participants for this roster: sites that collude with the server could outvote the others",
            field="sites",
            value=len(plan.sites),
            limit=3 * roster.corrupt + 1,
        )
    _at_most("sites.nominal_size, largest share of a sum", largest_share(plan, roster.corrupt), policy.max_weight_share)


def largest_share(plan: StudyPlan, corrupt: int) -> float:
    """The heaviest site's part of the smallest sum that a round may give: of m survivors, the lightest beside it."""
    weights = sorted(plan.weights().values())
    shares = (len(weights) + corrupt) // 2 + 1
    survivors = max(3, shares, corrupt + 2)
    return weights[-1] / (weights[-1] + sum(weights[: survivors - 1]))


def _check_delta(policy: SitePolicy, nominal_size: int) -> None:
    """At delta = 1 / N the guarantee for life would allow one patient's records to be published whole."""
    if policy.delta >= 1 / nominal_size:
        raise PolicyError(
            "the delta for life of policy.toml is too great for as many patients as the plan declares for this site",
            field="policy delta",
            value=policy.delta,
            limit=f"below 1 / nominal size = {1 / nominal_size:g}",
            remedy="set a smaller delta in policy.toml after a decision of the hospital; what is spent is counted at it anew",
        )


def _at_most(field: str, value: float, limit: float) -> None:
    if value > limit:
        raise PolicyError(
            "study asks for more than this hospital's policy allows",
            field=field,
            value=value,
            limit=f"at most {limit}",
            remedy="decline it, or change policy.toml after a decision of the hospital",
        )


def _at_least(field: str, value: float, limit: float) -> None:
    if value < limit:
        raise PolicyError(
            "study asks for less than this hospital's policy demands",
            field=field,
            value=value,
            limit=f"at least {limit}",
            remedy="decline it, or change policy.toml after a decision of the hospital",
        )
