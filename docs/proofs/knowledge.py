"""What the server and the corrupt sites can compute from what was said: linear algebra over the integers.

Symbols: x_i, PRG(b_i), PRG(e_ij), the last two anew for every context. UPLOAD gives y_i = x_i + b_i + sum +-e_ij; t shares
give the secret they are shares of; an answer gives the pair elements of lost sites. Every matrix here is an oriented
graph's incidence matrix beside unit columns, so that elimination meets pivots +1 and -1 only (it is checked): what is
found over the integers holds in the ring mod 2^32, and over any field.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from rules import Message, Setting, Sites

Row = dict[str, int]  # symbol -> coefficient
Fact = tuple[str, int, int, int]  # what is known: y, b or e; context; site; other site of the pair, or the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What can be computed of the honest sites' x: `sums` of answered U, x `alone`, and what breaks the claim, in words."""

    sums: frozenset[Sites]
    alone: Sites
    fault: str


def judge(setting: Setting, messages: Collection[Message]) -> Verdict:
    """Hold what was said against the claim.

    Claim: what the adversary can compute of the x is spanned by sums over the honest sites of U, for U that some site
    answered for; these sums have no site in common, and each is of at least m - c and at least 2 honest sites. Then no
    x_i alone and no sum over a proper part of such a U can be computed. That there is one sum at most is counted apart.
    """
    known = _of_honest(setting, facts(setting, messages))
    kinds = ("ANSWER", "BACKUP") if setting.rules.backup_as_answered else ("ANSWER",)
    answered = {(message.context, message.survivors) for message in messages if message.kind in kinds}
    least = {
        survivors - setting.bad: max(2, setting.least_survivors(context) - setting.corrupt) for context, survivors in answered
    }
    sums = frozenset(crowd for crowd in least if crowd and _inside(known, {f"x{at}": 1 for at in crowd}))
    alone = frozenset(at for at in range(setting.honest) if _inside(known, {f"x{at}": 1}))
    if alone:
        fault = "one site's update alone"
    elif any(one < other for one in sums for other in sums):
        fault = "a sum and a part of it"
    elif any(one & other for one, other in combinations(sums, 2)):
        fault = "two sums that overlap"
    elif len(known) > len(sums):
        fault = "a sum of sites that no site answered for"
    elif any(len(crowd) < least[crowd] for crowd in sums):
        fault = "a sum of fewer than m - c honest sites"
    else:
        fault = ""
    return Verdict(sums=sums, alone=alone, fault=fault)


def facts(setting: Setting, messages: Collection[Message]) -> frozenset[Fact]:
    """Which y are known, which b and which e: everything that the adversary can read or put together from shares."""
    found: set[Fact] = set()
    for context, participants in enumerate(setting.contexts):
        said = [message for message in messages if message.context == context]
        answers = [message for message in said if message.kind == "ANSWER"]
        needed = setting.threshold(context) - setting.rules.share_discount
        colluders = len(participants & setting.bad)
        for site in {message.sender for message in said if message.kind == "UPLOAD"}:
            found.add(("y", context, site, site))
            leaked = not setting.rules.shares_of_survivors_only
            holders = {message.sender for message in answers if leaked or site in message.survivors}
            if colluders + len(holders) >= needed:
                found.add(("b", context, site, site))
        for one, other in combinations(sorted(participants - setting.bad), 2):
            shares = max(len(_backups(said, one, other)), len(_backups(said, other, one)))
            if _told(setting, answers, {one, other}) or colluders + shares >= needed:
                found.add(("e", context, one, other))
    return frozenset(found)


@cache
def _of_honest(setting: Setting, known: frozenset[Fact]) -> list[Row]:
    """A basis of what `known` tells of the honest sites' x, every mask eliminated."""
    return span([_row(setting, fact) for fact in sorted(known)], honest_only=True)


def _row(setting: Setting, fact: Fact) -> Row:
    """y_i = x_i + b_i + sum over j < i of e_ij - sum over j > i of e_ij, without corrupt j; any other fact is a symbol."""
    kind, context, site, _ = fact
    if kind != "y":
        return {_symbol(fact): 1}
    row = {f"x{site}": 1, _symbol(("b", context, site, site)): 1}
    for peer in setting.contexts[context] - setting.bad - {site}:
        row[_symbol(("e", context, min(site, peer), max(site, peer)))] = 1 if peer < site else -1
    return row


def _symbol(fact: Fact) -> str:
    kind, context, one, other = fact
    return f"{kind}{one},{other}/{context}"


def span(vectors: list[Row], *, honest_only: bool = False) -> list[Row]:
    """A reduced basis of the span; with `honest_only`, of its part in which no mask is left."""
    pivots: dict[str, Row] = {}
    for vector in vectors:
        row = _reduced(pivots, vector)
        if not row:
            continue
        symbol = min(row, key=lambda name: (name.startswith("x"), name))
        if abs(row[symbol]) != 1:
            raise ArithmeticError(f"pivot {row[symbol]} at {symbol}: not a statement about every ring")
        row = {name: value * row[symbol] for name, value in row.items()}
        pivots = {name: _less(other, row, other.get(symbol, 0)) for name, other in pivots.items()}
        pivots[symbol] = row
    return [row for symbol, row in pivots.items() if symbol.startswith("x") or not honest_only]


def _told(setting: Setting, answers: list[Message], pair: set[int]) -> bool:
    """Whether an end of the pair gave its element in an answer."""
    leaked = not setting.rules.pairs_of_lost_only
    return any(message.sender in pair and (leaked or not pair <= message.survivors) for message in answers)


def _backups(said: list[Message], owner: int, lost: int) -> set[int]:
    """Who gave a share of e that `owner` split, of the pair with `lost`."""
    return {
        message.sender
        for message in said
        if message.kind == "BACKUP" and message.vanished == owner and lost not in message.survivors
    }


def _inside(basis: list[Row], vector: Row) -> bool:
    return len(span([*basis, vector])) == len(basis)


def _reduced(pivots: dict[str, Row], vector: Row) -> Row:
    row = dict(vector)
    for symbol in [name for name in vector if name in pivots]:
        row = _less(row, pivots[symbol], row[symbol])
    return row


def _less(row: Row, other: Row, times: int) -> Row:
    if times == 0:
        return row
    names = row.keys() | other.keys()
    values = {name: row.get(name, 0) - times * other.get(name, 0) for name in names}
    return {name: value for name, value in values.items() if value}
