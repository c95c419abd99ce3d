"""Before step 6, for tasks that compare patients: is one patient in one bucket's gradient, and in no other's? (ruling 24)

Comes in: the made-up folders of isolation.py, the study's model and its engine. Rows are those of buckets, float32 [P].
Asked, with one patient removed, changed, emptied, longest, extreme:
  the same other units are sampled and fall into the same buckets; the patient is in exactly one bucket, where he is at all;
  every bucket without him has the same row, to TOLERANCE: same units, same shapes, so on a processor bit by bit;
  the clipped sums differ by at most the sensitivity that they state, 2 C for a removed patient, 4 C for a changed one;
  a bucket's row is that of an ordinary backward pass, and the buckets in reverse order give the same rows again, the round
  begun anew: nothing is remembered from one to the next;
  and nothing is kept for later: a pass changes no value that the model holds, and draws no coins (traces.py);
  a folder of twice as many patients changes, at the same number of buckets, nobody's bucket, and not the row of a
  bucket of the same units.
The guarantee is the argument in buckets.py. Raises `PrivacyError`; no real patient is read.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ssl_core.config import StudyPlan
from ssl_core.data.patients import Patients
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import BucketModel, Views
from ssl_core.privacy.apart import TOLERANCE, compare_sums, differences, same, sum_of, tight
from ssl_core.privacy.engines import Engine
from ssl_core.privacy.gradients import Adjacency
from ssl_core.privacy.planner import Index
from ssl_core.privacy.sampling import buckets, draw_coins, poisson_sample
from ssl_core.privacy.synthetic_files import SyntheticFolders, every_pair
from ssl_core.privacy.traces import Traces
from ssl_core.trust.random import UnitCoins

UNITS = 24
"""Made-up patients: some seven in each bucket."""

_RATE, _COUNT, _LEAST, _TRIES = 0.9, 3, 3, 1000


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared: the pairs, the greatest relative change of a row, the greatest change of the sum in units of C."""

    pairs: tuple[str, ...]
    changed: float
    contributed: float


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Its units in their order, the engine's row for them, float32 [P], and their views."""

    units: tuple[str, ...]
    row: Tensor
    views: Views

    def without(self, unit: str) -> tuple[str, ...]:
        return tuple(other for other in self.units if other != unit)


_Run = dict[int, _Bucket]


def check_buckets(plan: StudyPlan, engine: Engine, model: BucketModel, folders: SyntheticFolders) -> Comparison:
    """Run all pairs; `PrivacyError` for what is demanded and does not hold."""
    patients = folders.base()
    coins = _coins(patients)
    runs = []
    for backwards in (False, True):
        model.start_round()
        traces = Traces(model, patients)
        runs.append(_run(engine, model, patients, coins, traces, backwards=backwards))
    base = runs[0]
    _compare_again(*runs)
    largest = max(base.values(), key=lambda bucket: len(bucket.units))
    with traces.none_of("a loss"):
        _check_row(model, largest)
    victim = largest.units[len(largest.units) // 2]
    pairs = every_pair(folders, patients, victim)
    changed, contributed = 0.0, 0.0
    clip_norms = (plan.privacy.max_grad_norm, tight(torch.stack([bucket.row for bucket in base.values()])))
    seen: list[tuple[str, list[Views]]] = []
    for what, other_patients in pairs:
        with traces.none_of("a pass"):
            other = _run(engine, model, other_patients, coins)
        changed = max(changed, _compare_rows(what, base, other, victim))
        seen.append((what, [bucket.views for bucket in other.values()]))
    with traces.none_of("a pass"):
        for clip_norm in clip_norms:
            mine = sum_of([bucket.views for bucket in base.values()], engine, clip_norm)
            for what, views in seen:
                adjacency: Adjacency = "add-or-remove-one" if what == "removed" else "replace-one"
                contributed = max(contributed, compare_sums(what, mine, sum_of(views, engine, clip_norm), adjacency))
        _compare_size(base, folders.larger(), coins, partial(_bucket, engine, model))
    return Comparison(tuple(what for what, _ in pairs), changed, contributed)


def _coins(patients: Patients) -> UnitCoins:
    """Coins that give two buckets or more, one of which has at least three units."""
    for _ in range(_TRIES):
        coins = UnitCoins.fresh()
        sizes = [len(part) for _, part in _parts(patients, coins)]
        if len(sizes) >= 2 and max(sizes) >= _LEAST:
            return coins
    raise PrivacyError("no coins give two buckets, three units in one of them", field="bucket", limit=_TRIES)


def _parts(patients: Patients, coins: UnitCoins) -> list[tuple[int, Index]]:
    sample = poisson_sample(patients.tags, _RATE, coins)
    return list(buckets(sample, patients.tags[sample], coins, count=_COUNT))


def _run(
    engine: Engine,
    model: BucketModel,
    patients: Patients,
    coins: UnitCoins,
    traces: Traces | None = None,
    *,
    backwards: bool = False,
) -> _Run:
    parts = _parts(patients, coins)
    if backwards:
        parts = parts[::-1]
    found = {number: _bucket(engine, model, patients, coins, index, traces) for number, index in parts}
    return dict(sorted(found.items()))


def _bucket(
    engine: Engine, model: BucketModel, patients: Patients, coins: UnitCoins, index: Index, traces: Traces | None = None
) -> _Bucket:
    """traces: where the draw and the gradient are to be looked at by themselves."""
    device = next(model.parameters()).device
    with traces.none_of("a draw") if traces else nullcontext():
        drawn = model.draw(patients, index, draw_coins(patients.tags[index], coins, model.coins))
    views = {name: view.to(device) for name, view in drawn.items()}
    with traces.none_of("a gradient") if traces else nullcontext():
        rows = torch.cat([row.reshape(len(row), -1) for row in engine.rows(views)], dim=1)
    if len(rows) != 1:
        raise PrivacyError("a bucket has another number of rows than one", field="rows", value=len(rows), limit=1)
    return _Bucket(tuple(patients.units[place] for place in index), rows[0], views)


def _compare_again(base: _Run, again: _Run) -> None:
    mine, theirs = (torch.stack([bucket.row for bucket in run.values()]) for run in (base, again))
    if not same(mine, theirs):
        raise PrivacyError(
            "the same buckets in another order give other gradients: the model remembers earlier ones, or has coins of its own",
            field="repeated buckets",
            limit=TOLERANCE,
            remedy="keep no queue, memory bank or running statistic of units; take randomness from the unit's coins",
        )


def _check_row(model: BucketModel, bucket: _Bucket) -> None:
    parameters = list(model.parameters())
    found = torch.autograd.grad(model(bucket.views), parameters, allow_unused=True)
    flat = [(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in zip(parameters, found, strict=True)]
    if not same(torch.cat(flat)[None], bucket.row[None]):
        raise PrivacyError(
            "the row of a bucket is not its gradient",
            field="a synthetic bucket",
            limit=TOLERANCE,
            remedy="the engine does not fit this model: report it",
        )


def _compare_rows(what: str, base: _Run, other: _Run, victim: str) -> float:
    mine, theirs = ({number: bucket.without(victim) for number, bucket in run.items()} for run in (base, other))
    if {number: units for number, units in mine.items() if units} != {
        number: units for number, units in theirs.items() if units
    }:
        raise PrivacyError("changing one patient changes who else is sampled, or in which bucket", field="pair", value=what)
    where = [[number for number, bucket in run.items() if victim in bucket.units] for run in (base, other)]
    if len(where[0]) != 1 or where[1] != ([] if what == "removed" else where[0]):
        raise PrivacyError("one patient is not in exactly one bucket, by his own coin", field="pair", value=what)
    numbers = [number for number in base if number not in where[0]]
    rows, others = (torch.stack([run[number].row for number in numbers]) for run in (base, other))
    worst = float(differences(rows, others).max())
    if not worst <= TOLERANCE:
        raise PrivacyError(
            "changing one patient changes the gradient of a bucket that he is not in",
            field=f"pair with one patient {what}",
            value=f"{worst:.1e} of its norm",
            limit=TOLERANCE,
            remedy="the objective couples buckets; it cannot be trained privately as it is",
        )
    return worst


def _compare_size(base: _Run, larger: Patients, coins: UnitCoins, bucket_of: partial[_Bucket]) -> None:
    place = {unit: number for number, unit in enumerate(larger.units)}
    known = {unit for bucket in base.values() for unit in bucket.units}
    found = {number: tuple(larger.units[i] for i in part) for number, part in _parts(larger, coins)}
    theirs = {number: tuple(unit for unit in units if unit in known) for number, units in found.items()}
    again = {
        number: bucket_of(larger, coins, torch.tensor([place[unit] for unit in bucket.units]).numpy())
        for number, bucket in base.items()
    }
    rows, others = (torch.stack([bucket.row for bucket in run.values()]) for run in (base, again))
    if any(theirs.get(number) != bucket.units for number, bucket in base.items()) or not same(rows, others):
        raise PrivacyError(
            "the number of patients changes a patient's bucket, whether he is sampled, or his bucket's gradient",
            field="folder of twice as many patients",
            limit=TOLERANCE,
            remedy="let nothing depend on the size of the data set: it is as private as the patients",
        )
