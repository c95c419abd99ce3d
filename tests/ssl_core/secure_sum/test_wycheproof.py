"""Project Wycheproof on the installed primitives, through our own calls where there are any, and on the second decoder's.

"acceptable" are inputs on which sound libraries differ; what we need of them is said at each test.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import tests_second_primitives as prim
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ssl_core.errors import ProtocolError, TrustError
from ssl_core.secure_sum import keys
from ssl_core.secure_sum.messages import Offer
from ssl_core.secure_sum.statements import sign
from ssl_core.trust.identity import Secret, verify

FOLDER = Path(__file__).resolve().parents[2] / "vectors" / "standards"


def told(name):
    """(tests of a file, with bytes for hex)."""
    tests = json.loads((FOLDER / f"{name}.json").read_text())["tests"]
    text = ("id", "flags", "result", "size")
    return [{key: value if key in text else bytes.fromhex(value) for key, value in test.items()} for test in tests]


X25519, ED25519, HKDF, GCM = (told(name) for name in ("x25519", "ed25519", "hkdf_sha256", "aes_256_gcm"))


def flagged(tests, flag):
    return [test for test in tests if flag in test["flags"]]


def number(test):
    return str(test["id"])


def test_files_are_whole():
    assert [len(tests) for tests in (X25519, ED25519, HKDF, GCM)] == [518, 210, 86, 66]
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
    for path in FOLDER.glob("*.json"):
        assert "github.com/C2SP/wycheproof" in json.loads(path.read_text())["origin"]


def test_x25519_gives_the_shared_value_or_refuses_zero():
    """Twists and other spellings of a public key compute as RFC 7748 says; a shared value of zero never comes out."""
    zeros = 0
    for test in X25519:
        if test["shared"] == bytes(32):
            zeros += 1
            with pytest.raises(ProtocolError, match="small order"):
                keys.shared(Secret(test["private"]), test["public"])
        else:
            assert keys.shared(Secret(test["private"]), test["public"]).reveal() == test["shared"], test["id"]
    assert zeros == len(flagged(X25519, "ZeroSharedSecret")) == 31


def test_second_decoder_has_the_same_x25519():
    for test in X25519:
        assert prim.x25519(test["private"], test["public"]) == test["shared"], test["id"]


@pytest.mark.parametrize("test", flagged(X25519, "NonCanonicalPublic"), ids=number)
def test_second_spelling_of_a_public_key_enters_no_key_set(kit, test):
    with pytest.raises(ProtocolError, match="not a canonical X25519 key"):
        key_set_with(kit, test["public"])


@pytest.mark.parametrize("test", flagged(X25519, "ZeroSharedSecret"), ids=number)
def test_key_of_small_order_in_a_key_set_is_refused_and_changes_nothing(kit, test):
    """By its spelling already, or where a site derives its chains from the key set."""
    federation = kit.Federation(kit.make_params(4))
    site, store = federation.make_site("site-00", federation.stores["site-00"].copy()), federation.stores["site-00"]
    before = store._secrets
    own = site.offer_keys(2)
    with pytest.raises(ProtocolError, match=r"not a canonical X25519 key|small order"):
        site.accept_keys(key_set_with(kit, test["public"], {"site-00": own}, epoch=2))
    assert store._secrets == before


def key_set_with(kit, public, own=None, epoch=1):
    """A key set in which the last member offers this key."""
    params = kit.make_params(4)
    offers = {}
    for place, member in enumerate(params.members):
        key = public if place == 3 else prim.x25519_public(hashlib.sha256(member.name.encode()).digest())
        offers[member.name] = sign(kit.identity_of(member.name), params.hash, Offer(epoch=epoch, site=place, key=key))
    return keys.make_keyset(params, offers | (own or {}))


@pytest.mark.parametrize("test", ED25519, ids=number)
def test_ed25519(test):
    """Acceptable are keys of small or mixed order: who signs with one harms himself alone, and either answer will do."""
    try:
        verify(test["public"], test["msg"], test["sig"])
        verified = True
    except TrustError:
        verified = False
    assert test["result"] == "acceptable" or verified == (test["result"] == "valid")
    second = prim.ed25519_verifies(test["public"], test["msg"], test["sig"])
    assert test["result"] == "acceptable" or second == verified


@pytest.mark.parametrize("test", GCM, ids=number)
def test_aes_256_gcm(test):
    sealed = test["ct"] + test["tag"]
    if test["result"] == "valid":
        assert AESGCM(test["key"]).encrypt(test["iv"], test["msg"], test["aad"]) == sealed
        assert AESGCM(test["key"]).decrypt(test["iv"], sealed, test["aad"]) == test["msg"]
        assert prim.seal(test["key"], test["iv"], test["msg"], test["aad"]) == test["iv"] + sealed
    else:
        with pytest.raises(InvalidTag):
            AESGCM(test["key"]).decrypt(test["iv"], sealed, test["aad"])
    opened = prim.unseal(test["key"], test["iv"] + sealed, test["aad"])
    assert opened == (test["msg"] if test["result"] == "valid" else None)


@pytest.mark.parametrize("test", HKDF, ids=number)
def test_hkdf_sha256(test):
    key = keys.extract(test["salt"], Secret(test["ikm"])).reveal()
    assert key == prim.hkdf_extract(test["salt"], test["ikm"])
    if test["result"] == "invalid":
        with pytest.raises(ValueError, match="keys larger than 8160"):
            HKDFExpand(SHA256(), test["size"], test["info"])
        return
    found = HKDFExpand(SHA256(), test["size"], test["info"]).derive(key)
    assert found == prim.hkdf_expand(key, test["info"], test["size"])
    expected = test.get("okm_sha256")
    assert hashlib.sha256(found).digest() == expected if expected else found == test["okm"]
