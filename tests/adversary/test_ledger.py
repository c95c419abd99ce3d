"""Rows 30 and 31: a budget that a crash or a restored file would give back, and epsilons that must be the known ones."""

from __future__ import annotations

import os
import shutil
import sqlite3
import warnings
from contextlib import closing

import pytest

from client import local_round as module
from client.local_round import local_round
from client.study import Study, site_ledger
from server.exchange import LocalExchange
from server.rounds import run_study
from ssl_core.chain import Chain
from ssl_core.errors import ChainError, PrivacyError, RoundVoid
from ssl_core.privacy.accountant import Schedule
from ssl_core.privacy.ledger import Ledger

SCHEDULE = Schedule(4.0, 0.1, 100)
STUDY = "a" * 64


def ledger_at(path, limit=50.0, delta=1e-5):
    return Ledger(Chain(path), max_epsilon=limit, delta=delta)


@pytest.fixture
def path(tmp_path):
    Chain(tmp_path / "chain.db", anchor=tmp_path / "elsewhere" / "anchor", create=True).close()
    return tmp_path / "chain.db"


def test_row_30_a_process_that_dies_in_training_has_spent_its_round(path):
    """The child leaves without a word between COMMIT and what it was for; nothing is closed, nothing is flushed."""
    ledger_at(path).reserve(STUDY, "study", SCHEDULE, 1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        ledger_at(path).commit(STUDY, 1, 20)
        os.kill(os.getpid(), 9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    ledger = ledger_at(path)
    spent = ledger.statement()
    assert spent.entries[0].steps == 100 and spent.entries[0].steps_started == 20 and spent.totals.spent > 0
    with pytest.raises(PrivacyError, match="never used again"):
        ledger.commit(STUDY, 1, 20)
    assert ledger.reserve(STUDY, "study", SCHEDULE, 1e-5) is None, "and the study is charged once"
    assert ledger.statement().totals == spent.totals


class Crash(BaseException):
    """Power is lost."""


def test_row_30_b_a_site_that_crashed_in_training_is_charged_and_declines(make_federation, monkeypatch):
    """The real round of a real site: COMMIT stands before training, and the number is never trained for again."""
    federation = make_federation(4, patients=6)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    starts = []

    def crash(study, start, weights):
        starts.append((start, weights))
        with monkeypatch.context() as patch:
            patch.setattr(module, "train_round", lambda **_: (_ for _ in ()).throw(Crash))
            with pytest.raises(Crash):
                local_round(study, start, weights)
        raise Crash

    monkeypatch.setattr("client.site_service.local_round", crash)
    with pytest.raises(Crash):
        run_study(federation.operator.root, plan_hash, LocalExchange(federation.services()))
    site = next(name for name in federation.names if federation.site(name).chain.entries("commit"))
    study = Study(federation.site(site), plan_hash)
    steps = study.plan.rounds.steps_per_round
    entry = site_ledger(study.home).statement().entries[0]
    assert (entry.steps_started, entry.steps) == (steps, study.plan.total_steps)
    with pytest.raises(RoundVoid, match="declines"):
        study.secure_sum.upload(1, None)
    with pytest.raises(PrivacyError, match="never used again"):
        site_ledger(study.home).commit(plan_hash, 1, steps)


@pytest.mark.parametrize(
    "edit",
    [
        "DELETE FROM log WHERE sequence = (SELECT max(sequence) FROM log)",
        "DELETE FROM log WHERE kind = 'commit'",
        "DELETE FROM log",
        "UPDATE log SET body = replace(body, '\"steps\":100', '\"steps\":1')",
        "UPDATE log SET kind = 'note' WHERE kind = 'reserve'",
        "UPDATE log SET sequence = sequence + 1 WHERE sequence = (SELECT max(sequence) FROM log)",
    ],
)
def test_row_30_c_a_ledger_that_was_edited_or_truncated_is_refused(path, edit):
    ledger = ledger_at(path)
    ledger.reserve(STUDY, "study", SCHEDULE, 1e-5)
    ledger.commit(STUDY, 1, 20)
    ledger.commit(STUDY, 2, 20)
    with closing(sqlite3.connect(path)) as database:
        database.execute(edit)
        database.commit()
    with pytest.raises(ChainError, match=r"edited or truncated|rolled back"):
        Chain(path)


def test_row_30_d_a_ledger_restored_with_its_head_is_refused_by_the_anchor(tmp_path):
    """An old backup of the whole folder: whole, well linked, and cheaper."""
    folder, anchor = tmp_path / "site", tmp_path / "elsewhere" / "anchor"
    folder.mkdir()
    chain = Chain(folder / "chain.db", anchor=anchor, create=True)
    ledger = Ledger(chain, max_epsilon=50.0, delta=1e-5)
    ledger.reserve(STUDY, "study", SCHEDULE, 1e-5)
    chain.close()
    shutil.copytree(folder, tmp_path / "backup")
    chain = Chain(folder / "chain.db", anchor=anchor)
    Ledger(chain, max_epsilon=50.0, delta=1e-5).commit(STUDY, 1, 20)
    chain.close()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    with pytest.raises(ChainError, match="older than its anchor"):
        Chain(folder / "chain.db", anchor=anchor)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(ChainError, match="never starts a second log"):
        Chain(folder / "chain.db", anchor=anchor)


CASES = {
    "A": ([Schedule(1.1, 256 / 60000, 14062)], 1e-5, 2.3817, 2.392),
    "B": ([Schedule(1.0, 0.01, 10000)], 1e-5, 6.1877, 6.198),
    "C": ([Schedule(0.6, 0.001, 20000)], 1e-6, 3.7469, 3.757),
    "D": ([Schedule(2.0, 0.05, 1000)], 1e-5, 3.6997, 3.710),
    "E": ([Schedule(1.5, 0.02, 2500)], 1e-6, 3.6447, 3.655),
    "F": ([Schedule(0.8, 0.01, 1000)], 1e-5, 3.1410, 3.151),
    "G": ([Schedule(10.0, 1.0, 100)], 1e-5, 4.3772, 4.387),
    "H": ([Schedule(1.0, 0.01, 2000), Schedule(1.2, 0.02, 1000), Schedule(0.8, 0.005, 4000)], 1e-5, 4.9037, 4.914),
    "I": ([Schedule(4.0, 0.1, 5000)], 1e-6, 9.7104, 9.721),
}


@pytest.mark.parametrize("case", CASES)
def test_row_31_the_ledgers_epsilon_of_known_schedules_is_the_known_one(path, case):
    """Each schedule is reserved and read back; of several, the one as if they had been fixed in advance.

    `upper` is the PRV accountant's; `reserve` itself asks that accountant too, and refuses where the two disagree.
    """
    schedules, delta, wanted, upper = CASES[case]
    ledger = ledger_at(path, 100.0, delta)
    for number, schedule in enumerate(schedules):
        ledger.reserve(f"{number:064x}", f"case-{number}", schedule, delta)
    statement = ledger.statement()
    found = statement.totals.if_fixed_in_advance
    assert found == pytest.approx(wanted, abs=0.002)
    assert found <= upper + 0.001
    if len(schedules) == 1:
        assert statement.entries[0].epsilon == statement.totals.spent == found
    else:
        assert statement.totals.spent > found, "chosen one after another they cost more"
