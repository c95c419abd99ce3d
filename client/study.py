"""One study at one site: the verified plan, the parameters of its sum, and, once needed, model and patients.

Loaded from the state folder alone; the server's word is never taken for any of it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from client.home import SiteHome
from client.journal import SiteJournal
from client.policy import SitePolicy, check_members, check_plan
from ssl_core.card import make_card, save_encoder
from ssl_core.chain import write_durably
from ssl_core.config import StudyPlan
from ssl_core.errors import PolicyError, StateError
from ssl_core.privacy.accountant import Schedule
from ssl_core.privacy.ledger import Ledger, Quote
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.site import SecureSumSite
from ssl_core.session import open_plan, sum_params
from ssl_core.trust.roster import Roster

if TYPE_CHECKING:
    from ssl_core.data.patients import Patients
    from ssl_core.objectives.base import PretextModel
    from ssl_core.privacy.training import OptimizerState


@dataclass(frozen=True)
class Study:
    """A federated study whose signed plan is stored at this site."""

    home: SiteHome
    plan_hash: str

    @property
    def folder(self) -> Path:
        """Where this site keeps the study."""
        return self.home.study(self.plan_hash)

    @cached_property
    def _signed(self) -> tuple[StudyPlan, Roster, str]:
        path = self.folder / "plan.json"
        if not path.is_file():
            raise StateError(
                "this site has not been invited to such a study",
                field="plan hash",
                value=self.plan_hash,
                remedy="choral site status lists the invitations",
            )
        roster, roster_digest = self.home.roster()
        plan, digest = open_plan(path.read_bytes(), bytes.fromhex(roster.server.operator))
        if digest != self.plan_hash:
            raise StateError("stored plan has another hash", field="plan hash", value=digest, limit=self.plan_hash)
        return plan, roster, roster_digest

    @property
    def plan(self) -> StudyPlan:
        """The signed plan."""
        return self._signed[0]

    @cached_property
    def nominal_size(self) -> int:
        """This site's declared size in the plan."""
        return self.plan.nominal_size(self.home.config.name)

    @cached_property
    def model(self) -> PretextModel:
        """The plan's encoder and head."""
        from ssl_core.objectives.build import build_model

        return build_model(self.plan)

    @cached_property
    def patients(self) -> Patients:
        """All records of this site, prepared as the plan declares; loaded once."""
        from ssl_core.data.source import load_patients, read_source

        return load_patients(read_source(self.home.source_path), self.plan.data)

    @cached_property
    def params(self) -> SumParams:
        """Computed from the plan and the roster, never from a message."""
        plan, roster, roster_digest = self._signed
        dimension = sum(p.numel() for p in self.model.parameters())
        return sum_params(plan, self.plan_hash, roster, roster_digest, dimension)

    @cached_property
    def secure_sum(self) -> SecureSumSite:
        """The site's end of the protocol over its durable journal."""
        journal = SiteJournal(self.home.chain, self.home.root / "keys" / self.plan_hash, self.plan_hash)
        return SecureSumSite(self.params, self.home.config.name, self.home.identity, journal)

    @property
    def schedule(self) -> Schedule:
        """What a RESERVE is for: every step, those of void rounds included."""
        privacy = self.plan.privacy
        return Schedule(privacy.noise_multiplier, privacy.sampling_rate, self.plan.total_steps)

    def quote(self) -> Quote:
        """What this study would cost at this site."""
        policy = self.home.policy
        ledger = Ledger(self.home.chain, max_epsilon=policy.max_epsilon, delta=policy.delta)
        return ledger.quote(self.schedule, self.plan.privacy.delta)

    def warm_up(self) -> None:
        """Load model and patients before the first round asks for them."""
        _ = self.model, self.patients

    def answered(self) -> int:
        """Rounds that this site started training for."""
        rounds = {e.body["round"] for e in self.home.chain.entries("commit") if e.body["study"] == self.plan_hash}
        return len(rounds)

    def optimizer_state(self, *, before: int) -> OptimizerState | None:
        """The state that the last round trained here left, void or not; else a fresh start."""
        from ssl_core.privacy.training import OptimizerState

        path = self._optimizer_path
        if not self.plan.training.keep_state or not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if int(arrays.pop("round")) >= before:
            return None
        return OptimizerState.from_arrays(arrays)

    def keep_optimizer_state(self, number: int, state: OptimizerState) -> None:
        """Durable, so that a restarted executor goes on; a function of noised gradients alone."""
        if not self.plan.training.keep_state:
            return
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, round=np.int64(number), **state.to_arrays())
        write_durably(self._optimizer_path, buffer.getvalue())

    @property
    def _optimizer_path(self) -> Path:
        # Beside the keys, out of backups: successive moments tell this site's own noised updates.
        return self.home.root / "keys" / self.plan_hash / "optimizer.npz"

    def keep_encoder(self, weights: npt.NDArray[np.float32], number: int) -> None:
        """Write the study's last global weights as an encoder of this site."""
        name = f"{self.plan.name}-{self.plan_hash[:8]}"
        folder = self.home.root / "encoders" / name
        if not folder.exists():
            rounds = self.plan.rounds.rounds
            card = make_card(self.plan, self.plan_hash, weights, kind="federated", closed=rounds, void=number - rounds)
            save_encoder(folder, weights, card)
        self._optimizer_path.unlink(missing_ok=True)

    def check(self) -> None:
        """Policy and membership; raises `PolicyError`."""
        plan = self.plan
        roster, roster_digest = self.home.roster()
        if plan.alone:
            raise PolicyError("a server never starts a study for one site alone", field="alone", value=True, limit=False)
        if self.home.config.name not in {site.name for site in plan.sites}:
            raise PolicyError("plan does not name this site", field="sites", value=self.home.config.name)
        check_plan(plan, self.home.policy)
        check_members(plan, self.home.policy, roster, roster_digest, self.home.accepted())

    def check_roster(self) -> None:
        """A roster that was accepted since, without a member perhaps, ends this study here; raises `PolicyError`."""
        if self.home.roster()[1] != self.plan.roster:
            raise PolicyError(
                "another roster was accepted since the plan was made",
                field="roster",
                value=self.plan.roster,
                limit=self.home.roster()[1],
                remedy="the operator launches a plan for the new roster",
            )

    def approved(self) -> bool:
        """Did a person or the policy rule approve exactly this plan?"""
        return any(e.body["plan"] == self.plan_hash for e in self.home.chain.entries("approval"))

    def approve(self, by: str) -> None:
        """RESERVE the whole schedule and record the approval in one transaction; raises `BudgetError`."""
        self.check()
        self.quote()  # the slow arithmetic, before the log is held
        with self.home.chain.transaction() as chain:
            reserve(self.home, self.plan_hash, self.plan, self.schedule, self.home.policy)
            if not self.approved():
                chain.append("approval", {"plan": self.plan_hash, "by": by})


def reserve(home: SiteHome, plan_hash: str, plan: StudyPlan, schedule: Schedule, policy: SitePolicy) -> None:
    """RESERVE at this site's ledger under its policy."""
    ledger = Ledger(home.chain, max_epsilon=policy.max_epsilon, delta=policy.delta)
    ledger.reserve(plan_hash, plan.name, schedule, plan.privacy.delta)


def store_plan(home: SiteHome, data: bytes) -> Study:
    """Verify a plan that came with an invitation and keep it; the same plan again changes nothing."""
    roster, _ = home.roster()
    _, plan_hash = open_plan(data, bytes.fromhex(roster.server.operator))
    study = Study(home, plan_hash)
    path = study.folder / "plan.json"
    if not path.is_file():
        study.folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, data)
    return study
