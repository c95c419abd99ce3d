"""A folder kind for tests: PNG files of one size, read by pillow, as a reader of the product does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.decoding import Bounds, Found, decode_all
from ssl_core.data.folder_files import list_files
from ssl_core.data.gathering import gather
from ssl_core.data.images import standardise
from ssl_core.data.reading import Effort, Fault, Reading
from ssl_core.data.source import MODELS, READERS, Source
from ssl_core.spec.data import ImageData


class TestedPictures(FolderSource):
    """Only for tests."""

    __test__ = False
    kind: Literal["tested-pictures"]
    files: tuple[str, ...] = ("*.png",)


@dataclass(frozen=True)
class _Decode:
    data: ImageData

    def __call__(self, path: Path) -> Sequence[Found]:
        pixels = np.asarray(Image.open(path).convert("L"))
        if pixels.shape != self.data.shape:
            return [Found(None, "", Fault.SHAPE)]
        records, _, blank = standardise(pixels[None], self.data)
        return [Found(None, "", Fault.BLANK if blank[0] else records[0])]


def _read(source: Source, data: ImageData, effort: Effort) -> Reading:
    declared = source.declared
    assert isinstance(declared, TestedPictures)
    files = list_files(declared, source.folder)
    return gather(declared.path, decode_all(files, _Decode(data), Bounds(1 << 24, 20.0), workers=0), data, effort.scratch)


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the kind known for one test."""
    monkeypatch.setitem(MODELS, "tested-pictures", TestedPictures)
    monkeypatch.setitem(READERS, ("tested-pictures", "image"), _read)
