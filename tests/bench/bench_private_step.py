"""One private gradient by every engine beside a plain training step: ratios of time and of peak memory.

    python tests/bench/bench_private_step.py --help

Prints a table; asserts nothing. plain is one forward pass of the batch and one backward to all parameters, for the sum of
the losses; an engine is `clipped_sum` of the same views: clipped, summed in float64, without noise. "whole step" is what a
site does for a sample of one physical batch, beside plain and a step of Adam: bookkeeping's sum, noise for every parameter,
a step of Adam; a larger sample has one noise for all its batches. All ran in turn, each repetition beginning with another
one; shown are medians of times, of the repetitions' ratios to plain ("CPU": in processor time, which a busy machine disturbs
less), and the peak of memory above what the model and views take: on CPU by the allocations that torch's profiler sees in
one more run, on CUDA by its allocator. "gap" is the largest difference from the reference over all parameters, relative to
the norm of the sum, each engine at C / (1 + its gamma); the reference runs for 16 units at most. ghost: Opacus' ghost
clipping, two backward passes, other people's code throughout.
An engine without figures is one that does not fit the model, or whose rows would fill the memory: the reason stands there.
With `--precision bfloat16` plain runs under autocast, and so does bookkeeping, in the one shape in which it trains; the others
know float32 alone; the gap is to the reference in float32. `--compile`: torch.compile of plain's losses, never of an engine.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from private_step_cases import MODELS, Case
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from deploy.demo import machine_line
from ssl_core.config import Precision, PrivacySpec, TrainingSpec
from ssl_core.errors import ConfigError
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.descent import Descent
from ssl_core.privacy.engines import Choice, choose_engine
from ssl_core.privacy.gradients import ClippedSum
from ssl_core.privacy.machine import keep_freed_memory, threads
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.privacy.optimizer import PrivateOptimizer
from ssl_core.privacy.reference import LoopEngine

CLIP_NORM, MOST_LOOPED = 0.1, 16
GHOST = "ghost"
ENGINES = ("bookkeeping", "hooks", "vmap", GHOST)
WITH_ROWS = ("hooks", "vmap")
FLOAT32_ALONE = "it computes in float32 alone"
PLAIN_STEP, PRIVATE_STEP = "plain, whole step", "bookkeeping, whole step"


class _Losses(nn.Module):
    """Opacus wraps what `forward` of a batch is."""

    def __init__(self, model: PretextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: Views) -> Tensor:
        return self.model.losses(views)


class Ghost:
    """Opacus' ghost clipping: a backward pass for the norms, a second one of the weighted losses for the sum."""

    gamma = 0.0

    def __init__(self, model: PretextModel) -> None:
        # A copy: its hooks would fire in the other engines' passes. Its rule for Embedding wants numbers in one piece.
        own = copy.deepcopy(model)
        for module in own.modules():
            if isinstance(module, nn.Embedding):
                module.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
        self.wrapped = GradSampleModuleFastGradientClipping(
            _Losses(own), batch_first=True, loss_reduction="sum", max_grad_norm=CLIP_NORM
        )

    def clipped_sum(self, views: Views, clip_norm: float) -> ClippedSum:
        """`clip_norm` is the one that it was made with."""
        self.wrapped.enable_hooks()
        losses = self.wrapped(views)
        losses.sum().backward(retain_graph=True)
        factors = self.wrapped.get_clipping_coef()
        self.wrapped.disable_hooks()
        self.wrapped.zero_grad()
        (losses * factors).sum().backward()
        grads = tuple(parameter.grad.double() for parameter in self.wrapped.parameters())
        self.wrapped.zero_grad()
        return ClippedSum(grads, clip_norm)


@dataclass(frozen=True)
class How:
    """What all rows are measured with."""

    device: str
    precision: Precision
    compiled: bool
    engines: Sequence[str] = ENGINES


def whole_steps(case: Case, views: Views, how: How, summed: Callable[[], ClippedSum]) -> dict[str, Callable[[], Any]]:
    """Plain and private training to the new weights; the learning rate leaves them where they are."""
    model, privacy = case.model, PrivacySpec(
        unit="patient", adjacency="add-or-remove-one", noise="site", sampling_rate=0.5, noise_multiplier=1.0,
        max_grad_norm=CLIP_NORM, delta=1e-5,
    )  # fmt: skip
    training = TrainingSpec(optimizer="adam", learning_rate=1e-12)
    adam = torch.optim.Adam(model.parameters(), lr=1e-12, fused=True)
    descent = Descent(model, training, total_steps=1 << 20, state=None)
    optimizer = PrivateOptimizer(descent, privacy, nominal_size=2 * MOST_LOOPED, noise=GaussianNoise(), reach=1)

    def plain() -> None:
        with torch.autocast(how.device, torch.bfloat16) if how.precision == "bfloat16" else nullcontext():
            total = model.losses(views).sum()
        total.backward()
        adam.step()
        adam.zero_grad()

    def private() -> None:
        optimizer.add(replace(summed(), clip_norm=CLIP_NORM))
        optimizer.release(optimizer.releases)

    return {PLAIN_STEP: plain, PRIVATE_STEP: private}


def steps_of(case: Case, views: Views, units: int, how: How) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Plain training and each engine that fits, by name; and of the others, why not."""
    model, absent, half = case.model, {}, how.precision == "bfloat16"
    losses = torch.compile(model.losses) if how.compiled else model.losses

    def plain() -> None:
        with torch.autocast(how.device, torch.bfloat16) if half else nullcontext():
            total = losses(views).sum()
        total.backward()
        for parameter in model.parameters():
            parameter.grad = None

    found: dict[str, Callable[[], Any]] = {"plain": plain}
    free = torch.cuda.mem_get_info()[0] if how.device == "cuda" else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    rows = units * sum(parameter.numel() * 4 for parameter in model.parameters())
    for name in how.engines:
        if half and name != "bookkeeping":
            absent[name] = FLOAT32_ALONE
            continue
        if name == GHOST:
            found[name] = partial(Ghost(model).clipped_sum, views, CLIP_NORM)
            continue
        try:
            engine = choose_engine(model, case.trial, cast(Choice, name))
        except ConfigError as error:
            absent[name] = error.problem
            continue
        if half:
            engine = BookkeepingEngine(model, how.precision).within((units,))
        if name in WITH_ROWS and 3 * rows > free:
            absent[name] = f"its rows need {rows / 1e9:.1f} GB and as much again twice, {free / 1e9:.1f} GB are free"
        else:
            found[name] = partial(engine.clipped_sum, views, CLIP_NORM * (1 + engine.gamma))
    if "bookkeeping" in found:
        found |= whole_steps(case, views, how, found["bookkeeping"])
    return found, absent


def peak(step: Callable[[], Any], device: str) -> int:
    """Bytes that `step` has at its peak above what there was before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes))


def gap(found: ClippedSum, wanted: Sequence[Tensor]) -> float:
    """Largest difference over parameters, relative to the norm of the whole sum."""
    whole = torch.stack([part.norm() for part in wanted]).norm()
    return max(float((a - b).norm() / whole) for a, b in zip(found.grads, wanted, strict=True))


def measure(case: Case, batch: int, repeat: int, how: How) -> list[dict[str, Any]]:
    """A row for each engine and for plain."""
    device = how.device
    case.model.to(device)
    views = {name: view.to(device) for name, view in case.views(batch).items()}
    steps, absent = steps_of(case, views, batch, how)
    gaps: dict[str, float] = {}
    if batch <= MOST_LOOPED:
        loop = LoopEngine(case.model)
        wanted = loop.clipped_sum(views, CLIP_NORM * (1 + loop.gamma)).grads
        gaps = {name: gap(step(), wanted) for name, step in steps.items() if name not in {"plain", PLAIN_STEP, PRIVATE_STEP}}
    names, clocks = list(steps), {name: list[tuple[float, float]]() for name in steps}
    for turn in range(repeat + 1):
        names = [*names[1:], names[0]]
        for name in names:
            begin, spent = time.perf_counter(), time.process_time()
            steps[name]()
            if device == "cuda":
                torch.cuda.synchronize()
            # The first turn warms up.
            if turn:
                clocks[name].append((time.perf_counter() - begin, time.process_time() - spent))
    peaks = {name: peak(step, device) for name, step in steps.items()}

    def ratio(name: str, which: int, to: str = "plain") -> float:
        return median(mine[which] / plain[which] for mine, plain in zip(clocks[name], clocks[to], strict=True))

    base = {"model": case.name, "batch": batch, "device": device, "precision": how.precision, "plain_compiled": how.compiled}
    return [
        base
        | {
            "engine": name,
            "seconds": median(clock[0] for clock in clocks[name]),
            "time_ratio": ratio(name, 0),
            "cpu_ratio": ratio(name, 1),
            "memory_mb": peaks[name] / 1e6,
            "memory_ratio": peaks[name] / peaks["plain"],
            "gap": gaps.get(name),
            "step_ratio": ratio(PRIVATE_STEP, 0, PLAIN_STEP) if name == "bookkeeping" else None,
            "step_cpu_ratio": ratio(PRIVATE_STEP, 1, PLAIN_STEP) if name == "bookkeeping" else None,
        }
        for name in steps
        if name not in {PLAIN_STEP, PRIVATE_STEP}
    ] + [base | {"engine": name, "absent": reason} for name, reason in absent.items()]


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """The table."""
    table = Table(title="a private gradient beside a plain step")
    for column in ("model", "batch", "engine", "ms", "ratio", "CPU", "MB", "memory ratio", "gap", "whole step", "CPU"):
        table.add_column(column, justify="left" if column in {"model", "engine"} else "right")
    for row in rows:
        figures = [""] * 8
        if "absent" not in row:
            figures = [f"{1e3 * row['seconds']:.1f}", f"{row['time_ratio']:.2f}", f"{row['cpu_ratio']:.2f}"]
            figures += [f"{row['memory_mb']:.1f}", f"{row['memory_ratio']:.2f}"]
            figures += ["" if row["gap"] is None else f"{row['gap']:.0e}"]
            figures += ["" if row[ratio] is None else f"{row[ratio]:.2f}" for ratio in ("step_ratio", "step_cpu_ratio")]
        table.add_row(row["model"], str(row["batch"]), row["engine"], *figures)
    console.print(table)
    for row in rows:
        if "absent" in row:
            console.print(f"{row['engine']}, {row['model']}, {row['batch']} units: {row['absent']}", highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all rows, print them, and write them when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=list(MODELS))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES, help="beside plain")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="plain alone, by torch.compile")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only that it runs")
    parser.add_argument("--json", type=Path, help="also write machine and rows here")
    given = parser.parse_args(arguments)
    batches, repeat = ([3], 1) if given.quick else (given.batch, given.repeat)
    console, rows = Console(width=150), []
    how = How(given.device, given.precision, given.compile, given.engines)
    machine = f"{machine_line()}; {given.threads} threads; torch {torch.__version__}; {how.precision}"
    console.print(machine, highlight=False)
    # Opacus says that its backward hooks fire late, which the gap shows they do not here.
    warnings.simplefilter("ignore")
    keep_freed_memory()
    with threads(given.threads):
        for name in given.models:
            for batch in batches:
                rows += measure(MODELS[name](given.quick), batch, repeat, how)
                console.print(f"{name}, {batch} units: done", highlight=False)
    show(rows, console)
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
