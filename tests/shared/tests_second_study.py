"""Second decoder, floor 4: the parameters, what START fixes, and every hash and derived key of a round.

No secret is kept here: `Study` is PARAMS and what follows from them, `Round` one round of it; the functions below give
what is signed, committed to or derived. What a site makes of its secrets stands in tests_second_site.py.
"""

from __future__ import annotations

import tests_second_primitives as prim
from tests_second_wire import Malformed, build, parse, parse_signed

GENESIS = prim.digest("genesis")


class Study:
    """PARAMS and what follows from them."""

    def __init__(self, data):
        self.params = parse("PARAMS", data)
        self.hash = prim.digest("params", data)
        self.members = self.params["members"]
        self.bits = self.params["bits"]
        self.threshold = (len(self.members) + self.params["corrupt"]) // 2 + 1
        self.least = max(3, self.threshold, self.params["corrupt"] + 2)
        self.levels = (2 ** (self.bits - 1) - 1) // self.weight(range(len(self.members)))

    def weight(self, sites):
        return sum(self.members[site]["weight"] for site in sites)

    def public(self, site):
        return self.members[site]["identity"]

    def grid(self):
        return {"bits": self.bits, "levels": self.levels, "update_range": self.params["update_range"]}

    def turn(self, context):
        """What rotation needs, in the ring that rotates."""
        return (self.params["session"], context) if self.bits == 16 else None

    def context(self, keyset, round, participants, model, previous):
        frame = {name: self.params[name] for name in ("session", "roster")}
        told = {"keyset": keyset, "round": round, "participants": participants, "model": model, "previous": previous}
        return frame | {"params": self.hash} | told

    def context_hash(self, *told):
        return prim.digest("context", build("CONTEXT", **self.context(*told)))

    def start_hash(self, start):
        return self.context_hash(*(start[name] for name in ("keyset", "round", "participants", "model", "previous")))

    def close_hash(self, close):
        return self.context_hash(*(close[name] for name in ("keyset", "round", "participants", "start_model", "previous")))

    def open_keyset(self, data):
        """{site: X25519 public key}, every offer checked."""
        body, keys = parse("KEYSET", data), {}
        for place, offer in enumerate(body["offers"]):
            wrapper, told = parse_signed("OFFER", offer)
            right = verifies(self.public(place), wrapper) and wrapper["context"] == self.hash
            canonical = int.from_bytes(told["key"], "little") < prim.PRIME and told["key"] not in keys.values()
            if not right or not canonical or (told["site"], told["epoch"]) != (place, body["epoch"]):
                raise Malformed(f"offer {place} is not one of this key set")
            keys[place] = told["key"]
        if len(keys) != len(self.members):
            raise Malformed("key set has not one offer for each member")
        return keys


class Round:
    """What START fixes for one round; what uploads and survivors add is put in by the caller."""

    def __init__(self, study, start):
        self.study, self.start = study, start
        self.context = study.start_hash(start)
        self.number, self.participants = start["round"], start["participants"]
        self.backed = study.params["backup"] and len(self.participants) > study.threshold

    def others(self, site):
        return [peer for peer in self.participants if peer != site]

    def at(self, site):
        return self.participants.index(site)


def signed(seed, kind, context, body):
    signature = prim.ed25519_sign(seed, prim.join("sign/" + kind, context, body))
    return build("SIGNED", kind=kind, context=context, body=body, signature=signature)


def verifies(public, wrapper):
    statement = prim.join("sign/" + wrapper["kind"], wrapper["context"], wrapper["body"])
    return prim.ed25519_verifies(public, statement, wrapper["signature"])


def chain_salt(study, keyset, one, other):
    low, high = sorted((one, other))
    frame = study.params["session"], study.params["roster"], prim.digest("keyset", keyset)
    return prim.digest("chain", *frame, prim.u16(low), prim.u16(high))


def ratchet(chain, steps):
    for _ in range(steps):
        chain = prim.derive(chain, b"sum/next")
    return chain


def pair_element(chain, context):
    return prim.wide_element(prim.derive(chain, b"sum/mask/" + context, 64))


def route(context, sender, recipient, kind):
    """What seal key and associated data are bound to."""
    return prim.join("seal", prim.u16(sender), prim.u16(recipient), context, kind.encode())


def secret_hash(context, element, *, own):
    return prim.digest("b" if own else "e", context, prim.element_bytes(element))


def share_hash(context, dealer, holder, share):
    return prim.digest("share", context, prim.u16(dealer), prim.u16(holder), share)


def backup_leaves(context, dealer, holder, peers, shares):
    ends = prim.u16(dealer), prim.u16(holder)
    return [
        prim.digest("backup-leaf", context, *ends, prim.u16(peer), share) for peer, share in zip(peers, shares, strict=True)
    ]


def backup_hash(context, dealer, holder, leaves):
    return prim.digest("backup", context, prim.u16(dealer), prim.u16(holder), *leaves)


def parts_leaves(parts):
    head = prim.digest("parts-head", parts["agreement"], *parts["commitments"])
    return [head, *(prim.digest("packet", build("PACKET", **packet)) for packet in parts["packets"])]


def parts_hash(parts):
    return prim.digest("parts", *parts_leaves(parts))


def survivors_statement(context, survivors):
    return prim.join("sign/SURVIVORS", context, *(prim.u16(site) for site in survivors))


def transcript(close):
    return prim.digest("transcript", build("CLOSE", **close))


def ack_of(close):
    """The fields of ACK for one CLOSE."""
    return {name: close[name] for name in ("round", "model", "state")} | {"transcript": transcript(close)}
