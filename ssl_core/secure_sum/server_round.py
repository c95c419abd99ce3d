"""What the server holds of the open round, the requests that it makes of it, and what the answers add up to.

Comes in: checked uploads, agreements, answers and backup answers. Goes out: CONSENT, the same for all survivors; one
UNMASK for each, with the shares that the others sealed to it; one BACKUP for each that answered; then every secret that
takes a mask off. A complaint is opened here with the key that it gave: the share counts if it fits after all, its dealer
is convicted if something else comes out, and if nothing opens the two ends are named and neither is blamed alone.
Secret here are the released shares and keys; all else has been seen by the server anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum.answer import Released, accuse_dealer, open_complaint
from ssl_core.secure_sum.backup import Relief
from ssl_core.secure_sum.codec import encode
from ssl_core.secure_sum.evidence import Fault
from ssl_core.secure_sum.intake import check_pairs
from ssl_core.secure_sum.messages import Acked, Backup, Checkpoint, Close, Consent, Header, Parts, Proof, Start, Unmask
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.recovery import recover_own, recover_pairs
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.sealing import Route
from ssl_core.secure_sum.shamir import from_bytes
from ssl_core.secure_sum.shelf import Dealt
from ssl_core.secure_sum.statements import read_signed
from ssl_core.trust.identity import Secret

Sites = tuple[int, ...]


@dataclass(slots=True, kw_only=True, repr=False, eq=False)
class ServerRound:
    """One round; `running` [P] is the masked sum, and after `opened` the sum of w_i q_i over the survivors.

    `shares`: dealer -> holder -> share of b; `backups`: missing k -> lost j -> holder -> share of e_kj; `relieved`:
    missing k -> lost j -> e_kj, recovered; `spoiled`: missing sites whose backup does not fit.
    """

    start: Start
    context: bytes
    running: Words
    headers: dict[int, Header] = field(default_factory=dict)
    dealt: dict[int, Dealt] = field(default_factory=dict)
    acks: dict[int, bytes] = field(default_factory=dict)
    survivors: Sites | None = None
    paired: bool = False
    agreements: dict[int, bytes] = field(default_factory=dict)
    requests: dict[int, Unmask] = field(default_factory=dict)
    answers: dict[int, Released] = field(default_factory=dict)
    shares: dict[int, dict[int, Secret]] = field(default_factory=dict)
    backups: dict[int, dict[int, dict[int, Secret]]] = field(default_factory=dict)
    relieved: dict[int, dict[int, Secret]] = field(default_factory=dict)
    spoiled: set[int] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    opened: bool = False
    closed: Close | None = None
    void: bool = False

    @property
    def parts(self) -> dict[int, Parts]:
        """Dealer -> parts, backups' ciphertext left out."""
        return {site: dealt.parts for site, dealt in self.dealt.items()}

    def blame(self, fault: Fault) -> None:
        """Keep a fault, one for the same sites and problem."""
        if (fault.sites, fault.problem) not in {(kept.sites, kept.problem) for kept in self.faults}:
            self.faults.append(fault)


def pair_up(params: SumParams, now: ServerRound, survivors: Sites) -> None:
    """Once: both ends of every pair of survivors hold the same element; `RoundVoid` names two that do not."""
    if now.paired:
        return
    try:
        check_pairs(params, now.start.participants, survivors, now.parts)
    except RoundVoid as void:
        now.blame(Fault(sites=tuple(str(void.value).split(", ")), problem=void.problem))
        raise
    now.paired = True


def make_consent(now: ServerRound, survivors: Sites) -> Consent:
    """CONSENT with every survivor's signed header."""
    headers = tuple(now.headers[site] for site in survivors)
    return Consent(round=now.start.round, survivors=survivors, headers=headers)


def make_unmask(now: ServerRound, survivors: Sites) -> dict[int, Unmask]:
    """UNMASK for each survivor; the proof is every upload's own agreement when U = C, else those gathered for U."""
    participants, parts = now.start.participants, now.parts
    uploaded = {site: dealt.agreement for site, dealt in parts.items()}
    signatures = uploaded if survivors == participants else now.agreements
    proof = tuple(Proof(site=site, signature=signatures[site]) for site in sorted(signatures))
    return {
        recipient: Unmask(
            round=now.start.round,
            recipient=recipient,
            survivors=survivors,
            proof=proof,
            shares=tuple(parts[sender].packets[participants.index(recipient)].share for sender in survivors),
        )
        for recipient in survivors
    }


def make_backup(params: SumParams, now: ServerRound, survivors: Sites) -> dict[int, Backup]:
    """BACKUP for each site that answered; none while fewer than t answered, or when no survivor's elements are missing."""
    participants = now.start.participants
    missing = tuple(site for site in _unheard(now, survivors) if site not in now.spoiled)
    if not params.backup or not missing or len(now.answers) < params.thresholds(len(participants)).shares:
        return {}
    return {
        recipient: Backup(
            round=now.start.round,
            recipient=recipient,
            survivors=survivors,
            missing=missing,
            backups=tuple(now.dealt[dealer].backup(participants.index(recipient)) for dealer in missing),
        )
        for recipient in sorted(now.answers)
    }


def make_close(now: ServerRound, survivors: Sites, total: bytes, model: bytes, state: bytes) -> Close:
    """CLOSE with the hashes of sum, new model and new optimizer state."""
    before = read_signed(Close, now.start.close)[1].count if now.start.close else 0
    return Close(
        round=now.start.round,
        count=before + 1,
        participants=now.start.participants,
        survivors=survivors,
        headers=tuple(now.headers[site] for site in survivors),
        keyset=now.start.keyset,
        previous=now.start.previous,
        start_model=now.start.model,
        total=total,
        model=model,
        state=state,
    )


def make_checkpoint(params: SumParams, now: ServerRound) -> bytes | None:
    """CHECKPOINT of the CLOSE in START, once t uploads acknowledged it."""
    if not now.start.close:
        return None
    close = read_signed(Close, now.start.close)[1]
    if len(now.acks) < params.thresholds(len(close.participants)).shares:
        return None
    acks = tuple(Acked(site=site, ack=now.acks[site]) for site in sorted(now.acks))
    return encode(Checkpoint(close=now.start.close, acks=acks))


def keep_answer(params: SumParams, now: ServerRound, holder: int, released: Released) -> None:
    """Count a checked answer, share by share."""
    now.answers[holder] = released
    usable = dict(released.shares)
    for dealer, key in released.complaints.items():
        share = _settle(params, now, dealer, holder, key)
        if share is not None:
            usable[dealer] = share
    for dealer, share in usable.items():
        now.shares.setdefault(dealer, {})[holder] = share


def keep_relief(params: SumParams, now: ServerRound, holder: int, relief: Relief) -> None:
    """Count a checked backup answer, and recover the elements of each missing site that has t shares now."""
    for dealer in relief.complaints:
        names = params.names((dealer, holder))
        now.blame(Fault(sites=names, problem="sealed backup does not open, or does not fit, between these two"))
    for missing, shares in relief.shares.items():
        held = now.backups.setdefault(missing, {lost: {} for lost in shares})
        for lost, share in shares.items():
            held[lost][holder] = share
        if missing in now.relieved or missing in now.spoiled:
            continue
        try:
            found = recover_pairs(params, now.context, now.start.participants, missing, now.parts, held)
        except ProtocolError as error:
            now.spoiled.add(missing)
            now.blame(Fault(sites=params.names((missing,)), problem=error.problem))
            continue
        if found is not None:
            now.relieved[missing] = found


def is_answered(params: SumParams, now: ServerRound, survivors: Sites) -> bool:
    """t right shares of every survivor's b_i, and every survivor's elements with lost sites, its own or by backup."""
    threshold = params.thresholds(len(now.start.participants)).shares
    return not _unheard(now, survivors) and all(len(now.shares.get(site, {})) >= threshold for site in survivors)


def recover(params: SumParams, now: ServerRound, survivors: Sites) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
    """({i: b_i}, {(i, j): e_ij}) of an answered round; `RoundVoid` names a dealer whose shares do not fit its secret."""
    try:
        own = recover_own(params, now.context, now.start.participants, survivors, now.parts, now.shares)
    except RoundVoid as void:
        now.blame(Fault(sites=(str(void.value),), problem=void.problem))
        raise
    pairs = {}
    for site in survivors:
        told = now.answers[site].pairs if site in now.answers else now.relieved.get(site, {})
        pairs.update({(site, lost): from_bytes(element.reveal()) for lost, element in told.items()})
    return own, pairs


def _unheard(now: ServerRound, survivors: Sites) -> Sites:
    """Survivors whose pair elements with lost sites are not known; none when nobody was lost."""
    if survivors == now.start.participants:
        return ()
    return tuple(site for site in survivors if site not in now.answers and site not in now.relieved)


def _settle(params: SumParams, now: ServerRound, dealer: int, holder: int, key: Secret) -> Secret | None:
    dealt, at = now.dealt[dealer], now.start.participants.index(holder)
    route = Route(context=now.context, sender=dealer, recipient=holder)
    opens, share = open_complaint(route, dealt.parts.packets[at].share, key)
    if not opens:
        names = params.names((dealer, holder))
        now.blame(Fault(sites=names, problem="sealed share does not open between these two"))
    elif share is None:
        evidence = accuse_dealer(params, route, now.headers[dealer], dealt.leaves, dealt.packet(at), key)
        problem = "site dealt a share that does not fit its own commitment"
        now.blame(Fault(sites=params.names((dealer,)), problem=problem, evidence=evidence))
    return share
