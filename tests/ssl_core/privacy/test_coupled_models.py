"""Ways in which self-supervised losses couple patients, as small real modules: the isolation check refuses each, always."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests_engines import PAIR, two_masked
from torch import Tensor, nn

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.data import declared as declarations
from ssl_core.data import source as reading
from ssl_core.data.patients import Patients
from ssl_core.encoders.base import Encoder
from ssl_core.encoders.two_tower import TwoTower
from ssl_core.errors import PrivacyError
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.objectives.build import build_model
from ssl_core.objectives.text_target import TextTargetModel
from ssl_core.privacy import isolation
from ssl_core.privacy.gradients import PerUnitGradients
from ssl_core.privacy.isolation import check_isolation

MakePlan = Callable[..., StudyPlan]


class SmallEncoder(Encoder):
    """Two layers; `norm` is what a test puts between them."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.feature_width = 3
        self.first, self.norm, self.second = nn.Linear(16, 6), norm, nn.Linear(6, 3)

    def forward(self, seen: Tensor) -> Tensor:
        found: Tensor = self.second(torch.tanh(self.norm(self.first(seen))))
        return found

    def embed(self, records: Any) -> Tensor:
        return self(torch.from_numpy(np.asarray(records)))


class TwoViews(PretextModel):
    """Two views of one record, each entry hidden by its own coin; the loss here predicts one view from the other."""

    encoder: SmallEncoder

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.coins = 33
        self.encoder = SmallEncoder(norm or nn.LayerNorm(6))
        self.head = nn.Linear(3, 16)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.4)

    def draw(self, patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
        self.check_draw(index, uniforms)
        return two_masked(patients, index, uniforms)

    def codes(self, views: Views) -> tuple[Tensor, Tensor]:
        return self.encoder(views["one"]), self.encoder(views["two"])

    def forward(self, views: Views) -> Tensor:
        return (self.head(self.encoder(views["one"])) - views["two"]).square().mean()

    def init_range(self, name: str) -> tuple[float, float]:
        return 0.0, 0.5


class Batchwise(TwoViews):
    """`forward` is what `losses` say of a batch of one: whoever refuses such a model has seen its patients meet."""

    def forward(self, views: Views) -> Tensor:
        return self.losses({name: view[None] for name, view in views.items()})[0]


class SimClr(Batchwise):
    """Chen et al. (ICML 2020): the other units of the batch are the negatives."""

    def losses(self, views: Views) -> Tensor:
        one, two = (F.normalize(code, dim=1) for code in self.codes(views))
        return F.cross_entropy(one @ two.t() / 0.5, torch.arange(len(one)), reduction="none")


class VicReg(Batchwise):
    """Bardes et al. (ICLR 2022): covariance of the codes over the batch."""

    def losses(self, views: Views) -> Tensor:
        one, two = self.codes(views)
        centred = one - one.mean(dim=0)
        covariance = centred.t() @ centred / max(len(one) - 1, 1)
        off = covariance.square().sum() - covariance.diagonal().square().sum()
        return (one - two).square().mean(dim=1) + off


class MoCo(TwoViews):
    """He et al. (CVPR 2020): the codes of earlier units are the negatives; kept outside buffers, where none looks."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = [torch.zeros(3)]

    def draw(self, patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
        views = super().draw(patients, index, uniforms)
        views["negative"] = self.queue[-1].expand(len(index), 3).clone()
        with torch.no_grad():
            self.queue.append(self.encoder(views["two"]).mean(dim=0))
        return views

    def forward(self, views: Views) -> Tensor:
        one, two = self.codes(views)
        return F.softplus((one * views["negative"]).sum() - (one * two).sum())


class Later(TwoViews):
    """He et al. again, whose queue no batch of the check would meet: the keys in use are zeros until it is over."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.gathered = torch.zeros(1, 3), list[Tensor]()

    def draw(self, patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
        views = super().draw(patients, index, uniforms)
        with torch.no_grad():
            self.gather(F.normalize(self.encoder(views["two"]), dim=1))
        views["negative"] = self.keys.expand(len(index), *self.keys.shape).clone()
        return views

    def gather(self, codes: Tensor) -> None:
        self.gathered.append(codes)

    def forward(self, views: Views) -> Tensor:
        one, two = (F.normalize(code, dim=-1) for code in self.codes(views))
        logits = torch.cat([(one * two).sum(-1, keepdim=True), views["negative"] @ one]) / 0.1
        return torch.logsumexp(logits, -1) - logits[0]


class FromTheNextRound(Later):
    """The keys of a round's patients stand still in the next, as a slow copy does."""

    def start_round(self) -> None:
        if self.gathered:
            self.keys, self.gathered = torch.cat(self.gathered)[-8:], []


class OnceFull(Later):
    """Caron et al. (NeurIPS 2020), section 4.1: a queue that is used from the epoch on in which it is full."""

    def gather(self, codes: Tensor) -> None:
        self.gathered = [torch.cat([*self.gathered, codes])[-3840:]]
        if len(self.gathered[0]) == 3840:
            self.keys = self.gathered[0][-8:]


class FromEight(Batchwise):
    """Units meet in a batch of eight or more alone: a few made-up patients never do."""

    def negatives(self, one: Tensor) -> Tensor:
        raise NotImplementedError

    def losses(self, views: Views) -> Tensor:
        code = self.encoder(views["one"])
        own = (self.head(code) - views["two"]).square().mean(dim=1)
        return own if len(own) < 8 else own + self.negatives(F.normalize(code, dim=1))


class HardestOfEight(FromEight):
    """Negatives are the nearest eight of the batch."""

    def negatives(self, one: Tensor) -> Tensor:
        return (one @ one.t()).topk(8, dim=1).values.mean(dim=1)


class FirstThree(FromEight):
    """Negatives are the first three of the batch: nobody else matters to anybody."""

    def negatives(self, one: Tensor) -> Tensor:
        return torch.logsumexp(one @ one[:3].detach().t(), dim=1)


class CentredByTheFirst(TwoViews):
    """Each view is made relative to the first one of a batch of eight or more."""

    def draw(self, patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
        views = super().draw(patients, index, uniforms)
        return {name: view - view[:1] for name, view in views.items()} if len(index) >= 8 else views


class Tied(TwoViews):
    """The first layer's weight used again, transposed, by hand: hooks on the layer never see the second use."""

    def forward(self, views: Views) -> Tensor:
        hidden = self.encoder.first(views["one"])
        return (F.linear(hidden, self.encoder.first.weight.t()) - views["two"]).square().mean()


class Clip(TextTargetModel):
    """Radford et al. (ICML 2021), section 2.3: each image's wrong texts are those of the other patients of the batch."""

    def forward(self, views: Views) -> Tensor:
        return self.losses({name: view[None] for name, view in views.items()})[0]

    def losses(self, views: Views) -> Tensor:
        one, two = self.encoder.placed(views["shown"]).mean(dim=-2), views["target"].mean(dim=-2)
        return F.cross_entropy(one @ two.t() / 0.5, torch.arange(len(one)), reduction="none")


class SharesTheSize(TwoViews):
    """A loss divided by the number of units of the batch."""

    def losses(self, views: Views) -> Tensor:
        found = super().losses(views)
        return found / len(found)


# Of two or three patients the covariance may be next to nothing; then more of them have to meet.
BY_COVARIANCE = "losses of a batch are not those of its units|another patient's gradient|in a full batch one patient changes"
CASES: dict[str, tuple[Callable[[], TwoViews], str]] = {
    "naive in-batch SimCLR": (SimClr, "losses of a batch are not those of its units"),
    "VICReg covariance": (VicReg, BY_COVARIANCE),
    "mean over the batch": (SharesTheSize, "losses of a batch are not those of its units"),
    "private-key queue": (MoCo, r"a draw of patients changes what the model holds.*MoCo\.queue"),
    "queue from the next round on": (FromTheNextRound, r"a draw of patients changes.*FromTheNextRound\.gathered"),
    "queue once it is full": (OnceFull, r"a draw of patients changes.*OnceFull\.gathered"),
    "negatives from eight patients on": (HardestOfEight, "in a full batch one patient changes what is computed of another"),
    "negatives are the first three": (FirstThree, "in a full batch one patient changes what is computed of another"),
    "views relative to the first": (CentredByTheFirst, "in a full batch one patient changes what is computed of another"),
    "functional weight tying": (Tied, r"functional weight tying.*encoder\.first\.weight.*2 uses in 1 calls"),
    "BatchNorm": (lambda: TwoViews(nn.BatchNorm1d(6)), r"couples units.*encoder\.norm.*BatchNorm1d"),
    "BatchNorm without weights": (
        lambda: TwoViews(nn.BatchNorm1d(6, affine=False, track_running_stats=False)),
        r"couples units.*encoder\.norm.*BatchNorm1d",
    ),
}


@pytest.fixture
def of_real_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds the rows of four made-up patients, as of a model with more than 6.7 million weights."""
    monkeypatch.setattr(isolation, "_MOST_ENTRIES", 1)


@pytest.mark.usefixtures("of_real_size")
@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_by_its_own_line(make_plan: MakePlan, case: str) -> None:
    make, line = CASES[case]
    for _ in range(5):
        with pytest.raises(PrivacyError, match=line):
            check_isolation(make_plan(), speed=SpeedSpec(chunk=8), model=make())


@pytest.mark.parametrize("make", [SimClr, VicReg, SharesTheSize, HardestOfEight])
def test_what_couples_a_batch_passes_where_nobody_has_a_neighbour(make_plan: MakePlan, make: Callable[[], TwoViews]) -> None:
    """Positive control: nothing but the neighbours is wrong with them."""
    assert check_isolation(make_plan(), speed=SpeedSpec(chunk=1), model=make()).greatest_change == 0


@pytest.mark.usefixtures("of_real_size")
@pytest.mark.parametrize("case", ["naive in-batch SimCLR", "VICReg covariance", "mean over the batch"])
def test_four_made_up_patients_are_enough_whatever_the_coins_are(make_plan: MakePlan, case: str) -> None:
    make, line = CASES[case]
    for _ in range(20):
        with pytest.raises(PrivacyError, match=line):
            check_isolation(make_plan(), speed=SpeedSpec(chunk=64), model=make())


@pytest.mark.usefixtures("of_real_size")
def test_what_begins_in_a_batch_of_eight_is_met_in_a_batch_of_eight(make_plan: MakePlan) -> None:
    assert check_isolation(make_plan(), speed=SpeedSpec(chunk=7), model=HardestOfEight()).units == 4
    with pytest.raises(PrivacyError, match=r"in a full batch.*losses, patients replaced by another"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=64), model=HardestOfEight())


@pytest.mark.usefixtures("of_real_size")
@pytest.mark.parametrize("make", [FirstThree, CentredByTheFirst])
def test_what_the_first_of_a_full_batch_alone_do_to_all_others_is_refused(
    make_plan: MakePlan, make: Callable[[], TwoViews]
) -> None:
    """A batch so much larger than eight that it stays one of eight where somebody is removed."""
    with pytest.raises(PrivacyError, match="in a full batch one patient changes what is computed of another"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=64), model=make())


def test_naive_clip_is_refused_by_its_own_line(make_plan: MakePlan) -> None:
    plan = make_plan({**PAIR, "objective": {"name": "text-target", "bank": 16}})
    towers = TwoTower(plan.data, size="nano", patch=4, joint=8)
    model = Clip(plan.data, towers, bank=16, temperature=0.1, how=Augmentation(crop=1.0, gain=0.0, noise=0.0, flip=False))
    with pytest.raises(PrivacyError, match="losses of a batch are not those of its units"):
        check_isolation(plan, speed=SpeedSpec(chunk=4), model=model)
    honest = build_model(plan)
    assert isinstance(honest, TextTargetModel)
    check_isolation(plan, speed=SpeedSpec(chunk=4), model=honest)


@pytest.mark.parametrize("norm", [None, nn.GroupNorm(2, 6)])
def test_the_same_model_without_the_fault_passes(make_plan: MakePlan, norm: nn.Module | None) -> None:
    model = TwoViews(nn.LayerNorm(6) if norm is None else nn.Identity())
    report = check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=model)
    assert report.greatest_contribution > 0.5


def test_a_queue_in_a_buffer_is_refused_by_name(make_plan: MakePlan) -> None:
    model = TwoViews()
    model.register_buffer("queue", torch.zeros(8, 3))
    with pytest.raises(PrivacyError, match=r"buffer.*queue"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=model)


def test_weights_tied_by_assignment_are_refused(make_plan: MakePlan) -> None:
    class Assigned(TwoViews):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.Linear(16, 6)
            self.decoder.weight = self.encoder.first.weight

        def forward(self, views: Views) -> Tensor:
            return super().forward(views) + self.decoder(views["two"]).square().mean()

    with pytest.raises(PrivacyError, match=r"functional weight tying.*encoder\.first\.weight.*2 uses in 1 calls"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=Assigned())


def test_an_engine_whose_rows_are_not_single_gradients_is_refused(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = PerUnitGradients.rows

    def lossy(self: Any, views: Views) -> tuple[Tensor, ...]:
        return tuple(0.999 * row for row in honest(self, views))

    monkeypatch.setattr(PerUnitGradients, "rows", lossy)
    with pytest.raises(PrivacyError, match="gradients of a batch are not those of single units"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=TwoViews())


def test_a_draw_that_looks_at_the_size_of_the_data_set_is_refused(make_plan: MakePlan) -> None:
    """Removing one patient changes the size by one; a size that is rounded shows only in a much larger folder."""

    class Coarse(TwoViews):
        def draw(self, patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
            return {
                name: view * (1.0 if len(patients) < 20 else 2.0)
                for name, view in super().draw(patients, index, uniforms).items()
            }

    with pytest.raises(PrivacyError, match="number of patients changes"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=Coarse())


@pytest.mark.parametrize("fault", ["standardised over all images", "ids by their place"])
def test_a_reader_that_couples_patients_is_refused(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    honest = reading.READERS["npz", "image"]

    def coupled(*args: Any) -> Any:
        found = honest(*args)
        if fault == "ids by their place":
            found.owners[:] = [f"row {number // 2}" for number in range(len(found.owners))]
        else:
            finite = found.records[np.isfinite(found.records)]
            found.records[:] = found.records - finite.mean()
        return found

    monkeypatch.setitem(reading.READERS, ("npz", "image"), coupled)
    with pytest.raises(PrivacyError, match="change how another patient's are read"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=TwoViews())


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_tables_in_the_sites_own_format_are_tried(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    text = {
        "data": {"kind": "text", "words": 8, "codes": 2, "buckets": 32},
        "encoder": {"name": "hashed-words", "width": 8},
        "objective": {"name": "masked-words"},
    }
    declared = declarations.TableSource(
        kind="table", path="a.x", format=format, patient_column="Fall", text_column="Befund", record_column="Nr"
    )  # fmt: skip
    seen: list[Any] = []
    honest = reading.READERS["table", "text"]

    def read(*args: Any) -> Any:
        seen.append(args[0].declared)
        return honest(*args)

    monkeypatch.setitem(reading.READERS, ("table", "text"), read)
    report = check_isolation(make_plan(text), speed=SpeedSpec(chunk=4), declared=declared)
    assert report.pairs == ("removed", "changed", "empty", "longest", "extreme", "extreme in memory")
    assert {(s.format, s.patient_column, s.record_column) for s in seen} == {(format, "Fall", "Nr")} and len(seen) >= 7
