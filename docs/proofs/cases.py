"""What is searched and what must come out: the protocol in several settings, and the protocol with one rule broken.

A result that is not the expected one fails the proof, in both directions: a control that no longer finds its attack
means that the search has gone blind. The sums seen are expected too, so that a model in which nothing ever opens fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rules import Rules, Setting

ALONE = "one site's update alone"
SMALL = "a sum of fewer than m - c honest sites"

Sizes = frozenset[tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One search. `fault` is what it must find, "" for nothing; `sizes`, where given, the sums that must be seen."""

    name: str
    setting: Setting
    essential: bool = False
    fault: str = ""
    sizes: Sizes | None = None
    slow: bool = False


def setting(honest: int, corrupt: int, *contexts: Iterable[int], uninvited: int = 0, rules: Rules | None = None) -> Setting:
    """Sites are numbered from 0, corrupt ones last."""
    sites = tuple(frozenset(context) for context in contexts)
    return Setting(honest=honest, corrupt=corrupt, contexts=sites, uninvited=uninvited, rules=rules or Rules())


def _sums(*sizes: tuple[int, ...]) -> Sizes:
    return frozenset({(), *sizes})


def _pair(name: str, one: Iterable[int], other: Iterable[int], sizes: Sizes, rules: Rules | None = None) -> Case:
    """N = 5 with two contexts of which each honest site is given one."""
    return Case(name=f"N = 5, c = 1, {name}", setting=setting(4, 1, one, other, rules=rules), essential=True, sizes=sizes)


def _control(name: str, base: Setting, rules: Rules, fault: str = ALONE, slow: bool = False) -> Case:
    return Case(name=name, setting=replace(base, rules=rules), fault=fault, slow=slow)


THREE = setting(3, 0, range(3))
FOUR = setting(3, 1, range(4))
FIVE = setting(4, 1, range(5))
SIX = setting(5, 1, range(6))
TWO_CONTEXTS = setting(3, 1, range(4), range(4))
FEW_INVITED = setting(1, 3, range(4), uninvited=6)

ALL, NO_X, NO_1, NO_2 = range(5), range(4), (1, 2, 3, 4), (0, 2, 3, 4)

PROTOCOL = (
    Case(name="N = 3, c = 0", setting=THREE, sizes=_sums((3,))),
    Case(name="N = 3, c = 0, two contexts", setting=setting(3, 0, range(3), range(3)), sizes=_sums((3,))),
    Case(name="N = 4, c = 1", setting=FOUR, sizes=_sums((2,), (3,))),
    Case(name="N = 4, c = 1, two contexts", setting=TWO_CONTEXTS, sizes=_sums((2,), (3,))),
    Case(name="N = 5, c = 1", setting=FIVE, sizes=_sums((3,), (4,)), slow=True),
    Case(name="N = 6, c = 1", setting=SIX, essential=True, sizes=_sums((3,), (4,), (5,)), slow=True),
    Case(name="N = 10, c = 3, invited: 1, X1, X2, X3", setting=FEW_INVITED, sizes=_sums()),
    _pair("two contexts, invited: all; all", ALL, ALL, _sums((3,), (4,))),
    _pair("two contexts, invited: all; all but X1", ALL, NO_X, _sums((3,), (4,))),
    _pair("two contexts, invited: all; all but 1", ALL, NO_1, _sums((3,), (4,))),
    _pair("two contexts, invited: all but X1; all but X1", NO_X, NO_X, _sums((4,))),
    _pair("two contexts, invited: all but X1; all but 1", NO_X, NO_1, _sums((3,), (4,))),
    _pair("two contexts, invited: all but 1; all but 1", NO_1, NO_1, _sums((3,))),
    _pair("two contexts, invited: all but 1; all but 2", NO_1, NO_2, _sums((3,))),
    Case(
        name="N = 6, c = 1, two contexts, invited: all but 1, 2; all but 4, 5",
        setting=setting(5, 1, (2, 3, 4, 5), (0, 1, 2, 5)),
        essential=True,
        sizes=_sums((3,)),
        slow=True,
    ),
    _pair("all but 1; all but 2; t of the invited", NO_1, NO_2, _sums((2,), (3,), (2, 2)), Rules(shares_of_roster=False)),
)

CONTROLS = (
    _control("(a) the answer is not remembered", FOUR, Rules(answers_once=False, silent_after_answer=False)),
    _control("(a) more answers, and for other U than agreed to", FOUR, Rules(answers_once=False, answers_its_agreement=False)),
    _control("(b) t - 1 shares and t - 1 agreements", FOUR, Rules(share_discount=1, proof_discount=1)),
    _control("(b) t - 1 shares, t agreements", FOUR, Rules(share_discount=1)),
    _control("(b) t shares, t - 1 agreements", FOUR, Rules(proof_discount=1)),
    _control(
        "(c) c counted on the four invited of N = 10", FEW_INVITED, Rules(counted_on_roster=False, shares_of_roster=False)
    ),
    _control("(d) the agreement is not journaled", FOUR, Rules(agreement_durable=False)),
    _control("(d) the agreement is journaled after it is sent", FOUR, Rules(agreement_first=False)),
    _control("(e) BACKUP for another U than the answered one", FOUR, Rules(backup_as_answered=False)),
    _control("(f) the answer is journaled after it is sent", FOUR, Rules(answer_first=False)),
    _control("(g) e_kj released for j in U", FOUR, Rules(pairs_of_lost_only=False)),
    _control("(g) shares of b_j released for lost j", FOUR, Rules(shares_of_survivors_only=False)),
    _control("(g) no agreements needed; a site answers once", FOUR, Rules(proof_needed=False)),
    _control("(g) a site agrees to several U", FOUR, Rules(agrees_once=False), slow=True),
    _control("(g) after VOID the same x in another context", TWO_CONTEXTS, Rules(starts_once=False), slow=True),
    _control("(g) no floor m on |U|, N = 3", THREE, Rules(floor_on_survivors=False), SMALL),
)

# Without one of these rules nothing leaks in these settings, thanks to the others. All are kept; the README says why.
SPARE = (
    ("a second answer, yet no agreement after an answer", Rules(answers_once=False)),
    ("agreement after the answer", Rules(silent_after_answer=False)),
    ("answer for another U than agreed to", Rules(answers_its_agreement=False)),
    ("both of these", Rules(silent_after_answer=False, answers_its_agreement=False)),
    ("headers not checked", Rules(headers_checked=False)),
    ("a site speaks for sums without itself", Rules(self_survives=False)),
    ("no floor m on |U|", Rules(floor_on_survivors=False)),
)

REDUNDANT = tuple(
    Case(name=f"N = {base.roster}: {name}", setting=replace(base, rules=rules), essential=base is FIVE)
    for name, rules in SPARE
    for base in (FOUR, FIVE)
)
