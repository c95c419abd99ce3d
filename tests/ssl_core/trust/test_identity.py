from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

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
