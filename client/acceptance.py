"""A person at the hospital accepts a roster, and other hospitals by name and fingerprint: `choral site accept`.

Comes in: a roster file's bytes, pairs of name and fingerprint that were compared by telephone, and, where the roster hands
over to another authority, that one's card. Goes out: what was accepted, what changed, who is not accepted yet, which
studies ended here. One wrong fingerprint leaves nothing of the call behind. Raises `TrustError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client.home import SiteHome, check_fingerprint
from deploy.console import say
from ssl_core.errors import TrustError
from ssl_core.trust.authority import Authority
from ssl_core.trust.roster import Roster, describe
from ssl_core.trust.roster_change import RosterChange, change_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What `accept_roster` did; `again` are those of `open` that were accepted once, and why that counts no more."""

    roster: Roster
    change: RosterChange | None
    open: tuple[str, ...]
    again: Mapping[str, str]
    ended: tuple[str, ...]
    restart: bool

    def say(self, json_: bool) -> None:
        """Print it."""
        facts = describe(self.roster) | {
            "not_accepted": list(self.open),
            "changes": None if self.change is None else self.change.to_json(),
            "studies_ended": list(self.ended),
            "restart_daemon": self.restart,
        }
        say(json_, facts, "\n".join(self._lines()))

    def _lines(self) -> list[str]:
        count = len(self.roster.members)
        lines = [f"Roster version {self.roster.version}: {count} sites, {count - len(self.open)} accepted here."]
        if self.change is not None:
            lines += [f"  {line}" for line in self.change.lines(self.roster)]
        for name in self.open:
            again = f" ({self.again[name]}: accept it again)" if name in self.again else ""
            lines.append(f"  not accepted: {name}  {self.roster.fingerprint(name)}{again}")
        for study in self.ended:
            lines.append(f"  study {study} ends here: the operator launches its plan again, and you approve it anew")
        if self.restart:
            lines.append("  the server's address or certificate changed: start the daemon again")
        return lines


def accept_roster(
    site: SiteHome, data: bytes | None, named: Sequence[tuple[str, str]], successor: Authority | None
) -> Acceptance:
    """Accept `data` (None: the roster that was accepted last) and the members in `named`; nothing where one is wrong."""
    from client.leftovers import drop_leftovers

    before = _last(site)
    roster = site.roster()[0] if data is None else site.verify_roster(data, successor)[0]
    # All are compared before anything is written.
    for name, claimed in named:
        check_fingerprint(roster, name, claimed)
    ended: list[str] = []
    if data is not None:
        site.install_roster(data, successor)
        ended = drop_leftovers(site)
    for name, claimed in named:
        site.accept_member(name, claimed)
    change = change_of(before, roster) if data is not None and before is not None and before != roster else None
    accepted, once = site.accepted(), site.once_accepted()
    open_ = {m.name: m.identity for m in roster.members if accepted.get(m.name) != m.identity}
    again = {name: "it had left" if once[name] == key else "its key changed" for name, key in open_.items() if name in once}
    return Acceptance(
        roster=roster,
        change=change,
        open=tuple(open_),
        again=again,
        ended=tuple(ended),
        restart=change is not None and change.reconnect and _running(site),
    )


def _last(site: SiteHome) -> Roster | None:
    """The roster that counted until now; None where there is none, or where its file is not the one that was accepted."""
    try:
        return site.roster()[0]
    except TrustError:
        return None


def _running(site: SiteHome) -> bool:
    from client.daemon import site_status

    return site_status(site) is not None
