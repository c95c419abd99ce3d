"""The check before an approval, for tasks with buckets: what couples buckets is refused, each fault by its own line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests_engines import two_masked
from tests_tasks import plan as task_plan
from torch import Tensor, nn

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.data.patients import Patients
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.objectives.base import BucketModel, Views
from ssl_core.objectives.build import MODELS
from ssl_core.privacy import isolation_buckets
from ssl_core.privacy.apart import compare_sums, sum_of
from ssl_core.privacy.buckets import BucketEngine
from ssl_core.privacy.gradients import ClippedSum
from ssl_core.privacy.isolation import check_isolation
from ssl_core.privacy.isolation_buckets import UNITS
from ssl_core.privacy.sampling import buckets, poisson_sample
from ssl_core.privacy.traces import Traces

MakePlan = Callable[..., StudyPlan]
KINDS = sorted(kinds for kinds in MODELS if kinds[2] == "simclr-buckets")


@pytest.mark.parametrize(("kinds", "records"), [(KINDS[0], 1), *((kinds, 4) for kinds in KINDS)], ids=str)
def test_the_task_passes_and_its_other_buckets_are_the_same_to_the_last_bit(kinds: tuple[str, str, str], records: int) -> None:
    report = check_isolation(task_plan(kinds, records), speed=SpeedSpec())
    assert report.engine == "buckets" and "Engine buckets" in report.why and report.units == UNITS
    assert report.pairs[:2] == ("removed", "changed") and len(report.pairs) >= 8
    # Equal shapes on a processor: the tolerance is not needed. And it was no empty check.
    assert report.greatest_change == 0.0 and 0.1 < report.greatest_contribution <= 2.0


class InBucket(BucketModel):
    """Chen et al. (ICML 2020) inside a bucket, on two views of a record whose entries are hidden by coins of their own."""

    coins = 33
    bucket_size = 8

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 6), nn.Linear(6, 3)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.4)

    def draw(self, patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
        self.check_draw(index, uniforms)
        return two_masked(patients, index, uniforms)

    def codes(self, views: Views) -> tuple[Tensor, Tensor]:
        one, two = (F.normalize(self.second(torch.tanh(self.first(views[name]))), dim=1) for name in ("one", "two"))
        return one, two

    def forward(self, views: Views) -> Tensor:
        one, two = self.codes(views)
        return F.cross_entropy(one @ two.t() / 0.5, torch.arange(len(one)))

    def init_range(self, name: str) -> tuple[float, float]:
        return 0.0, 0.5


class Queue(InBucket):
    """The codes of the bucket before are negatives too, kept outside buffers, where none looks."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = [torch.zeros(1, 3)]

    def forward(self, views: Views) -> Tensor:
        one, two = self.codes(views)
        keys = torch.cat([two, self.queue[-1]])
        self.queue.append(two.detach())
        return F.cross_entropy(one @ keys.t() / 0.5, torch.arange(len(one)))


class QueueOfRound(Queue):
    """The same, emptied before each bucket that is no second one: a repeated run alone would not find it."""

    def forward(self, views: Views) -> Tensor:
        if len(self.queue) % 3 == 0:
            self.queue = [torch.zeros(1, 3)]
        return super().forward(views)


class FromTheNextRound(InBucket):
    """The codes of a round's patients are used in the next alone: no bucket of the check would meet them."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.gathered = torch.zeros(1, 3), list[Tensor]()

    def start_round(self) -> None:
        self.keys, self.gathered = torch.cat([self.keys, *self.gathered])[-8:], []

    def forward(self, views: Views) -> Tensor:
        one, two = self.codes(views)
        self.gathered.append(two.detach())
        return F.cross_entropy(one @ torch.cat([two, self.keys]).t() / 0.5, torch.arange(len(one)))


class OwnCoins(InBucket):
    def forward(self, views: Views) -> Tensor:
        return super().forward(views) * torch.rand(())


class CoinsOfTheMachine(InBucket):
    """From no generator that a program could look at."""

    def forward(self, views: Views) -> Tensor:
        return super().forward(views) * float(np.random.default_rng().random())


class AllPatients(InBucket):
    """A draw that centres records by the mean over all patients there are, sampled or not."""

    def draw(self, patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
        made = super().draw(patients, index, uniforms)
        mean = np.nan_to_num(np.clip(patients.records, -10, 10)).mean()
        return {name: view - float(mean) for name, view in made.items()}


class Coarse(InBucket):
    """A size that is rounded shows in a much larger folder only."""

    def draw(self, patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
        made = super().draw(patients, index, uniforms)
        return {name: view * (1.0 if len(patients) < 40 else 2.0) for name, view in made.items()}


CASES = {
    "a queue": (Queue, r"a gradient of patients changes what the model holds.*Queue\.queue"),
    "a queue that is emptied": (QueueOfRound, r"a gradient of patients changes.*QueueOfRound\.queue"),
    "a queue for the next round": (FromTheNextRound, r"a gradient of patients changes.*FromTheNextRound\.gathered"),
    "coins of its own": (OwnCoins, "draws coins of its own.*torch's generator"),
    "coins of the machine": (CoinsOfTheMachine, "has coins of its own"),
    "a mean over all patients": (AllPatients, "a bucket that he is not in"),
    "the number of patients": (Coarse, "number of patients changes"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_couples_buckets_is_refused_by_its_own_line(make_plan: MakePlan, case: str) -> None:
    make, line = CASES[case]
    with pytest.raises(PrivacyError, match=line):
        check_isolation(make_plan(), speed=SpeedSpec(), model=make())


@pytest.mark.parametrize("make", [Queue, QueueOfRound, OwnCoins])
def test_it_is_refused_by_its_rows_too(make_plan: MakePlan, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Traces, "none_of", lambda *_: nullcontext())
    with pytest.raises(PrivacyError, match="the model remembers earlier ones, or has coins of its own"):
        check_isolation(make_plan(), speed=SpeedSpec(), model=make())


def test_the_same_model_without_the_fault_passes_though_its_patients_meet(make_plan: MakePlan) -> None:
    report = check_isolation(make_plan(), speed=SpeedSpec(), model=InBucket())
    assert report.greatest_contribution > 0.1 and report.greatest_change == 0.0


def _in_order(index: np.ndarray, tags: np.ndarray, coins: Any, *, count: int) -> Iterator[tuple[int, np.ndarray]]:
    yield from enumerate(np.array_split(index, count))


def _split(index: np.ndarray, tags: np.ndarray, coins: Any, *, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Of each bucket the part beyond its fourth unit goes to a bucket of what is left over."""
    left: list[np.ndarray] = []
    for number, part in buckets(index, tags, coins, count=count):
        left.append(part[4:])
        yield number, part[:4]
    yield count, np.concatenate(left)


@pytest.mark.parametrize("parting", [_in_order, _split])
def test_cutting_a_sample_so_that_one_patient_shifts_others_is_refused(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, parting: Any
) -> None:
    monkeypatch.setattr(isolation_buckets, "buckets", parting)
    with pytest.raises(PrivacyError, match=r"in which bucket|number of patients changes"):
        check_isolation(make_plan(), speed=SpeedSpec(), model=InBucket())


def test_a_number_of_buckets_that_follows_the_sample_is_refused(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_size(index: np.ndarray, tags: np.ndarray, coins: Any, *, count: int) -> Iterator[tuple[int, np.ndarray]]:
        return buckets(index, tags, coins, count=max(2, len(index) // 7))

    monkeypatch.setattr(isolation_buckets, "buckets", by_size)
    with pytest.raises(PrivacyError, match=r"in which bucket|number of patients changes"):
        check_isolation(make_plan(), speed=SpeedSpec(), model=InBucket())


def test_a_sampler_that_looks_at_the_others_is_refused(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation_buckets, "poisson_sample", lambda *given: poisson_sample(*given)[:12])
    with pytest.raises(PrivacyError, match="who else is sampled"):
        check_isolation(make_plan(), speed=SpeedSpec(), model=InBucket())


class Pull(InBucket):
    """The gradient of the first layer is the sum of the views: one unit turns its bucket round."""

    def forward(self, views: Views) -> Tensor:
        return (self.first.weight[0] * views["one"].sum(dim=0)).sum()


@pytest.mark.parametrize(("factor", "reach"), [(1.0, 1), (1.05, 2)])
def test_a_sum_that_moves_by_more_than_it_says_is_refused(monkeypatch: pytest.MonkeyPatch, factor: float, reach: int) -> None:
    """Noise for C where a bucket turns by 2 C, and a clipping that is too weak."""
    engine = BucketEngine(Pull())
    away = torch.zeros(2, 16)
    away[0, 0], away[1, 0] = -10.0, 25.0
    runs = ([{"one": away}], [{"one": away[:1]}])

    def apart() -> float:
        mine, theirs = (sum_of(run, engine, 0.5) for run in runs)
        return compare_sums("removed", mine, theirs, "add-or-remove-one")

    assert 1.99 < apart() <= 2.0
    honest = BucketEngine.clipped_sum

    def weak(self: Any, views: Any, clip_norm: float) -> ClippedSum:
        return ClippedSum(honest(self, views, factor * clip_norm).grads, clip_norm, reach)

    monkeypatch.setattr(BucketEngine, "clipped_sum", weak)
    with pytest.raises(PrivacyError, match="more than its sensitivity"):
        apart()


def test_a_row_that_is_not_the_gradient_of_its_bucket_is_refused(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = BucketEngine.rows
    monkeypatch.setattr(BucketEngine, "rows", lambda self, views: tuple(0.999 * row for row in honest(self, views)))
    with pytest.raises(PrivacyError, match="not its gradient"):
        check_isolation(make_plan(), speed=SpeedSpec(), model=InBucket())
    monkeypatch.setattr(BucketEngine, "rows", lambda self, views: tuple(row.repeat(2, 1) for row in honest(self, views)[1:2]))
    with pytest.raises(PrivacyError, match="another number of rows"):
        check_isolation(make_plan(), speed=SpeedSpec(), model=InBucket())


def test_an_engine_that_the_site_demands_is_refused_before_anything_runs(make_plan: MakePlan) -> None:
    with pytest.raises(ConfigError, match=r"speed\.engine"):
        check_isolation(make_plan(), speed=SpeedSpec(engine="vmap"), model=InBucket())
