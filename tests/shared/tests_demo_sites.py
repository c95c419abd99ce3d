"""What holds of every demo's sites, whatever the data are."""

from __future__ import annotations

import hashlib
from pathlib import Path

from deploy.demo_data.sites import DemoSites
from ssl_core.data.check import check_source
from ssl_core.data.labels import read_labels
from ssl_core.data.reading import Effort
from ssl_core.data.source import load_patients, read_source
from ssl_core.spec.data import Data


def digest(folder: Path) -> str:
    state = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        state.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return state.hexdigest()


def check_shape(demo: DemoSites, data: Data) -> None:
    """Every site passes its own check, labels cover pool and test, and no patient trains and is scored."""
    assert [site.name for site in demo.sites] == sorted(site.name for site in demo.sites) and len(demo.sites) == 5
    here = Effort(workers=0)
    seen: set[str] = set()
    for site in demo.sites:
        trained = set(load_patients(read_source(site.source), data, here).units)
        labels = read_labels(site.labels)
        assert labels.names == demo.label_names
        scored: set[str] = set()
        for toml in (site.pool, site.test):
            check_source(read_source(toml), data, here)
            patients = load_patients(read_source(toml), data, here)
            index, values = labels.align(patients)
            assert len(index) == len(patients) > 0 and (values.sum(axis=0) > 0).all()
            assert not scored & set(patients.units)
            scored |= set(patients.units)
        check_source(read_source(site.source), data, here)
        assert scored == set(labels.units) and not (scored | trained) & seen and not trained & scored
        seen |= scored | trained
