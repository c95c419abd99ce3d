"""Whole rounds as vectors: for each point at which a site can be lost, all that was said, the sum and the mean.

Each function gives one study: parameters and secrets, then its rounds in order.
"""

from __future__ import annotations

from tests_federation import repacked
from tests_vector_records import numbers, recorded, small_updates

from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.history import checkpoint_values
from ssl_core.secure_sum.messages import Acked, Checkpoint, Close, Upload
from ssl_core.secure_sum.statements import read_signed, transcript


def rounds():
    """The file round.json."""
    studies = [
        three_sites(),
        late_upload(),
        lost_before_and_after(),
        half_bandwidth(),
        some_invited(),
        bad_share(),
    ]
    what = (
        "Whole rounds, one study for each point at which a site can be lost. A study has PARAMS, the Ed25519 seeds of server "
        "and sites, every random draw of each site in order (epoch key, key for its own shares, then for each upload: "
        "rounding key, b, coefficients, nonces; from the epoch key on again in the next epoch), the initial weights (float32) "
        "and the server's rule. A round has the key set where an epoch begins with it, every site's update (float32; null "
        "where the site made none), all messages in the order in which they were sent (sites by place; what went to several "
        "stands once), the masked words beside each UPLOAD, weights and moments beside CHECKPOINT; and unless it is void the "
        "survivors' sum as words, the mean update and the transcript."
    )
    return {"what": what, "studies": studies}


def three_sites():
    federation = recorded(3, dimension=5)
    first = played(federation, 1, "site 1 is lost after its upload: two answers open the sum of three", after=[1])
    federation.renew()
    second = played(federation, 2, "under new keys; site 1 missed the CLOSE and gets it with START; nobody is lost")
    return study(federation, "the smallest study: three sites, none corrupt, two epochs", [first, second])


def late_upload():
    federation = small(4)
    late = played(federation, 1, "site 0 uploads after the survivors were fixed: its upload stays closed", late=[0], missed=[0])
    missed = checkpointed(federation, 2, "site 0, which missed the CLOSE, takes a CHECKPOINT; then the round is void")
    return study(federation, "one upload too late, a checkpoint, a void round", [late, missed])


def lost_before_and_after():
    federation = recorded(6, dimension=5)
    lost = played(
        federation, 1, "site 1 uploads nothing, site 4 does not answer: the others speak for it", before=[1], after=[4]
    )
    return study(federation, "two lost, before and after their uploads (BACKUP)", [lost])


def half_bandwidth():
    federation = small(4, bits=16, dimension=37)
    lost = played(federation, 1, "site 3 uploads nothing; dimension 37: blocks of 32, the last one overlaps", before=[3])
    return study(federation, "words of 16 bits, rotated", [lost])


def some_invited():
    """As many participants as shares are needed: all must answer, and no backup is dealt though the study has them."""
    federation = recorded(6, dimension=5, max_churn=2)
    alone = played(federation, 1, "sites 0 and 3 are not invited: places stay those among the members", invited=[1, 2, 4, 5])
    return study(federation, "four of six members", [alone])


def bad_share():
    """Site 2 seals to site 0 what does not fit its own commitment: site 0 complains, three others' shares open b_2."""
    federation = small(4)
    started(federation, 1)
    updates = small_updates(federation, 1)
    federation.sent = {name: federation.sites[name].upload(1, update) for name, update in updates.items()}
    line = next(line for line in federation.log if line.get("vector") and line["from"] == 2)
    name, body, vector = repacked(federation, 2, 0, content=bytes(31) + b"\x07")
    line |= {"message": body.hex(), "dishonest": True}
    federation.sent[name] = body, vector
    for name, (body, vector) in federation.sent.items():
        federation.coordinator.add_upload(name, body, vector)
    federation.agree()
    federation.unmask()
    what = "site 2 deals site 0 a share that does not fit its commitment: a complaint gives away that one seal key"
    return study(federation, "one bad share", [ended(federation, 1, what, updates, [federation.names[2]])])


def small(count, **changes):
    """Without backup shares, which are most of an upload and of no use in a round with one loss."""
    return recorded(count, backup=False, **changes)


def study(federation, what, played):
    return {"what": what} | federation.study() | {"rounds": played}


def started(federation, round, invited=()):
    names = [federation.names[at] for at in invited] or federation.names
    federation.begin(round, names)
    return names


def checkpointed(federation, round, what):
    """The last CLOSE with the ACKs that came in uploads, for the first site; no sum."""
    names = federation.names
    federation.begin(round, away=names[:1])
    updates = small_updates(federation, round)
    federation.upload(round, {name: updates[name] for name in names[1:]})
    uploads = [decode(Upload, bytes.fromhex(line["message"])) for line in federation.log if "vector" in line]
    acks = tuple(Acked(site=at, ack=upload.ack) for at, upload in enumerate(uploads, 1))
    message = encode(Checkpoint(close=federation.last_close, acks=acks))
    federation.take(names[0], federation.sites[names[0]].checkpoint(message, checkpoint_values(federation.now)))
    message = federation.coordinator.void()
    for name in names[1:]:
        federation.sites[name].void(message)
    values = [numbers(updates[name]) if name in names[1:] else None for name in names]
    return {"what": what, "round": round} | federation.keys() | {"updates": values, "messages": federation.said()}


def played(federation, round, what, *, invited=(), before=(), late=(), after=(), missed=()):
    """One round from START to the last ACK."""
    names = started(federation, round, invited)
    updates = {name: update for name, update in small_updates(federation, round).items() if name in names}
    gone, tardy, silent = ([federation.names[at] for at in group] for group in (before, late, after))
    federation.upload(round, {name: update for name, update in updates.items() if name not in (*gone, *tardy)})
    federation.agree(silent=silent)
    for name in tardy:
        body, vector = federation.sites[name].upload(round, updates[name])
        if federation.coordinator.add_upload(name, body, vector):
            raise AssertionError("a late upload was counted")
    federation.unmask(silent=silent)
    if not federation.coordinator.answered:
        federation.relieve()
    made = {name: update for name, update in updates.items() if name not in gone}
    return ended(federation, round, what, made, [*gone, *silent, *(federation.names[at] for at in missed)])


def ended(federation, round, what, updates, absent):
    total, mean = federation.coordinator.total(), federation.coordinator.mean()
    close = federation.close(round, lost=absent)
    return (
        {"what": what, "round": round}
        | federation.keys()
        | {
            "updates": [numbers(updates[name]) if name in updates else None for name in federation.names],
            "messages": federation.said(),
            "total": total.tolist(),
            "mean": numbers(mean),
            "transcript": transcript(read_signed(Close, close)[1]).hex(),
        }
    )


def uploads():
    """The file upload.json: five sites; the other settings stand in round.json."""
    federation = recorded(5)
    federation.begin(1)
    updates = small_updates(federation, 1)
    for name, update in updates.items():
        federation.sites[name].upload(1, update)
    values = [numbers(update) for update in updates.values()]
    made = {"what": "START, and the uploads", "round": 1} | federation.keys() | {"updates": values}
    made["messages"] = federation.said()
    what = (
        "Every byte of every site's UPLOAD, from its randomness: fields as in round.json. Draws of a site, in order: X25519 "
        "private key [32]; key that seals its shares to itself [32]; rounding key [32]; b [48, mod p]; coefficients of b "
        "[48 each, that of the highest power first]; those of e_ij for each other j; then for each participant the nonce of "
        "the share [12] and, where a backup is dealt, of the backup [12]."
    )
    return {"what": what, "studies": [study(federation, "five sites, with backup shares", [made])]}
