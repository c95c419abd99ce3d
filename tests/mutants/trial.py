"""One trial: the tests of a mutant, in a forked process that imports the secure sum without one check (or without two).

No file is changed: the fork serves its own import system the other source. It starts with everything imported that is not
ours, so that a trial costs half a second and the tests up to the first failure.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

import pytest
from baseline import options, quiet_hypothesis
from mutation import FOLDER, ROOT, Mutant

KILLED, SURVIVED, STUCK = "killed", "survived", "timeout"
PATIENCE = 90.0
LIKELY = 6


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant, and the test that failed first."""

    verdict: str
    test: str
    seconds: float


class _First:
    """A pytest plugin that keeps the first failure."""

    failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The test, if it failed in any phase."""
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """The file, if it cannot even be imported."""
        if report.failed and not self.failed:
            self.failed = report.nodeid


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_data(self, path: str) -> bytes:
        return self._source

    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError("no compiled file belongs to this source")


class _Finder(MetaPathFinder):
    def __init__(self, sources: dict[str, bytes]) -> None:
        self._sources = {f"ssl_core.secure_sum.{file}": source for file, source in sources.items()}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None):
        if name not in self._sources:
            return None
        file = str(FOLDER / f"{name.rpartition('.')[2]}.py")
        return importlib.util.spec_from_file_location(name, file, loader=_Loader(name, file, self._sources[name]))


def without(mutants: Sequence[Mutant]) -> dict[str, bytes]:
    """{file: source} of the tree without these checks, which may stand in one file or two."""
    sources: dict[str, bytes] = {}
    for mutant in sorted(mutants, key=lambda mutant: -mutant.begin):
        plain = sources.get(mutant.file) or (FOLDER / f"{mutant.file}.py").read_bytes()
        sources[mutant.file] = mutant.applied(plain)
    return sources


def preload() -> None:
    """What trials need and what is not ours."""
    sys.path.insert(0, str(ROOT))
    for name in ("hypothesis", "cryptography.hazmat.primitives.asymmetric.x25519", "securesystemslib.dsse", "torch", "opacus"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    quiet_hypothesis()
    ours = [name for name in sys.modules if name.split(".")[0] in ("ssl_core", "client", "server", "deploy")]
    if ours:
        raise RuntimeError(f"already imported: {', '.join(ours)}")


class Trial:
    """A running fork; `done` is its outcome once there is one."""

    def __init__(self, mutants: Sequence[Mutant], tests: Sequence[str], patience: float = PATIENCE) -> None:
        self.mutants = tuple(mutants)
        self._begin, self._patience = time.monotonic(), patience
        reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reader)
            _child(writer, without(mutants), tests)
        os.close(writer)
        self._reader = os.fdopen(reader, "rb")

    def done(self) -> Outcome | None:
        """The outcome, or None while it runs."""
        seconds = time.monotonic() - self._begin
        finished, _ = os.waitpid(self._pid, os.WNOHANG)
        if finished == 0 and seconds < self._patience:
            return None
        if finished == 0:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        with self._reader:
            said = self._reader.read()
        if not said:
            return Outcome(STUCK, "", seconds)
        code, test = json.loads(said)
        return Outcome(SURVIVED if code == 0 else KILLED, test, seconds)

    def outcome(self) -> Outcome:
        """Waits for it."""
        while (found := self.done()) is None:
            time.sleep(0.02)
        return found


def _child(writer: int, sources: dict[str, bytes], tests: Sequence[str]) -> None:
    """Never returns: the process ends with the tests."""
    code, first = 0, _First()
    try:
        os.chdir(ROOT)
        with open(os.devnull, "r+b") as nothing:
            for stream in (0, 1, 2):
                os.dup2(nothing.fileno(), stream)
        sys.meta_path.insert(0, _Finder(sources))
        for part in (tests[:LIKELY], tests[LIKELY:]):
            code = int(pytest.main([*options(), *part], plugins=[first])) if part else code
            if code != 0:
                break
        test = first.failed.replace(str(Path.cwd()) + os.sep, "")
        os.write(writer, json.dumps([code, test]).encode())
    finally:
        os._exit(code)
