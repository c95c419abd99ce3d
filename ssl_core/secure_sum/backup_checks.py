"""What a site checks of a BACKUP beyond signature, address, context and the answered set (checks.py has those).

Together they say: a site speaks for k only in state ANSWERED, for k in the answered U, k not itself, and only when some j
is outside U; that nothing else leaves then is argued in backup.py. Each returns None or raises `ProtocolError`.
"""

from __future__ import annotations

from ssl_core.errors import RoundVoid
from ssl_core.secure_sum.checks import need
from ssl_core.secure_sum.journal import Entry, RoundState
from ssl_core.secure_sum.messages import Backup
from ssl_core.secure_sum.params import SumParams

Sites = tuple[int, ...]


def round_answered(entry: Entry) -> None:
    """A site speaks for others only after it answered itself, and only while the round stands open."""
    if entry.state is RoundState.VOID:
        raise RoundVoid("round is void at this site", field="round", value=entry.round)
    answered = entry.state is RoundState.ANSWERED
    need(answered, "this site has not answered in this round, or it is over", field="round", value=entry.round)


def backup_in_use(params: SumParams) -> None:
    """The study deals backup shares at all."""
    need(params.backup, "study has no backup shares", field="backup", value=params.backup)


def somebody_lost(survivors: Sites, participants: Sites) -> None:
    """When all participants survive, no pair element is ever told."""
    need(survivors != participants, "no participant was lost: there is nothing to back up", field="survivors")


def missing_sorted(backup: Backup) -> None:
    """Each missing site once, in the order of the members."""
    ordered = backup.missing == tuple(sorted(set(backup.missing)))
    need(ordered, "missing sites are not sorted, each once", field="missing")


def missing_survive(backup: Backup) -> None:
    """Only a survivor is spoken for: of a lost site's elements nothing is told but by their other end."""
    need(set(backup.missing) <= set(backup.survivors), "a missing site is not a survivor", field="missing")


def self_not_missing(site: int, backup: Backup) -> None:
    """This site has answered for itself."""
    need(site not in backup.missing, "this site is not missing", field="missing")


def backups_complete(backup: Backup) -> None:
    """One sealed backup from each missing site."""
    found, limit = len(backup.backups), len(backup.missing)
    need(found == limit, "not one sealed backup for each missing site", field="backups", value=found, limit=limit)
