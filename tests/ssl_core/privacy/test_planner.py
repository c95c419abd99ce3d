"""How many units at once: from what was seen, within the memory given; a part that does not fit is halved, never lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests_engines import IMAGE, TEXT
from torch import Tensor

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.data.patients import Patients
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import ConfigError
from ssl_core.objectives.build import build_model
from ssl_core.privacy import planner
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import synthetic_views
from ssl_core.privacy.gradients import ClippedSum, PerUnitGradients, units_of
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.privacy.planner import choose_pace, clipped_sum_in_halves, greatest_batch, total_memory
from ssl_core.privacy.sampling import poisson_sample
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.privacy.training import train_round

MakePlan = Callable[..., StudyPlan]
CPU = torch.device("cpu")


@given(st.integers(0, 10**9), st.integers(1, 10**7), st.integers(1, 10**7), st.integers(1, 10**11), st.integers(1, 4096))
def test_the_greatest_batch_that_fits_is_found_without_looking_at_large_ones(
    standing: int, unit: int, small: int, memory: int, most: int
) -> None:
    """Needs as they are: the weights' gradients alone, until the units' activations outgrow them."""
    looked: list[int] = []

    def need(size: int) -> int:
        looked.append(size)
        return standing + max(small, unit * size)

    fitting = [size for size in (1 << power for power in range(13)) if size <= most and 1.5 * need(size) <= memory]
    looked.clear()
    if not fitting:
        with pytest.raises(ConfigError, match=r"speed\.memory_gib"):
            greatest_batch(need, memory, most)
        return
    found, needed = greatest_batch(need, memory, most)
    if small <= 8 * unit:
        assert found == fitting[-1] and needed == pytest.approx(need(found), rel=1e-6, abs=2)
        looked.pop()
        assert max(looked) <= 64
    assert 1.5 * needed <= memory


NEEDS: dict[str, Callable[[int], int]] = {
    "a line": lambda size: 7 + 3 * size,
    "flat at first": lambda size: max(6, size),
    "flat up to 20": lambda size: max(20, size),
    "steeper from 12 on": lambda size: max(5 * size, 9 * size - 48),
    "less steep from 16 on": lambda size: min(2 * size, 16 + size) + max(0, size - 32),
}


@pytest.mark.parametrize("name", NEEDS)
def test_needs_are_drawn_on_from_where_they_are_a_line_and_one_at_most_is_beyond_memory(name: str) -> None:
    """For every memory that just suffices for some size: to the byte."""
    sizes, needed = [1 << power for power in range(13)], NEEDS[name]
    for least in (-(-3 * needed(size) // 2) for size in sizes):
        looked: list[int] = []

        def need(size: int, looked: list[int] = looked) -> int:
            looked.append(needed(size))
            return looked[-1]

        best = max(size for size in sizes if 1.5 * needed(size) <= least)
        assert greatest_batch(need, least, 4096) == (best, needed(best))
        assert sum(1.5 * seen > least for seen in looked) <= 1 and len(looked) <= 9


def test_what_is_refused_says_how_much_would_do() -> None:
    with pytest.raises(ConfigError, match=r"limit: at least 1\.500"):
        greatest_batch(lambda size: size * planner.GIB, planner.GIB, 64)
    assert greatest_batch(lambda size: size * planner.GIB, 3 * planner.GIB // 2, 64) == (1, planner.GIB)
    with pytest.raises(ConfigError, match=r"limit: more than 1\.500, which 1 takes"):
        planner._need_of_whole(lambda size: size * planner.GIB, planner.GIB, 2)
    assert planner._need_of_whole(lambda size: size * planner.GIB, 3 * planner.GIB, 2) == 2 * planner.GIB


def test_less_memory_gives_a_smaller_batch_and_too_little_is_refused(make_plan: MakePlan) -> None:
    plan = make_plan(IMAGE)
    model = build_model(plan)
    paces = [choose_pace(model, plan.data, SpeedSpec(memory_gib=gib), CPU) for gib in (1.0, 0.0004, 0.0002)]
    assert [pace.size for pace in paces] == sorted({pace.size for pace in paces}, reverse=True)
    assert paces[0].size == planner.MOST_UNITS["cpu"] and f"{paces[0].size} patients at once" in paces[0].why
    with pytest.raises(ConfigError, match=r"one patient.*speed\.memory_gib.*at least"):
        choose_pace(model, plan.data, SpeedSpec(memory_gib=1e-6), CPU)


def test_the_sites_own_chunk_is_taken_as_it_stands(make_plan: MakePlan) -> None:
    plan = make_plan(TEXT)
    pace = choose_pace(build_model(plan), plan.data, SpeedSpec(chunk=7, memory_gib=1e-6), CPU)
    assert pace.size == 7 and pace.engine.name == "vmap" and "speed.chunk" in pace.why


def test_the_memory_of_this_machine_is_at_most_what_the_kernel_says() -> None:
    with open("/proc/meminfo", encoding="ascii") as file:
        said = int(file.readline().split()[1]) * 1024
    assert total_memory(CPU) <= said * 1.01


def test_a_container_that_may_use_less_than_the_machine_has_is_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "unlimited").write_text("max\n")
    monkeypatch.setattr(planner, "_LIMITS", (tmp_path / "unlimited", tmp_path / "absent"))
    whole = total_memory(CPU)
    (tmp_path / "limit").write_text("1073741824\n")
    monkeypatch.setattr(planner, "_LIMITS", (tmp_path / "unlimited", tmp_path / "limit"))
    assert total_memory(CPU) == 1 << 30 < whole


class Short:
    """An engine on a device that holds `most` units."""

    def __init__(self, engine: Any, most: int, error: Exception) -> None:
        self.engine, self.most, self.error = engine, most, error
        self.summed: list[int] = []

    def clipped_sum(self, views: dict[str, Tensor], clip_norm: float) -> ClippedSum:
        if units_of(views) > self.most:
            raise self.error
        self.summed.append(units_of(views))
        found: ClippedSum = self.engine.clipped_sum(views, clip_norm)
        return found


def part_of(engine: Any, views: dict[str, Tensor]) -> Callable[[Any], ClippedSum]:
    return lambda index: engine.clipped_sum({name: view[torch.from_numpy(index)] for name, view in views.items()}, 0.1)


OUT = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
OUT += [RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")]


@pytest.mark.parametrize("error", OUT, ids=["cuda", "python", "cpu", "cublas"])
def test_a_part_that_does_not_fit_is_halved_and_its_sum_is_the_same(
    make_plan: MakePlan, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    plan = make_plan(IMAGE)
    model = build_model(plan)
    patients = synthetic_patients(plan.data, 11)
    views = model.draw(patients, np.arange(11), 1.0 - np.random.default_rng(0).random((11, model.coins)))
    whole = PerUnitGradients(model).clipped_sum(views, 0.1)
    short = Short(PerUnitGradients(model), 3, error)
    found = clipped_sum_in_halves(np.arange(11), part_of(short, views))
    assert sum(short.summed) == 11 and max(short.summed) <= 3
    for mine, theirs in zip(found.grads, whole.grads, strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-7)
    assert found.sensitivity() == whole.sensitivity()
    assert caplog.messages and not any(character.isdigit() for line in caplog.messages for character in line)


def test_one_unit_that_does_not_fit_and_any_other_error_are_raised(make_plan: MakePlan) -> None:
    plan = make_plan(IMAGE)
    model = build_model(plan)
    views = synthetic_views(model, plan.data)
    for most, error in ((0, OUT[0]), (1, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))):
        with pytest.raises(type(error), match=str(error)):
            clipped_sum_in_halves(np.arange(3), part_of(Short(PerUnitGradients(model), most, error), views))
    single = Short(PerUnitGradients(model), 1, OUT[0])
    clipped_sum_in_halves(np.arange(3), part_of(single, views))
    assert single.summed == [1, 1, 1]


def test_a_step_that_runs_out_of_memory_is_finished_on_the_same_sample(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(IMAGE)
    model, made = build_model(plan), synthetic_patients(plan.data, 40)
    # Patient i has i + 1 in each pixel, so that views tell whose they are.
    numbers = np.repeat(np.arange(40), made.counts())[:, None] + np.ones((1, 64))
    patients = Patients(made.units, made.tags, made.offsets, numbers.astype(np.float32))
    sampled, summed, steps, noised = list[list[int]](), list[int](), list[list[int]](), list[int]()
    honest, noise = BookkeepingEngine.clipped_sum, GaussianNoise.normal

    def sample(*args: Any) -> Any:
        found = poisson_sample(*args)
        sampled.append(found.tolist())
        return found

    def short(self: BookkeepingEngine, views: dict[str, Tensor], clip_norm: float) -> ClippedSum:
        if units_of(views) > 2:
            raise OUT[0]
        summed.extend(round(float(value)) - 1 for value in views["target"].flatten(1)[:, 0])
        return honest(self, views, clip_norm)

    def released(_: Any) -> None:
        steps.append(sorted(summed))
        summed.clear()

    def draws(self: GaussianNoise, count: int, scale: float) -> Tensor:
        noised.append(count)
        return noise(self, count, scale)

    def trained(speed: SpeedSpec) -> None:
        train_round(
            model=model, patients=patients, plan=plan, nominal_size=40, start=start, first_step=0,
            total_steps=plan.total_steps, state=None, speed=speed, tap=released,
        )  # fmt: skip

    start, coarse = to_vector(model), SpeedSpec(chunk=16, precision="bfloat16")
    trained(coarse)  # the survey of the engine and the look at the shape are not part of a step
    steps.clear()
    monkeypatch.setattr(BookkeepingEngine, "clipped_sum", short)
    monkeypatch.setattr(GaussianNoise, "normal", draws)
    monkeypatch.setattr("ssl_core.privacy.training.poisson_sample", sample)
    trained(SpeedSpec(chunk=16))
    assert steps == sampled and max(map(len, sampled)) > 2 and len(steps) == plan.rounds.steps_per_round
    assert sum(noised) == len(steps) * len(start)
    with pytest.raises(ConfigError, match="each has the one shape"):
        trained(coarse)


REAL = """
import resource, numpy as np, torch
from ssl_core.privacy.planner import clipped_sum_in_halves
from ssl_core.privacy.gradients import ClippedSum

torch.set_num_threads(1)
largest = []
def sum_of(index):
    made = torch.from_numpy(index).float()[:, None].repeat(1, 1 << 21)      # 8 MiB a unit
    largest.append(len(made))
    return ClippedSum((made[:, 0].sum(dim=0, keepdim=True).double(),), 1.0)

with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), resource.RLIM_INFINITY))
found = clipped_sum_in_halves(np.arange(64), sum_of)
assert float(found.grads[0]) == 2016.0 and sorted(set(largest)) == [16], (found, largest)
"""


def test_a_processor_whose_memory_really_ends() -> None:
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
