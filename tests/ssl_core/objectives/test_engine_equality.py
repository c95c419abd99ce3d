"""Every plan that can be trained, K = 1 and K = 4: the engine that is chosen gives what a loop of single units gives."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from tests_tasks import plan
from torch import Tensor

from ssl_core.config import SpeedSpec
from ssl_core.objectives.build import MODELS, build_model
from ssl_core.privacy.engines import choose_engine, synthetic_views
from ssl_core.privacy.isolation import TOLERANCE, check_isolation
from ssl_core.privacy.reference import exact_sum, loop_rows

# simclr-buckets has no gradients of single units: privacy/test_buckets.py and test_isolation_buckets.py hold it to its own.
BUCKETED = sorted(kinds for kinds in MODELS if kinds[2] == "simclr-buckets")
SUMMARISED = [(*kinds, "summary") for kinds in sorted(MODELS) if kinds[2] == "masked-autoencoding"]
ALL = pytest.mark.parametrize("kinds", [*sorted(MODELS.keys() - set(BUCKETED)), *SUMMARISED], ids=" ".join)
SEVERAL = pytest.mark.parametrize("records", [1, 4])
ONE_OF_EACH_TASK = {task: (data, encoder, task) for data, encoder, task in sorted(MODELS) if task != "simclr-buckets"}


@ALL
@SEVERAL
@pytest.mark.parametrize("choice", ["auto", "vmap"])
def test_rows_and_clipped_sum_are_those_of_single_units(
    kinds: tuple[str, ...], records: int, choice: Literal["auto", "vmap"]
) -> None:
    given = plan(kinds, records)
    model = build_model(given)
    views = synthetic_views(model, given.data)
    engine = choose_engine(model, views, choice)
    # The tables of hashed-words are bare parameters, which no layer owns.
    assert engine.name == ("vmap" if choice == "vmap" or kinds[1] == "hashed-words" else "bookkeeping"), engine.reason
    wanted = loop_rows(model, views)
    for fast, slow in zip(engine.rows(views), wanted, strict=True):
        assert float((fast - slow).norm()) <= 1e-4 * float(slow.norm()) + 1e-6
    whole = _flat(exact_sum(wanted, 0.01))
    found = _flat(engine.clipped_sum(views, (1.0 + engine.gamma) * 0.01).grads)
    assert float((found - whole).norm()) <= 1e-5 * float(whole.norm())


@ALL
@SEVERAL
def test_the_isolation_check_passes(kinds: tuple[str, ...], records: int) -> None:
    report = check_isolation(plan(kinds, records), speed=SpeedSpec(chunk=4))
    assert report.greatest_change <= TOLERANCE and len(report.pairs) >= 5


# What couples patients is in the task and the reader: the other engine, whose rows are compared above, looks at each task once.
@pytest.mark.parametrize(
    "kinds", sorted({kinds[2]: kinds for kinds in sorted(MODELS) if kinds not in BUCKETED}.values()), ids=" ".join
)
def test_the_isolation_check_passes_by_the_general_engine(kinds: tuple[str, str, str]) -> None:
    report = check_isolation(plan(kinds, 4), speed=SpeedSpec(chunk=4, engine="vmap"))
    assert report.engine == "vmap" and report.greatest_change <= TOLERANCE and len(report.pairs) >= 5


@pytest.mark.parametrize("kinds", [*sorted(MODELS), *SUMMARISED], ids=" ".join)
def test_no_gradient_jumps(kinds: tuple[str, ...]) -> None:
    """At a jump the last bits, in which two batches differ, could change another patient's row by more than bits."""
    given = plan(kinds, 4)
    model = build_model(given)
    views = synthetic_views(model, given.data)
    left: list[Any] = [(model(views) if kinds in BUCKETED else model.losses(views)).grad_fn]
    seen = set()
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [following for following, _ in node.next_functions]
    names = {type(node).__name__ for node in seen}
    jumps = ("Relu", "Max", "Min", "Abs", "Threshold", "Hardtanh", "Median", "Sort", "Topk")
    assert len(names) > 5 and not [name for name in names if name.startswith(jumps)]


def _flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.double().reshape(-1) for part in parts])
