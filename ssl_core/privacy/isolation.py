"""Before step 6: does changing one patient change another patient's gradient? A check on tested inputs (ruling 24).

Comes in: a study plan, the site's `SpeedSpec` (chunk, memory, engine, threads and device, as in training) and how it
declares its files. Two synthetic folders in that format, which differ in one patient, go through reader -> sampler ->
draw -> engine with the study's own model, on the device that the site trains on, in float32, under the same coins. Asked:
  the reader gives every other patient the same records, bit by bit (synthetic_files.py);
  a batch is, to the model, the same as its units one by one (alone.py), and the same again when the round begins anew;
  a pass leaves nothing behind in the model, for whatever use later, and draws no coins of its own (traces.py);
  the same other units are sampled; each other unit's row differs by at most TOLERANCE of its norm
  (where that is less than the usual norm, `differences` of apart.py: of this);
  the clipped sums differ by at most the sensitivity that they state, C for a removed patient, 2 C for a changed one;
  in a batch as full as training's, of which memory need not hold the rows, nobody changes another's part (full_batch.py);
  a folder of twice as many patients changes nothing of this for those of the first.
Passes have the shapes of training (shapes.py).
Where the site trains in bfloat16, all of this is asked in float32 first: what the model does, it does there as well; a batch
against its units one by one is looked at there alone, since of bfloat16 they differ by honest rounding. Then all the rest is
asked again of the engine as it trains, in passes of the one shape in which it trains: TOLERANCE holds there, too, because a
patient's absence changes no shape (bookkeeping.py). And fixed_shape.py fills that shape and asks for equal bits. What is so
shown: on these inputs, in this shape, on this machine nobody's row depends on who else is in the batch, nor on the own
place in it. Not shown: other weights, records and coins; what begins beyond a full batch, which is the physical one or, if that
is less, the nominal size; and how exact bfloat16 is, on which no promise rests.
For a task that compares the patients of a bucket, rows are those of buckets: isolation_buckets.py has what is asked then.
TOLERANCE, 1e-5, is for a batch beside its units one by one, which float32 adds in another order; in shapes of equal bits
nothing was found (232 checks). Outside of them half of honest models had 2e-7 or less, one in some hundreds more than 1e-6
(where a row's own terms cancel), the worst 6e-6. Coupling that is meant to matter is above 1e-3. (Ruling 24 has 1e-6.)
Not of this check: divisor and number of steps, which are the plan's constants (training.py and its tests).
The guarantee is the argument in objectives/base.py, gradients.py, bookkeeping.py and buckets.py; this check finds what breaks
it on such inputs. Raises `PrivacyError`; no real patient is read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.data.declared import Declared
from ssl_core.data.patients import Patients
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import BucketModel, PretextModel, Views
from ssl_core.objectives.build import build_model
from ssl_core.privacy.alone import check_alone
from ssl_core.privacy.apart import TOLERANCE, compare_sums, differences, same, sum_of, tight
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import Engine
from ssl_core.privacy.fixed_shape import check_fixed_shape
from ssl_core.privacy.full_batch import check_full_batch
from ssl_core.privacy.gradients import Adjacency
from ssl_core.privacy.isolation_buckets import UNITS, check_buckets
from ssl_core.privacy.machine import keep_freed_memory, threads, training_device
from ssl_core.privacy.planner import Index, Pace, choose_pace
from ssl_core.privacy.sampling import batches, draw_coins, group_count, poisson_sample
from ssl_core.privacy.shapes import greatest, shapes_of
from ssl_core.privacy.synthetic_files import SyntheticFolders, default_source, every_pair
from ssl_core.privacy.traces import Traces
from ssl_core.trust.random import UnitCoins

_RATE = 0.9
_MOST_ENTRIES = 1 << 25
# Of four patients, the fewest there are, one try in seven fails.
_TRIES = 1000


@dataclass(frozen=True, slots=True)
class IsolationReport:
    """What was compared and the greatest values that were found; about synthetic patients only."""

    pairs: tuple[str, ...]
    units: int
    greatest_change: float
    greatest_contribution: float
    pace: Pace
    fewer: str = ""

    @property
    def engine(self) -> str:
        """The name of the engine that was checked."""
        return self.pace.engine.name

    @property
    def why(self) -> str:
        """Why this engine, precision and size, and why passes are of fewer patients, for people."""
        return self.pace.why + self.fewer


@dataclass(frozen=True, slots=True)
class _Run:
    """Sampled units as the engine met them, and part by part their rows float32 [b, P] and their views."""

    units: tuple[str, ...]
    parts: tuple[Tensor, ...]
    views: tuple[Views, ...]

    @property
    def rows(self) -> list[Tensor]:
        """The row of each unit, float32 [P]."""
        return [row for part in self.parts for row in part]

    def largest(self) -> tuple[Views, Tensor, str]:
        """The views of the part with the most units, their rows, and a unit that has others after it there, if any has."""
        ends = [*accumulate(len(part) for part in self.parts)]
        views, rows, end = max(zip(self.views, self.parts, ends, strict=True), key=lambda part: len(part[1]))
        return views, rows, self.units[(2 * end - len(rows) - 1) // 2]


def check_isolation(
    plan: StudyPlan,
    *,
    speed: SpeedSpec,
    model: PretextModel | None = None,
    declared: Declared | None = None,
    nominal_size: int | None = None,
) -> IsolationReport:
    """Run all pairs for the plan's model (or `model`, which is moved); `greatest_contribution` is in units of C.

    nominal_size: the site's own, on which the shape of passes in bfloat16 depends; None: the plan's largest.
    Raises `ConfigError` when the site's device is not there, `PrivacyError` for what is demanded and does not hold.
    """
    device = training_device(speed)
    keep_freed_memory()
    with threads(speed.threads):
        checked = build_model(plan) if model is None else model
        pace = choose_pace(checked, plan.data, speed, device)
        with tempfile.TemporaryDirectory(prefix="choral-") as folder:
            nominal = nominal_size or max(site.nominal_size for site in plan.sites)
            return _check(plan, pace, nominal, checked, Path(folder), declared or default_source(plan.data))


def _check(plan: StudyPlan, pace: Pace, nominal: int, model: PretextModel, root: Path, declared: Declared) -> IsolationReport:
    if isinstance(model, BucketModel):
        of = check_buckets(plan, pace.engine, model, SyntheticFolders(root, plan.data, declared, UNITS))
        return IsolationReport(of.pairs, UNITS, of.changed, of.contributed, pace)
    engine, chunk, coupled = _first(model, plan, pace, nominal)
    size = sum(parameter.numel() for parameter in model.parameters())
    # Several groups where memory allows, some of them split, so that a removal moves units from part to part.
    count = max(4, min(2 * chunk + 5, _MOST_ENTRIES // size))
    folders = SyntheticFolders(root, plan.data, declared, count)
    patients = folders.base()
    coins = _coins(patients, chunk)
    base, traces, run = _twice(engine, model, coins, chunk, patients)
    views, rows, unit = base.largest()
    with traces.none_of("a loss"):
        check_alone(model, views, rows)
    pairs, larger = every_pair(folders, patients, unit), folders.larger()
    clip_norms = (plan.privacy.max_grad_norm, tight(base.rows))
    found = _compare_all(engine, run, base, pairs, larger, unit, clip_norms)
    with traces.none_of("a full batch"):
        check_full_batch(model, engine, patients, min(chunk, nominal), clip_norms[1])
    if pace.precision != "float32":
        check_fixed_shape(BookkeepingEngine(model, pace.precision), chunk, views, clip_norms[1])
        engine = pace.within((chunk,))
        base, traces, run = _twice(engine, model, coins, chunk, patients)
        found = _compare_all(engine, run, base, pairs, larger, unit, clip_norms)
    traces.look("a sum")
    if coupled is not None:
        raise coupled
    few = pace.precision == "float32" and chunk < greatest(plan, pace, nominal)
    fewer = f" Of more than {chunk} at once places round differently here, so no pass has more." if few else ""
    return IsolationReport(tuple(what for what, _ in pairs), count, *found, pace, fewer)


def _first(model: PretextModel, plan: StudyPlan, pace: Pace, nominal: int) -> tuple[Engine, int, PrivacyError | None]:
    """What is looked at first, whatever the site trains in: an engine in float32, and the most units of a pass.

    Where no shapes can be found since the model couples patients: as it is, and the error, for what does so has a better name.
    """
    if pace.precision != "float32":
        return BookkeepingEngine(model), pace.room(plan.privacy.sampling_rate, nominal), None
    try:
        shapes = shapes_of(model, plan, pace, nominal)
    except PrivacyError as error:
        return pace.engine, pace.size, error
    return pace.within(shapes), shapes[-1] if shapes else pace.size, None


def _twice(
    engine: Engine, model: PretextModel, coins: UnitCoins, chunk: int, patients: Patients
) -> tuple[_Run, Traces, Callable[[Patients], _Run]]:
    """The run of `patients`, which leaves nothing behind and is the same when a round begins again at the same weights."""
    runs = []
    for _ in range(2):
        model.start_round()
        traces = Traces(model, patients)
        runs.append(_run(engine, model, coins, chunk, patients, traces))
    _compare_again(*runs)

    def run(others: Patients) -> _Run:
        with traces.none_of("a pass"):
            return _run(engine, model, coins, chunk, others)

    return runs[0], traces, run


def _compare_all(
    engine: Engine,
    run: Callable[[Patients], _Run],
    base: _Run,
    pairs: Sequence[tuple[str, Patients]],
    larger: Patients,
    unit: str,
    clip_norms: Sequence[float],
) -> tuple[float, float]:
    """The greatest change of another's row, and of the sum in units of C, for all pairs and the larger folder."""
    changed, contributed = 0.0, 0.0
    seen: list[tuple[str, Sequence[Views]]] = []
    for what, patients in pairs:
        other = run(patients)
        changed = max(changed, _compare_rows(what, base, other, unit))
        seen.append((what, other.views))
    for clip_norm in clip_norms:
        mine = sum_of(base.views, engine, clip_norm)
        for what, parts in seen:
            adjacency: Adjacency = "add-or-remove-one" if what == "removed" else "replace-one"
            contributed = max(contributed, compare_sums(what, mine, sum_of(parts, engine, clip_norm), adjacency))
    _compare_size(base, run(larger))
    return changed, contributed


def _coins(patients: Patients, chunk: int) -> UnitCoins:
    """Coins that sample at least three units, of which two are in one part where `chunk` lets them: one has a neighbour."""
    for _ in range(_TRIES):
        coins = UnitCoins.fresh()
        sizes = [len(part) for part in _parts(patients, coins, chunk)]
        if sum(sizes) >= 3 and max(sizes) >= min(2, chunk):
            return coins
    raise PrivacyError("no coins sample three units, two of them in one part", field="sample", limit=_TRIES)


def _parts(patients: Patients, coins: UnitCoins, chunk: int) -> list[Index]:
    sample = poisson_sample(patients.tags, _RATE, coins)
    groups = group_count(_RATE, 2 * chunk, chunk)
    return list(batches(sample, patients.tags[sample], coins, groups=groups, size=chunk))


def _run(
    engine: Engine, model: PretextModel, coins: UnitCoins, chunk: int, patients: Patients, traces: Traces | None = None
) -> _Run:
    """traces: where each draw and each gradient is to be looked at by itself."""
    device = next(model.parameters()).device
    rows, seen, units = [], [], []
    for index in _parts(patients, coins, chunk):
        units += [patients.units[i] for i in index]
        with traces.none_of("a draw") if traces else nullcontext():
            views = model.draw(patients, index, draw_coins(patients.tags[index], coins, model.coins))
        seen.append({name: view.to(device) for name, view in views.items()})
        with traces.none_of("a gradient") if traces else nullcontext():
            rows.append(torch.cat([row.reshape(len(index), -1) for row in engine.rows(seen[-1])], dim=1))
    return _Run(tuple(units), tuple(rows), tuple(seen))


def _compare_again(base: _Run, again: _Run) -> None:
    if not same(base.rows, again.rows):
        raise PrivacyError(
            "the same patients again give other gradients: the model remembers earlier ones, or draws coins of its own",
            field="repeated batch",
            limit=TOLERANCE,
            remedy="keep no queue, memory bank or running statistic of units; take randomness from the unit's coins",
        )


def _compare_size(base: _Run, larger: _Run) -> None:
    place = {unit: number for number, unit in enumerate(larger.units)}
    mine = [unit for unit in larger.units if unit in set(base.units)]
    rows = larger.rows
    if mine != list(base.units) or not same(base.rows, [rows[place[unit]] for unit in base.units]):
        raise PrivacyError(
            "the number of patients changes a patient's gradient, or whether he is sampled",
            field="folder of twice as many patients",
            limit=TOLERANCE,
            remedy="let nothing depend on the size of the data set: it is as private as the patients",
        )


def _compare_rows(what: str, base: _Run, other: _Run, victim: str) -> float:
    mine = [i for i, unit in enumerate(base.units) if unit != victim]
    theirs = [i for i, unit in enumerate(other.units) if unit != victim]
    if [base.units[i] for i in mine] != [other.units[i] for i in theirs]:
        raise PrivacyError("changing one patient changes who else is sampled", field="pair", value=what)
    rows, others = base.rows, other.rows
    worst = float(differences([rows[i] for i in mine], [others[i] for i in theirs]).max())
    if not worst <= TOLERANCE:
        raise PrivacyError(
            "changing one patient changes another patient's gradient",
            field=f"pair with one patient {what}",
            value=f"{worst:.1e} of its norm",
            limit=TOLERANCE,
            remedy="the objective couples patients; it cannot be trained privately as it is",
        )
    return worst
