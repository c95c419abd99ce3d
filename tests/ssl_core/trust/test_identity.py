from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ssl_core.errors import StateError, TrustError
from ssl_core.trust.envelope import canonical, open_envelope, seal
from ssl_core.trust.identity import Identity, Secret, fingerprint, verify


def test_rfc_8032_test_2_verifies() -> None:
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    verify(public, b"\x72", signature)
    with pytest.raises(TrustError):
        verify(public, b"\x73", signature)


def torsion() -> set[int]:
    """y of every point of Ed25519 whose order divides 8, in plain arithmetic (RFC 8032, 5.1)."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p

    def double(point: tuple[int, int]) -> tuple[int, int]:
        x, y = point
        k = d * x * x * y * y % p
        return 2 * x * y * pow(1 + k, -1, p) % p, (y * y + x * x) * pow(1 - k, -1, p) % p

    # The double of a point of order 8 has y = 0, so that y^2 = -x^2 and d y^4 + 2 y^2 - 1 = 0 on the curve.
    found = set(ORDERS)
    for y in found:
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        x = x if x * x % p == square else x * pow(2, (p - 1) // 4, p) % p
        assert x * x % p == square
        point = x, y
        for _ in range(3):
            point = double(point)
        assert point == (0, 1)
    return found


ORDERS = (
    0,
    1,
    2**255 - 20,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    2**255 - 19 - 2707385501144840649318225287225658788936804267575313519463743609750303402022,
)


def test_anybody_could_sign_for_a_key_of_small_order_so_it_is_refused() -> None:
    spellings = torsion() | {2**255 - 19, 2**255 - 18}
    for y in spellings:
        for sign in (0, 1):
            public = (y | sign << 255).to_bytes(32, "little")
            with pytest.raises(TrustError, match="small order"):
                verify(public, b"anything", bytes(64))
            with pytest.raises(TrustError, match="small order"):
                open_envelope(seal("note", {}, Identity.generate()), "note", [public])
    # Under the neutral element the installed library takes this for a signature of everything.
    neutral = (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), b"anything")
    with pytest.raises(TrustError, match="small order"):
        verify(neutral, b"anything", neutral + bytes(32))


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    identity = Identity.generate()
    identity.save(path)
    assert Identity.load(path).public == identity.public
    with pytest.raises(StateError, match="not overwritten"):
        Identity.generate().save(path)
    path.chmod(0o644)
    with pytest.raises(StateError, match="chmod 600"):
        Identity.load(path)


def test_secrets_and_identities_show_and_pickle_nothing() -> None:
    secret = Secret(b"very secret")
    assert "very" not in repr(secret) + str(secret)
    for thing in (secret, Identity.generate()):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
    with pytest.raises(TypeError):
        _ = secret == Secret(b"very secret")
    with pytest.raises(TypeError, match="unhashable"):
        hash(secret)


def test_fingerprints_differ_and_are_readable() -> None:
    prints = {fingerprint(Identity.generate().public) for _ in range(50)}
    assert len(prints) == 50 and all(len(p) == 39 for p in prints)


def test_one_changed_byte_of_a_signed_file_is_refused() -> None:
    identity = Identity.generate()
    data = seal("plan", {"name": "a", "steps": 3}, identity)
    assert open_envelope(data, "plan", [identity.public])[0] == {"name": "a", "steps": 3}
    parsed = json.loads(data)
    payload = parsed["payload"]
    parsed["payload"] = ("A" if payload[0] != "A" else "B") + payload[1:]
    with pytest.raises(TrustError):
        open_envelope(canonical(parsed), "plan", [identity.public])
    with pytest.raises(TrustError):
        open_envelope(b"{}", "plan", [identity.public])


def test_a_threshold_counts_distinct_keys() -> None:
    first, second = Identity.generate(), Identity.generate()
    once = seal("roster", {"a": 1}, first)
    with pytest.raises(TrustError):
        open_envelope(once, "roster", [first.public, second.public], threshold=2)
    with pytest.raises(TrustError):
        open_envelope(once, "roster", [first.public, first.public], threshold=2)
    open_envelope(seal("roster", {"a": 1}, first, second), "roster", [first.public, second.public], threshold=2)
