"""What each pretext task is worth under privacy: random encoder, raw floor, no privacy, epsilon 8, epsilon 3.

    python tests/bench/bench_objectives.py [--data image signal text table events] [--objectives masked-image ...]
        [--seeds 0 1 2] [--steps 100] [--folder FOLDER] [--csv docs/objectives.csv] [--figure docs/objectives.svg] [--json FILE]
        [--all] [--show] [--quick]

Linear probe and kNN at 50, 200 and 1000 labels on data of objectives_data.py, by the arms of objectives_arms.py. A seed
changes the start weights; test set and label draws are the same for every arm and seed. Each row is added to the CSV as it
ends, and rows that are there already are not made again: a cut run goes on where it stopped. Methods come in turn, seed
after seed, so that a cut run has whole seeds. Then a table, and in words where privacy leaves nothing over the floor or over
the random encoder. --all: every method, also the slower ones. --show: no new rows. --quick: two steps, small batches,
generated reports: for a look at the bench. Nothing is chosen here: the learning rates stood in design notes before.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from objectives_arms import Recipe, arm_features, batch_of, floor_features, noise_for, score
from objectives_data import TASKS, Task, generated_text
from objectives_table import ARMS, Row, append_row, difference_lines, figure, markdown, read_rows, words

from deploy.demo import machine_line
from ssl_core.errors import ChoralError, ConfigError, DataError

ROWS = Path("docs/objectives.csv")
TARGETS: dict[str, float] = {"eps8": 8.0, "eps3": 3.0}
_VIT = {"name": "vit", "size": "micro", "patch": 8}
_RESNET = {"name": "resnet", "size": "nano"}
_PIECES = {"name": "signal-transformer", "size": "micro", "patch": 50}
_FRONT_END = _PIECES | {"front_end": True, "pool": "mean-deviation"}
_CONV = {"name": "conv1d", "size": "small"}
_DECODER = {"decoder_width": 64, "decoder_depth": 1}
_LOG_POWER = {"name": "masked-autoencoding", "mask_fraction": 0.5, "target": "log-power", **_DECODER}
_LOOKS = (
    "simsiam", "byol", "vicreg-own", "barlow-own", "crops-contrast",
    "simclr-buckets", "simclr-bank", "moco-bank", "swav-bank", "dino-bank",
)  # fmt: skip


def _joint(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"name": "joint", "tasks": list(tasks), "weights": [1.0] * len(tasks)}


USUAL: dict[str, tuple[Recipe, ...]] = {
    "image": (
        Recipe({"name": "mlp-image"}, {"name": "masked-image"}),
        Recipe(_VIT, {"name": "masked-autoencoding", **_DECODER}),
        Recipe(_RESNET, {"name": "rotation"}),
    ),
    "signal": (
        Recipe(_PIECES, _LOG_POWER),
        Recipe(_CONV, {"name": "contrastive-predictive", "pieces": 10, "ahead": 2}),
        Recipe(_CONV, {"name": "own-contrast", "segments": 5, "gap": 40}),
    ),
    "text": (Recipe({"name": "hashed-words", "width": 64}, {"name": "masked-words"}, rate=5e-2),),
    "table": (Recipe({"name": "table-transformer", "size": "tiny"}, {"name": "masked-features"}),),
    "events": (Recipe({"name": "event-transformer", "size": "tiny"}, {"name": "next-event"}),),
}
# One encoder for each task and kind of data: the smallest that it trains.
MORE: dict[str, tuple[Recipe, ...]] = {
    "image": (
        Recipe(_VIT | {"pool": "mean-deviation"}, {"name": "masked-autoencoding", "summary_weight": 1.0, **_DECODER}),
        Recipe(_VIT, {"name": "denoising"}),
        Recipe(_VIT, {"name": "latent-prediction"}),
        Recipe(_RESNET, {"name": "jigsaw", "grid": 2, "gap": 2}),
        *(Recipe(_VIT, {"name": name}) for name in _LOOKS),
        Recipe(_VIT, _joint({"name": "masked-autoencoding", **_DECODER}, {"name": "simclr-bank"})),
    ),
    "signal": (
        Recipe(_FRONT_END, _LOG_POWER),
        Recipe(_PIECES, {"name": "denoising", "target": "log-power"}),
        Recipe(_PIECES, {"name": "latent-prediction"}),
        Recipe(_PIECES, {"name": "own-contrast", "segments": 5, "gap": 50}),
        Recipe(_CONV, {"name": "shuffled-order", "segments": 4, "gap": 50}),
        *(Recipe(_PIECES, {"name": name}) for name in _LOOKS),
        Recipe(_PIECES, _joint(_LOG_POWER, {"name": "simclr-bank"})),
    ),
    "text": (
        # At the data's 1,000 a batch a seed of one of these takes an hour on one core.
        *(
            Recipe({"name": "text-transformer", "size": "tiny"}, {"name": name}, batch=256)
            for name in ("masked-language", "next-token", "shuffled-order")
        ),
    ),
    "table": (),
    "events": (),
}


def one_row(data: str, task: Task, recipe: Recipe | None, arm: str, seed: int | None, given: argparse.Namespace) -> Row:
    """Make one arm's features and score them; `recipe` and `seed` None: the floor."""
    begun = time.monotonic()
    target, steps = TARGETS.get(arm), 0 if arm == "random" else given.steps
    batch = batch_of(task, recipe)
    sigma, epsilon = (None, None) if target is None else noise_for(target, batch / task.nominal, steps)
    if recipe is None or seed is None:
        method, features = "raw floor", floor_features(task)
    else:
        method, features = recipe.name, arm_features(task, recipe, target=target, seed=seed, steps=steps)
    scores = score(task, features, given.budgets, given.draws)
    seconds = round(time.monotonic() - begun, 1)
    return Row(data, method, arm, seed, task.metric, given.steps, batch, given.draws, sigma, epsilon, seconds, scores)


def run(given: argparse.Namespace, rows: list[Row]) -> None:
    """Every row that is asked for and not in `rows`: floors first, then seed by seed each method with all its arms."""
    done = {row.key for row in rows}
    tasks = _tasks(given)
    asked: list[tuple[str, Recipe | None, str, int | None]] = [(data, None, "floor", None) for data in tasks]
    for seed in given.seeds:
        for data in tasks:
            for recipe in USUAL[data] + (MORE[data] if given.all or given.objectives else ()):
                if not given.objectives or recipe.objective["name"] in given.objectives:
                    asked += [(data, recipe, arm, seed) for arm in ARMS[1:]]
    for data, method, arm, seed in asked:
        if (data, "raw floor" if method is None else method.name, arm, seed) in done:
            continue
        row = one_row(data, tasks[data], method, arm, seed, given)
        append_row(given.csv, row)
        rows.append(row)
        print(f"{row.data} {row.method} {row.arm} {'' if seed is None else seed}: {row.seconds:.0f} s", flush=True)


def _tasks(given: argparse.Namespace) -> dict[str, Task]:
    """The data types that are asked for; where none is named, those whose files are there."""
    found: dict[str, Task] = {}
    for data in given.data or list(TASKS):
        read = generated_text if given.quick and data == "text" else TASKS[data]
        try:
            found[data] = read(given.folder, 32 if given.quick else None)
        except DataError as error:
            if given.data:
                raise
            print(f"{data} is left out: {error}", file=sys.stderr)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one message on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", nargs="+", choices=sorted(TASKS), help="default: all whose files are there")
    parser.add_argument("--objectives", nargs="+", help="names of pretext tasks, of the slower ones too")
    parser.add_argument("--all", action="store_true", help="the slower methods too")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--draws", type=int, default=10, help="label draws at each budget")
    parser.add_argument("--budgets", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--folder", type=Path, default=Path("data"), help="where the arrays are")
    parser.add_argument("--csv", type=Path, help=f"rows are added here (default: {ROWS}; --quick needs a file of its own)")
    parser.add_argument("--figure", type=Path, help=".svg or .png: the linear probe at the middle budget")
    parser.add_argument("--json", type=Path, help="also write machine, rows and words here")
    parser.add_argument("--show", action="store_true", help="only say what the rows on disk say")
    parser.add_argument("--quick", action="store_true", help="two steps, two draws, small batches, generated reports")
    given = parser.parse_args(arguments)
    if given.quick:
        given.steps, given.draws, given.budgets = 2, 2, [20, 50]
        if given.csv is None:
            parser.error("--quick needs --csv: its rows are not for the docs")
    given.csv = given.csv or ROWS
    torch.set_num_threads(1)
    columns = [f"{probe}_{budget}" for budget in given.budgets for probe in ("linear", "knn")]
    try:
        rows = read_rows(given.csv, steps=given.steps, draws=given.draws, columns=columns)
        if not given.show:
            run(given, rows)
        if not rows:
            raise ConfigError("there are no rows to show", field="--csv", value=given.csv.name, remedy="run without --show")
        if given.figure is not None:
            figure(rows, f"linear_{given.budgets[len(given.budgets) // 2]}", given.figure)
    except ChoralError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    said = words(rows)
    print("\n".join(["", machine_line(), "", *markdown(rows), "", *difference_lines(rows), "", *said]))
    if given.json is not None:
        written = {"machine": machine_line(), "rows": [asdict(row) for row in rows], "words": said}
        given.json.write_text(json.dumps(written, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
