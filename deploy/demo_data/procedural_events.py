"""Generated streams of coded events -> five sites; nothing is fetched and nobody is described.

Comes in: what a study says of its events, a public seed. Goes out: `DemoSites`. The streams are those of
`ssl_core/procedural/events.py`, one record a patient, as rows of patient, time and code in a CSV file, in no order: what the
site's own reader of events reads. Four labels, the factors that the generator drew: three of them no count of codes and gaps
tells, one it does. The sites differ in nothing but their patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from deploy.demo_data.sites import DemoSites, Sizes, generated_sites, generator_seed, write_events, write_labels
from ssl_core.procedural.events import FACTORS, made_events
from ssl_core.spec.data import EventData

LABEL_NAMES = tuple(name.replace(" ", "-") for name in FACTORS)
NOTICE = "Procedural events: streams generated from a seed, no patient. Their results say nothing about medicine."
_FIRST_DAY, _DAYS = datetime(2000, 1, 1), 3650


def write_sites(folder: Path, data: EventData, *, nominal_sizes: Sizes, seed: int = 0, patients: int = 3_000) -> DemoSites:
    """Write five sites of `patients` pretraining patients, 400 pool and 500 test patients each under `folder`."""

    def write(place: Path, number: int, parts: Mapping[str, list[str]]) -> None:
        made = made_events(generator_seed(seed, number), sum(map(len, parts.values())), data)
        rng = np.random.default_rng([seed, 1, number])
        labels: list[tuple[str, list[int]]] = []
        for part, ids in parts.items():
            rows: list[tuple[str, str, str]] = []
            # The generator goes on where the part before it ended.
            for patient, (codes, hours, factors) in zip(ids, made, strict=False):
                begin = _FIRST_DAY + timedelta(days=int(rng.integers(_DAYS)))
                times = [(begin + timedelta(hours=hour)).isoformat(timespec="seconds") for hour in hours.tolist()]
                rows += [(patient, time, data.vocabulary[code]) for time, code in zip(times, codes.tolist(), strict=True)]
                if part != "source":
                    labels.append((patient, factors.astype(int).tolist()))
            order = rng.permutation(len(rows)).tolist()
            write_events(place, "events" if part == "source" else part, f"{part}.toml", [rows[index] for index in order])
        write_labels(place, LABEL_NAMES, labels)

    return generated_sites(
        folder, write, nominal_sizes=nominal_sizes, label_names=LABEL_NAMES, notice=NOTICE, patients=patients
    )
