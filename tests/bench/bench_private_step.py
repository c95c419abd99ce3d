"""One private gradient by every engine beside a plain training step: ratios of time and of peak memory.

    python tests/bench/bench_private_step.py [--quick] [--json FILE] [--batch 16 64] [--models transformer image words]
        [--device cpu|cuda] [--threads 1] [--repeat 7]

Prints a table; asserts nothing. plain is one forward pass of the batch and one backward to all parameters, for the sum of
the losses; an engine is `clipped_sum` of the same views: clipped, summed in float64, without noise. All ran in turn, each
repetition beginning with another one; shown are medians of times, of the repetitions' ratios to plain ("CPU": in
processor time, which a busy machine disturbs less), and the peak of memory above what the model and views take: on CPU
by the allocations that torch's profiler sees in one more run, on CUDA by its allocator. "gap" is the largest difference
from the reference over all parameters, relative to the norm of the sum, each engine at C / (1 + its gamma).
An engine that does not fit a model has no row; why is printed. opacus: hooks of Opacus 1.6 around the same batched losses,
then our clipping: rows by other people's code.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from opacus import GradSampleModule
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from deploy.demo import machine_line
from ssl_core.config import ImageData, TextData
from ssl_core.data.patients import Patients
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.objectives.masked_image import MaskedImageModel
from ssl_core.objectives.masked_words import MaskedWordsModel
from ssl_core.privacy.engines import choose_engine, synthetic_views
from ssl_core.privacy.gradients import ClippedSum, PerUnitGradients, clip_and_sum
from ssl_core.privacy.machine import threads
from ssl_core.privacy.reference import LoopEngine
from ssl_core.privacy.survey import survey
from ssl_core.privacy.synthetic import synthetic_patients

CLIP_NORM = 0.1


class Block(nn.Module):
    """Pre-norm transformer block; tokens float32 [b, T, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        shape = (*tokens.shape[:2], 3, tokens.shape[2] // 64, 64)
        query, key, value = self.mix(self.before(tokens)).view(shape).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(seen)
        return tokens + self.narrow(functional.gelu(self.wide(self.after(tokens))))


class Transformer(PretextModel):
    """`depth` blocks over patches of an image, positions from a table; each patch predicts itself."""

    def __init__(self, depth: int, width: int, tokens: int, patch: int = 48) -> None:
        super().__init__()
        self.coins, self.tokens, self.patch = 1, tokens, patch
        self.enter, self.places = nn.Linear(patch, width), nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, patch)

    def draw(self, patients: Patients, index: Any, uniforms: Any) -> Views:
        raise NotImplementedError

    def views(self, units: int) -> Views:
        generator = torch.Generator().manual_seed(0)
        return {"patches": torch.randn(units, self.tokens, self.patch, generator=generator)}

    def losses(self, views: Views) -> Tensor:
        patches = views["patches"]
        places = torch.arange(self.tokens, device=patches.device).expand(len(patches), -1)
        found = self.leave(self.norm(self.blocks(self.enter(patches) + self.places(places))))
        return (found - patches).square().mean(dim=(1, 2))

    def forward(self, views: Views) -> Tensor:
        return self.losses({name: view[None] for name, view in views.items()})[0]

    def init_range(self, name: str) -> tuple[float, float]:
        return 0.0, 0.1


class _Losses(nn.Module):
    """Opacus wraps what `forward` of a batch is."""

    def __init__(self, model: PretextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: Views) -> Tensor:
        return self.model.losses(views)


class OpacusHooks:
    """Rows by Opacus' GradSampleModule, clipped and summed by us."""

    name = "opacus"
    gamma = 2.0**-12

    def __init__(self, model: PretextModel) -> None:
        # A copy: its hooks would fire in the other engines' passes.
        self.wrapped = GradSampleModule(_Losses(copy.deepcopy(model)), batch_first=True, loss_reduction="sum")

    def clipped_sum(self, views: Views, clip_norm: float) -> ClippedSum:
        self.wrapped(views).sum().backward()
        parameters = list(self.wrapped.parameters())
        found = clip_and_sum([parameter.grad_sample for parameter in parameters], clip_norm)
        for parameter in parameters:
            parameter.grad, parameter.grad_sample = None, None
        return found


@dataclass(frozen=True)
class Case:
    """A model and how its views are made."""

    name: str
    model: PretextModel
    views: Callable[[int], Views]
    trial: Views


def transformer(quick: bool, tokens: int = 64) -> Case:
    depth, width, tokens = (1, 64, tokens // 8) if quick else (6, 192, tokens)
    model = Transformer(depth, width, tokens)
    return Case(f"transformer {depth} x {width}, {tokens} tokens", model, model.views, model.views(3))


def image(quick: bool) -> Case:
    side = 8 if quick else 32
    data = ImageData(kind="image", height=side, width=side, records_per_patient=2)
    model = MaskedImageModel(data, hidden=256, code=128, patch=4, mask_fraction=0.5, shift=1)
    return _drawn(f"masked image {side} x {side}, 2 records", model, data)


def words(quick: bool) -> Case:
    data = TextData(kind="text", buckets=16 if quick else 512)
    return _drawn("masked words", MaskedWordsModel(data, width=64, mask_fraction=0.5), data)


def _drawn(name: str, model: PretextModel, data: ImageData | TextData) -> Case:
    def views(units: int) -> Views:
        uniforms = 1.0 - np.random.default_rng(0).random((units, model.coins))
        return model.draw(synthetic_patients(data, units), np.arange(units), uniforms)

    return Case(name, model, views, synthetic_views(model, data))


MODELS = {"transformer": transformer, "few-tokens": partial(transformer, tokens=16), "image": image, "words": words}


def steps_of(case: Case, views: Views, console: Console) -> dict[str, Callable[[], Any]]:
    """Plain training and each engine that fits, by name."""
    model = case.model

    def plain() -> None:
        model.losses(views).sum().backward()
        for parameter in model.parameters():
            parameter.grad = None

    def vmap() -> Any:
        # torch's fused attention has no rule for vmap and would run unit by unit.
        with sdpa_kernel([SDPBackend.MATH]):
            return general.clipped_sum(views, CLIP_NORM * (1 + general.gamma))

    general, loop = PerUnitGradients(model), LoopEngine(model)
    found: dict[str, Callable[[], Any]] = {"plain": plain}
    reason = survey(model, case.trial)
    if reason is None:
        hooks = OpacusHooks(model)
        fast = choose_engine(model, case.trial, "bookkeeping")
        found["bookkeeping"] = lambda: fast.clipped_sum(views, CLIP_NORM * (1 + fast.gamma))
        found["opacus"] = lambda: hooks.clipped_sum(views, CLIP_NORM * (1 + hooks.gamma))
    else:
        console.print(f"{case.name}: no bookkeeping, no hooks: {reason}", highlight=False)
    found["vmap"] = vmap
    found["reference"] = lambda: loop.clipped_sum(views, CLIP_NORM * (1 + loop.gamma))
    return found


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


def measure(case: Case, batch: int, repeat: int, device: str, console: Console) -> list[dict[str, Any]]:
    """A row for each engine and for plain."""
    case.model.to(device)
    views = {name: view.to(device) for name, view in case.views(batch).items()}
    steps = steps_of(case, views, console)
    loop = LoopEngine(case.model)
    wanted = loop.clipped_sum(views, CLIP_NORM * (1 + loop.gamma)).grads
    gaps = {name: gap(step(), wanted) if name != "plain" else 0.0 for name, step in steps.items()}
    clocks: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    names = list(steps)
    for _ in range(repeat):
        names = [*names[1:], names[0]]
        for name in names:
            begin, spent = time.perf_counter(), time.process_time()
            steps[name]()
            if device == "cuda":
                torch.cuda.synchronize()
            clocks[name].append((time.perf_counter() - begin, time.process_time() - spent))
    peaks = {name: peak(step, device) for name, step in steps.items()}

    def ratio(name: str, which: int) -> float:
        return median(mine[which] / plain[which] for mine, plain in zip(clocks[name], clocks["plain"], strict=True))

    return [
        {
            "engine": name,
            "model": case.name,
            "batch": batch,
            "device": device,
            "seconds": median(clock[0] for clock in clocks[name]),
            "time_ratio": ratio(name, 0),
            "cpu_ratio": ratio(name, 1),
            "memory_mb": peaks[name] / 1e6,
            "memory_ratio": peaks[name] / peaks["plain"],
            "gap": gaps[name],
        }
        for name in steps
    ]


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """The table."""
    table = Table(title="a private gradient beside a plain step")
    for column in ("model", "batch", "engine", "ms", "ratio", "CPU", "MB", "memory ratio", "gap"):
        table.add_column(column, justify="left" if column in {"model", "engine"} else "right")
    for row in rows:
        figures = [f"{1e3 * row['seconds']:.1f}", f"{row['time_ratio']:.2f}", f"{row['cpu_ratio']:.2f}"]
        figures += [f"{row['memory_mb']:.1f}", f"{row['memory_ratio']:.2f}", f"{row['gap']:.0e}"]
        table.add_row(row["model"], str(row["batch"]), row["engine"], *figures, end_section=row["engine"] == "reference")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all rows, print them, and write them when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=list(MODELS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only that it runs")
    parser.add_argument("--json", type=Path, help="also write machine and rows here")
    given = parser.parse_args(arguments)
    batches, repeat = ([3], 1) if given.quick else (given.batch, given.repeat)
    console, rows = Console(width=150), []
    # Opacus says that its backward hooks fire late, which the gap shows they do not here; torch that vmap is slow.
    warnings.simplefilter("ignore")
    with threads(given.threads):
        for name in given.models:
            for batch in batches:
                rows += measure(MODELS[name](given.quick), batch, repeat, given.device, console)
                console.print(f"{name}, {batch} units: done", highlight=False)
    show(rows, console)
    if given.json is not None:
        machine = f"{machine_line()}; {given.threads} threads; torch {torch.__version__}"
        given.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
