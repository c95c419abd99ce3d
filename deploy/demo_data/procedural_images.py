"""Generated images -> five sites; nothing is fetched and nobody is described.

Comes in: what a study says of its images, a public seed. Goes out: `DemoSites`. The pictures are those of a warm start (see
`ssl_core/procedural/images.py` for their sources), as uint8: mean 128, 40 grey values a standard deviation, cut off at 0 and
255. Two labels, known because the generator made them: one big body holds the shapes, or they lie scattered; a part of the
picture is its own mirror image. Shades and places are drawn anew for each picture, so no weighted sum of pixels tells either:
the raw floor, a linear model, is no better than a coin here, by construction. Each patient has one picture; the sites differ
in nothing but their patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deploy.demo_data.sites import DemoSites, Sizes, generated_sites, generator_seed, write_images, write_labels
from ssl_core.procedural.images import FACTORS, made_images
from ssl_core.spec.data import ImageData

LABEL_NAMES = ("body", "mirrored")
NOTICE = (
    "Procedural images: generated from a seed, no patient. Their results say nothing about medicine, and the raw floor is "
    "no better than a coin on them by construction."
)
_MIDDLE, _SPREAD = 128.0, 40.0


def write_sites(folder: Path, data: ImageData, *, nominal_sizes: Sizes, seed: int = 0, patients: int = 2_000) -> DemoSites:
    """Write five sites of `patients` pretraining patients, 400 pool and 500 test patients each under `folder`."""
    whole = data.model_copy(update={"pool": 1})

    def write(place: Path, number: int, parts: Mapping[str, list[str]]) -> None:
        made = made_images(generator_seed(seed, number), sum(map(len, parts.values())), whole)
        pictures = eight_bits(made.records).reshape(-1, *data.shape)
        known = made.factors[:, [FACTORS.index(name) for name in LABEL_NAMES]].astype(int)
        labels: list[tuple[str, list[int]]] = []
        begin = 0
        for part, ids in parts.items():
            rows = slice(begin, begin + len(ids))
            begin += len(ids)
            write_images(place, "images" if part == "source" else part, f"{part}.toml", pictures[rows], np.array(ids))
            if part != "source":
                labels += zip(ids, known[rows].tolist(), strict=True)
        write_labels(place, LABEL_NAMES, labels)

    return generated_sites(
        folder, write, nominal_sizes=nominal_sizes, label_names=LABEL_NAMES, notice=NOTICE, patients=patients
    )


def eight_bits(records: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Standardised pixels as grey values, of the same shape."""
    grey: npt.NDArray[np.uint8] = np.clip(np.rint(_MIDDLE + _SPREAD * records), 0, 255).astype(np.uint8)
    return grey
