"""Step 13: label efficiency of one demo site, as a process of its own: `python -m deploy.evaluate_site --help`.

Comes in: a site's folder (pool.toml, test.toml, labels.csv: `deploy/demo_data/sites.py`) and encoder folders. Goes
out: one JSON file: scores by arm, budget and draw, groups that were short of a class, budgets left out, seconds.
The harness reads it from the site's folder; no message of the federation carries any of it (ruling 27).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_core.card import read_encoder
from ssl_core.chain import write_durably
from ssl_core.data.labels import Labels, read_labels
from ssl_core.data.reading import Effort
from ssl_core.data.source import load_patients, read_source
from ssl_core.encoders.base import Encoder
from ssl_core.errors import ChoralError, ConfigError, DataError
from ssl_core.evaluation.floor import floor_patients
from ssl_core.evaluation.label_efficiency import Arm, ArmScores, Labelled, label_efficiency
from ssl_core.objectives.build import build_model
from ssl_core.spec.data import Data

BUDGETS = (20, 50, 200)
DRAWS = 10


@dataclass(frozen=True, slots=True)
class SiteEvaluation:
    """`short`: names of groups with fewer than two positives or negatives in a draw; `left_out`: budgets beyond the pool."""

    site: str
    scores: tuple[ArmScores, ...]
    short: tuple[str, ...]
    left_out: tuple[int, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; `scores` fit `deploy.demo_result.Scores`."""
        return asdict(self)


def evaluate_site(
    folder: Path,
    *,
    federated: Path,
    own: Path | None,
    random: Path | None = None,
    budgets: Sequence[int] = BUDGETS,
    draws: int = DRAWS,
    seed: int = 0,
) -> SiteEvaluation:
    """Run every arm. `random` None: the start weights of the federated encoder's plan. `own` None: its arms are left out."""
    begun = time.monotonic()
    shared = read_encoder(federated)
    plan = shared.card.plan
    encoders: dict[Arm, Encoder] = {Arm.FEDERATED: shared.model.encoder}
    encoders[Arm.RANDOM] = (build_model(plan) if random is None else read_encoder(random).model).encoder
    if own is not None:
        private = read_encoder(own)
        if private.card.plan.data != plan.data or private.card.plan.encoder != plan.encoder:
            raise ConfigError("own encoder is of another kind than the federated one", field="own", value=private.card.name)
        encoders[Arm.OWN] = private.model.encoder
    table = read_labels(folder / "labels.csv")
    pool = _labelled(folder / "pool.toml", plan.data, table)
    test = _labelled(folder / "test.toml", plan.data, table)
    found = label_efficiency(
        pool, test, encoders, data=plan.data, exclusive=table.exclusive, budgets=budgets, draws=draws, seed=seed
    )
    short = sorted({group for groups in found.short.values() for group in groups})
    names = tuple(table.names[group] for group in short)
    return SiteEvaluation(folder.name, found.rows, names, found.left_out, time.monotonic() - begun)


def _labelled(source_toml: Path, data: Data, table: Labels) -> Labelled:
    source = read_source(source_toml)
    # These files are the demo's own, so no worker need guard this process from them.
    patients = load_patients(source, data, Effort(workers=0))
    raw = floor_patients(source, patients, data)
    index, labels = table.align(patients)
    if not len(index):
        raise DataError("no patient of a source has labels", field="source", value=source_toml.name)
    return Labelled(patients.take(index), raw.take(index), labels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one message on stderr."""
    parser = argparse.ArgumentParser(prog="python -m deploy.evaluate_site", description="Label efficiency of one demo site.")
    parser.add_argument("--site-folder", type=Path, required=True, help="folder with pool.toml, test.toml, labels.csv")
    parser.add_argument("--federated", type=Path, required=True, help="folder of the federated encoder")
    parser.add_argument("--own", type=Path, help="folder of the encoder of the site's own study")
    parser.add_argument("--random", type=Path, help="folder of a random encoder (default: the plan's start weights)")
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS), help="numbers of labelled patients")
    parser.add_argument("--draws", type=int, default=DRAWS, help="label draws, shared between arms")
    parser.add_argument("--seed", type=int, default=0, help="public seed of the draws")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        result = evaluate_site(
            given.site_folder,
            federated=given.federated,
            own=given.own,
            random=given.random,
            budgets=given.budgets,
            draws=given.draws,
            seed=given.seed,
        )
    except ChoralError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    write_durably(given.out, json.dumps(result.to_json(), indent=1).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
