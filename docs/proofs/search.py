"""Every state that a malicious server can bring about, breadth first: each is judged, and none is left out.

A state is what every honest site is in, and what it has told. The server's own knowledge is the union of that, so
nothing else needs to be kept. States that differ in the honest sites' numbering only are visited once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

from knowledge import Verdict, judge
from rules import Message, Move, Setting, Site, Sites, moves

BITS = 16  # a state is one integer, with so many bits for each site

Naming = tuple[tuple[int, ...], tuple[int, ...]]  # new number of each site, and of each context


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came to. `sizes`: for each set of sums seen known in one state, how many honest sites each sum has.

    `states` visited, up to renumbering; `told`: distinct sets of messages among them, each judged. `fault` in words, empty
    when the claim holds. `trace`, of fewest moves, leads to the fault, else to two sums known at once; `verdict` is of its
    last state.
    """

    states: int
    told: int
    sizes: frozenset[tuple[int, ...]]
    fault: str
    trace: tuple[str, ...]
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class _Offer:
    """A move with what it needs as bits: all of `must`, and `count` of `votes`."""

    after: int
    must: int
    votes: int
    count: int
    said: str


class Search:
    """One setting's states. `essential` leaves out moves that give the server nothing it could not have without them."""

    def __init__(self, setting: Setting, *, essential: bool = False) -> None:
        self._setting = setting
        self._essential = essential
        self._bits: dict[Message, int] = {}
        self._index: dict[Site, int] = {}
        self._sites: list[Site] = []
        self._told: list[int] = []
        self._offers: dict[int, list[_Offer]] = {}
        self._namings = list(_namings(setting))
        self._renamed: dict[int, list[int]] = {}
        self._verdicts: dict[int, Verdict] = {}

    def run(self) -> Found:
        """All states, or those up to the first, by number of moves, in which one site's update stands alone."""
        first = self._least([self._number(Site(place=at)) for at in range(self._setting.honest)])
        before = {first: -1}
        level, faulty, double = [first], -1, -1
        sizes: set[tuple[int, ...]] = set()
        while level and not (faulty >= 0 and self.verdict(faulty).alone):
            following = []
            for state in level:
                verdict = self.verdict(state)
                sizes.add(tuple(sorted(len(crowd) for crowd in verdict.sums)))
                if verdict.fault and (faulty < 0 or verdict.alone):
                    faulty = state
                if len(verdict.sums) > 1 and double < 0:
                    double = state
                if verdict.alone:
                    break
                for _, _, after in self._successors(state):
                    name = self._least(after)
                    if name not in before:
                        before[name] = state
                        following.append(name)
            level = following
        shown = faulty if faulty >= 0 else double
        trace, last = self._trace(before, shown)
        return Found(
            states=len(before),
            told=len(self._verdicts),
            sizes=frozenset(sizes),
            fault="" if faulty < 0 else self.verdict(faulty).fault,
            trace=trace,
            verdict=None if shown < 0 else self.verdict(last),
        )

    def verdict(self, state: int) -> Verdict:
        """The claim, held against one state."""
        told = 0
        for site in self._unpack(state):
            told |= self._told[site]
        if told not in self._verdicts:
            messages = [message for message, bit in self._bits.items() if told & bit]
            self._verdicts[told] = judge(self._setting, messages)
        return self._verdicts[told]

    def _successors(self, state: int) -> Iterator[tuple[int, str, list[int]]]:
        sites = self._unpack(state)
        held = 0
        for site in sites:
            held |= self._told[site]
        for at, site in enumerate(sites):
            if site not in self._offers:
                self._find_offers(site)
            for offer in self._offers[site]:
                if held & offer.must == offer.must and (held & offer.votes).bit_count() >= offer.count:
                    yield at, offer.said, [*sites[:at], offer.after, *sites[at + 1 :]]

    def _find_offers(self, number: int) -> None:
        self._offers[number] = [
            _Offer(
                self._number(move.after),
                sum(self._bit(message) for message in move.needs.headers),
                sum(self._bit(message) for message in move.needs.votes),
                move.needs.count,
                move.said,
            )
            for move in self._moves(self._sites[number])
            if move.after != self._sites[number]
        ]

    def _moves(self, site: Site) -> Iterator[Move]:
        for move in moves(self._setting, site):
            if not self._essential:
                yield move
            elif not move.after.void and not any(message.kind == "BACKUP" for message in move.after.told - site.told):
                yield replace(move, after=self._with_backups(move.after))

    def _with_backups(self, site: Site) -> Site:
        """Every BACKUP that the site would give, given: it changes nothing at the site, and the server only gains."""
        for move in list(moves(self._setting, site)):
            new = move.after.told - site.told
            if any(message.kind == "BACKUP" for message in new):
                site = replace(site, told=site.told | new)
        return site

    def _number(self, site: Site) -> int:
        if site not in self._index:
            if len(self._sites) >> BITS:
                raise OverflowError(f"more than 2^{BITS} states of one site: raise BITS")
            self._index[site] = len(self._sites)
            self._sites.append(site)
            self._told.append(sum(self._bit(message) for message in site.told))
        return self._index[site]

    def _bit(self, message: Message) -> int:
        return self._bits.setdefault(message, 1 << len(self._bits))

    def _unpack(self, state: int) -> list[int]:
        return [state >> (BITS * at) & ((1 << BITS) - 1) for at in range(self._setting.honest)]

    def _least(self, sites: list[int]) -> int:
        """The state under the numbering that makes it the least integer."""
        return min(map(sum, zip(*(self._renamed.get(site) or self._rename(site) for site in sites), strict=True)))

    def _rename(self, number: int) -> list[int]:
        site = self._sites[number]
        found = [self._number(_rename(site, naming)) << (BITS * naming[0][site.place]) for naming in self._namings]
        self._renamed[number] = found
        return found

    def _trace(self, before: dict[int, int], state: int) -> tuple[tuple[str, ...], int]:
        """The moves to `state` in words, and the state reached: it is `state` up to renumbering. Nothing for -1."""
        path = [state]
        while path[-1] >= 0:
            path.append(before[path[-1]])
        path = path[-2::-1]
        said: list[str] = []
        now, speaker = path[0] if path else -1, -1
        for goal in path[1:]:
            at, words, after = next(move for move in self._successors(now) if self._least(move[2]) == goal)
            if at == speaker:
                said[-1] += f", {words}"
            else:
                said.append(f"{at + 1} {words}")
            now, speaker = sum(site << (BITS * place) for place, site in enumerate(after)), at
        return tuple(said), now


def _namings(setting: Setting) -> Iterator[Naming]:
    """Every renumbering of honest sites and contexts that leaves the setting as it is; the first changes nothing."""
    for sites in permutations(range(setting.honest)):
        for contexts in permutations(range(len(setting.contexts))):
            moved = [frozenset(_at(sites, site) for site in members) for members in setting.contexts]
            if all(setting.contexts[new] == moved[old] for old, new in enumerate(contexts)):
                yield sites, contexts


def _rename(site: Site, naming: Naming) -> Site:
    sites, contexts = naming
    return replace(
        site,
        place=sites[site.place],
        context=None if site.context is None else contexts[site.context],
        agreed=_rename_set(sites, site.agreed),
        answered=_rename_set(sites, site.answered),
        told=frozenset(
            replace(
                message,
                sender=sites[message.sender],
                context=contexts[message.context],
                survivors=frozenset(_at(sites, at) for at in message.survivors),
                vanished=_at(sites, message.vanished) if message.vanished >= 0 else -1,
            )
            for message in site.told
        ),
    )


def _rename_set(sites: tuple[int, ...], found: Sites | None) -> Sites | None:
    return None if found is None else frozenset(_at(sites, at) for at in found)


def _at(sites: tuple[int, ...], site: int) -> int:
    return sites[site] if site < len(sites) else site
