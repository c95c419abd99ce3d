"""Second decoder, floor 1: the primitives, from their standards and from another library than the product's.

X25519 is the ladder of RFC 7748 in Python's integers, HKDF is RFC 5869 over `hmac`; AES-256 (CTR, GCM) and Ed25519 are
PyCryptodome's, which shares no code with OpenSSL. Nothing here imports `ssl_core`, `cryptography` or numpy.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from Crypto.Cipher import AES
from Crypto.Signature import eddsa

PRIME = 2**255 - 19
DOMAIN = b"choral/sum/v1/"


def prefix(*parts):
    """Each part behind its length, four bytes, big endian."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def join(tag, *parts):
    return prefix(DOMAIN + tag.encode(), *parts)


def digest(tag, *parts):
    return hashlib.sha256(join(tag, *parts)).digest()


def sha256(data):
    return hashlib.sha256(data).digest()


def u16(value):
    return struct.pack(">H", value)


def x25519(scalar, point):
    """RFC 7748 section 5; 32 bytes each."""
    k = int.from_bytes(scalar, "little")
    k = (k & ~7 & ((1 << 254) - 1)) | 1 << 254
    x1 = int.from_bytes(point, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % PRIME, x1 * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


def x25519_public(scalar):
    return x25519(scalar, b"\x09" + bytes(31))


def hkdf_extract(salt, material):
    return hmac.new(salt, material, "sha256").digest()


def hkdf_expand(key, info, length):
    out, block, counter = b"", b"", 0
    while len(out) < length:
        counter += 1
        block = hmac.new(key, block + info + bytes([counter]), "sha256").digest()
        out += block
    return out[:length]


def derive(key, label, length=32):
    return hkdf_expand(key, b"choral/v1/" + label, length)


def key_stream(key, length, *, begin=0):
    """Bytes `begin` to `begin + length` of AES-256-CTR from counter zero."""
    block, skipped = divmod(begin, 16)
    cipher = AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=block)
    return cipher.encrypt(bytes(skipped + length))[skipped:]


def seal(key, nonce, content, bound):
    """nonce | ciphertext | tag."""
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=16)
    cipher.update(bound)
    sealed, tag = cipher.encrypt_and_digest(content)
    return nonce + sealed + tag


def unseal(key, blob, bound):
    """What was sealed, or None."""
    if len(blob) < 28:
        return None
    cipher = AES.new(key, AES.MODE_GCM, nonce=blob[:12], mac_len=16)
    cipher.update(bound)
    try:
        return cipher.decrypt_and_verify(blob[12:-16], blob[-16:])
    except ValueError:
        return None


def ed25519_sign(seed, message):
    return eddsa.new(eddsa.import_private_key(seed), "rfc8032").sign(message)


def ed25519_public(seed):
    return eddsa.import_private_key(seed).public_key().export_key(format="raw")


def ed25519_verifies(public, message, signature):
    """RFC 8032 section 5.1.7. PyCryptodome overlooks the sign bit of a point with x = 0, which 5.1.3 refuses."""
    if len(signature) != 64 or not spelled_once(signature[:32]):
        return False
    try:
        eddsa.new(eddsa.import_public_key(public), "rfc8032").verify(message, signature)
    except ValueError:
        return False
    return True


def spelled_once(point):
    """Whether the 255 bits of y are below p, and no sign stands on x = 0."""
    y = int.from_bytes(point, "little") & ((1 << 255) - 1)
    return y < PRIME and not (point[31] >> 7 and y in (1, PRIME - 1))


def element_bytes(value):
    return value.to_bytes(32, "big")


def element_of(data):
    """32 bytes -> field element; None for any other spelling."""
    value = int.from_bytes(data, "big")
    return value if len(data) == 32 and value < PRIME else None


def wide_element(data):
    """Random bytes -> field element."""
    return int.from_bytes(data, "big") % PRIME


def shares_of(secret, drawn, points):
    """The polynomial's value at each point; `drawn` holds 48 bytes a coefficient, that of the highest power first."""
    falling = [wide_element(drawn[at : at + 48]) for at in range(0, len(drawn), 48)]
    powers = [secret, *reversed(falling)]
    return [sum(c * pow(x, k, PRIME) for k, c in enumerate(powers)) % PRIME for x in points]


def secret_of(shares):
    """{point: share} -> the polynomial's value at zero (Lagrange)."""
    total = 0
    for x, share in shares.items():
        above = below = 1
        for other in shares:
            if other != x:
                above, below = above * -other % PRIME, below * (x - other) % PRIME
        total += share * above * pow(below, PRIME - 2, PRIME)
    return total % PRIME
