"""An image array (fields image, patient, label) -> five sites by a keyed hash of the patient (arrays.py).

Comes in: an npz file such as `chest_xray_64.npz`: image uint8 [m, height, width], patient text [m], label text [m].
Goes out: `DemoSites`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploy.demo_data.arrays import Labelled, Rows, Texts, texts, write_by_hash
from deploy.demo_data.sites import DemoSites, Sizes, write_images
from ssl_core.data.npz import load_fields
from ssl_core.errors import DataError

_KEY = b"choral-demo-images-1"


def write_sites(array: Path, folder: Path, *, nominal_sizes: Sizes, classes: tuple[str, ...] | None = None) -> DemoSites:
    """Write five sites under `folder` (new or empty); `classes` None evaluates every label that occurs."""
    fields = load_fields(array, array.name, ("image", "patient", "label"))
    raw = fields["image"]
    if raw.dtype != np.uint8 or raw.ndim != 3:
        raise DataError("images must be uint8 [m, height, width]", field="image", value=f"{raw.dtype} {raw.ndim}-d")
    image = raw.astype(np.uint8)
    patient, label = (texts(name, fields[name], len(image)) for name in ("patient", "label"))

    def write(place: Path, part: str, rows: Rows, owners: Texts) -> None:
        write_images(place, "images" if part == "source" else part, f"{part}.toml", image[rows], owners)

    labelled = Labelled("images", array.name, _KEY, patient, label)
    return write_by_hash(labelled, folder, write, nominal_sizes=nominal_sizes, classes=classes)
