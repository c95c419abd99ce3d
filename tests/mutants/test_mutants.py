"""The mutation run itself: it finds the checks that there are, its table is of this code, and a few trials for real."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

sys.path.insert(0, str(HERE))
try:
    mutation, table = importlib.import_module("mutation"), importlib.import_module("table")
finally:
    sys.path.remove(str(HERE))

SOURCE = b"""
class Box:
    def put(self, a, b):
        if not (a and 0 < b <= 9):
            raise ValueError("bad")
        with alarmed(a):
            checks.first(a)
        journal.write(a)
        mark = 1
        journal.write(b)
        items.append(a)
        return a == 1 and b == 2
"""
FOUND = [
    "Box.put: guard: not (a and 0 < b <= 9) -> False",
    "Box.put: part: a -> True",
    "Box.put: part: 0 < b -> (b <= 9)",
    "Box.put: part: b <= 9 -> (0 < b)",
    "Box.put: part: 0 < b <= 9 -> True",
    "Box.put: alarm: with alarmed(a) -> if True",
    "Box.put: call: checks.first(a) -> None",
    "Box.put: call: journal.write(a) -> None",
    "Box.put: call: journal.write(b) -> None",
    "Box.put: part: a == 1 -> True",
    "Box.put: part: b == 2 -> True",
]


def test_every_kind_of_mutant_is_found():
    words = [line for line in mutation.statements_in(SOURCE) if ": order: " not in line]
    assert sorted(words) == sorted(FOUND)
    (order,) = [mutant for mutant in mutation.mutants_of("example", SOURCE) if mutant.kind == "order"]
    lines = order.applied(SOURCE).decode().split("\n")
    assert [line.strip() for line in lines[7:10]] == ["mark = 1", "journal.write(b)", "journal.write(a)"]


def test_no_file_of_the_secure_sum_is_forgotten():
    files = {path.stem for path in mutation.FOLDER.glob("*.py")}
    assert files == set(mutation.FILES) | set(mutation.NO_PROTOCOL)


def test_every_mutant_has_its_own_name_and_is_valid_code():
    mutants = mutation.all_mutants()
    assert len({mutant.name for mutant in mutants}) == len(mutants) > 400
    for mutant in mutants:
        source = (mutation.FOLDER / f"{mutant.file}.py").read_bytes()
        changed = mutant.applied(source)
        assert changed != source
        compile(changed, mutant.file, "exec")


def test_every_check_that_a_site_calls_is_a_mutant():
    called = {mutant.check.partition("(")[0] for mutant in mutation.all_mutants(("site", "closing", "starting"))}
    for module in ("checks", "backup_checks", "checkpoint_checks"):
        own = {mutant.function for mutant in mutation.all_mutants((module,))} - {"need"}
        assert {f"{module}.{function}" for function in own} <= called


def test_table_is_of_this_code_and_nothing_in_it_survived():
    lines = table.read_table(ROOT / "docs" / "mutants.md")
    now = {mutant.name for mutant in mutation.all_mutants()}
    gone, missing = {line.name for line in lines} - now, now - {line.name for line in lines}
    shown = f"{len(gone)} are gone, {len(missing)} are missing: {sorted(gone | missing)[:3]}"
    assert not gone and not missing, f"the table is of other code, run `make mutants`: {shown}"
    assert [line.name for line in lines if line.wrong] == []


def test_what_is_written_is_read(tmp_path):
    lines = [
        table.Line("a", "f", "call", "need(x | y)", 2, "killed", "tests/t.py::test_x[a|b]"),
        table.Line("a", "f", "part", "x", 1, "survived", because="it is so", other="g: y"),
        table.Line("b", "f", "part", "x", 1, "survived"),
    ]
    table.write_table(tmp_path / "table.md", lines)
    again = table.read_table(tmp_path / "table.md")
    assert [line.name for line in again] == [line.name for line in lines]
    assert [line.killed for line in again] == [True, False, False]
    assert [line.wrong for line in again] == [False, False, True]


def test_declared_redundancies_are_of_this_code():
    now = {mutant.name for mutant in mutation.all_mutants()}
    for name, declared in table.read_declared().items():
        assert name in now and declared["because"] and declared.get("other", name) in now


def test_a_trial_tells_whether_a_test_fails():
    """In one process of its own, as trials are forks of one that has not imported what they change."""
    restart = "test_restart.py::test_answer_is_the_same_after_restart_and_for_any_proof"
    cases = [
        ("checks", "answered_once", restart, "survived"),
        ("checks", "round_is_new", "test_restart.py::test_started_and_restarted_declines", "killed"),
        ("sealing", "unseal", "test_survivors_of_mutation.py::test_what_is_shorter_than_a_seal_does_not_open", "killed"),
        ("vault", "Vault._write", restart, "killed"),
    ]
    jobs = []
    for file, function, test, _ in cases:
        mutants = [m for m in mutation.all_mutants((file,)) if m.function == function and m.kind in ("call", "guard")]
        jobs.append([mutants[0].name, f"tests/ssl_core/secure_sum/{test}"])
    code = """if True:
        import json, sys
        sys.path.insert(0, sys.argv[1])
        import mutation, trial
        trial.preload()
        for name, test in json.loads(sys.argv[2]):
            mutants = [mutant for mutant in mutation.all_mutants() if list(mutant.name) == name]
            outcome = trial.Trial(mutants, [test]).outcome()
            print(json.dumps([outcome.verdict, outcome.test]))
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", code, str(HERE), json.dumps(jobs)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()[-len(cases) :]]
    assert [verdict for verdict, _ in found] == [verdict for *_, verdict in cases]
    assert all(failed.startswith(job[1]) for (verdict, failed), job in zip(found, jobs, strict=True) if verdict == "killed")
