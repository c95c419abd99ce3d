"""The protocol as this proof reads it: what one honest site does when a server that owns the network asks it anything.

Written from the specification and sharing no line with the product. Cryptography is perfect here: nobody signs or reads
in another's name, and every secret is a symbol. A site is its journal (durable), what it holds in memory (lost when it is
killed) and what it has told the server. `Rules` are the protocol's rules, each of which can be taken away by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

Sites = frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The protocol's rules; each default is the protocol, each other value a protocol with that rule broken."""

    counted_on_roster: bool = True  # c = floor((N - 1) / 3) of the roster, not of those whom the server invites
    shares_of_roster: bool = True  # t = floor((N + c) / 2) + 1 of all members, not of those whom the server invites
    share_discount: int = 0  # secrets are split so that t - this many shares open them
    proof_discount: int = 0  # t - this many agreements are proof enough for a U other than C
    floor_on_survivors: bool = True  # |U| >= m
    self_survives: bool = True  # a site speaks for sums with its own update in them only
    headers_checked: bool = True  # CONSENT shows an upload of every survivor
    agrees_once: bool = True  # one U other than C is agreed to
    agreement_durable: bool = True  # the agreement is in the journal, not in memory alone
    agreement_first: bool = True  # it is there before it is sent
    silent_after_answer: bool = True  # no new agreement once the site has answered
    proof_needed: bool = True  # UNMASK shows t agreements to its U (all of them when U = C)
    answers_its_agreement: bool = True  # having agreed to U, a site answers for no other
    answers_once: bool = True  # having answered for U, a site answers for no other
    answer_first: bool = True  # the answer is in the journal before it is sent
    shares_of_survivors_only: bool = True  # an answer holds no share of b_j when j is lost
    pairs_of_lost_only: bool = True  # an answer holds no e_kj when j survives
    backup_as_answered: bool = True  # BACKUP is for the U that the site answered for
    starts_once: bool = True  # a round number is used once: one x, one context


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A roster of sites 0 .. honest + corrupt - 1, the last ones corrupt, and the contexts that the server may announce.

    A context stands for all that a round's START binds (participants, model, keys, history). Each is given by its
    participants; two with equal participants differ in something else, and all their secrets differ.
    """

    honest: int
    corrupt: int
    contexts: tuple[Sites, ...]
    uninvited: int = 0  # honest sites of the roster that no context names
    rules: Rules = Rules()

    @property
    def bad(self) -> Sites:
        """The corrupt sites."""
        return frozenset(range(self.honest, self.honest + self.corrupt))

    @property
    def roster(self) -> int:
        """N."""
        return self.honest + self.corrupt + self.uninvited

    def count_of_corrupt(self, context: int) -> int:
        """The c that an honest site computes."""
        return ((self.roster if self.rules.counted_on_roster else len(self.contexts[context])) - 1) // 3

    def threshold(self, context: int) -> int:
        """t = floor((n + c) / 2) + 1, n all members of the study (here: of the roster)."""
        count = self.roster if self.rules.shares_of_roster else len(self.contexts[context])
        return (count + self.count_of_corrupt(context)) // 2 + 1

    def least_survivors(self, context: int) -> int:
        """m = max(3, t, c + 2)."""
        return max(3, self.threshold(context), self.count_of_corrupt(context) + 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What an honest site sends. UPLOAD carries y, the sealed shares of b and of all e, and the agreement to U = C."""

    kind: str  # UPLOAD, AGREE, ANSWER or BACKUP
    sender: int
    context: int
    survivors: Sites = frozenset()  # U, for all but UPLOAD
    vanished: int = -1  # BACKUP: the k of U whose pair elements with the lost sites are wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One honest site in one round."""

    place: int
    context: int | None = None  # journal: STARTED
    uploaded: bool = False  # journal: UPLOADED
    agreed: Sites | None = None  # journal: AGREED
    answered: Sites | None = None  # journal: ANSWERED
    void: bool = False  # journal: VOID
    ready: bool = False  # memory: x and b, which are never on disk
    told: frozenset[Message] = frozenset()  # not the site's but the server's: all that ever left


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the server must hold to make a request: uploads of `headers`, and `count` of the `votes`."""

    headers: frozenset[Message] = frozenset()
    votes: frozenset[Message] = frozenset()
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One thing that the server can do to one site, and what becomes of the site."""

    said: str
    after: Site
    needs: Needs = Needs()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a site does: a durable write, a change in memory, or a message that leaves."""

    did: str
    change: Callable[[Site], Site]


def write(**changes: Any) -> Step:
    """A line in the journal that is on disk before the next step."""
    return Step("wrote its journal", lambda site: replace(site, **changes))


def remember() -> Step:
    """x and b come to be, in memory."""
    return Step("trained", lambda site: replace(site, ready=True))


def send(message: Message) -> Step:
    """The message leaves the site."""
    return Step("sent it", lambda site: replace(site, told=site.told | {message}))


def restart(site: Site, rules: Rules) -> Site:
    """Killed and started again: only the journal is left."""
    return replace(site, ready=False, agreed=site.agreed if rules.agreement_durable else None)


def moves(setting: Setting, site: Site) -> Iterator[Move]:
    """All that can happen to `site` next, if the server holds what it needs for it.

    A request is a few steps, and the site may be killed after each. To be killed between requests loses nothing but x
    and b before the upload (and an agreement, where agreements are not durable).
    """
    if restart(site, setting.rules) != site:
        yield Move(said="is killed and restarts", after=restart(site, setting.rules))
    for said, steps, needs in requests(setting, site):
        states = [site]
        for step in steps:
            states.append(step.change(states[-1]))
        yield Move(said=said, after=states[-1], needs=needs)
        for step, now in zip(steps[:-1], states[1:], strict=False):
            after = restart(now, setting.rules)
            yield Move(said=f"{said} but is killed after it {step.did} and restarts", after=after, needs=needs)


def requests(setting: Setting, site: Site) -> Iterator[tuple[str, list[Step], Needs]]:
    """The requests that the site does not refuse: in words, the steps it then takes, what the server needs for it."""
    rules, me = setting.rules, site.place
    for context, participants in enumerate(setting.contexts):
        used = {message.context for message in site.told} | {site.context}
        fresh = site.context is None or (not rules.starts_once and site.void and context not in used)
        least = max(3 * setting.count_of_corrupt(context) + 1, setting.least_survivors(context))
        if fresh and me in participants and len(participants) >= least:
            begun = write(context=context, uploaded=False, agreed=None, answered=None, void=False)
            yield f"starts{_named(setting, context)}", [begun, remember()], Needs()
    if site.context is None or site.void:
        return
    context = site.context
    upload = Message(kind="UPLOAD", sender=me, context=context)
    if site.ready or site.uploaded:
        done = [] if site.uploaded else [write(uploaded=True, ready=False)]
        yield f"uploads{_named(setting, context)}", [*done, send(upload)], Needs()
    if site.uploaded:
        for survivors in candidates(setting, site, context):
            yield from consent(setting, site, context, survivors)
            yield from unmask(setting, site, context, survivors)
    if site.answered is not None:
        for survivors in (site.answered,) if rules.backup_as_answered else _subsets(setting.contexts[context], 1):
            yield from backup(setting, site, context, survivors)
    yield "takes VOID", [write(void=True)], Needs()


def candidates(setting: Setting, site: Site, context: int) -> Iterator[Sites]:
    """Every U that the site does not refuse out of hand."""
    least = setting.least_survivors(context) if setting.rules.floor_on_survivors else 1
    for survivors in _subsets(setting.contexts[context], least):
        if site.place in survivors or not setting.rules.self_survives:
            yield survivors


def consent(setting: Setting, site: Site, context: int, survivors: Sites) -> Iterator[tuple[str, list[Step], Needs]]:
    """CONSENT: agree to a U other than C."""
    rules = setting.rules
    bound = rules.agrees_once and site.agreed not in (None, survivors)
    late = rules.silent_after_answer and site.answered is not None and site.agreed != survivors
    if survivors == setting.contexts[context] or bound or late:
        return
    shown = survivors if rules.headers_checked else survivors & {site.place}
    agreement = Message(kind="AGREE", sender=site.place, context=context, survivors=survivors)
    done = [] if site.agreed == survivors else [write(agreed=survivors)]
    steps = [*done, send(agreement)] if rules.agreement_first else [send(agreement), *done]
    yield f"agrees to {_set(setting, survivors)}", steps, Needs(headers=_uploads(setting, context, shown))


def unmask(setting: Setting, site: Site, context: int, survivors: Sites) -> Iterator[tuple[str, list[Step], Needs]]:
    """UNMASK: answer for U. The server need not have all uploads of U: a site may be made to say what opens a share later."""
    rules = setting.rules
    other_answer = rules.answers_once and site.answered not in (None, survivors)
    other_agreement = rules.answers_its_agreement and site.agreed not in (None, survivors)
    if other_answer or other_agreement:
        return
    votes = _uploads(setting, context, survivors)
    count = len(votes)
    if survivors != setting.contexts[context]:
        signers = survivors - setting.bad
        votes = frozenset(Message(kind="AGREE", sender=at, context=context, survivors=survivors) for at in signers)
        count = setting.threshold(context) - rules.proof_discount - len(survivors & setting.bad)
    needs = Needs(votes=votes, count=count if rules.proof_needed else 0)
    answer = Message(kind="ANSWER", sender=site.place, context=context, survivors=survivors)
    done = [] if site.answered == survivors else [write(answered=survivors)]
    steps = [*done, send(answer)] if rules.answer_first else [send(answer), *done]
    yield f"answers for {_set(setting, survivors)}", steps, needs


def backup(setting: Setting, site: Site, context: int, survivors: Sites) -> Iterator[tuple[str, list[Step], Needs]]:
    """BACKUP: shares of e_kj for another k of U and all lost j; it changes nothing at the site, which has answered."""
    for vanished in sorted(survivors - setting.bad - {site.place}) if survivors != setting.contexts[context] else ():
        message = Message(kind="BACKUP", sender=site.place, context=context, survivors=survivors, vanished=vanished)
        said = f"gives its backup shares of site {vanished + 1} for {_set(setting, survivors)}"
        yield said, [send(message)], Needs(headers=_uploads(setting, context, frozenset({vanished})))


def _subsets(sites: Sites, least: int) -> Iterator[Sites]:
    for size in range(least, len(sites) + 1):
        yield from map(frozenset, combinations(sorted(sites), size))


def _uploads(setting: Setting, context: int, sites: Sites) -> frozenset[Message]:
    return frozenset(Message(kind="UPLOAD", sender=at, context=context) for at in sites - setting.bad)


def _set(setting: Setting, sites: Sites) -> str:
    names = [f"X{at - setting.honest + 1}" if at in setting.bad else str(at + 1) for at in sorted(sites)]
    return "{" + ", ".join(names) + "}"


def _named(setting: Setting, context: int) -> str:
    return "" if len(setting.contexts) == 1 else f" in context {'AB'[context]}"
