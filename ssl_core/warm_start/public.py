"""Before step 1, at the operator: the only units that a warm start can train on: made from a seed, or a public corpus.

Goes out: `PublicUnits`: `Patients` in the study's declared format (each unit with as many records as a study draws of a
patient), for generated signals and sounds the factors float32 [m, F] of each record, and `origin`, plain facts for the file of
the start weights. Nothing of a hospital can come in: no module of a hospital imports this package (import-linter holds it), and
a corpus whose declaration or files lie in a site's state folder is refused, and so is a database. That a corpus is public is
the word of the person who names it. Raises `ConfigError`, `DataError`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.data.check import check_and_load
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.declared_recordings import WfdbSource
from ssl_core.data.folder_files import inside
from ssl_core.data.patients import Patients
from ssl_core.data.source import Source, read_source
from ssl_core.errors import ConfigError
from ssl_core.procedural.images import procedural_images
from ssl_core.procedural.signals import FACTORS as OF_SIGNALS
from ssl_core.procedural.signals import procedural_signals
from ssl_core.procedural.sounds import FACTORS as OF_SOUNDS
from ssl_core.procedural.sounds import procedural_sounds
from ssl_core.spec.data import Data, EventData, ImageData, PairData, SignalData, SoundData, TableData, TextData
from ssl_core.trust.random import unit_tag

_MOST_BYTES = 8 << 30
_OF_A_SITE = ("site.toml", "chain.db")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PublicUnits:
    """Units of nobody's care. `factors` float32 [m, F] stands beside `patients.records` [m, ...], or is None."""

    patients: Patients
    factors: npt.NDArray[np.float32] | None
    origin: dict[str, Any] = field(hash=False)

    @classmethod
    def from_seed(cls, seed: int, units: int, data: Data) -> PublicUnits:
        """`units` units of procedural data; texts, tables, events and pairs have none."""
        if isinstance(data, TextData | TableData | EventData | PairData):
            raise ConfigError(
                f"there is no procedural {data.kind}: generated ones would teach nothing of real ones", field="data.kind",
                value=data.kind, remedy="name a public corpus: --public SOURCE.toml",
            )  # fmt: skip
        count = units * data.records_per_patient
        if count * data.values * 4 > _MOST_BYTES:
            raise ConfigError(
                "so many public units would not fit in memory", field="--units", value=units,
                limit=_MOST_BYTES // (4 * data.values * data.records_per_patient),
            )  # fmt: skip
        records, factors, known = _made(seed, count, data)
        names = tuple(f"public-{number:08d}" for number in range(units))
        tags = np.frombuffer(b"".join(map(unit_tag, names)), np.uint8).reshape(units, 16)
        offsets = np.arange(units + 1, dtype=np.int64) * data.records_per_patient
        origin: dict[str, Any] = {"kind": f"procedural {data.kind}", "seed": seed, "units": units}
        if factors is not None:
            origin["factors"] = list(known)
        return cls(Patients(names, tags, offsets, records), factors, origin)

    @classmethod
    def from_corpus(cls, source: Path, data: Data) -> PublicUnits:
        """The records that a source TOML declares, checked as a hospital's are."""
        declared = read_source(source)
        if isinstance(declared.declared, OmopSource):
            raise ConfigError(
                "a database cannot be shown to be public: it has no files whose hashes others could compare",
                field="--public", value=declared.declared.kind, limit="files beside the source file",
                remedy="export the records as files of another kind, and name these",
            )  # fmt: skip
        files = _evidence(declared)
        for path in (source.resolve(), *files.values()):
            for folder in path.parents:
                if any((folder / name).is_file() for name in _OF_A_SITE):
                    raise ConfigError(
                        "these records lie in a hospital's state folder; a warm start trains on public data alone",
                        field="--public", value=str(folder), remedy="name a corpus that anybody may read",
                    )  # fmt: skip
        patients = check_and_load(declared, data).patients
        hashes = {name: _sha256(path) for name, path in files.items()}
        return cls(patients, None, {"kind": f"public corpus of {data.kind}", "units": len(patients), "sha256": hashes})


def _evidence(source: Source) -> dict[str, Path]:
    """All files that the records are made of, by their path below the source file's folder: the same name may stand in two.

    With the files of a folder come the index that says whose they are, and the signal files beside a WFDB header.
    """
    root = source.folder.resolve()
    files = list(source.files())
    parts = source.declared.parts if isinstance(source.declared, PairsSource) else (source.declared,)
    for part in parts:
        if isinstance(part, FolderSource) and part.index is not None:
            files.append(inside(source.folder, part.index, "index"))
        if isinstance(part, WfdbSource):
            files += [path for folder in {path.parent for path in files} for path in folder.iterdir()]
    return {path.relative_to(root).as_posix(): path.resolve() for path in sorted(files) if path.is_file()}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _made(seed: int, count: int, data: ImageData | SignalData | SoundData) -> tuple[Floats, Floats | None, tuple[str, ...]]:
    """Records, their factors where the generator knows them, and the factors' names."""
    if isinstance(data, ImageData):
        return procedural_images(seed, count, data), None, ()
    if isinstance(data, SoundData):
        sounds = procedural_sounds(seed, count, data)
        return sounds.records, sounds.factors, OF_SOUNDS
    signals = procedural_signals(seed, count, data)
    return signals.records, signals.factors, OF_SIGNALS
