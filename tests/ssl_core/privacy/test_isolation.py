from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests_engines import IMAGE, TABLE, TEXT, without_patient
from torch import Tensor, nn

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.data import source as source_module
from ssl_core.data.declared import ColumnsSource
from ssl_core.data.patients import Patients
from ssl_core.errors import ConfigError, DataError, PrivacyError
from ssl_core.privacy import apart, isolation, planner
from ssl_core.privacy.apart import TOLERANCE
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.gradients import PerUnitGradients
from ssl_core.privacy.isolation import check_isolation
from ssl_core.privacy.reference import LoopEngine
from ssl_core.privacy.synthetic import kinds, synthetic_patients, with_other_patient
from ssl_core.privacy.traces import Traces

MakePlan = Callable[..., StudyPlan]


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_our_objectives_pass(make_plan: MakePlan, kind: dict[str, Any], chunk: int) -> None:
    report = check_isolation(make_plan(kind), speed=SpeedSpec(chunk=chunk))
    assert report.pairs[:2] == ("removed", "changed") and len(report.pairs) >= 5
    assert report.units >= 4 and report.greatest_change <= TOLERANCE
    # The check was no empty one: some patient moved the sum by nearly all that he may.
    assert 0.9 < report.greatest_contribution <= 2.0


def test_a_draw_that_subtracts_the_mean_of_the_batch_fails(make_plan: MakePlan, tiny: Any) -> None:
    honest = tiny.draw

    def centred(patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> dict[str, Tensor]:
        views = honest(patients, index, uniforms)
        return {name: view - view.mean(dim=0) for name, view in views.items()}

    check_isolation(make_plan(), speed=SpeedSpec(chunk=8), model=tiny)
    tiny.draw = centred
    with pytest.raises(PrivacyError, match="another patient's gradient"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=8), model=tiny)


def test_coins_that_depend_on_the_place_in_the_batch_fail(make_plan: MakePlan, tiny: Any) -> None:
    honest = tiny.draw
    fixed = np.random.default_rng(0).random((1000, 17))

    def by_place(patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> dict[str, Tensor]:
        return dict(honest(patients, index, fixed[: len(index)]))

    tiny.draw = by_place
    with pytest.raises(PrivacyError, match="one patient removed"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=64), model=tiny)


def test_the_patient_who_is_changed_has_others_after_him_in_his_part() -> None:
    views = tuple({"seen": torch.zeros(count, 1)} for count in (1, 4, 2))
    run = isolation._Run(tuple("abcdefg"), torch.arange(7.0)[:, None].split([1, 4, 2]), views)
    largest, rows, unit = run.largest()
    assert largest is views[1] and rows[:, 0].tolist() == [1, 2, 3, 4] and unit == "c"
    assert isolation._Run(("a",), (torch.zeros(1, 1),), views[:1]).largest()[2] == "a"


def test_differences_row_by_row_are_those_of_the_whole_matrix() -> None:
    mine, theirs = torch.randn(2, 6, 1000, generator=torch.Generator().manual_seed(3))
    wide = mine.double()
    wanted = (wide - theirs.double()).norm(dim=1) / wide.norm(dim=1).clamp(min=float(wide.norm(dim=1).mean()))
    for given in ((mine, theirs), (list(mine), list(theirs))):
        torch.testing.assert_close(apart.differences(*given), wanted, rtol=1e-12, atol=0)


def test_a_row_that_is_nearly_zero_by_chance_may_lose_what_the_others_lose_to_rounding() -> None:
    rows = torch.eye(5) * torch.tensor([1.0, 1.0, 1.0, 1.0, 1e-6])
    moved = rows.clone()
    moved[4, 4] += 1e-6
    assert apart.differences(rows, moved).tolist() == [0, 0, 0, 0, pytest.approx(1.25e-6, rel=1e-2)]
    moved[4, 4] += 1e-4
    assert not apart.same(rows, moved)
    assert apart.same(0 * rows, 0 * rows) and not apart.same(0 * rows, moved)
    assert not apart.same(rows, moved * torch.nan)


def test_a_few_huge_rows_excuse_no_coupling_of_the_others() -> None:
    norms = torch.tensor([1.0, 1.0, 1.0, 1.0, 1e6])
    rows = torch.eye(5) * norms[:, None]
    moved = rows.clone()
    moved[0, 1] = 1e-3
    # Of the mean norm, 200,000, it would be 5e-9.
    assert apart.differences(rows, moved).tolist() == [pytest.approx(2.5e-4), 0, 0, 0, 0]
    assert not apart.same(rows, moved)


def test_a_coupled_model_of_heavy_tailed_gradients_fails(
    make_plan: MakePlan, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One patient in four, by his own tag, has a gradient a million times as large; all get a little of the batch's mean."""
    honest, coupling = tiny.draw, 0.0

    def heavy(patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> dict[str, Tensor]:
        views = honest(patients, index, uniforms)
        scale = torch.from_numpy(np.where(patients.tags[index, 0] % 4 == 0, np.float32(1e6), np.float32(1)))
        others = torch.nan_to_num(torch.tanh(views["seen"].mean(dim=0)))
        return {"seen": views["seen"], "target": views["target"] * scale[:, None] + coupling * others}

    def by_the_mean(*given: Any) -> Tensor:
        mine, theirs = (torch.stack(tuple(rows)).double() for rows in given)
        norms, differences = mine.norm(dim=1), (mine - theirs).norm(dim=1)
        return torch.where(differences == 0, 0.0, differences / norms.clamp(min=float(norms.mean())))

    tiny.draw = heavy
    check_isolation(make_plan(), speed=SpeedSpec(chunk=16), model=tiny)
    coupling = 1e-2
    with pytest.raises(PrivacyError, match="another patient's gradient"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=16), model=tiny)
    # By the mean alone the rows pass.
    for name in ("compare_sums", "check_full_batch"):
        monkeypatch.setattr(isolation, name, lambda *_: 0.0)
    for module in (isolation, apart):
        monkeypatch.setattr(module, "differences", by_the_mean)
    check_isolation(make_plan(), speed=SpeedSpec(chunk=16), model=tiny)


def test_a_model_that_remembers_earlier_chunks_fails(make_plan: MakePlan, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = tiny.draw
    seen: list[Tensor] = []

    def with_memory(patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> dict[str, Tensor]:
        views = honest(patients, index, uniforms)
        views["target"] = views["target"] + (seen[-1] if seen else 0.0)
        seen.append(views["seen"].mean())
        return dict(views)

    tiny.draw = with_memory
    with pytest.raises(PrivacyError, match=r"a draw of patients changes what the model holds.*TinyModel\.draw"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=tiny)
    # And without that line by its rows, which are others when the same batch comes again.
    monkeypatch.setattr(Traces, "none_of", lambda *_: nullcontext())
    with pytest.raises(PrivacyError, match="the model remembers earlier ones"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=tiny)


def test_a_start_of_a_round_that_is_another_at_the_same_weights_is_refused(make_plan: MakePlan, tiny: Any) -> None:
    """What it made stand still was of something else than released weights and public data."""
    honest, begun = tiny.draw, list[int]()
    tiny.start_round = lambda: begun.append(1)
    tiny.draw = lambda *given: {name: view * len(begun) for name, view in honest(*given).items()}
    with pytest.raises(PrivacyError, match="the model remembers earlier ones"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=tiny)


def test_a_sampler_that_looks_at_the_others_fails(make_plan: MakePlan, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = isolation.poisson_sample

    def fixed_size(tags: np.ndarray, rate: float, coins: Any) -> np.ndarray:
        return honest(tags, rate, coins)[:6]

    monkeypatch.setattr(isolation, "poisson_sample", fixed_size)
    with pytest.raises(PrivacyError, match="who else is sampled"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=tiny)


@pytest.mark.parametrize("engine", [BookkeepingEngine, PerUnitGradients, LoopEngine])
def test_a_clipping_that_is_too_weak_fails_in_every_engine(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    honest = engine.clipped_sum

    def weak(self: Any, views: Any, clip_norm: float) -> Any:
        found = honest(self, views, 1.05 * clip_norm)
        return type(found)(found.grads, clip_norm)

    plan, speed = make_plan(IMAGE), SpeedSpec(chunk=4, engine=engine.name)
    report = check_isolation(plan, speed=speed)
    assert report.engine == engine.name and report.why
    monkeypatch.setattr(engine, "clipped_sum", weak)
    # The survey would find it too and choose another engine; here it has been chosen.
    monkeypatch.setattr(planner, "choose_engine", lambda model, *_: engine(model))
    with pytest.raises(PrivacyError, match="more than its sensitivity"):
        check_isolation(plan, speed=speed)


def test_the_report_says_which_engine_was_checked_and_why(make_plan: MakePlan) -> None:
    assert check_isolation(make_plan(IMAGE), speed=SpeedSpec(chunk=4)).engine == "bookkeeping"
    report = check_isolation(make_plan(TEXT), speed=SpeedSpec(chunk=4))
    assert report.engine == "vmap" and "no batched losses" in report.why
    with pytest.raises(ConfigError, match=r"speed\.engine"):
        check_isolation(make_plan(TEXT), speed=SpeedSpec(engine="bookkeeping"))


def test_batch_statistics_and_buffers_are_refused_by_name(make_plan: MakePlan, tiny: Any) -> None:
    tiny.encoder.norm = nn.BatchNorm1d(3, affine=False, track_running_stats=False)
    with pytest.raises(PrivacyError, match=r"encoder\.norm.*BatchNorm1d"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=tiny)
    tiny.encoder.norm = nn.LayerNorm(3)
    tiny.encoder.register_buffer("centre", torch.zeros(3))
    with pytest.raises(PrivacyError, match=r"encoder\.centre"):
        check_isolation(make_plan(), speed=SpeedSpec(chunk=4), model=tiny)


COLUMNS = {
    "kind": "columns", "path": ["a.csv", "b.csv"], "patient_column": "id", "columns": {"age": "AGE, years", "sex": "S"},
    "units": {"sodium": "mmol/L"}, "missing": ["NA", "-9"], "multiline": True, "max_bad_share": 0.1,
}  # fmt: skip


def test_a_table_is_read_as_the_site_declares_it(make_plan: MakePlan) -> None:
    declared = parse(ColumnsSource, COLUMNS, "source")
    report = check_isolation(make_plan(TABLE), speed=SpeedSpec(chunk=5), declared=declared)
    assert "not finite" in report.pairs and 0.9 < report.greatest_contribution <= 2.0
    with pytest.raises(DataError, match=r"units\.sodium"):
        check_isolation(
            make_plan(TABLE), speed=SpeedSpec(chunk=5), declared=parse(ColumnsSource, COLUMNS | {"units": {}}, "source")
        )


def test_a_reader_that_imputes_a_missing_number_from_the_other_patients_fails(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = source_module.READERS["columns", "table"]

    def imputing(*given: Any) -> Any:
        reading = honest(*given)
        absent = reading.records[:, 2] == 0
        reading.records[absent, 0] = reading.records[~absent, 0].mean()
        reading.records[absent, 2] = 1
        return reading

    monkeypatch.setitem(source_module.READERS, ("columns", "table"), imputing)
    with pytest.raises(PrivacyError, match="how another patient's are read"):
        check_isolation(make_plan(TABLE), speed=SpeedSpec(chunk=5))


def test_synthetic_pairs_differ_in_one_patient_only(make_plan: MakePlan, kind: dict[str, Any]) -> None:
    data = make_plan(kind).data
    patients = synthetic_patients(data, 12)
    assert len(without_patient(patients, 5)) == 11 and patients.units[5] not in without_patient(patients, 5).units
    for what in kinds(data):
        other = with_other_patient(patients, 5, data, what)
        assert other.units == patients.units and other.records.dtype == patients.records.dtype
        for place in range(12):
            mine, theirs = (p.take(np.array([place])).records for p in (patients, other))
            assert np.array_equal(mine, theirs) == (place != 5)
    longest = with_other_patient(patients, 5, data, "longest")
    assert longest.counts()[5] == 200


def test_model_views_and_rows_are_on_the_device_that_the_site_trains_on(
    make_plan: MakePlan, kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's "meta" device stands in for one that this machine lacks: it has shapes and no values to compare."""
    asked: list[SpeedSpec] = []
    rows: list[Tensor] = []

    def device(speed: SpeedSpec) -> torch.device:
        asked.append(speed)
        return torch.device("meta")

    def compared(_what: str, base: Any, other: Any, _victim: str) -> float:
        rows.extend([base.rows[0], other.rows[0]])
        return 0.0

    monkeypatch.setattr(isolation, "training_device", device)
    monkeypatch.setattr(isolation, "_compare_rows", compared)
    for name in ("check_alone", "check_full_batch", "_compare_again", "_compare_size"):
        monkeypatch.setattr(isolation, name, lambda *_: None)
    blind = SimpleNamespace(none_of=lambda _what: nullcontext(), look=lambda _what: None)
    monkeypatch.setattr(isolation, "Traces", lambda *_: blind)
    for name in ("compare_sums", "sum_of"):
        monkeypatch.setattr(isolation, name, lambda *_: 0.0)
    monkeypatch.setattr(isolation, "tight", lambda _rows: 1.0)
    monkeypatch.setattr(isolation, "shapes_of", lambda *_: (2,))
    speed = SpeedSpec(chunk=3, device="cuda")
    report = check_isolation(make_plan(kind), speed=speed)
    assert asked == [speed] and len(rows) == 2 * len(report.pairs)
    assert {row.device.type for row in rows} == {"meta"} and {row.dtype for row in rows} == {torch.float32}


def test_a_device_that_is_not_there_is_refused_and_the_threads_are_the_sites(
    make_plan: MakePlan, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"speed\.device"):
        check_isolation(make_plan(), speed=SpeedSpec(device="cuda"), model=tiny)
    before, seen = torch.get_num_threads(), list[int]()
    honest = isolation.draw_coins

    def draw_coins(*args: Any) -> Any:
        seen.append(torch.get_num_threads())
        return honest(*args)

    monkeypatch.setattr(isolation, "draw_coins", draw_coins)
    check_isolation(make_plan(), speed=SpeedSpec(chunk=8, threads=before + 1), model=tiny)
    assert set(seen) == {before + 1} and torch.get_num_threads() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is there")
def test_our_objectives_pass_on_cuda(make_plan: MakePlan, kind: dict[str, Any]) -> None:
    report = check_isolation(make_plan(kind), speed=SpeedSpec(chunk=5, device="cuda"))
    assert report.greatest_change <= TOLERANCE and 0.9 < report.greatest_contribution <= 2.0
