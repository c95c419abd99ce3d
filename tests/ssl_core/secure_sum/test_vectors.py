"""Frozen vectors of one round: held by the package, and by a plain recomputation that shares no code with it.

The recomputation uses hashlib, hmac, integers (X25519 is the ladder of RFC 7748) and AES block by block.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
import struct
from fractions import Fraction
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).resolve().parent
P = 2**255 - 19


@pytest.fixture(scope="module")
def frozen():
    return json.loads((HERE.parents[1] / "vectors" / "secure_sum.json").read_text())


def test_package_gives_the_frozen_vectors(kit, frozen):
    spec = importlib.util.spec_from_file_location("secure_sum_write_vectors", HERE / "write_vectors.py")
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    found = json.loads(json.dumps(writer.compute(kit)))
    assert set(found) == set(frozen)
    for name in frozen:
        assert found[name] == frozen[name], name


def lp(*parts):
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def tagged(tag, *parts):
    return hashlib.sha256(lp(b"choral/sum/v1/" + tag, *parts)).digest()


def u16(value):
    return struct.pack(">H", value)


def u32(value):
    return struct.pack(">I", value)


def listing(items):
    return u32(len(items)) + lp(*items)


def expand(key, info, length):
    out, block = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(key, block + info + bytes([counter]), "sha256").digest()
        out += block
    return out[:length]


def derive(key, label, length=32):
    return expand(key, b"choral/v1/" + label, length)


def x25519(scalar, point):
    """RFC 7748 section 5, the Montgomery ladder."""
    k = int.from_bytes(scalar, "little")
    k = (k & ~7 & ((1 << 254) - 1)) | 1 << 254
    u = int.from_bytes(point, "little") & ((1 << 255) - 1)
    x1, x2, z2, x3, z3, swap = u, 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def aes_stream(key, length):
    counters = b"".join(at.to_bytes(16, "big") for at in range(-(-length // 16)))
    return Cipher(algorithms.AES256(key), modes.ECB()).encryptor().update(counters)[:length]  # noqa: S305


def words(key, count):
    return struct.unpack(f"<{count}I", aes_stream(key, 4 * count))


def raw(frozen, name, at):
    return bytes.fromhex(frozen["draws"][name][at])


def names(frozen):
    return [member[0] for member in frozen["members"]]


def test_params_hash(frozen):
    members = [
        lp(b"MEMBER", name.encode(), bytes.fromhex(identity), u32(weight)) for name, identity, weight in frozen["members"]
    ]
    encoded = lp(
        b"PARAMS",
        bytes.fromhex(frozen["session"]),
        bytes.fromhex(frozen["roster"]),
        listing(members),
        u16(frozen["corrupt"]),
        bytes.fromhex(frozen["server"]),
        u32(frozen["dimension"]),
        struct.pack(">d", frozen["update_range"]),
        u16(frozen["min_sites"]),
        u32(frozen["max_rounds"]),
        bytes([frozen["bits"]]),
        bytes([frozen["backup"]]),
        u16(frozen["max_churn"]),
    )
    assert tagged(b"params", encoded).hex() == frozen["params_hash"]


def test_context(frozen):
    keyset = tagged(b"keyset", bytes.fromhex(frozen["keyset"]))
    assert keyset.hex() == frozen["keyset_hash"]
    encoded = lp(
        b"CONTEXT",
        bytes.fromhex(frozen["session"]),
        bytes.fromhex(frozen["roster"]),
        bytes.fromhex(frozen["params_hash"]),
        keyset,
        u32(1),
        listing([u16(at) for at in range(4)]),
        bytes.fromhex(frozen["model"]),
        tagged(b"genesis"),
    )
    assert tagged(b"context", encoded).hex() == frozen["context"]


def test_chains(frozen):
    order = names(frozen)
    publics = [x25519(raw(frozen, name, 0), b"\x09" + bytes(31)) for name in order]
    for i, name in enumerate(order):
        assert publics[i] in bytes.fromhex(frozen["keyset"])
        for j in range(4):
            if i == j:
                first = raw(frozen, name, 1)
            else:
                salt = tagged(
                    b"chain",
                    bytes.fromhex(frozen["session"]),
                    bytes.fromhex(frozen["roster"]),
                    bytes.fromhex(frozen["keyset_hash"]),
                    u16(min(i, j)),
                    u16(max(i, j)),
                )
                first = hmac.new(salt, x25519(raw(frozen, name, 0), publics[j]), "sha256").digest()
            assert first.hex() == frozen["CK_0"][i][j]
            assert derive(first, b"sum/next").hex() == frozen["CK_1"][i][j]


def test_pair_elements(frozen):
    context = bytes.fromhex(frozen["context"])
    for i in range(4):
        for j in range(4):
            wide = derive(bytes.fromhex(frozen["CK_1"][i][j]), b"sum/mask/" + context, 64)
            assert (int.from_bytes(wide, "big") % P).to_bytes(32, "big").hex() == frozen["e"][i][j]
            assert frozen["e"][i][j] == frozen["e"][j][i]


def own(frozen, name):
    return int.from_bytes(raw(frozen, name, 3), "big") % P


def quantised(frozen, at):
    """Exact rational arithmetic, but for the one float64 product that scales."""
    name, _, weight = frozen["members"][at]
    levels = (2**31 - 1) // sum(member[2] for member in frozen["members"])
    coins = struct.unpack("<9i", aes_stream(raw(frozen, name, 2), 36))
    out = []
    for value, coin in zip(frozen["updates"][name], coins, strict=True):
        scaled = Fraction(min(max(value * (levels / frozen["update_range"]), -levels), levels))
        whole = round(scaled)
        out.append((whole + round(scaled - whole + Fraction(coin, 2**32))) * weight)
    return out


def test_masked_vectors_and_their_sum(frozen):
    total = [0] * 9
    for i, name in enumerate(names(frozen)):
        y = quantised(frozen, i)
        total = [a + b for a, b in zip(total, y, strict=True)] if i < 3 else total
        mask = words(tagged(b"self", own(frozen, name).to_bytes(32, "big")), 9)
        y = [a + b for a, b in zip(y, mask, strict=True)]
        for j in range(4):
            if j != i:
                mask = words(tagged(b"pair", bytes.fromhex(frozen["e"][i][j])), 9)
                y = [a + b if j < i else a - b for a, b in zip(y, mask, strict=True)]
        assert [value % 2**32 for value in y] == frozen["uploads"][name]["y"]
    assert [value % 2**32 for value in total] == frozen["total"]


def unpack(data):
    """The fields of a message, its tag first."""
    parts = []
    while data:
        size = struct.unpack(">I", data[:4])[0]
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return parts


def items(data):
    count, parts = struct.unpack(">I", data[:4])[0], unpack(data[4:])
    assert count == len(parts)
    return parts


def threshold_of(frozen):
    return (4 + frozen["corrupt"]) // 2 + 1


def coefficients(frozen, name):
    """b's polynomial and those of e_ij for the others j, with the draws: t - 1 coefficients of 48 bytes in each."""
    i, wide = names(frozen).index(name), threshold_of(frozen) - 1
    out = []
    for at, secret in enumerate([own(frozen, name), *(element(frozen, i, j) for j in range(4) if j != i)]):
        drawn = raw(frozen, name, 4 + at)
        assert len(drawn) == 48 * wide
        higher = [int.from_bytes(drawn[48 * k : 48 * k + 48], "big") % P for k in range(wide)]
        out.append([secret, *reversed(higher)])
    return out


def element(frozen, i, j):
    return int.from_bytes(bytes.fromhex(frozen["e"][i][j]), "big")


def value_at(polynomial, x):
    return (sum(c * pow(x, power, P) for power, c in enumerate(polynomial)) % P).to_bytes(32, "big")


def opened(frozen, i, j, kind, sealed):
    label = lp(b"choral/sum/v1/seal", u16(i), u16(j), bytes.fromhex(frozen["context"]), kind)
    key = derive(bytes.fromhex(frozen["CK_1"][i][j]), label)
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], label)


def share_hash(frozen, i, j, share):
    return tagged(b"share", bytes.fromhex(frozen["context"]), u16(i), u16(j), share)


def leaves(frozen, i, j, shares):
    """The hashes of holder j's shares of i's elements."""
    context = bytes.fromhex(frozen["context"])
    peers = [peer for peer in range(4) if peer != i]
    return [tagged(b"backup-leaf", context, u16(i), u16(j), u16(p), s) for p, s in zip(peers, shares, strict=True)]


def backup_hash(frozen, i, j, hashes):
    return tagged(b"backup", bytes.fromhex(frozen["context"]), u16(i), u16(j), *hashes)


def test_commitments_and_sealed_shares(frozen):
    context = bytes.fromhex(frozen["context"])
    for i, name in enumerate(names(frozen)):
        upload = frozen["uploads"][name]
        secret, *elements = coefficients(frozen, name)
        nonces = iter(frozen["draws"][name][8:])
        for j in range(4):
            value = own(frozen, name).to_bytes(32, "big") if i == j else bytes.fromhex(frozen["e"][i][j])
            assert tagged(b"b" if i == j else b"e", context, value).hex() == upload["commitments"][j]
            sealed, commitment = map(bytes.fromhex, upload["shares"][j])
            assert opened(frozen, i, j, b"share", sealed) == value_at(secret, j + 1)
            assert commitment == share_hash(frozen, i, j, value_at(secret, j + 1))
            assert sealed[:12].hex() == next(nonces)
            sealed, commitment = map(bytes.fromhex, upload["backups"][j])
            if i == j:
                assert sealed == b"" and commitment == bytes(32)
                continue
            shares = [value_at(polynomial, j + 1) for polynomial in elements]
            assert opened(frozen, i, j, b"backup", sealed) == b"".join(shares)
            assert commitment == backup_hash(frozen, i, j, leaves(frozen, i, j, shares))
            assert sealed[:12].hex() == next(nonces)
        assert next(nonces, None) is None


def test_header_signs_vector_and_parts(frozen):
    context = bytes.fromhex(frozen["context"])
    for name, identity, _ in frozen["members"]:
        upload = frozen["uploads"][name]
        vector, parts, signature = map(bytes.fromhex, upload["header"])
        assert vector == hashlib.sha256(struct.pack("<9I", *upload["y"])).digest()
        commitments = [bytes.fromhex(value) for value in upload["commitments"]]
        hashes = [tagged(b"parts-head", bytes.fromhex(upload["agreement"]), *commitments)]
        for share, backup in zip(upload["shares"], upload["backups"], strict=True):
            sealed = [lp(b"SEALED", *map(bytes.fromhex, pair)) for pair in (share, backup)]
            hashes.append(tagged(b"packet", lp(b"PACKET", *sealed)))
        assert parts == tagged(b"parts", *hashes)
        signed = lp(b"choral/sum/v1/sign/HEADER", context, vector, parts)
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(identity)).verify(signature, signed)
        agreed = lp(b"choral/sum/v1/sign/SURVIVORS", context, *(u16(at) for at in range(4)))
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(identity)).verify(bytes.fromhex(upload["agreement"]), agreed)


def test_answers(frozen):
    """Survivors 0, 1, 2: their shares of b, the element with site 3, and a signature over hashes of these."""
    context = bytes.fromhex(frozen["context"])
    polynomials = [coefficients(frozen, name)[0] for name in names(frozen)]
    for i, (name, identity, _) in enumerate(frozen["members"][:3]):
        tag, said, values, signature = unpack(bytes.fromhex(frozen["answers"][name]))
        expected = [b"\x00" + value_at(polynomials[j], i + 1) for j in range(3)] + [b"\x01" + bytes.fromhex(frozen["e"][i][3])]
        assert (tag, said, items(values)) == (b"ANSWER", context, expected)
        shown = [bytes.fromhex(frozen["uploads"][other]["shares"][i][1]) for other in names(frozen)[:3]]
        hashes = [share_hash(frozen, j, i, expected[j][1:]) for j in range(3)] + [tagged(b"e", context, expected[3][1:])]
        assert shown == hashes[:3]
        head = lp(b"ANSWER-HEAD", context, u16(i), listing(shown), bytes([0, 0, 0, 1]), listing(hashes))
        signed = lp(b"choral/sum/v1/sign/ANSWER-HEAD", head)
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(identity)).verify(signature, signed)


def test_backup_answer(frozen):
    """Site 0 for sites 1 and 2: its shares of their elements with site 3, hashes in the place of the others."""
    context = bytes.fromhex(frozen["context"])
    tag, said, missing, values, signature = unpack(bytes.fromhex(frozen["backup_answer"]))
    assert (tag, said, items(missing)) == (b"BACKUP-ANSWER", context, [u16(1), u16(2)])
    shown = []
    for dealer, value in zip((1, 2), items(values), strict=True):
        shares = [value_at(polynomial, 1) for polynomial in coefficients(frozen, names(frozen)[dealer])[1:]]
        hashes = leaves(frozen, dealer, 0, shares)
        assert value == b"\x00" + b"".join([*hashes[:2], shares[2]])
        shown.append(backup_hash(frozen, dealer, 0, hashes))
    head = lp(b"BACKUP-HEAD", context, u16(0), listing([u16(1), u16(2)]), listing(shown), bytes(2), listing(shown))
    identity = bytes.fromhex(frozen["members"][0][1])
    Ed25519PublicKey.from_public_bytes(identity).verify(signature, lp(b"choral/sum/v1/sign/BACKUP-HEAD", head))


def test_transcript_is_the_hash_of_the_closed_body(frozen):
    parts = unpack(bytes.fromhex(frozen["close"]))
    assert parts[:3] == [b"SIGNED", b"CLOSE", bytes.fromhex(frozen["context"])]
    assert tagged(b"transcript", parts[3]).hex() == frozen["transcript"]
    total = hashlib.sha256(struct.pack("<9I", *frozen["total"])).digest()
    assert total in parts[3]
