"""Before step 6: does changing one patient change another patient's gradient? A check on tested inputs (ruling 24).

Comes in: a study plan, the site's `SpeedSpec` (chunk, memory, engine, threads and device, as in training) and how it
declares its files. Two synthetic folders in that format, which differ in one patient, go through reader -> sampler ->
draw -> engine with the study's own model, on the device that the site trains on, in float32 as training is, under the
same coins. Asked:
  the reader gives every other patient the same records, bit by bit (synthetic_files.py);
  a batch is, to the model, the same as its units one by one, and the same again (alone.py);
  the same other units are sampled; each other unit's row differs by at most TOLERANCE of its norm
  (where that is less than the mean norm: of this);
  the clipped sums differ by at most the sensitivity that they state, C for a removed patient, 2 C for a changed one;
  a folder of twice as many patients changes nothing of this for those of the first.
TOLERANCE, 1e-5: a neighbour's absence changes the order in which float32 products are added. Half of the checks of honest
models found 2e-7 or less, one in some hundreds more than 1e-6 (where a row's own terms cancel), the worst of all 6e-6. Coupling
that is meant to matter is above 1e-3. (Ruling 24 has 1e-6: with it honest models are refused by chance.)
Not of this check: divisor and number of steps, which are the plan's constants (training.py and its tests).
The guarantee is the argument in objectives/base.py, gradients.py and bookkeeping.py; this check finds what breaks it on
such inputs. Raises `PrivacyError`; no real patient is read.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from operator import add
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.data.declared import Declared
from ssl_core.data.patients import Patients
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.objectives.build import build_model
from ssl_core.privacy.alone import check_alone
from ssl_core.privacy.engines import Engine
from ssl_core.privacy.gradients import Adjacency, ClippedSum, units_of
from ssl_core.privacy.machine import threads, training_device
from ssl_core.privacy.planner import Pace, choose_pace
from ssl_core.privacy.sampling import batches, draw_coins, group_count, poisson_sample
from ssl_core.privacy.synthetic import Kind, with_other_patient
from ssl_core.privacy.synthetic_files import SyntheticFolders, check_reader, default_source
from ssl_core.spec.data import EventData, TextData
from ssl_core.trust.random import UnitCoins

TOLERANCE = 1e-5
_RATE = 0.9
_MOST_ENTRIES = 1 << 25


@dataclass(frozen=True, slots=True)
class IsolationReport:
    """What was compared and the greatest values that were found; about synthetic patients only."""

    pairs: tuple[str, ...]
    units: int
    greatest_change: float
    greatest_contribution: float
    engine: str
    why: str


@dataclass(frozen=True, slots=True)
class _Run:
    """Sampled units as the engine met them, their rows float32 [B, P], and their views part by part."""

    units: tuple[str, ...]
    rows: Tensor
    views: tuple[Views, ...]

    def largest(self) -> tuple[Views, Tensor, str]:
        """The views of the part with the most units, their rows, and a unit that has others after it there, if any has."""
        ends = [*accumulate(units_of(views) for views in self.views)]
        views, end = max(zip(self.views, ends, strict=True), key=lambda part: units_of(part[0]))
        begin = end - units_of(views)
        return views, self.rows[begin:end], self.units[(begin + end - 1) // 2]


def check_isolation(
    plan: StudyPlan,
    *,
    speed: SpeedSpec,
    model: PretextModel | None = None,
    declared: Declared | None = None,
) -> IsolationReport:
    """Run all pairs for the plan's model (or `model`, which is moved); `greatest_contribution` is in units of C.

    Raises `ConfigError` when the site's device is not there, `PrivacyError` for what is demanded and does not hold.
    """
    device = training_device(speed)
    with threads(speed.threads):
        checked = build_model(plan) if model is None else model
        pace = choose_pace(checked, plan.data, speed, device)
        with tempfile.TemporaryDirectory(prefix="choral-") as folder:
            return _check(plan, pace, checked, Path(folder), declared or default_source(plan.data))


def _check(plan: StudyPlan, pace: Pace, model: PretextModel, root: Path, declared: Declared) -> IsolationReport:
    chunk, engine = pace.size, pace.engine
    size = sum(parameter.numel() for parameter in model.parameters())
    # Several groups where memory allows, some of them split, so that a removal moves units from part to part.
    count = max(4, min(2 * chunk + 5, _MOST_ENTRIES // size))
    folders = SyntheticFolders(root, plan.data, declared, count)
    patients = folders.base()
    coins = _coins(patients)
    base = _run(engine, model, patients, coins, chunk)
    _compare_again(base, _run(engine, model, patients, coins, chunk))
    views, rows, unit = base.largest()
    check_alone(model, views, rows)
    place = patients.units.index(unit)
    changed, contributed = 0.0, 0.0
    # What no reader gives is tried too: whatever the records are, another patient's row is none of their business.
    beyond: tuple[Kind, ...] = ("extreme",) if isinstance(plan.data, TextData | EventData) else ("extreme", "not finite")
    pairs = [*check_reader(folders, patients, unit)]
    pairs += [(f"{kind} in memory", with_other_patient(patients, place, plan.data, kind)) for kind in beyond]
    for what, other_patients in pairs:
        adjacency: Adjacency = "add-or-remove-one" if what == "removed" else "replace-one"
        other = _run(engine, model, other_patients, coins, chunk)
        changed = max(changed, _compare_rows(what, base, other, unit))
        for clip_norm in (plan.privacy.max_grad_norm, _tight(base.rows)):
            contributed = max(contributed, _compare_sums(what, base, other, engine, clip_norm, adjacency))
    _compare_size(base, _run(engine, model, folders.larger(), coins, chunk))
    return IsolationReport(tuple(what for what, _ in pairs), count, changed, contributed, engine.name, pace.why)


def _coins(patients: Patients) -> UnitCoins:
    """Coins that sample at least three units, so that there is one to change and others to look at."""
    while True:
        coins = UnitCoins.fresh()
        if len(poisson_sample(patients.tags, _RATE, coins)) >= 3:
            return coins


def _run(engine: Engine, model: PretextModel, patients: Patients, coins: UnitCoins, chunk: int) -> _Run:
    device = next(model.parameters()).device
    sample = poisson_sample(patients.tags, _RATE, coins)
    groups = group_count(_RATE, 2 * chunk, chunk)
    rows, seen, units = [], [], []
    for index in batches(sample, patients.tags[sample], coins, groups=groups, size=chunk):
        units += [patients.units[i] for i in index]
        views = model.draw(patients, index, draw_coins(patients.tags[index], coins, model.coins))
        seen.append({name: view.to(device) for name, view in views.items()})
        rows.append(torch.cat([row.reshape(len(index), -1) for row in engine.rows(seen[-1])], dim=1))
    return _Run(tuple(units), torch.cat(rows), tuple(seen))


def _compare_again(base: _Run, again: _Run) -> None:
    if not _same(base.rows, again.rows):
        raise PrivacyError(
            "the same patients again give other gradients: the model remembers earlier ones, or draws coins of its own",
            field="repeated batch",
            limit=TOLERANCE,
            remedy="keep no queue, memory bank or running statistic of units; take randomness from the unit's coins",
        )


def _compare_size(base: _Run, larger: _Run) -> None:
    place = {unit: number for number, unit in enumerate(larger.units)}
    mine = [unit for unit in larger.units if unit in set(base.units)]
    if mine != list(base.units) or not _same(base.rows, larger.rows[[place[unit] for unit in base.units]]):
        raise PrivacyError(
            "the number of patients changes a patient's gradient, or whether he is sampled",
            field="folder of twice as many patients",
            limit=TOLERANCE,
            remedy="let nothing depend on the size of the data set: it is as private as the patients",
        )


def _same(mine: Tensor, theirs: Tensor) -> bool:
    return bool((_differences(mine, theirs) <= TOLERANCE).all())


def _differences(mine: Tensor, theirs: Tensor) -> Tensor:
    """float64 [B]: how far rows float32 [B, P] are apart, in the norm of `mine` or, where that is more, the mean norm.

    What a row loses to rounding is a share of what was added up to it, also where that is nearly zero by chance.
    """
    norms = mine.double().norm(dim=1)
    differences = (mine.double() - theirs.double()).norm(dim=1)
    return torch.where(differences == 0, 0.0, differences / norms.clamp(min=float(norms.mean())))


def _compare_rows(what: str, base: _Run, other: _Run, victim: str) -> float:
    mine = [i for i, unit in enumerate(base.units) if unit != victim]
    theirs = [i for i, unit in enumerate(other.units) if unit != victim]
    if [base.units[i] for i in mine] != [other.units[i] for i in theirs]:
        raise PrivacyError("changing one patient changes who else is sampled", field="pair", value=what)
    worst = float(_differences(base.rows[mine], other.rows[theirs]).max())
    if not worst <= TOLERANCE:
        raise PrivacyError(
            "changing one patient changes another patient's gradient",
            field=f"pair with one patient {what}",
            value=f"{worst:.1e} of its norm",
            limit=TOLERANCE,
            remedy="the objective couples patients; it cannot be trained privately as it is",
        )
    return worst


def _compare_sums(what: str, base: _Run, other: _Run, engine: Engine, clip_norm: float, adjacency: Adjacency) -> float:
    sums: list[ClippedSum] = []
    for run in (base, other):
        parts = (engine.clipped_sum(views, clip_norm) for views in run.views)
        sums.append(reduce(add, parts))
    apart = [mine - theirs for mine, theirs in zip(sums[0].grads, sums[1].grads, strict=True)]
    difference = float(torch.stack([part.norm() for part in apart]).norm())
    bound = sums[0].sensitivity(adjacency)
    if not difference <= bound:
        raise PrivacyError(
            "one patient changes the clipped sum by more than its sensitivity",
            field=f"pair with one patient {what}",
            value=f"{difference / clip_norm:.6f} C",
            limit=f"{bound / clip_norm:g} C",
        )
    return difference / clip_norm


def _tight(rows: Tensor) -> float:
    """A clipping norm that binds for most rows."""
    norms: npt.NDArray[np.float64] = rows.double().norm(dim=1).cpu().numpy()
    return max(float(np.median(norms)) / 8, 1e-6)
