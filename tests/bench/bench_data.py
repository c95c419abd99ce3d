"""How fast records are read, what training waits for them, and what a million of them need.

    python tests/bench/bench_data.py [--kinds dicom edf ...] [--records 400] [--workers 1 2] [--repeat 3] [--json FILE]
        [--no-reading] [--no-waiting] [--size 1000000 --patients 200000 --folder DIR]

Prints tables; asserts nothing. Reading: made-up records, written in each format by the product's own writers, read as before an
approval (`read_records`): records a second, medians, all formats and numbers of workers in turn; formats that are not a folder
of files are read in this process. Waiting: private steps on a kept copy, as a round takes them, ViT-Tiny masked autoencoding of
64 x 64 images and one model of each other kind of data: the share of a step's time that it waits for the next views, drawn
ahead or not. A round reads nothing but the kept copy, so the format of the files has no part in it. Size (--size): records
gathered, ordered, written as a kept copy, opened again in a new process, and trained on: seconds, and the greatest memory of
each process by the kernel's count, with pages of mapped files, which it takes back; own: without these, at the end.
`--folder` needs three times the records' room.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from data_cases import CASES, in_folder, written
from rich.console import Console
from rich.table import Table

from ssl_core.config import StudyPlan, parse
from ssl_core.data.decoding import Found
from ssl_core.data.folder_files import Listed
from ssl_core.data.gathering import gather
from ssl_core.data.kept import read_kept, write_kept
from ssl_core.data.patients import group
from ssl_core.data.reading import Effort
from ssl_core.data.source import Source, read_records
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.spec.data import Data, ImageData
from ssl_core.trust.random import UnitCoins

if TYPE_CHECKING:
    from ssl_core.objectives.base import Views

# torch is imported where it is used: every worker process imports this file anew, as a site's workers import the command.
Index = npt.NDArray[np.int64]
IMAGE = ImageData(kind="image", height=64, width=64)
SMALL = ImageData(kind="image", height=32, width=32)
BATCH, STEPS = 64, 6
# Of each kind of data, in the sizes of data_cases.py, the encoder and task whose steps wait.
MODELS: dict[str, tuple[Data, dict[str, Any], str]] = {
    "image": (IMAGE, {"name": "vit", "patch": 8}, "masked-autoencoding"),
    "signal": (CASES["wfdb"].data, {"name": "signal-transformer", "patch": 100}, "masked-autoencoding"),
    "sound": (CASES["sound"].data, {"name": "vit", "patch": 8}, "masked-autoencoding"),
    "text": (CASES["xml"].data, {"name": "text-transformer"}, "masked-language"),
    "table": (CASES["columns, csv"].data, {"name": "table-transformer"}, "masked-features"),
    "events": (CASES["events"].data, {"name": "event-transformer"}, "next-event"),
}


def reading(kinds: Sequence[str], records: int, workers: Sequence[int], repeat: int) -> list[dict[str, Any]]:
    """Records a second of each format and number of workers."""
    with tempfile.TemporaryDirectory() as root:
        sources = {kind: written(kind, records, Path(root) / kind.replace(", ", "-")) for kind in kinds}
        arms = [(kind, count) for kind in kinds for count in (workers if in_folder(kind) else [0])]
        seconds: dict[tuple[str, int], list[float]] = {arm: [] for arm in arms}
        found: dict[str, int] = {}
        for _ in range(repeat):
            for kind, count in arms:
                source, data = sources[kind]
                begin = time.perf_counter()
                found[kind] = len(read_records(source, data, Effort(workers=count)).owners)
                seconds[kind, count].append(time.perf_counter() - begin)
        return [
            {
                "part": "reading",
                "format": kind,
                "workers": count,
                "records": found[kind],
                "bytes_per_record": _bytes(sources[kind][0]) // found[kind],
                "records_per_second": found[kind] / median(seconds[kind, count]),
            }
            for kind, count in arms
        ]


def _bytes(source: Source) -> int:
    return sum(path.stat().st_size for path in source.folder.rglob("*") if path.is_file())


def waiting(repeat: int) -> list[dict[str, Any]]:
    """Share of a private step that waits for views, drawn ahead or not, for each kind of data."""
    return [row for kind in MODELS for row in _waiting(kind, repeat)]


def _waiting(kind: str, repeat: int) -> list[dict[str, Any]]:
    from ssl_core.objectives.build import build_model
    from ssl_core.privacy.ahead import drawn_ahead
    from ssl_core.privacy.engines import choose_engine, synthetic_views
    from ssl_core.privacy.sampling import draw_coins

    plan = _plan(kind)
    model, generator = build_model(plan), np.random.default_rng(0)
    engine = choose_engine(model, synthetic_views(model, plan.data), "bookkeeping")
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "patients.npz"
        with path.open("wb") as stream:
            write_kept(stream, synthetic_patients(plan.data, 1024))
        patients, coins = read_kept(path, plan.data), UnitCoins.fresh()

        def draw(index: Index) -> Views:
            return model.draw(patients, index, draw_coins(patients.tags[index], coins, model.coins))

        def at_once(parts: Sequence[Index]) -> Iterator[tuple[Index, Callable[[Index], Views]]]:
            return ((part, draw) for part in parts)

        def ahead(parts: Sequence[Index]) -> Iterator[tuple[Index, Callable[[Index], Views]]]:
            with ThreadPoolExecutor(1) as thread:
                yield from drawn_ahead(parts, draw, thread)

        arms = {"drawn ahead": ahead, "drawn when needed": at_once}
        shares: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
        for _ in range(repeat):
            for name, arm in arms.items():
                parts = np.split(generator.integers(0, len(patients), BATCH * STEPS), STEPS)
                waited, begin = 0.0, time.perf_counter()
                for part, views in arm(parts):
                    asked = time.perf_counter()
                    given = views(part)
                    waited += time.perf_counter() - asked
                    engine.clipped_sum(given, 0.1)
                whole = time.perf_counter() - begin
                shares[name].append((waited / whole, whole / STEPS))
        return [
            {
                "part": "waiting",
                "data": kind,
                "model": f"{plan.encoder.name} tiny, {plan.objective.name}",
                "arm": name,
                "waiting_share": median(share for share, _ in found),
                "seconds_per_step": median(seconds for _, seconds in found),
                "batch": BATCH,
            }
            for name, found in shares.items()
        ]


def _plan(kind: str) -> StudyPlan:
    data, encoder, task = MODELS[kind]
    return parse(
        StudyPlan,
        {
            "name": "bench", "purpose": "time the drawing of views", "alone": True, "seed": 1,
            "data": data.model_dump(mode="json"), "encoder": {"size": "tiny", **encoder}, "objective": {"name": task},
            "privacy": {
                "unit": "patient", "adjacency": "add-or-remove-one", "noise": "site", "sampling_rate": 0.01,
                "noise_multiplier": 1.0, "max_grad_norm": 0.1, "delta": 1e-5,
            },
            "training": {"optimizer": "adam", "learning_rate": 1e-3},
            "rounds": {"rounds": 1, "steps_per_round": 1, "max_void": 0},
            "aggregation": {"update_range": 1.0},
            "sites": [{"name": "a", "nominal_size": 1000}],
        },
        "plan",
    )  # fmt: skip


def size(records: int, patients: int, folder: Path) -> list[dict[str, Any]]:
    """Build, open and sample a study of so many records, each in a process of its own."""
    path = folder / "bench-patients.npz"
    context = multiprocessing.get_context("spawn")
    rows = []
    try:
        for name, step, given in (("built", _build, (path, records, patients)), ("opened, ten samples", _open, (path,))):
            receive, send = context.Pipe(duplex=False)
            process = context.Process(target=_measured, args=(send, step, given))
            process.start()
            send.close()
            rows.append({"part": "size", "step": name, "records": records, "patients": patients, **receive.recv()})
            process.join()
        rows[0]["gigabytes"] = path.stat().st_size / 1e9
    finally:
        path.unlink(missing_ok=True)
    return rows


def _measured(pipe: Any, step: Callable[..., dict[str, float]], given: tuple[Any, ...]) -> None:
    begin = time.perf_counter()
    found = step(*given)
    # Not getrusage: its maximum is that of the process which this one was forked from, too.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak, own = (int(status[name].split()[0]) / 1e6 for name in ("VmHWM", "RssAnon"))
    pipe.send({"seconds": time.perf_counter() - begin, "peak_gb": peak, "own_gb_at_end": own, **found})


def _build(path: Path, records: int, patients: int) -> dict[str, float]:
    generator = np.random.default_rng(0)

    def decoded() -> Iterator[tuple[Listed, Sequence[Found]]]:
        for number in range(records):
            values = generator.standard_normal(SMALL.values, np.float32)
            yield Listed(f"{number:08d}", path, None), [Found(f"patient-{number % patients:07d}", f"{number:08d}", values)]

    read = gather("made up", decoded(), SMALL, path.parent)
    found = group(read.owners, read.records, read.order, path.parent)
    with path.open("wb") as stream:
        write_kept(stream, found)
    return {}


def _open(path: Path) -> dict[str, float]:
    from ssl_core.encoders.vit import VisionTransformer
    from ssl_core.objectives.masked_autoencoding import MaskedAutoencodingModel
    from ssl_core.privacy.sampling import draw_coins

    begin = time.perf_counter()
    patients = read_kept(path, SMALL)
    opened = time.perf_counter() - begin
    encoder = VisionTransformer(SMALL, size="nano", patch=8)
    model = MaskedAutoencodingModel(SMALL, encoder, mask_fraction=0.75, decoder_width=32, decoder_depth=1)
    coins = UnitCoins.fresh()
    for _ in range(10):
        index = np.random.default_rng().integers(0, len(patients), 2000)
        model.draw(patients, index, draw_coins(patients.tags[index], coins, model.coins))
    return {"opening_seconds": opened}


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """One table a part."""
    for part in dict.fromkeys(row["part"] for row in rows):
        chosen = [row for row in rows if row["part"] == part]
        names = [name for name in dict.fromkeys(name for row in chosen for name in row) if name != "part"]
        table = Table(*names, title=part)
        for row in chosen:
            table.add_row(*(f"{row[n]:.3g}" if isinstance(row.get(n), float) else str(row.get(n, "")) for n in names))
        console.print(table)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--records", type=int, default=400)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-reading", action="store_true")
    parser.add_argument("--no-waiting", action="store_true")
    parser.add_argument("--size", type=int)
    parser.add_argument("--patients", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    import torch

    from deploy.demo import machine_line
    from ssl_core.privacy.machine import keep_freed_memory, threads

    machine = f"{machine_line()}; 1 thread; torch {torch.__version__}"
    console = Console(width=160 if not sys.stdout.isatty() else None)
    console.print(machine)
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    if not given.no_reading:
        rows += reading(given.kinds, given.records, given.workers, given.repeat)
    if not given.no_waiting:
        with threads(1):
            rows += waiting(given.repeat)
    if given.size:
        rows += size(given.size, min(given.patients, given.size), given.folder)
    show(rows, console)
    if given.json:
        given.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
