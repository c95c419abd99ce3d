"""Which tests run which lines of the secure sum, which of them see a refusal leave it there, and how long each takes.

`python tests/mutants/baseline.py OUT` runs the tests once on the code as it is and writes that as JSON. The tests of a
mutant are chosen from it: first those in which its very line refused, then others that ran it, quick ones first.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mutation import FOLDER, ROOT, Mutant

SUITES = ("tests/ssl_core/secure_sum", "tests/adversary", "tests/fuzz")
# Not the bench, nor the 10,000 schedules (the few hundred of test_schedules_reach_every_outcome stay), nor privacy.
_ELSEWHERE = ("test_bench", "test_ledger", "test_noise*", "test_training", "test_inversion", "test_flower_control")
LEFT_OUT = (*(f"--ignore-glob=*/{name}.py" for name in _ELSEWHERE), "-k", "not test_every_sum_is_exact_or_its_round_void")
BUDGET = 25.0


def options() -> list[str]:
    """What every run of the tests here is started with: no plugins that fork, nothing kept on disk, the same draws."""
    suites = [suite for suite in SUITES if (ROOT / suite).exists()]
    return ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=120", "-o", "addopts=--import-mode=importlib",
            f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"), f"--confcutdir={ROOT / suites[0]}", "--no-header",
            "-m", "not nightly and not chaos", "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # fmt: skip


def quiet_hypothesis() -> None:
    """Hypothesis draws the same every time and remembers nothing: a mutant's failure must not meet the next one."""
    from hypothesis import settings

    settings.register_profile("mutants", database=None, derandomize=True)
    settings.load_profile("mutants")


class Watcher:
    """A pytest plugin that notes lines run and refusals of the secure sum, test by test."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, Any]] = {}
        self.failed: list[str] = []
        self._prefix = str(FOLDER) + "/"
        self._lines: set[tuple[str, int]] = set()
        self._refusals: set[tuple[str, int]] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Tests on a federation of folders and processes, whose fixtures stand above, are slow and elsewhere."""
        items[:] = [item for item in items if not {"make_federation"} & set(getattr(item, "fixturenames", ()))]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """From fixtures to teardown."""
        self._lines, self._refusals = set(), set()
        begin = time.perf_counter()
        sys.settrace(self._enter)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.tests[item.nodeid] = {
                "seconds": round(time.perf_counter() - begin, 4),
                "lines": _by_file(self._lines),
                "refusals": _by_file(self._refusals),
            }

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The tests must pass before anything is left out."""
        if report.failed:
            self.failed.append(report.nodeid)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._within if frame.f_code.co_filename.startswith(self._prefix) else None

    def _within(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self._lines.add((frame.f_code.co_filename, frame.f_lineno))
        elif event == "exception":
            self._refusals.add((frame.f_code.co_filename, frame.f_lineno))
        return self._within


def _by_file(places: set[tuple[str, int]]) -> dict[str, list[int]]:
    files = sorted({file for file, _ in places})
    return {Path(file).stem: sorted(line for other, line in places if other == file) for file in files}


def chosen(mutant: Mutant, tests: dict[str, dict[str, Any]], budget: float = BUDGET) -> list[str]:
    """The tests of a mutant, likeliest first, until their time adds up to the budget."""
    lines = set(range(mutant.lines[0], mutant.lines[1] + 1))
    spent, found = 0.0, []
    for kind in ("refusals", "lines"):
        group = [name for name, seen in tests.items() if not lines.isdisjoint(seen[kind].get(mutant.file, ()))]
        for name in sorted(group, key=lambda name: tests[name]["seconds"]):
            if name not in found and spent + tests[name]["seconds"] <= budget:
                spent += tests[name]["seconds"]
                found.append(name)
    return found


def main(out: Path) -> int:
    """Run all tests once; 1 when one fails."""
    quiet_hypothesis()
    watcher = Watcher()
    suites = [str(ROOT / suite) for suite in SUITES if (ROOT / suite).exists()]
    code = pytest.main([*options(), *LEFT_OUT, *suites], plugins=[watcher])
    out.write_text(json.dumps(watcher.tests, indent=0))
    return int(code != 0 or bool(watcher.failed))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(Path(sys.argv[1])))
