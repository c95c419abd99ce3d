"""Builds broken on purpose, one function each, and which check of `choral audit` must name the fault.

`python tests/shared/tests_broken_builds.py` (`make audit`) attacks them all and prints the table of docs/audit.md.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.table import Table

from ssl_core.audit.checks import run_checks
from ssl_core.audit.mechanism import audit_mechanism
from ssl_core.audit.report import AuditReport
from ssl_core.privacy import training
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.buckets import BucketEngine
from ssl_core.privacy.gradients import ClippedSum, PerUnitGradients
from ssl_core.privacy.hooks import HooksEngine
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.privacy.reference import LoopEngine

Sabotage = Callable[[pytest.MonkeyPatch], None]

REAL_NOISE = GaussianNoise.normal


def healthy(patch):
    """Nothing is broken."""


def no_noise(patch):
    patch.setattr(GaussianNoise, "normal", lambda self, count, scale: torch.zeros(count))


def quarter_noise(patch):
    patch.setattr(GaussianNoise, "normal", lambda self, count, scale: REAL_NOISE(self, count, scale / 4))


def clip_by(patch, clipped: Callable[..., ClippedSum]):
    """Every engine of single units that a site trains with takes its sum from `clipped(rows, clip_norm)`."""
    for engine in (BookkeepingEngine, HooksEngine, PerUnitGradients, LoopEngine):
        patch.setattr(engine, "clipped_sum", lambda self, views, clip_norm: clipped(self.rows(views), clip_norm))


def no_clipping(patch):
    clip_by(patch, lambda rows, clip_norm: ClippedSum(tuple(row.double().sum(dim=0) for row in rows), clip_norm))


def no_bucket_clipping(patch):
    def unclipped(self, views, clip_norm):
        return ClippedSum(tuple(row.double()[0] for row in self.rows(views)), clip_norm, reach=2)

    patch.setattr(BucketEngine, "clipped_sum", unclipped)


def bucket_noise_for_one_c(patch):
    """The sensitivity of a sum of buckets taken for that of a sum of units."""
    patch.setattr(ClippedSum, "sensitivity", lambda self, adjacency: self.clip_norm)


def fixed_batches(patch):
    """A random sample of fixed size in each step."""

    def sample(tags, rate, coins):
        order = np.argsort(coins.uniform(tags, "sample", 1)[:, 0])
        return np.sort(order[: round(rate * len(tags))])

    patch.setattr(training, "poisson_sample", sample)


def shuffled(patch):
    """Batches of a permutation, dealt until it is used up, as an ordinary loader gives them."""
    decks: dict[int, list[int]] = {}

    def sample(tags, rate, coins):
        deck, size = decks.setdefault(len(tags), []), round(rate * len(tags))
        if len(deck) < size:
            deck[:] = np.random.default_rng().permutation(len(tags)).tolist()
        return np.sort(np.array([deck.pop() for _ in range(size)], np.int64))

    patch.setattr(training, "poisson_sample", sample)


def repeated_noise(patch):
    """A source draws for the first of two releases and gives the same again for the second."""
    # Each source is kept beside what it drew, so that its number is not given to another one.
    drawn: dict[int, tuple[GaussianNoise, list[torch.Tensor]]] = {}

    def normal(self, count, scale):
        _, kept = drawn.setdefault(id(self), (self, []))
        if kept:
            return kept.pop()
        kept.append(REAL_NOISE(self, count, scale))
        return kept[0].clone()

    patch.setattr(GaussianNoise, "normal", normal)


BUILDS: dict[str, tuple[Sabotage, str | None]] = {
    "healthy": (healthy, None),
    "noise missing": (no_noise, "mechanism audit"),
    "sigma / 4": (quarter_noise, "mechanism audit"),
    "clip off": (no_clipping, "contribution"),
    "shuffled, not Poisson": (shuffled, "sampling"),
    "noise once for two releases": (repeated_noise, "fresh noise"),
    "clip off in buckets": (no_bucket_clipping, "mechanism audit"),
    "noise for C in buckets": (bucket_noise_for_one_c, "bucket noise"),
}
"""The build, what breaks it, and the first check that must fail."""

ALSO = {
    "noise missing": ("noise scale", "bucket noise"),
    "sigma / 4": ("noise scale", "bucket noise"),
    "noise once for two releases": ("fresh bucket noise",),
    "clip off in buckets": ("bucket contribution",),
}
"""Checks that fail beside the first."""


def attack(sabotage: Sabotage) -> AuditReport:
    """The mechanism audit and its checks on a build broken by `sabotage`."""
    with pytest.MonkeyPatch.context() as patch:
        sabotage(patch)
        return AuditReport(mechanism=audit_mechanism(), checks=run_checks(), training=None, inversion=(), seconds=0.0)


def main() -> None:
    """Attack every build and print what caught it."""
    table = Table(title="Builds broken on purpose", title_justify="left")
    for column in ("build", "outcome", "caught by", "also fails", "bounds on epsilon (claim 4.00)"):
        table.add_column(column)
    table.add_column("what a check of the parts measured")
    for name, (sabotage, _) in BUILDS.items():
        report = attack(sabotage)
        first, *others = report.failures or ("-",)
        bounds = ", ".join(f"{run.bound:.2f}" for run in report.runs)
        measured = {check.name: f"{check.measured}; demanded {check.demanded}" for check in report.checks}
        table.add_row(name, report.outcome, first, ", ".join(others) or "-", bounds, measured.get(first, "-"))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
