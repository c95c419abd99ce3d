"""From a signed plan and an accepted roster to the parameters that both ends of the secure sum compute for themselves.

The session id is the plan hash (ruling 4). Nothing here comes from the server: it derives the same values from the same
signed files, and a difference in any of them changes every mask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ssl_core.config import Name, Sha256Hex, StudyPlan, parse
from ssl_core.errors import ConfigError, TrustError
from ssl_core.secure_sum.params import MOST_BACKUP_SITES, Member, SumParams
from ssl_core.spec.objective import Joint
from ssl_core.spec.strict import StrictModel
from ssl_core.trust.envelope import open_envelope, seal
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import Roster, open_as_named


def read_roster(path: Path) -> tuple[Roster, str]:
    """(roster, digest) of a file that is trusted as it was handed over, verified by the authority that it names itself.

    Who pins an authority opens it by `open_roster` instead. Raises `TrustError`, `ConfigError`.
    """
    if not path.is_file():
        raise ConfigError(
            "roster file is missing", field="roster", value=str(path), remedy="name the roster that the authority signed"
        )
    return open_as_named(path.read_bytes())


def open_plan(data: bytes, operator: bytes) -> tuple[StudyPlan, str]:
    """Verify a signed plan by the operator's key of the roster; returns (plan, plan hash)."""
    body, digest = open_envelope(data, "plan", [operator])
    plan = parse(StudyPlan, body, "study plan")
    if plan.roster is None or plan.initial_weights is None:
        raise TrustError("signed plan does not pin its roster and initial weights", field="roster, initial_weights")
    if plan.start not in (None, plan.initial_weights):
        raise TrustError(
            "signed plan names two start weights", field="start", value=plan.start, limit=plan.initial_weights,
            remedy="ask the operator for a plan that was signed by choral operator launch",
        )  # fmt: skip
    tasks = plan.objective.tasks if isinstance(plan.objective, Joint) else (plan.objective,)
    if any("bank_version" in type(task).model_fields and "bank_version" not in task.model_fields_set for task in tasks):
        # A default would be the reader's, and each site's build has its own.
        raise TrustError(
            "signed plan does not name the version of its bank", field="objective.bank_version",
            remedy="ask the operator to launch the study anew: this plan was signed before the version existed",
        )  # fmt: skip
    return plan, digest


def sum_params(plan: StudyPlan, plan_hash: str, roster: Roster, roster_digest: str, dimension: int) -> SumParams:
    """Parameters of the secure sum for the plan's participants; `dimension` is P."""
    weights = plan.weights()
    return SumParams(
        session=bytes.fromhex(plan_hash),
        roster=bytes.fromhex(roster_digest),
        server=bytes.fromhex(roster.server.server),
        members=tuple(
            Member(name=m.name, identity=bytes.fromhex(m.identity), weight=weights[m.name])
            for m in roster.members
            if m.name in weights
        ),
        corrupt=roster.corrupt,
        dimension=dimension,
        update_range=plan.aggregation.update_range,
        bits=plan.aggregation.ring_bits,
        min_sites=plan.rounds.min_sites,
        max_rounds=plan.rounds.rounds + plan.rounds.max_void,
        # Backup shares grow with the square of the sites; beyond this a second loss in a round is waited for, or voids it.
        backup=len(weights) <= MOST_BACKUP_SITES,
    )


class Approval(StrictModel):
    """A site's answer to an invitation. `key_offer` is its epoch key offer as hex, empty unless approved."""

    plan: Sha256Hex
    site: Name
    status: Literal["approved", "waiting", "declined"]
    offer: str = Field(pattern=r"^([0-9a-f]{2})*$", max_length=4096)

    @property
    def key_offer(self) -> bytes:
        """The epoch key offer."""
        return bytes.fromhex(self.offer)


def sign_approval(approval: Approval, identity: Identity) -> bytes:
    """A signed approval, waiting or declined answer."""
    return seal("approval", approval.model_dump(mode="json"), identity)


def open_approval(data: bytes, identity: bytes, plan_hash: str) -> Approval:
    """Verify a site's answer and that it is about this plan; raises `TrustError`."""
    body, _ = open_envelope(data, "approval", [identity])
    approval = parse(Approval, body, "approval")
    if approval.plan != plan_hash or (approval.status == "approved") != bool(approval.offer):
        raise TrustError("approval is for another plan or incomplete", field="plan", value=approval.plan)
    return approval
