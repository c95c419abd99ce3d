"""Step 10 of 12, between rounds: a new epoch key set, when the plan's schedule says so or a site lost its keys (ruling 7).

Comes in: a study between two rounds. Goes out: the new key set, durable in `keyset.bin` before any site sees it, or None
where the old one stays. It needs an offer of every participant, so it waits until all are online; meanwhile rounds go on
under the old keys, without the site that lost them. Sites void no round for it: none is open. Who did not acknowledge the
new set is sent it again before its next START (catch_up.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from server.catch_up import CatchUp
from server.study import StudyRun
from ssl_core.chain import write_durably
from ssl_core.errors import ProtocolError
from ssl_core.parcel import IncomingKind, OutgoingKind, Parcel
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.epochs import EPOCH_LEAP
from ssl_core.secure_sum.keys import check_offer, make_keyset
from ssl_core.secure_sum.messages import KeySet, Offer
from ssl_core.secure_sum.statements import read_signed

_ASK_S = 20.0
_TRIES = 3
_LOSS_PAUSE = 4


def renew_keys(run: StudyRun, catch_up: CatchUp) -> bytes | None:
    """A new key set if one is due and every participant offers a key for it; None to go on with the old one."""
    current = decode(KeySet, (run.state.folder / "keyset.bin").read_bytes()).epoch
    since, _ = run.state.keyset_facts()
    every, age = run.plan.rounds.rekey_rounds, run.state.used()[0] - since
    wanted = current + 1 if every and age >= every else current
    online = run.exchange.reachable()
    # Sites that say they lost their keys may make a new set every few rounds only, else one could make every round dear.
    lost = [name for name in catch_up.declined if name in online] if since == 0 or age >= _LOSS_PAUSE else []
    wanted = max([wanted, *(_epoch(offer) for offer in _ask(run, lost, current, current).values())])
    if wanted == current:
        return None
    offers = _agree(run, wanted, current) if set(run.participants) <= online else {}
    if set(offers) != set(run.participants):
        run.events.write("rekey-waits", reason="not every site is there", sites=len(offers))
        return None
    try:
        keyset = keep_keyset(run, offers)
    except ProtocolError as error:
        # One site that copies another's key must not end the study: it goes on under the old keys.
        run.events.write("rekey-waits", reason=f"{error.problem}: {error.value}")
        return None
    run.events.write("rekey", reason=f"epoch {decode(KeySet, keyset).epoch}")
    run.at("keyset-renewed")
    missing = hand_out(run, keyset)
    catch_up.lacks_keys(missing)
    return keyset


def aligned(run: StudyRun, offers: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Offers of one epoch, when a site that lost its keys offered a later one than the others."""
    epochs = {_epoch(offer) for offer in offers.values()}
    return offers if len(epochs) == 1 else _agree(run, max(epochs), 0)


def is_offer(run: StudyRun, name: str, data: bytes, current: int) -> bool:
    """Whether these bytes are a site's own offer, of an epoch that an honest site may have come to."""
    try:
        return check_offer(run.params, run.params.index(name), data).epoch <= current + EPOCH_LEAP
    except ProtocolError:
        return False


def keep_keyset(run: StudyRun, offers: Mapping[str, bytes]) -> bytes:
    """E of these offers, durable before any site sees it."""
    keyset = make_keyset(run.params, offers)
    write_durably(run.state.folder / "keyset.bin", keyset)
    run.state.note_keyset(run.state.used()[0], held=False)
    return keyset


def hand_out(run: StudyRun, keyset: bytes) -> list[str]:
    """KEYS, before the first round with the initial weights, to every participant; who did not say the hash of what it took."""
    acknowledged: set[str] = set()
    expected = hashlib.sha256(keyset).digest()

    def take(name: str, parcel: Parcel) -> None:
        if parcel.body != expected:
            raise ProtocolError("acknowledgement is of another key set", field="site", value=name)
        acknowledged.add(name)

    weights = run.state.initial() if run.state.used()[0] == 0 else None
    parcels = run.parcels(IncomingKind.KEYS, dict.fromkeys(run.participants, keyset), weights)
    run.ask_for(OutgoingKind.KEYS_ACK, parcels, take)
    missing = sorted(set(run.participants) - acknowledged)
    if not missing:
        run.state.note_keyset(run.state.keyset_facts()[0], held=True)
    return missing


def _agree(run: StudyRun, epoch: int, current: int) -> dict[str, bytes]:
    """Every participant's offer for one epoch, this or a later one; fewer where they do not agree in a few tries."""
    offers: dict[str, bytes] = {}
    for _ in range(_TRIES):
        offers = _ask(run, run.participants, epoch, current)
        latest = max((_epoch(offer) for offer in offers.values()), default=epoch)
        if all(_epoch(offer) == latest for offer in offers.values()):
            return offers
        epoch = latest
    return {}


def _ask(run: StudyRun, names: Collection[str], epoch: int, current: int) -> dict[str, bytes]:
    """The offers of these sites for at least this epoch, of those who answer; a wrong one is that site's loss."""
    offers: dict[str, bytes] = {}

    def take(name: str, parcel: Parcel) -> None:
        if not is_offer(run, name, parcel.body, current) or _epoch(parcel.body) < epoch:
            raise ProtocolError("key offer is not this site's for this epoch", field="site", value=name, limit=epoch)
        offers[name] = parcel.body

    body = epoch.to_bytes(4, "big")
    run.ask_for(OutgoingKind.OFFER, run.parcels(IncomingKind.OFFER, dict.fromkeys(names, body)), take, patience_s=_ASK_S)
    return offers


def _epoch(offer: bytes) -> int:
    return read_signed(Offer, offer)[1].epoch
