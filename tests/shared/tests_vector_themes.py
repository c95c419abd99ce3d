"""Each derivation of the secure sum by itself, as the product makes it today: what the files of tests/vectors/secure_sum hold.

A function gives one file: "what" in plain words, then inputs and outputs. Bytes are hex; floats are the exact doubles.
"""

from __future__ import annotations

import hashlib

import numpy as np
from tests_federation import identity_of, make_params
from tests_vector_records import identity_seed, numbers, recorded

from ssl_core.secure_sum import keys, masks, ring, rotation, sealing, shamir, statements
from ssl_core.secure_sum.codec import decode, digest, encode, join
from ssl_core.secure_sum.messages import AnswerHead, Close, KeySet, Offer, Parts, Start, Upload, Void
from ssl_core.trust.identity import Secret

ENDS = (0, 8, 1 << 18, 1 << 30, 1 << 31, (1 << 32) - 16)
"""First coordinates of parts of a vector: at 32 bits the last four lie beyond 2^32 bytes of the stream."""


def filled(name, count=32):
    """Bytes that look random: SHA-256 of a name and a counter."""
    return b"".join(hashlib.sha256(f"{name} {at}".encode()).digest() for at in range(-(-count // 32)))[:count]


def element(name):
    return int.from_bytes(filled(name), "big") % shamir.PRIME


def context():
    federation = recorded(3, dimension=4, backup=False)
    start = federation.begin(1)
    body, vector = federation.sites["site-00"].upload(1, np.full(4, 0.125, np.float32))
    for name in federation.names:
        federation.coordinator.add_upload(name, *federation.sites[name].upload(1, np.full(4, 0.125, np.float32)))
    federation.agree()
    federation.unmask()
    close = statements.read_signed(Close, federation.close(1))[1]
    upload = decode(Upload, body)
    parts = decode(Parts, upload.parts)
    rounds = [
        statements.start_round(federation.params, statements.read_signed(Start, data)[1])
        for data in (start, federation.coordinator.start(2, federation.names, federation.model, federation.last_close))
    ]
    named = statements.context_hash(rounds[0])
    head = AnswerHead(context=named, site=2, shown=(filled("shown"),) * 2, marks=b"\x00\x00\x01", digests=(filled("said"),) * 3)
    void = encode(Void(round=7))
    signed = {
        "a signed message (VOID)": join("sign/VOID", named, void),
        "a header": statements.header_statement(named, upload.header.vector, upload.header.parts),
        "an agreement to sites 0, 2 and 300": statements.survivors_statement(named, (0, 2, 300)),
        "the head of an answer": statements.head_statement(head),
    }
    return {
        "what": "Hashes that frame a round, and what is signed. Every hash is SHA-256 of length-prefixed parts, the first of "
        "which is choral/sum/v1/ and a tag: params, keyset, genesis, context, transcript, parts-head, packet, parts. The hash "
        "of a vector alone is of its little-endian words without a tag.",
        "params": {"bytes": encode(federation.params).hex(), "hash": federation.params.hash.hex()},
        "keyset": {"bytes": federation.keyset.hex(), "hash": statements.keyset_hash(federation.keyset).hex()},
        "genesis": statements.GENESIS.hex(),
        "contexts": [{"bytes": encode(round).hex(), "hash": statements.context_hash(round).hex()} for round in rounds],
        "close": {
            "bytes": encode(close).hex(),
            "transcript": statements.transcript(close).hex(),
            "context": statements.close_context(federation.params, close).hex(),
        },
        "parts": {
            "bytes": upload.parts.hex(),
            "leaves": [leaf.hex() for leaf in statements.parts_leaves(parts)],
            "hash": upload.header.parts.hex(),
        },
        "vectors": [
            {"bits": 32, "words": vector.tolist(), "hash": statements.vector_hash(vector).hex()},
            {"bits": 16, "words": [1, 65535, 256], "hash": statements.vector_hash(np.array([1, 65535, 256], "u2")).hex()},
        ],
        "seed": identity_seed("site-02").hex(),
        "public": identity_of("site-02").public.hex(),
        "answer_head": encode(head).hex(),
        "header": encode(upload.header).hex(),
        "signed": [
            {"what": what, "statement": text.hex(), "signature": identity_of("site-02").sign(text).hex()}
            for what, text in signed.items()
        ],
    }


def epoch_keys():
    federation = recorded(3, dimension=4)
    params, keyset = federation.params, federation.keyset
    privates = [bytes.fromhex(draws[0]) for draws in federation.draws]
    offers = [statements.read_signed(Offer, offer)[1] for offer in decode(KeySet, keyset).offers]
    rounds = [filled("a round"), filled("another round")]
    pairs = []
    for low, high in ((0, 1), (0, 2), (1, 2)):
        told = {"private": Secret(privates[low]), "public": offers[high].key}
        first = keys.first_chain(params, keyset, site=low, peer=high, **told)
        places = low.to_bytes(2, "big"), high.to_bytes(2, "big")
        salt = digest("chain", params.session, params.roster, statements.keyset_hash(keyset), *places)
        chains = {steps: keys.advance(first, steps) for steps in (0, 1, 2, 3, 20)}
        pairs.append(
            {
                "sites": [low, high],
                "shared": keys.shared(Secret(privates[low]), offers[high].key).reveal().hex(),
                "salt": salt.hex(),
                "chains": {str(steps): chain.reveal().hex() for steps, chain in chains.items()},
                "elements": [shamir.to_bytes(keys.pair_element(chains[1], round)).hex() for round in rounds],
            }
        )
    return {
        "what": "From X25519 keys of an epoch to the element of a pair in a round. CK_0 = HKDF-Extract(salt, shared), salt a "
        "hash over session, roster, H(E) and both places; CK_{r+1} = HKDF-Expand(CK_r, choral/v1/sum/next); e_ij = 64 bytes "
        "of HKDF-Expand(CK_r, choral/v1/sum/mask/ | context), big endian, mod 2^255 - 19, here of CK_1 in two contexts. "
        "Refused: public keys whose shared value is zero whatever the private key.",
        "params": encode(params).hex(),
        "site_seeds": [identity_seed(name).hex() for name in federation.names],
        "privates": [private.hex() for private in privates],
        "publics": [offer.key.hex() for offer in offers],
        "keyset": keyset.hex(),
        "contexts": [round.hex() for round in rounds],
        "pairs": pairs,
        "refused": [point.to_bytes(32, "little").hex() for point in LOW_ORDER],
    }


LOW_ORDER = (
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    shamir.PRIME - 1,
)


def seals():
    chain, cases = Secret(filled("chain")), []
    for sender, recipient, kind, content in (
        (0, 1, sealing.SHARE, shamir.to_bytes(element("share"))),
        (1, 0, sealing.SHARE, shamir.to_bytes(element("share"))),
        (2, 2, sealing.SHARE, shamir.to_bytes(0)),
        (258, 3, sealing.BACKUP, b"".join(shamir.to_bytes(element(f"backup {at}")) for at in range(3))),
    ):
        route = sealing.Route(context=filled("a round"), sender=sender, recipient=recipient, kind=kind)
        nonce = filled(f"nonce {sender} {recipient}", 12)
        key = sealing.seal_key(chain, route)
        case = {"sender": sender, "recipient": recipient, "kind": kind, "bound": route.label.hex(), "key": key.reveal().hex()}
        case |= {"nonce": nonce.hex(), "content": content.hex()}
        case["blob"] = sealing.seal(chain, route, content, lambda count, nonce=nonce: nonce[:count]).hex()
        if kind == sealing.SHARE:
            case["commitment"] = sealing.commit_share(route, content).hex()
        else:
            peers = [0, 3, 700]
            leaves = sealing.backup_leaves(route, peers, [content[at : at + 32] for at in (0, 32, 64)])
            case |= {"peers": peers, "leaves": [leaf.hex() for leaf in leaves]}
            case["commitment"] = sealing.commit_backup(route, leaves).hex()
        case["complaint"] = sealing.commit_complaint(route, key.reveal()).hex()
        cases.append(case)
    secret = shamir.to_bytes(element("secret"))
    return {
        "what": "Seals: key = HKDF-Expand(CK_r, choral/v1/ | bound), blob = nonce | AES-256-GCM with bound as associated data; "
        "and the commitments to what may be opened. A blob opens under no other place, direction, kind or context.",
        "context": filled("a round").hex(),
        "chain": chain.reveal().hex(),
        "cases": cases,
        "element": secret.hex(),
        "own": sealing.commit_self(filled("a round"), secret).hex(),
        "pair": sealing.commit_pair(filled("a round"), secret).hex(),
    }


def sharing():
    cases = []
    for name, secret, threshold, points in (
        ("three of four", element("secret"), 3, (1, 2, 3, 4)),
        ("five of six, the points of members 0, 2, 3, 8, 254 and 255", element("other"), 5, (1, 3, 4, 9, 255, 256)),
        ("zero, one of one", 0, 1, (7,)),
        ("largest secret, two of three", shamir.PRIME - 1, 2, (1, 2, 1024)),
    ):
        drawn = filled(name, 48 * (threshold - 1))
        shares = shamir.split(secret, threshold, points, lambda count, drawn=drawn: drawn[:count])
        case = {"what": name, "secret": shamir.to_bytes(secret).hex(), "threshold": threshold, "drawn": drawn.hex()}
        cases.append(case | {"points": list(points), "shares": [shamir.to_bytes(share).hex() for share in shares]})
    wide = [bytes(48), b"\xff" * 48, filled("wide", 48)]
    return {
        "what": "Shamir's sharing over GF(2^255 - 19), elements 32 bytes big endian, point of a site its place + 1. drawn "
        "holds 48 bytes a coefficient, that of the highest power first, each taken mod p. Refused: other spellings.",
        "elements": [
            {"drawn": one.hex(), "element": shamir.to_bytes(shamir.element(lambda _, one=one: one)).hex()} for one in wide
        ],
        "cases": cases,
        "refused": [(shamir.PRIME + more).to_bytes(32, "big").hex() for more in (0, 1, 18)] + ["ff" * 32, "00" * 31, "00" * 33],
    }


def mask_streams():
    streams, one, other = [], element("one"), element("other")
    kinds = {"self": masks.self_mask, "pair": masks.pair_mask}
    for kind, make in kinds.items():
        for bits in ring_bits():
            for first in ENDS:
                part = np.zeros(8, f"u{bits // 8}")
                masks.apply_part(part, first=first, add=[make(one)], subtract=[])
                streams.append({"kind": kind, "bits": bits, "first": first, "words": part.tolist()})
    mixed = np.arange(11, dtype=np.uint32)
    masks.apply(mixed, add=[masks.self_mask(one), masks.pair_mask(other)], subtract=[masks.pair_mask(one)])
    return {
        "what": "Masks: key = SHA-256 of tag self or pair and the element; AES-256-CTR from counter zero, little-endian words "
        "of 32 or 16 bits. Eight words from coordinate first on, some of them beyond 2^32 bytes of the stream. mixed: 0 to 10 "
        "plus self(element) plus pair(other) minus pair(element).",
        "element": shamir.to_bytes(one).hex(),
        "other": shamir.to_bytes(other).hex(),
        "keys": {kind: make(one).reveal().hex() for kind, make in kinds.items()},
        "streams": streams,
        "mixed": mixed.tolist(),
    }


def ring_bits():
    return (32, 16)


def rounding():
    key, cases, limit = Secret(filled("rounding")), [], 0.1875
    edges = [limit, -limit, 2 * limit, -1e30, 0.0, -0.0, 1e-45, limit / 3, -limit / 7]
    for bits in ring_bits():
        levels, weight = ((1 << (bits - 1)) - 1) // 10, 3
        step = limit / levels
        update = np.array([*edges, *(step * (at + half) for at, half in ((3, 0.5), (-8, 0.5), (40, 0.25)))], np.float32)
        for first in ENDS:
            words = np.empty(len(update), f"u{bits // 8}")
            told = {"update_range": limit, "levels": levels, "weight": weight}
            ring.encode_into(update, words, first=first, key=key, **told)
            cases.append({"bits": bits, "first": first, "update": numbers(update)} | told | {"words": words.tolist()})
    means = []
    for bits in ring_bits():
        levels, half = ((1 << (bits - 1)) - 1) // 10, 1 << (bits - 1)
        total = np.array([0, 1, half - 1, half, 2 * half - 1, 12345], f"u{bits // 8}")
        mean = ring.decode_mean(total, update_range=limit, levels=levels, weight=9)
        means.append({"bits": bits, "total": total.tolist(), "levels": levels, "weight": 9, "mean": numbers(mean)})
    return {
        "what": "Stochastic rounding: s = x Q / R clipped to [-Q, Q], c = s to the nearest even, q = c + nearest even of "
        "(s - c + coin 2^-b), word = w q mod 2^b; float64 at 32 bits, float32 at 16. Coins are signed little-endian words of "
        "AES-256-CTR under key from coordinate first on. mean = signed word x (R / Q) / weight in float64.",
        "key": key.reveal().hex(),
        "update_range": limit,
        "words": cases,
        "means": means,
    }


def turning():
    told = {"session": filled("session"), "context": filled("a round")}
    cases = []
    for length in (1, 2, 15, 16, 17, 33, 40):
        update = np.array([((7 * at) % 41 - 20) / 3 for at in range(length)], np.float32)
        total = np.array([(7919 * at) % 65536 - 32768 for at in range(length)], np.float64)
        case = {"update": numbers(update), "rotated": numbers(rotation.rotate(update, **told)), "total": numbers(total)}
        cases.append(case | {"back": numbers(rotation.rotate_back(total, **told))})
    length = (1 << 16) + (1 << 15) + 5
    total = np.array([(40503 * at) % 65536 - 32768 for at in range(length)], np.float64)
    back = rotation.rotate_back(total, **told)
    long = {"length": length, "factor": 40503, "back": numbers(back[:8])}
    return {
        "what": "Rotation at half bandwidth: update (float32) there, a sum's whole numbers (float64) back, to the bit. "
        "long: total[i] = (factor i) mod 65536 - 32768; the first values of the way back, and SHA-256 of all as little-endian "
        "doubles.",
        "session": told["session"].hex(),
        "context": told["context"].hex(),
        "cases": cases,
        "long": long | {"hash": hashlib.sha256(back.astype("<f8").tobytes()).hexdigest()},
    }


def study_params():
    """PARAMS for codec.json: members, and every optional field at another value than its default."""
    return make_params(3, bits=16, backup=False, max_churn=2, update_range=0.001)
