from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import ssl_core
from ssl_core.chain import Chain
from ssl_core.errors import BudgetError, ChainError, PrivacyError
from ssl_core.privacy.accountant import Schedule, epsilon, epsilon_prv, epsilon_rdp, epsilon_replace_one
from ssl_core.privacy.ledger import ORDERS, Ledger

DELTA = 1e-5
SMALL = Schedule(4.0, 0.1, 100)
OTHER = Schedule(5.0, 0.2, 50)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Chain(tmp_path / "chain.db", create=True).close()
    return tmp_path / "chain.db"


def _ledger(path: Path, limit: float = 10.0) -> Ledger:
    return Ledger(Chain(path), max_epsilon=limit, delta=DELTA)


def _kinds(path: Path) -> list[str]:
    return [entry.kind for entry in Chain(path).entries()]


def test_a_quote_reserves_nothing_and_says_the_plans_epsilon(path: Path) -> None:
    quote = _ledger(path).quote(SMALL, 1e-6)
    assert quote.study_epsilon == epsilon([SMALL], 1e-6)
    assert quote.spent_before == 0.0 and quote.limit == 10.0
    assert quote.spent_after == epsilon([SMALL], DELTA)
    assert quote.remaining == 10.0 - quote.spent_after
    assert _kinds(path) == []


def test_totals_follow_the_rule_of_the_docstring(path: Path) -> None:
    ledger = _ledger(path)
    for number, schedule in enumerate((SMALL, OTHER, SMALL)):
        ledger.reserve(f"{number:064x}", f"study-{number}", schedule, DELTA)
    totals = ledger.statement().totals
    by_sum = epsilon([SMALL], DELTA / 4) + epsilon([OTHER], DELTA / 12) + epsilon([SMALL], DELTA / 24)
    by_rdp = min(epsilon_rdp([SMALL, OTHER, SMALL], DELTA / 16, order=order) for order in ORDERS)
    assert totals.by_sum == pytest.approx(by_sum) and totals.by_rdp == pytest.approx(by_rdp)
    assert totals.spent == min(totals.by_sum, totals.by_rdp)
    assert totals.if_fixed_in_advance == epsilon([SMALL, SMALL, OTHER], DELTA) < totals.spent
    # All deltas that the rules use together stay within the site's.
    shares = sum(DELTA / 2 / (k * (k + 1)) for k in range(1, 10_000)) + len(ORDERS) * DELTA / 16
    assert shares <= DELTA


def test_what_is_spent_never_falls(path: Path) -> None:
    ledger, spent = _ledger(path, 100.0), [0.0]
    for number in range(4):
        quote = ledger.reserve(f"{number:064x}", "study", OTHER if number % 2 else SMALL, DELTA)
        assert quote is not None and quote.spent_before == spent[-1]
        spent.append(quote.spent_after)
    assert spent == sorted(spent) and len(set(spent)) == 5


def test_the_same_study_is_charged_once_and_a_changed_one_refused(path: Path) -> None:
    ledger, study = _ledger(path), "a" * 64
    assert ledger.reserve(study, "study", SMALL, DELTA) is not None
    assert ledger.reserve(study, "study", SMALL, DELTA) is None
    assert _kinds(path) == ["reserve"]
    for schedule, delta in ((OTHER, DELTA), (Schedule(4.0, 0.1, 101), DELTA), (SMALL, DELTA / 2)):
        with pytest.raises(PrivacyError, match="another schedule"):
            ledger.reserve(study, "study", schedule, delta)
    assert _kinds(path) == ["reserve"]


def test_a_study_beyond_the_limit_is_refused_with_the_numbers(path: Path) -> None:
    cost = epsilon([SMALL], DELTA)
    ledger = _ledger(path, round(1.5 * cost, 3))
    ledger.reserve("a" * 64, "first", SMALL, DELTA)
    with pytest.raises(BudgetError) as caught:
        ledger.reserve("b" * 64, "second", SMALL, DELTA)
    after = ledger.quote(SMALL, DELTA).spent_after
    assert f"{after:.3f}" in str(caught.value) and f"{cost:.3f}" in str(caught.value)
    assert f"{round(1.5 * cost, 3):g}" in str(caught.value)
    assert _kinds(path) == ["reserve"]
    # The study that is reserved goes on all the same.
    ledger.commit("a" * 64, 1, 10)
    with pytest.raises(BudgetError):
        _ledger(path, 0.5 * cost).reserve("c" * 64, "third", SMALL, DELTA)


def test_one_study_alone_may_use_the_whole_limit(path: Path) -> None:
    ledger = _ledger(path, epsilon([SMALL], DELTA))
    quote = ledger.reserve("a" * 64, "only", SMALL, DELTA)
    assert quote is not None and quote.remaining == 0.0
    with pytest.raises(BudgetError):
        ledger.reserve("b" * 64, "next", Schedule(100.0, 0.001, 1), DELTA)


def test_commits_stay_within_the_reservation_and_a_round_is_used_once(path: Path) -> None:
    ledger, study = _ledger(path), "a" * 64
    with pytest.raises(PrivacyError, match="no reservation"):
        ledger.commit(study, 1, 10)
    ledger.reserve(study, "study", SMALL, DELTA)
    ledger.commit(study, 1, 40)
    with pytest.raises(PrivacyError, match="never used again"):
        ledger.commit(study, 1, 40)
    ledger.commit(study, 3, 40)
    with pytest.raises(PrivacyError, match="value: 120; limit: 100"):
        ledger.commit(study, 4, 40)
    ledger.commit(study, 4, 20)
    for number, steps in ((0, 1), (5, 0), (-1, 1)):
        with pytest.raises(PrivacyError, match="not positive"):
            ledger.commit(study, number, steps)
    bodies = [entry.body for entry in Chain(path).entries("commit")]
    assert [(body["round"], body["steps"]) for body in bodies] == [(1, 40), (3, 40), (4, 20)]


def test_starting_less_gives_nothing_back(path: Path) -> None:
    ledger = _ledger(path)
    ledger.reserve("a" * 64, "study", SMALL, DELTA)
    before = ledger.statement().totals
    ledger.commit("a" * 64, 1, 5)
    assert ledger.statement().totals == before


def test_nothing_is_given_back_for_a_short_round_and_its_number_is_used_once(path: Path) -> None:
    """Never a refund: a short round of a study that used the limit up, and the next study finds the same as before it."""
    ledger = _ledger(path, epsilon([SMALL], DELTA))
    ledger.reserve("a" * 64, "first", SMALL, DELTA)
    small = Schedule(100.0, 0.001, 1)
    before = ledger.quote(small, DELTA)
    ledger.commit("a" * 64, 1, 1)
    assert ledger.quote(small, DELTA) == before and before.spent_before == epsilon([SMALL], DELTA)
    for ask in (ledger.admit, lambda *study: ledger.reserve(study[0], "next", *study[1:])):
        with pytest.raises(BudgetError):
            ask("b" * 64, small, DELTA)
    with pytest.raises(PrivacyError, match="never used again"):
        ledger.commit("a" * 64, 1, 1)
    assert _kinds(path) == ["reserve", "commit"]


def test_the_statement_names_unit_and_neighbours_beside_each_epsilon(path: Path) -> None:
    ledger = _ledger(path)
    assert ledger.statement().totals.spent == 0.0 and ledger.statement().entries == ()
    ledger.reserve("a" * 64, "reports", SMALL, 1e-6)
    ledger.commit("a" * 64, 1, 25)
    statement = ledger.statement()
    (entry,) = statement.entries
    assert (entry.study, entry.name, entry.steps, entry.steps_started) == ("a" * 64, "reports", 100, 25)
    assert entry.epsilon == epsilon([SMALL], 1e-6)
    assert entry.epsilon_replace_one == epsilon_replace_one([SMALL], 1e-6)
    assert statement.remaining == 10.0 - statement.totals.spent
    assert (entry.rounds_started, entry.first_round, entry.last_round, entry.what) == (1, 1, 1, "pretraining")
    three = entry.accountants
    assert (three.pld, three.pld_replace_one, three.delta) == (entry.epsilon, entry.epsilon_replace_one, 1e-6)
    assert (three.prv, three.rdp) == (epsilon_prv([SMALL], 1e-6), epsilon_rdp([SMALL], 1e-6))
    assert three.pld < three.prv < three.rdp and three.pld_replace_one < three.rdp_replace_one
    plain = json.loads(json.dumps(statement.to_dict()))["entries"][0]
    assert (plain["unit"], plain["adjacency"]) == ("patient", "add or remove one patient")


def test_an_invalid_reservation_or_budget_is_refused(path: Path) -> None:
    with pytest.raises(PrivacyError, match="without steps"):
        _ledger(path).reserve("a" * 64, "study", Schedule(1.0, 0.1, 0), DELTA)
    for limit, delta in ((0.0, DELTA), (float("inf"), DELTA), (1.0, 0.0), (1.0, 1.0)):
        with pytest.raises(PrivacyError, match="lifetime"):
            Ledger(Chain(path), max_epsilon=limit, delta=delta)


def test_a_reservation_that_fails_later_in_its_transaction_is_not_charged(path: Path) -> None:
    chain = Chain(path)
    ledger = Ledger(chain, max_epsilon=10.0, delta=DELTA)
    with pytest.raises(RuntimeError, match="power"), chain.transaction():
        ledger.reserve("a" * 64, "study", SMALL, DELTA)
        raise RuntimeError("power")
    assert _kinds(path) == [] and ledger.statement().entries == ()


def _child(code: str, *arguments: str) -> subprocess.Popen[str]:
    root = str(Path(ssl_core.__file__).parents[1])
    prelude = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom ssl_core.chain import Chain\n"
        "from ssl_core.errors import BudgetError\nfrom ssl_core.privacy.accountant import Schedule\n"
        "from ssl_core.privacy.ledger import Ledger\n"
        "chain = Chain(Path(sys.argv[1]))\n"
        "ledger = Ledger(chain, max_epsilon=float(sys.argv[2]), delta=1e-5)\n"
    )
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, *arguments], env=environment, text=True, stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("committed", [True, False])
def test_what_a_killed_process_had_promised_is_still_there(path: Path, committed: bool) -> None:
    _ledger(path).reserve("a" * 64, "study", SMALL, DELTA)
    kill = "os.kill(os.getpid(), signal.SIGKILL)\n"
    code = (
        f"ledger.commit('a' * 64, 1, 10)\n{kill}"
        if committed
        else f"with chain.transaction():\n    ledger.commit('a' * 64, 1, 10)\n    {kill}"
    )
    with _child(code, str(path), "10") as child:
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert _kinds(path) == (["reserve", "commit"] if committed else ["reserve"])
    ledger = _ledger(path)
    if committed:
        with pytest.raises(PrivacyError, match="never used again"):
            ledger.commit("a" * 64, 1, 10)
    ledger.commit("a" * 64, 2, 10)


def test_of_two_processes_only_one_gets_the_last_of_the_budget(path: Path) -> None:
    limit = 1.2 * epsilon([SMALL], DELTA)
    code = (
        "schedule = Schedule(4.0, 0.1, 100)\nledger.quote(schedule, 1e-5)\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "try:\n    ledger.reserve(sys.argv[3] * 64, 'study', schedule, 1e-5)\n    print('reserved')\n"
        "except BudgetError:\n    print('refused')\n"
    )
    children = [_child(code, str(path), str(limit), name) for name in "ab"]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = sorted(child.communicate()[0].strip() for child in children)
    assert answers == ["refused", "reserved"]
    assert _kinds(path) == ["reserve"]


def test_a_ledger_that_was_edited_or_cut_does_not_open(path: Path) -> None:
    ledger = _ledger(path)
    ledger.reserve("a" * 64, "study", SMALL, DELTA)
    ledger.commit("a" * 64, 1, 10)
    for statement in (
        "UPDATE log SET body = replace(body, '\"steps\":100', '\"steps\":1') WHERE sequence = 1",
        "DELETE FROM log WHERE sequence = 2",
    ):
        copy = path.with_name(f"copy-{len(statement)}.db")
        with closing(sqlite3.connect(path)) as original, closing(sqlite3.connect(copy)) as target:
            original.backup(target)
        copy.with_name(copy.name + ".head").write_bytes(path.with_name("chain.db.head").read_bytes())
        with sqlite3.connect(copy) as database:
            database.execute(statement)
        database.close()
        with pytest.raises(ChainError):
            Chain(copy)
