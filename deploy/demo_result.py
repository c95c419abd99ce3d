"""What a demo run found, as plain values: the one input of the printed table and of the HTML report.

AUROC is macro-averaged over finding groups, one number a label draw; draws are shared between the arms of a site.
Epsilon is per patient, add-or-remove-one, at `delta`. `to_json` and `from_json` are exact inverses; a file with a
missing, unknown or wrong field is refused with `ConfigError`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from ssl_core.errors import ConfigError
from ssl_core.evaluation.label_efficiency import Arm, Interval, paired_difference

_strict = with_config(ConfigDict(extra="forbid", allow_inf_nan=False))


@_strict
@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One arm at one label budget: macro AUROC of each draw."""

    arm: Arm
    budget: int
    auroc: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)]


@_strict
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOutcome:
    """One site; `epsilon_total` by the rule of its ledger over both studies. `short`: groups with too few of a class."""

    name: str
    nominal_size: int
    scores: tuple[Scores, ...]
    epsilon_federated: float
    epsilon_own: float
    epsilon_total: float
    epsilon_limit: float
    bytes_out: int
    short: tuple[str, ...] = ()

    def draws(self, arm: Arm, budget: int) -> tuple[float, ...]:
        """Scores of one arm at one budget, in draw order; empty where it was not run."""
        return next((s.auroc for s in self.scores if s.arm == arm and s.budget == budget), ())


@_strict
@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTime:
    """One phase of the run and its seconds."""

    name: str
    seconds: float


@_strict
@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """Everything the table and the report say.

    `simulated_sites`: the sites are parts of one hospital's data set. `warm`: both arms begin from prepared weights.
    """

    release: str
    plan_hash: str
    modality: Literal["text", "image", "signal", "table", "sound", "events", "pair"]
    procedural: bool
    simulated_sites: bool
    warm: bool
    delta: float
    ledger_rule: str
    noise_multiplier: float
    sampling_rate: float
    max_grad_norm: float
    rounds_closed: int
    rounds_void: int
    steps_per_round: int
    phases: tuple[PhaseTime, ...]
    sites: Annotated[tuple[SiteOutcome, ...], Field(min_length=1)]
    source: str
    citation: str
    terms: str
    machine: str
    software: str
    seed: int

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Arms that every site has, in the order of `Arm`."""
        return tuple(arm for arm in Arm if all(any(s.arm == arm for s in site.scores) for site in self.sites))

    @property
    def budgets(self) -> tuple[int, ...]:
        """Budgets at which every site has every arm, ascending."""
        every = sorted({s.budget for site in self.sites for s in site.scores})
        return tuple(b for b in every if all(site.draws(arm, b) for site in self.sites for arm in self.arms))

    @property
    def seconds(self) -> float:
        """Sum of all phases."""
        return math.fsum(phase.seconds for phase in self.phases)

    def averaged(self, arm: Arm, budget: int) -> tuple[float, ...]:
        """Mean over sites, draw by draw: draw k of every site belongs together, so differences stay paired."""
        rows = [site.draws(arm, budget) for site in self.sites]
        return tuple(math.fsum(values) / len(values) for values in zip(*rows, strict=True))

    def difference(self, first: Arm, second: Arm, budget: int) -> Interval:
        """first minus second, averaged over sites, with its paired interval over the draws."""
        return paired_difference(self.averaged(first, budget), self.averaged(second, budget))

    def to_json(self) -> str:
        """Indented JSON."""
        return _ADAPTER.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str) -> DemoResult:
        """The inverse; `ConfigError` names the first field at fault."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(map(str, fault["loc"])) or "file"
            raise ConfigError(f"demo result is not valid: {fault['msg']}", field=place) from error


_ADAPTER: TypeAdapter[DemoResult] = TypeAdapter(DemoResult)


_LABELS: Mapping[Arm, str] = {
    Arm.RANDOM: "random encoder",
    Arm.SCRATCH: "supervised from scratch",
    Arm.OWN: "own private encoder",
    Arm.OWN_TUNED: "fine-tuned own private encoder",
    Arm.FEDERATED: "federated private encoder",
    Arm.FEDERATED_TUNED: "fine-tuned federated encoder",
}


def arm_label(arm: Arm, modality: str) -> str:
    """How an arm is called in table and report."""
    floors = {"text": "bag of words", "image": "pixels", "signal": "power spectrum", "table": "columns"}
    floors |= {"sound": "band levels", "events": "counts", "pair": "pixels and words"}
    raw = floors[modality]
    if arm is Arm.FLOOR:
        return f"raw floor: {raw}"
    return f"{raw} + federated" if arm is Arm.COMBINED else _LABELS[arm]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Does `arm` beat the floor at `budget`, averaged over sites? `sure`: the paired interval excludes zero."""

    arm: Arm
    budget: int
    gap: Interval

    @property
    def sure(self) -> bool:
        """The interval does not contain zero."""
        return side(self.gap) != 0


def verdicts(result: DemoResult) -> tuple[Verdict, ...]:
    """Every arm but the floor against the floor, at every budget."""
    return tuple(
        Verdict(arm, budget, result.difference(arm, Arm.FLOOR, budget))
        for arm in result.arms
        if arm is not Arm.FLOOR
        for budget in result.budgets
    )


def start_in_words(result: DemoResult) -> str:
    """What a warm start means for the arms; empty where they begin from the seed."""
    if not result.warm:
        return ""
    line = (
        "The federated and the own encoders begin from weights pretrained on generated data, which costs no epsilon; the "
        "random encoder and training from scratch do not."
    )
    same = " Here the same generator made the patients, which flatters that start." if result.procedural else ""
    return line + same


def side(gap: Interval) -> int:
    """1 above zero, -1 below, 0 where the interval holds zero; of three decimals, as printed: a gain of .0003 is none."""
    return 1 if round(gap.low, 3) > 0 else -1 if round(gap.high, 3) < 0 else 0


def signed(gap: Interval) -> str:
    """'+.012 [+.008, +.016]'."""
    return f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]".replace("0.", ".")


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of one or more numbers."""
    return math.fsum(values) / len(values)
