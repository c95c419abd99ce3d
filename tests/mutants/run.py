"""`make mutants`: leaves out one check of the secure sum after the other; for each, some test must fail.

    python tests/mutants/run.py [--processes 2] [--table docs/mutants.md] [FILE ...]

Comes in: the code, the tests, and redundant.toml, which names checks that another one makes up for, each with the reason
and the other one. Goes out: a table, one line a mutant, with the test that failed first; exit code 1 when a mutant survives
that is not declared, or a declared one does not do as declared: alone it survives, and without both some test fails.
What was found is kept in build/mutants.json after each mutant: a run that was stopped goes on, unless code or tests changed.
With FILEs (checks, site ...) only these are tried, and the table's other lines stay.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from baseline import chosen
from mutation import FILES, FOLDER, ROOT, Mutant, all_mutants
from table import Line, read_declared, read_table, write_table
from trial import KILLED, SURVIVED, Outcome, Trial, preload

STATE = ROOT / "build" / "mutants.json"
TABLE = ROOT / "docs" / "mutants.md"
LONG = 60.0


def main(arguments: list[str]) -> int:
    """Try all, write the table, say what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="*", choices=[*FILES, []], metavar="FILE")
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2, 3, 4))
    parser.add_argument("--table", type=Path, default=TABLE)
    given = parser.parse_args(arguments)
    files = tuple(given.files) or FILES
    state = _State()
    tests = state.tests()
    preload()
    mutants, declared = all_mutants(files), read_declared()
    _control(tests)
    lines = _try_all(mutants, declared, tests, state, given.processes)
    kept = [] if files == FILES else [line for line in read_table(given.table) if line.file not in files]
    write_table(given.table, [*lines, *kept])
    wrong = [line for line in lines if line.wrong]
    wrong += [Line(*name, "declared redundant, but not in the code") for name in declared if name[0] in files
              and name not in {line.name for line in lines}]  # fmt: skip
    for line in wrong:
        print("WRONG", *line.name, "|", line.verdict)
    print(f"{len(lines)} mutants, {sum(line.killed for line in lines)} killed, {len(wrong)} wrong; see {given.table}")
    return int(bool(wrong))


def _try_all(mutants: list[Mutant], declared: dict, tests: dict, state: _State, processes: int) -> list[Line]:
    """First the likely tests; who survives them all that run its function; who is declared redundant, with the other one."""
    _sweep({(mutant,): chosen(mutant, tests) for mutant in mutants}, state, processes)
    unseen = [mutant for mutant in mutants if state.known((mutant,)).verdict == SURVIVED and mutant.name not in declared]
    _sweep({(mutant, None): chosen(mutant, tests, LONG) for mutant in unseen}, state, processes)
    by_name = {mutant.name: mutant for mutant in all_mutants()}
    pairs = {mutant: by_name.get(declared[mutant.name].get("other")) for mutant in mutants if mutant.name in declared}
    both = {(one, other): [*chosen(one, tests), *chosen(other, tests)] for one, other in pairs.items() if other is not None}
    _sweep({pair: list(dict.fromkeys(names)) for pair, names in both.items()}, state, processes)
    return [_line(mutant, declared.get(mutant.name), pairs.get(mutant), state) for mutant in mutants]


def _sweep(jobs: dict[tuple[Mutant | None, ...], list[str]], state: _State, processes: int) -> None:
    """Runs what is not known yet."""
    waiting = [(mutants, names) for mutants, names in jobs.items() if state.known(mutants) is None]
    running: dict[tuple[Mutant | None, ...], Trial] = {}
    begin, total = time.monotonic(), len(waiting)
    while waiting or running:
        while waiting and len(running) < processes:
            mutants, names = waiting.pop(0)
            running[mutants] = Trial([mutant for mutant in mutants if mutant], names)
        for mutants, trial in list(running.items()):
            outcome = trial.done()
            if outcome is not None:
                del running[mutants]
                state.keep(mutants, outcome)
                done, spent = total - len(waiting) - len(running), time.monotonic() - begin
                words = " with ".join(" | ".join(map(str, mutant.name)) for mutant in mutants if mutant)
                print(f"{done}/{total} {spent:.0f} s {outcome.verdict:8} {words}", flush=True)
        time.sleep(0.02)


def _line(mutant: Mutant, declared: dict | None, other: Mutant | None, state: _State) -> Line:
    """A declared redundancy is shown: alone the mutant survives, and with the other check left out as well a test fails."""
    outcome = state.known((mutant, None)) or state.known((mutant,))
    line = Line(*mutant.name, verdict=outcome.verdict, test=outcome.test)
    if declared is None:
        return line
    if line.killed:
        line.verdict = f"declared redundant, but {line.verdict}"
    elif "other" not in declared:
        line.because = declared["because"]
    elif other is None:
        line.verdict = "the check that makes up for it is not in the code"
    elif state.known((mutant, other)).verdict != KILLED:
        line.verdict = "survived without both"
    else:
        line.because, line.other = declared["because"], f"{other.function}: {other.check}"
        line.test = state.known((mutant, other)).test
    return line


def _control(tests: dict) -> None:
    """With nothing left out the tests of a trial pass: what fails in one fails for the check."""
    sample = sorted(tests, key=lambda name: hashlib.sha256(name.encode()).digest())[:60]
    outcome = Trial([], sample, patience=LONG).outcome()
    if outcome.verdict != SURVIVED:
        raise SystemExit(f"with nothing left out a test fails: {outcome.test or outcome.verdict}")


class _State:
    """What was found so far for exactly this code and these tests."""

    def __init__(self) -> None:
        self._digest = _digest()
        kept = json.loads(STATE.read_text()) if STATE.exists() else {}
        fresh = {"digest": self._digest, "tests": {}, "outcomes": {}}
        self._now = kept if kept.get("digest") == self._digest else fresh

    def tests(self) -> dict:
        """The baseline, made once."""
        if not self._now["tests"]:
            print("the tests run once as they are, to see which of them runs what ...", flush=True)
            STATE.parent.mkdir(exist_ok=True)
            out = STATE.with_name("mutants-baseline.json")
            subprocess.run([sys.executable, str(Path(__file__).with_name("baseline.py")), str(out)], check=True)
            self._now["tests"] = json.loads(out.read_text())
            self._save()
        return self._now["tests"]

    def known(self, mutants: tuple[Mutant | None, ...]) -> Outcome | None:
        """The outcome of leaving out these."""
        found = self._now["outcomes"].get(_key(mutants))
        return None if found is None else Outcome(**found)

    def keep(self, mutants: tuple[Mutant | None, ...], outcome: Outcome) -> None:
        """Durable enough for a run that is stopped."""
        self._now["outcomes"][_key(mutants)] = asdict(outcome)
        self._save()

    def _save(self) -> None:
        new = STATE.with_suffix(".new")
        new.write_text(json.dumps(self._now))
        new.replace(STATE)


def _key(mutants: tuple[Mutant | None, ...]) -> str:
    return json.dumps([mutant and mutant.name for mutant in mutants])


def _digest() -> str:
    """Of all code under trial and all tests of it."""
    paths = [*FOLDER.glob("*.py"), *(ROOT / "ssl_core" / "trust").glob("*.py"), *(ROOT / "tests" / "shared").glob("*.py")]
    paths += [path for suite in ("ssl_core/secure_sum", "adversary", "fuzz") for path in (ROOT / "tests" / suite).rglob("*.py")]
    hashed = hashlib.sha256()
    for path in sorted(paths):
        hashed.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return hashed.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
