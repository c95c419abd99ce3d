"""The bounded search of docs/proofs: the protocol holds, each control finds its attack, and the algebra is right.

Small settings only; `make proofs` runs all. What the search computes of knowledge is held against ranks over finite
fields, its symmetry against a search without, and its exit code against wrong expectations.
"""

from __future__ import annotations

import importlib
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

PROOFS = Path(__file__).parents[2] / "docs" / "proofs"

sys.path.insert(0, str(PROOFS))
try:
    cases, counts, knowledge, prove, rules, search = map(
        importlib.import_module, ("cases", "counts", "knowledge", "prove", "rules", "search")
    )
finally:
    sys.path.remove(str(PROOFS))

QUICK = [case for case in (*cases.PROTOCOL, *cases.CONTROLS) if not case.slow]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_the_search_finds_what_is_expected(case):
    found = search.Search(case.setting, essential=True).run()
    assert found.fault == case.fault
    assert case.sizes in (None, found.sizes)
    assert bool(found.trace) == bool(found.fault or max(map(len, found.sizes)) > 1)


def test_every_rule_is_broken_in_some_case():
    broken = [case.setting.rules for case in (*cases.CONTROLS, *cases.REDUNDANT, *cases.PROTOCOL)]
    for name in rules.Rules.__dataclass_fields__:
        assert any(getattr(other, name) != getattr(rules.Rules(), name) for other in broken), name


def test_reduced_search_sees_what_the_full_one_sees():
    for setting in (cases.THREE, cases.FOUR, cases.TWO_CONTEXTS):
        whole, reduced = search.Search(setting).run(), search.Search(setting, essential=True).run()
        assert whole.sizes == reduced.sizes
        assert reduced.states < whole.states


def test_renumbering_changes_nothing(monkeypatch):
    for setting in (cases.TWO_CONTEXTS, replace(cases.FOUR, rules=rules.Rules(backup_as_answered=False))):
        smaller = search.Search(setting, essential=True).run()
        with monkeypatch.context() as patch:
            patch.setattr(search, "_namings", lambda setting: [((0, 1, 2), tuple(range(len(setting.contexts))))])
            larger = search.Search(setting, essential=True).run()
        assert (larger.sizes, larger.fault) == (smaller.sizes, smaller.fault)
        assert len(larger.trace) == len(smaller.trace)
        assert larger.states > smaller.states


def test_a_trace_can_be_walked_and_ends_where_it_says():
    setting = replace(cases.FOUR, rules=rules.Rules(answer_first=False))
    found = search.Search(setting).run()
    now = [rules.Site(place=at) for at in range(setting.honest)]
    for clause in found.trace:
        place = int(clause.split(" ")[0]) - 1
        rest = clause.split(" ", 1)[1]
        while rest:
            told = frozenset().union(*(site.told for site in now))
            move = next(
                move
                for move in rules.moves(setting, now[place])
                if (rest == move.said or rest.startswith(move.said + ", "))
                and move.needs.headers <= told
                and len(move.needs.votes & told) >= move.needs.count
            )
            now[place] = move.after
            rest = rest[len(move.said) :].removeprefix(", ")
    verdict = knowledge.judge(setting, frozenset().union(*(site.told for site in now)))
    assert verdict == found.verdict
    assert verdict.alone


def test_elimination_agrees_with_ranks_over_finite_fields():
    generator = random.Random(7)
    loose = rules.Rules(proof_needed=False, answers_once=False, backup_as_answered=False, pairs_of_lost_only=False)
    alone = opened = 0
    for setting in (
        cases.FOUR,
        cases.FIVE,
        cases.TWO_CONTEXTS,
        replace(cases.FOUR, rules=loose),
        replace(cases.FIVE, rules=loose),
    ):
        for _ in range(25):
            messages = wander(setting, generator, generator.randrange(40))
            verdict = knowledge.judge(setting, messages)
            known = [knowledge._row(setting, fact) for fact in knowledge.facts(setting, messages)]
            masks = [{name: value for name, value in row.items() if not name.startswith("x")} for row in known]
            for modulus in (2, 3, 2**31 - 1):
                found = len(knowledge.span(known, honest_only=True))
                assert found == rank(known, modulus) - rank(masks, modulus)
                for at in range(setting.honest):
                    assert (at in verdict.alone) == reaches(known, {f"x{at}": 1}, modulus)
                for crowd in verdict.sums:
                    assert reaches(known, {f"x{at}": 1 for at in crowd}, modulus)
            alone += bool(verdict.alone)
            opened += bool(verdict.sums) and not verdict.alone
    assert alone > 9
    assert opened > 9


def test_a_pivot_that_is_no_unit_is_refused():
    with pytest.raises(ArithmeticError, match="pivot 2"):
        knowledge.span([{"b0,0/0": 2}])


def test_corrupt_sites_without_answers_know_nothing():
    uploads = {rules.Message(kind="UPLOAD", sender=at, context=0) for at in range(3)}
    verdict = knowledge.judge(cases.FOUR, uploads)
    assert (verdict.sums, verdict.alone, verdict.fault) == (frozenset(), frozenset(), "")


def test_thresholds_of_every_roster():
    found = counts.count(60)
    assert (found.unsafe, found.double_with_all, found.double_of_roster) == (0, 0, 0)
    assert 0 < found.double < found.pairs


def test_exit_code_tells_when_a_result_is_not_the_expected_one(monkeypatch, capsys):
    holds, attack = cases.PROTOCOL[0], next(case for case in cases.CONTROLS if case.name.startswith("(c)"))
    monkeypatch.setattr(prove, "REDUNDANT", ())
    for protocol, control, code in (
        (holds, attack, 0),
        (replace(holds, sizes=frozenset({()})), attack, 1),
        (replace(holds, setting=attack.setting), attack, 1),
        (holds, replace(attack, setting=cases.FEW_INVITED), 1),
    ):
        monkeypatch.setattr(prove, "PROTOCOL", (protocol,))
        monkeypatch.setattr(prove, "CONTROLS", (control,))
        assert prove.main(["--quick"]) == code
        assert ("NOT AS EXPECTED" in capsys.readouterr().out) == bool(code)


def wander(setting, generator, steps):
    """All that was told on one random walk from where every site has uploaded, the first in any context."""
    now = []
    for place in range(setting.honest):
        context = 0 if place else generator.randrange(len(setting.contexts))
        upload = rules.Message(kind="UPLOAD", sender=place, context=context)
        now.append(rules.Site(place=place, context=context, uploaded=True, told=frozenset({upload})))
    for _ in range(steps):
        told = frozenset().union(*(site.told for site in now))
        place = generator.randrange(setting.honest)
        possible = [
            move
            for move in rules.moves(setting, now[place])
            if move.needs.headers <= told and len(move.needs.votes & told) >= move.needs.count and not move.after.void
        ]
        now[place] = generator.choice(possible).after
    return frozenset().union(*(site.told for site in now))


def reaches(known, vector, modulus):
    """Whether `vector` is in the span over the field of `modulus` elements."""
    return rank([*known, vector], modulus) == rank(known, modulus)


def rank(rows, modulus):
    names = sorted({name for row in rows for name in row})
    matrix = [[row.get(name, 0) % modulus for name in names] for row in rows]
    done = 0
    for column in range(len(names)):
        pivot = next((at for at in range(done, len(matrix)) if matrix[at][column]), None)
        if pivot is None:
            continue
        matrix[done], matrix[pivot] = matrix[pivot], matrix[done]
        inverse = pow(matrix[done][column], -1, modulus)
        for at in range(len(matrix)):
            if at != done and matrix[at][column]:
                times = matrix[at][column] * inverse
                matrix[at] = [(one - times * other) % modulus for one, other in zip(matrix[at], matrix[done], strict=True)]
        done += 1
    return done
