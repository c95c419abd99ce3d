"""Frozen vectors of one round: held by the package, and by a plain recomputation that shares no code with it.

The recomputation uses hashlib, hmac, integers (X25519 is the ladder of RFC 7748) and AES block by block.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
import math
import struct
from fractions import Fraction
from pathlib import Path

import pytest
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
    uniforms = struct.unpack("<9Q", aes_stream(raw(frozen, name, 2), 72))
    out = []
    for value, uniform in zip(frozen["updates"][name], uniforms, strict=True):
        scaled = Fraction(min(max(value * (levels / frozen["update_range"]), -levels), levels))
        whole = math.floor(scaled)
        below_one = 1 - Fraction((uniform >> 11) + 1, 2**53)
        out.append((whole + (below_one < scaled - whole)) * weight)
    return out


def test_masked_vectors_and_their_sum(frozen):
    total = [0] * 9
    for i, name in enumerate(names(frozen)):
        y = quantised(frozen, i)
        total = [a + b for a, b in zip(total, y, strict=True)]
        mask = words(tagged(b"self", own(frozen, name).to_bytes(32, "big")), 9)
        y = [a + b for a, b in zip(y, mask, strict=True)]
        for j in range(4):
            if j != i:
                mask = words(tagged(b"pair", bytes.fromhex(frozen["e"][i][j])), 9)
                y = [a + b if j < i else a - b for a, b in zip(y, mask, strict=True)]
        assert [value % 2**32 for value in y] == frozen["uploads"][name]["y"]
    assert [value % 2**32 for value in total] == frozen["total"]


def test_commitments_and_sealed_shares(frozen):
    context = bytes.fromhex(frozen["context"])
    for i, name in enumerate(names(frozen)):
        upload = frozen["uploads"][name]
        threshold = (4 + frozen["corrupt"]) // 2 + 1
        coefficients = [own(frozen, name)] + [
            int.from_bytes(raw(frozen, name, 4 + at), "big") % P for at in range(threshold - 1)
        ]
        for j in range(4):
            secret = own(frozen, name).to_bytes(32, "big") if i == j else bytes.fromhex(frozen["e"][i][j])
            assert tagged(b"b" if i == j else b"e", context, secret).hex() == upload["commitments"][j]
            label = lp(b"choral/sum/v1/seal", u16(i), u16(j), context)
            sealed = bytes.fromhex(upload["sealed"][j])
            key = derive(bytes.fromhex(frozen["CK_1"][i][j]), label)
            share = AESGCM(key).decrypt(sealed[:12], sealed[12:], label)
            expected = sum(c * pow(j + 1, power, P) for power, c in enumerate(coefficients)) % P
            assert int.from_bytes(share, "big") == expected
            assert sealed[:12] == raw(frozen, name, 4 + threshold - 1 + j)


def test_transcript_is_the_hash_of_the_closed_body(frozen):
    data, parts = bytes.fromhex(frozen["close"]), []
    while data:
        size = int.from_bytes(data[:4], "big")
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    assert parts[:3] == [b"SIGNED", b"CLOSE", bytes.fromhex(frozen["context"])]
    assert tagged(b"transcript", parts[3]).hex() == frozen["transcript"]
    total = hashlib.sha256(struct.pack("<9I", *frozen["total"])).digest()
    assert total in parts[3]
