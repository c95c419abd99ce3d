"""One study at one site: the verified plan, the parameters of its sum, and, once needed, model and patients.

Loaded from the state folder alone; the server's word is never taken for any of it. The declared files are read before
the approval and never after it: every round trains on the site's own copy of what was checked (ruling 15).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from client.budget import cohort_of, include, include_again, site_ledger
from client.global_model import ModelFile
from client.home import SiteHome
from client.journal import SiteJournal, closed_rounds
from client.kept import KeptRecords
from client.policy import check_members, check_plan
from ssl_core.card import make_card, save_encoder
from ssl_core.chain import write_durably
from ssl_core.config import StudyPlan
from ssl_core.errors import PolicyError, StateError, TrustError
from ssl_core.privacy.accountant import Schedule
from ssl_core.privacy.ledger import Quote
from ssl_core.secure_sum.history import History
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.site import SecureSumSite
from ssl_core.session import open_plan, sum_params
from ssl_core.trust.envelope import canonical, digest, peek
from ssl_core.trust.roster import Roster

if TYPE_CHECKING:
    from ssl_core.data.check import CheckedRecords
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

    @property
    def _stored(self) -> bytes:
        path = self.folder / "plan.json"
        if not path.is_file():
            raise StateError(
                "this site has not been invited to such a study",
                field="plan hash",
                value=self.plan_hash,
                remedy="choral site status lists the invitations",
            )
        return path.read_bytes()

    @cached_property
    def _signed(self) -> tuple[StudyPlan, Roster, str]:
        roster, roster_digest = self.home.roster()
        plan, found = open_plan(self._stored, bytes.fromhex(roster.server.operator))
        if found != self.plan_hash:
            raise StateError("stored plan has another hash", field="plan hash", value=found, limit=self.plan_hash)
        return plan, roster, roster_digest

    def outlived(self) -> tuple[str, str] | None:
        """(name, why) when a roster was accepted that ends this study here, None when it can go on.

        The plan was verified when it was stored, and its hash still tells that nothing of it was changed, so its name may
        be shown even where its signature no longer counts. Raises `TrustError` for a plan file that was damaged.
        """
        body = peek(self._stored, "plan")
        if body.get("roster") == self.home.roster()[1]:
            return None
        try:
            return self.plan.name, "made for an earlier roster"
        except TrustError:
            if digest(canonical(body)) != self.plan_hash:
                raise
            return str(body["name"]), "signed by a key that is no longer in the roster"

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
    def checked(self) -> CheckedRecords:
        """The declared files, read once, and checked; raises `DataError`. Only for an approval that is being made."""
        from ssl_core.data.check import check_and_load
        from ssl_core.data.source import read_source

        return check_and_load(read_source(self.home.source_path), self.plan.data, self.home.effort)

    @cached_property
    def cohort(self) -> str:
        """The cohort of patients that this study is charged to."""
        return cohort_of(self.home, self.plan_hash)

    @property
    def kept_records(self) -> KeptRecords:
        """This site's copy of the records that were approved for the study."""
        return KeptRecords(self._keys)

    @property
    def patients(self) -> Patients:
        """The records as they were checked and approved, every one of them looked at.

        Raises `StateError` where no copy is left, or one is damaged: asked for anew by each round, before it begins.
        """
        return self.kept_records.read(self.plan.data)

    @cached_property
    def params(self) -> SumParams:
        """Computed from the plan and the roster, never from a message."""
        plan, roster, roster_digest = self._signed
        dimension = sum(p.numel() for p in self.model.parameters())
        return sum_params(plan, self.plan_hash, roster, roster_digest, dimension)

    @cached_property
    def history(self) -> History:
        """The global model, as this site recomputes it round by round."""
        initial = bytes.fromhex(self.plan.initial_weights or "")
        self.model_file.sweep()
        return History(self.params, self.plan.aggregation, initial, self.model_file)

    @cached_property
    def secure_sum(self) -> SecureSumSite:
        """The site's end of the protocol over its durable journal."""
        journal = SiteJournal(self.home.chain, self._keys, self.plan_hash)
        return SecureSumSite(self.params, self.home.config.name, self.home.identity, journal, self.history)

    @property
    def schedule(self) -> Schedule:
        """What a RESERVE is for: every step, those of void rounds included."""
        privacy = self.plan.privacy
        return Schedule(privacy.noise_multiplier, privacy.sampling_rate, self.plan.total_steps)

    def quote(self) -> Quote:
        """What this study would cost at this site."""
        return site_ledger(self.home, self.cohort).quote(self.schedule, self.plan.privacy.delta)

    def admit(self) -> None:
        """Policy, membership and budget, before anything slow; raises `PolicyError`, `BudgetError`."""
        self.check()
        site_ledger(self.home, self.cohort).admit(self.plan_hash, self.schedule, self.plan.privacy.delta)

    def answered(self) -> int:
        """Rounds that this site started training for."""
        return len({e.body["round"] for e in self.home.chain.entries("commit") if e.body["study"] == self.plan_hash})

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
    def _keys(self) -> Path:
        return self.home.root / "keys" / self.plan_hash

    @property
    def model_file(self) -> ModelFile:
        """The file of the global model, as this site recomputed it."""
        return ModelFile(self.folder / "model.safetensors")

    @property
    def _optimizer_path(self) -> Path:
        # Beside the keys, out of backups: successive moments tell this site's own noised updates.
        return self._keys / "optimizer.npz"

    def finish(self, number: int) -> None:
        """Write the study's last global weights as an encoder of this site; nothing is trained in it any more."""
        weights = self.history.weights
        if not self.finished:
            rounds = self.plan.rounds.rounds
            card = make_card(self.plan, self.plan_hash, weights, kind="federated", closed=rounds, void=number - rounds)
            save_encoder(self._encoder, weights, card)
        self.forget()

    @property
    def finished(self) -> bool:
        """Did the study give its encoder here?"""
        return self._encoder.exists()

    @property
    def _encoder(self) -> Path:
        return self.home.root / "encoders" / f"{self.plan.name}-{self.plan_hash[:8]}"

    @property
    def leftovers(self) -> bool:
        """Is there anything that `forget` would delete?"""
        return self.kept_records.kept or self._optimizer_path.is_file() or self.model_file.kept

    def forget(self) -> None:
        """Delete what only a round needs: the copy of the records, the optimizer's state and the global model's file."""
        self.model_file.drop()
        self._optimizer_path.unlink(missing_ok=True)
        self.kept_records.drop()

    def check(self) -> None:
        """Policy and membership; raises `PolicyError`."""
        plan = self.plan
        roster, roster_digest = self.home.roster()
        if plan.alone:
            raise PolicyError("a server never starts a study for one site alone", field="alone", value=True, limit=False)
        if self.home.config.name not in {site.name for site in plan.sites}:
            raise PolicyError("plan does not name this site", field="sites", value=self.home.config.name)
        check_plan(plan, self.home.policy, self.home.config.name)
        check_members(plan, self.home.policy, roster, roster_digest, self.home.accepted())

    def check_roster(self) -> None:
        """A roster that was accepted since, without a member perhaps, ends this study here; raises `PolicyError`."""
        if self.home.roster()[1] != self.plan.roster:
            raise PolicyError(
                "another roster was accepted since the plan was made", field="roster", value=self.plan.roster,
                limit=self.home.roster()[1], remedy="the operator launches a plan for the new roster",
            )  # fmt: skip

    def approved(self) -> bool:
        """Did a person or the policy rule approve exactly this plan?"""
        return any(e.body["plan"] == self.plan_hash for e in self.home.chain.entries("approval"))

    def approve(self, by: str, *, different_people: bool = False) -> None:
        """Keep a copy of the checked records, then RESERVE and record the approval in one transaction.

        different_people: a person said that patients' ids which differ in spelling alone are of different people; a rule
        cannot. Raises `PolicyError`, `BudgetError`, `DataError`, `StateError`; approved again, nothing is read or changed.
        """
        self.admit()
        if self.approved():
            return
        reservation = (self.plan_hash, self.plan.name, self.schedule, self.plan.privacy.delta)
        with self.kept_records.draft(self.checked.patients) as draft:
            units = include(self.home, self.plan_hash, self.cohort, self.checked.patients, different_people=different_people)
            with site_ledger(self.home, self.cohort).reserving(*reservation, units=units):
                if not self.approved():
                    draft.keep()
                    self.home.chain.append("approval", {"plan": self.plan_hash, "by": by})

    @property
    def lost_records(self) -> bool:
        """Was this study approved, not ended by its log (an encoder may be moved), and its copy of the records lost since?"""
        left = self.plan.rounds.rounds - closed_rounds(self.home.chain, self.plan_hash)
        return self.approved() and left > 0 and self.outlived() is None and not self.kept_records.kept

    def copy_records_again(self, *, different_people: bool = False) -> None:
        """Check the declared data anew and copy them, after the copy was lost; nothing is charged. Raises `DataError`."""
        with self.kept_records.draft(self.checked.patients) as draft:
            include_again(self.home, self.plan_hash, self.cohort, self.checked.patients, different_people=different_people)
            draft.keep()


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
