"""A script of tests/bench as a module, with what it imports of that folder; both are forgotten afterwards."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@contextmanager
def bench_module(name: str) -> Iterator[ModuleType]:
    """The module `name`, as if its folder were on the path."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(BENCH))
        try:
            yield importlib.import_module(name)
        finally:
            for own in [path.stem for path in BENCH.glob("*.py")]:
                sys.modules.pop(own, None)
