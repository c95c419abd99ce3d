"""How a study is admitted: the accountants work while the log is free, the log decides, the limit in force is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_core.chain import Chain
from ssl_core.errors import BudgetError, PrivacyError
from ssl_core.privacy import ledger as module
from ssl_core.privacy.accountant import Schedule, epsilon
from ssl_core.privacy.ledger import RULE, Ledger
from ssl_core.privacy.statement import Limit

DELTA = 1e-5
SMALL = Schedule(4.0, 0.1, 100)
FIRST, SECOND = "a" * 64, "b" * 64
ARITHMETIC = ("checked_epsilon", "epsilon", "epsilon_rdp")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Chain(tmp_path / "chain.db", create=True).close()
    return tmp_path / "chain.db"


def ledger_at(path: Path, limit: float = 10.0, delta: float = DELTA) -> Ledger:
    return Ledger(Chain(path), max_epsilon=limit, delta=delta)


def watch(monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None]) -> None:
    """Call `before` with its name whenever the ledger reckons."""
    for name in ARITHMETIC:
        real = getattr(module, name)

        def reckon(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            before(_name)
            return _real(*args, **kwargs)

        monkeypatch.setattr(module, name, reckon)


def test_no_accountant_works_while_the_log_is_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(path)
    held: list[tuple[str, bool]] = []
    watch(monkeypatch, lambda name: held.append((name, chain._database.in_transaction)))
    Ledger(chain, max_epsilon=10.0, delta=DELTA).reserve(FIRST, "study", SMALL, DELTA)
    assert {name for name, _ in held} == set(ARITHMETIC) and not any(inside for _, inside in held)
    assert [entry.kind for entry in chain.entries()] == ["reserve"]


def meanwhile(path: Path, limit: float) -> Callable[[str], None]:
    """Another process that reserves a study after the first answer of the second accountant was asked for."""
    done: list[bool] = []

    def act(name: str) -> None:
        if name == "checked_epsilon" and not done:
            done.append(True)
            ledger_at(path, limit).reserve(SECOND, "other", SMALL, DELTA)

    return act


def test_a_study_reserved_meanwhile_is_reckoned_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = ledger_at(path).quote(SMALL, DELTA).spent_after
    watch(monkeypatch, meanwhile(path, 10.0))
    quote = ledger_at(path).reserve(FIRST, "study", SMALL, DELTA)
    assert quote is not None and quote.spent_before == pytest.approx(alone) and quote.spent_after > alone
    assert [entry.body["study"] for entry in Chain(path).entries("reserve")] == [SECOND, FIRST]


def test_budget_that_another_study_took_meanwhile_is_not_given_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 1.2 * epsilon([SMALL], DELTA)
    watch(monkeypatch, meanwhile(path, limit))
    ledger = ledger_at(path, limit)
    with pytest.raises(BudgetError, match="is spent"):
        ledger.reserve(FIRST, "study", SMALL, DELTA)
    assert [entry.body["study"] for entry in Chain(path).entries("reserve")] == [SECOND]


def test_an_admission_reserves_nothing_and_refuses_all_that_a_reservation_would(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ledger_at(path).admit(FIRST, SMALL, DELTA).quote == ledger_at(path).quote(SMALL, DELTA)
    with pytest.raises(BudgetError):
        ledger_at(path, 0.1).admit(FIRST, SMALL, DELTA)
    monkeypatch.setattr("ssl_core.privacy.accountant.epsilon_prv", lambda _schedules, _delta: 0.01)
    with pytest.raises(PrivacyError, match="two accountants disagree"):
        ledger_at(path).admit(FIRST, SMALL, DELTA)
    assert Chain(path).entries() == []


def test_what_fails_beside_the_reservation_takes_it_back(path: Path) -> None:
    chain = Chain(path)
    ledger = Ledger(chain, max_epsilon=10.0, delta=DELTA)
    with pytest.raises(OSError, match="disk"), ledger.reserving(FIRST, "study", SMALL, DELTA):
        chain.append("approval", {"plan": FIRST})
        raise OSError("disk")
    assert chain.entries() == []
    with ledger.reserving(FIRST, "study", SMALL, DELTA) as quote:
        chain.append("approval", {"plan": FIRST})
    assert quote is not None and [entry.kind for entry in chain.entries()] == ["reserve", "approval"]


def test_each_study_shows_the_limit_under_which_it_was_admitted(path: Path) -> None:
    ledger_at(path, 10.0).reserve(FIRST, "first", SMALL, DELTA)
    ledger_at(path, 12.5, 3e-5).reserve(SECOND, "second", SMALL, DELTA)
    statement = ledger_at(path, 15.0).statement()
    assert [entry.admitted_under for entry in statement.entries] == [
        Limit(max_epsilon=10.0, delta=DELTA, rule=RULE),
        Limit(max_epsilon=12.5, delta=3e-5, rule=RULE),
    ]
    assert str(statement.entries[1].admitted_under) == f"epsilon 12.5 at delta 3e-05 for life, by the {RULE}"
    plain = json.loads(json.dumps(statement.to_dict()))
    assert plain["entries"][1]["admitted_under"] == {"max_epsilon": 12.5, "delta": 3e-5, "rule": RULE}
    assert plain["limit"] == 15.0


def test_a_row_of_an_older_version_without_a_limit_still_counts(path: Path) -> None:
    chain = Chain(path)
    body = {"study": FIRST, "name": "old", "cohort": "all", "unit": "patient", "adjacency": "add or remove one patient"}
    body |= {"noise_multiplier": 4.0, "sampling_rate": 0.1, "steps": 100, "delta": DELTA}
    chain.append("reserve", body)
    ledger = Ledger(chain, max_epsilon=10.0, delta=DELTA)
    (entry,) = ledger.statement().entries
    assert entry.admitted_under is None and entry.epsilon == epsilon([SMALL], DELTA)
    assert (entry.what, entry.reserved_on, entry.last_started_on) == ("pretraining", None, None)
    assert json.loads(json.dumps(ledger.statement().to_dict()))["entries"][0]["admitted_under"] is None
    assert ledger.reserve(FIRST, "old", SMALL, DELTA) is None
    ledger.commit(FIRST, 1, 10)
    quote = ledger.reserve(SECOND, "new", SMALL, DELTA)
    assert quote is not None and quote.spent_before > 0
