"""In bfloat16: what couples patients there, and there alone, is refused before an approval; honest studies pass."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch
from tests_engines import IMAGE, TABLE, TEXT, TEXT_TRANSFORMER, VIT
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.objectives.base import Views
from ssl_core.privacy import isolation, planner
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.fixed_shape import check_fixed_shape
from ssl_core.privacy.gradients import ClippedSum
from ssl_core.privacy.isolation import check_isolation
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import UnitCoins

MakePlan = Callable[..., StudyPlan]
Spoil = Callable[[Any, Tensor, Views], Tensor]
ONE_OF_EACH: dict[str, dict[str, Any]] = {
    "image": IMAGE,
    "vit": IMAGE | VIT,
    "text-transformer": TEXT | TEXT_TRANSFORMER,
    "table": TABLE,
}


@pytest.fixture(autouse=True)
def known_coins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who meets whom decides which line is the first that finds a fault."""
    keys = count(1)
    known = type("Known", (), {"fresh": staticmethod(lambda: UnitCoins(Secret(bytes([next(keys)]) * 32)))})
    monkeypatch.setattr(isolation, "UnitCoins", known)


def bfloat16(chunk: int) -> SpeedSpec:
    return SpeedSpec(chunk=chunk, precision="bfloat16")


@pytest.mark.parametrize(("name", "chunk"), [("image", 1), *((name, 5) for name in ONE_OF_EACH)])
def test_our_objectives_pass(make_plan: MakePlan, name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[int] = []
    honest = isolation.check_fixed_shape

    def checked(engine: BookkeepingEngine, room: int, views: Views, clip_norm: float) -> None:
        shapes.append(room)
        honest(engine, room, views, clip_norm)

    monkeypatch.setattr(isolation, "check_fixed_shape", checked)
    report = check_isolation(make_plan(ONE_OF_EACH[name]), speed=bfloat16(chunk), nominal_size=40)
    assert report.engine == "bookkeeping" and "in bfloat16" in report.why
    assert report.greatest_change <= 1e-5 and 0.9 < report.greatest_contribution <= 2.0
    # The shape of training, at 0.25 of 40 patients.
    assert shapes == [chunk]


def _flat(rows: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([row.flatten(1) for row in rows], dim=1)


def _whole(found: ClippedSum) -> Tensor:
    return torch.cat([part.flatten() for part in found.grads])


def _batched(tiny: Any, spoil: Spoil = lambda _model, losses, _views: losses) -> Any:
    """The small model with losses of its own and rows of even length; `spoil` changes what a batch gives."""

    class Batched(type(tiny)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder.linear, self.encoder.norm, self.head = nn.Linear(16, 4), nn.LayerNorm(4), nn.Linear(4, 16)

        def losses(self, views: Views) -> Tensor:
            found = (self.head(self.encoder(views["seen"])) - views["target"]).square().mean(dim=-1)
            return spoil(self, found, views)

    model, generator = Batched(), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.4)
    return model


def _in_bfloat16(spoil: Spoil) -> Spoil:
    return lambda model, losses, views: spoil(model, losses, views) if torch.is_autocast_enabled("cpu") else losses


def _batch_mean(_model: Any, losses: Tensor, views: Views) -> Tensor:
    return losses * (1.0 + 1e-2 * torch.tanh(torch.nan_to_num(views["seen"]).mean()))


def _batch_norm(_model: Any, losses: Tensor, _views: Views) -> Tensor:
    return (losses - losses.mean()).square()


def _simclr(_model: Any, losses: Tensor, views: Views) -> Tensor:
    """The other units' targets are the negatives of each."""
    scores = -(losses[:, None] - views["target"].mean(dim=-1)[None]).square()
    return functional.cross_entropy(scores.float(), torch.arange(len(scores)), reduction="none")


def _beyond_the_row(_model: Any, losses: Tensor, _views: Views) -> Tensor:
    """Zero times the next unit: nothing, unless that is no number."""
    return losses * (1.0 + 0.0 * losses.detach().roll(-1))


def _by_place(_model: Any, losses: Tensor, _views: Views) -> Tensor:
    return losses * (1.0 + 1e-3 * torch.arange(len(losses)))


FAULTS: dict[str, tuple[Spoil, str]] = {
    "mean of the batch": (_batch_mean, "patient replaced"),
    "statistics of the batch": (_batch_norm, "patient replaced"),
    "in-batch SimCLR": (_simclr, "patient replaced"),
    "kernel that goes by the place": (_by_place, "one place further"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_couples_patients_in_bfloat16_alone_is_refused(make_plan: MakePlan, tiny: Any, name: str) -> None:
    spoil, line = FAULTS[name]
    model = _batched(tiny, _in_bfloat16(spoil))
    assert check_isolation(make_plan(), speed=SpeedSpec(chunk=5), model=model).engine == "bookkeeping"
    with pytest.raises(PrivacyError, match=f"in bfloat16 a patient's gradient depends.*{line}"):
        check_isolation(make_plan(), speed=bfloat16(5), model=model)


@pytest.mark.parametrize("name", FAULTS)
def test_what_couples_them_in_any_precision_is_refused_in_float32_already(
    make_plan: MakePlan, tiny: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _batched(tiny, FAULTS[name][0])
    # By the survey, which leaves only engines that know no bfloat16.
    with pytest.raises(ConfigError, match=r"computes in float32 alone.*batched losses.*speed\.precision"):
        check_isolation(make_plan(), speed=bfloat16(5), model=model)
    monkeypatch.setattr(planner, "choose_engine", lambda model, *_: BookkeepingEngine(model))
    monkeypatch.setattr(isolation, "check_fixed_shape", lambda *_: pytest.fail("float32 comes first"))
    with pytest.raises(PrivacyError, match=r"losses of a batch are not those|changes another patient's gradient"):
        check_isolation(make_plan(), speed=bfloat16(5), model=model)


def test_the_same_model_without_a_fault_passes(make_plan: MakePlan, tiny: Any) -> None:
    report = check_isolation(make_plan(), speed=bfloat16(5), model=_batched(tiny))
    assert report.greatest_change <= 1e-5 and report.greatest_contribution > 0.9


def test_a_kernel_that_reads_beyond_a_row_reaches_nobody(
    make_plan: MakePlan, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN's do, on some processors, where rows are of odd length: here as one may, on every processor."""
    model = _batched(tiny, _in_bfloat16(_beyond_the_row))
    engine = BookkeepingEngine(model, "bfloat16").within((6,))
    generator = torch.Generator().manual_seed(0)
    views = {name: torch.randn(6, 16, generator=generator) for name in ("seen", "target")}
    wanted = _flat(engine.rows(views))
    alone = torch.cat([_flat(engine.rows({name: view[unit, None] for name, view in views.items()})) for unit in range(6)])
    torch.testing.assert_close(alone, wanted, rtol=1e-5, atol=1e-8)
    for value in (torch.nan, torch.inf, 3e38):
        spoilt = {name: view.clone() for name, view in views.items()}
        spoilt["target"][[1, 4]] = value
        others = [0, 2, 3, 5]
        torch.testing.assert_close(_flat(engine.rows(spoilt))[others], wanted[others], rtol=1e-5, atol=1e-8)
        rest = _whole(engine.clipped_sum({name: view[others] for name, view in views.items()}, 0.1))
        torch.testing.assert_close(_whole(engine.clipped_sum(spoilt, 0.1)), rest, rtol=0, atol=1e-7)
        if value == 3e38:
            # Positive control: in the pass itself the neighbour was reached.
            assert not all(bool(part[[0, 3]].isfinite().all()) for part in engine.kept(spoilt))
    assert check_isolation(make_plan(), speed=bfloat16(5), model=model).greatest_change <= 1e-5
    monkeypatch.setattr(BookkeepingEngine, "_doubtful", lambda *_: [])
    with pytest.raises(PrivacyError, match="every second patient replaced by the greatest numbers"):
        check_isolation(make_plan(), speed=bfloat16(5), model=model)


def test_zeros_that_are_no_legal_views_of_a_task_are_refused(tiny: Any) -> None:
    """They fill a batch: what is not finite there could reach the last patient."""

    def of_length_one(_model: Any, losses: Tensor, views: Views) -> Tensor:
        return losses / views["seen"].norm(dim=1)

    generator = torch.Generator().manual_seed(0)
    views = {name: torch.randn(3, 16, generator=generator) for name in ("seen", "target")}
    with pytest.raises(PrivacyError, match="zeros in place of a patient"):
        check_fixed_shape(BookkeepingEngine(_batched(tiny, of_length_one), "bfloat16"), 8, views, 0.1)


def test_a_clipping_that_is_too_weak_in_bfloat16_alone_is_refused(
    make_plan: MakePlan, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = BookkeepingEngine.clipped_sum

    def weak(self: BookkeepingEngine, views: Views, clip_norm: float) -> Any:
        found = honest(self, views, (1.05 if self._precision == "bfloat16" else 1.0) * clip_norm)
        return type(found)(found.grads, clip_norm)

    monkeypatch.setattr(BookkeepingEngine, "clipped_sum", weak)
    with pytest.raises(PrivacyError, match="more than its sensitivity"):
        check_isolation(make_plan(), speed=bfloat16(5), model=_batched(tiny))
