"""The one signed format for plan, roster, approval, join request, receipt and cards: a DSSE envelope over canonical JSON.

The payload type names what was signed, so a signature on one kind never passes for another. Signing and checking are
securesystemslib's (Dead Simple Signing Envelope v1.0); this file adds canonical JSON, our key ids and our errors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from ssl_core.errors import TrustError
from ssl_core.trust.identity import Identity, check_public, fingerprint

_PREFIX, _SUFFIX = "application/vnd.choral.", "+json"


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces, UTF-8; floats as Python's shortest repr, NaN and infinity refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(payload: bytes) -> str:
    """SHA-256 of a payload as 64 hex digits; a study plan's digest is its session id."""
    return hashlib.sha256(payload).hexdigest()


def seal(kind: str, body: Mapping[str, Any], *signers: Identity) -> bytes:
    """Sign `body` as a document of `kind` ("plan", "roster", ...) by every signer; returns the envelope's JSON bytes."""
    envelope = Envelope(canonical(body), f"{_PREFIX}{kind}{_SUFFIX}", {})
    for signer in signers:
        envelope.sign(CryptoSigner(signer.private_key, _key(signer.public)))
    return canonical(envelope.to_dict())


def open_envelope(data: bytes, kind: str, keys: Sequence[bytes], *, threshold: int = 1) -> tuple[dict[str, Any], str]:
    """Check `threshold` signatures by distinct `keys` (bytes [32] each); returns (body, SHA-256 hex of the payload).

    Raises `TrustError` for another kind, too few valid signatures, or a payload that is not canonical JSON.
    """
    envelope = _parse(data)
    _check_kind(envelope, kind)
    distinct = sorted(set(keys))
    try:
        envelope.verify([_key(public) for public in distinct], threshold)
    except (VerificationError, ValueError) as error:
        raise TrustError(
            f"{kind} is not signed by the keys that must sign it",
            field="signatures",
            value=_counted(envelope, distinct),
            limit=f"{threshold} of {', '.join(fingerprint(k) for k in distinct) or 'no known key'}",
            remedy="ask its author for the signed file; never edit a signed file",
        ) from error
    return _body(envelope.payload, kind), digest(envelope.payload)


def add_signature(data: bytes, kind: str, signer: Identity) -> bytes:
    """The same payload with one signature more; signed again by one key, it still holds that key's signature once."""
    envelope = _parse(data)
    _check_kind(envelope, kind)
    envelope.sign(CryptoSigner(signer.private_key, _key(signer.public)))
    return canonical(envelope.to_dict())


def signers(data: bytes, kind: str, keys: Sequence[bytes]) -> tuple[bytes, ...]:
    """Those of `keys` (bytes [32] each, sorted, each once) whose signature on the payload is there and verifies."""
    envelope = _parse(data)
    _check_kind(envelope, kind)
    return _signers(envelope, sorted(set(keys)))


def peek(data: bytes, kind: str) -> dict[str, Any]:
    """The body WITHOUT checking any signature: for reading the keys that a first contact will show to a person."""
    return _body(_parse(data).payload, kind)


def kind_of(data: bytes) -> str:
    """What the envelope says that it holds, unchecked; "" for a payload type that is not ours."""
    payload_type = _parse(data).payload_type
    ours = payload_type.startswith(_PREFIX) and payload_type.endswith(_SUFFIX)
    return payload_type.removeprefix(_PREFIX).removesuffix(_SUFFIX) if ours else ""


def _check_kind(envelope: Envelope, kind: str) -> None:
    wanted = f"{_PREFIX}{kind}{_SUFFIX}"
    if envelope.payload_type != wanted:
        raise TrustError(
            "signed document is of another kind",
            field="payloadType",
            value=envelope.payload_type,
            limit=wanted,
        )


def _signers(envelope: Envelope, keys: Sequence[bytes]) -> tuple[bytes, ...]:
    # One key at a time: `verify` stops counting at its threshold, and only signatures that verify count.
    return tuple(key for key in keys if _signed_by(envelope, key))


def _counted(envelope: Envelope, keys: Sequence[bytes]) -> str:
    counting = len(_signers(envelope, keys))
    # Whose a signature says it is, anybody can write: it tells a changed file from a stranger's, and proves neither.
    broken = sum(_key(key).keyid in envelope.signatures for key in keys) - counting
    words = f"{len(envelope.signatures)} present, {counting} of them count"
    return f"{words}, {broken} in the name of such a key, not made by it over this content" if broken else words


def _signed_by(envelope: Envelope, key: bytes) -> bool:
    try:
        envelope.verify([_key(key)], 1)
    except (VerificationError, ValueError):
        return False
    return True


def _parse(data: bytes) -> Envelope:
    try:
        envelope = Envelope.from_dict(json.loads(data))
        if not isinstance(envelope.payload_type, str):
            raise TypeError("payloadType is no text")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrustError("file is not a signed envelope", remedy="use the file as its author sent it") from error
    return envelope


def _body(payload: bytes, kind: str) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(payload)
        exact = isinstance(body, dict) and canonical(body) == payload
    except (ValueError, RecursionError) as error:
        raise TrustError(f"signed {kind} is not JSON") from error
    if not exact:
        raise TrustError(f"signed {kind} is not canonical JSON", remedy="sign it again with choral")
    return body


def _key(public: bytes) -> SSlibKey:
    check_public(public)
    return SSlibKey(hashlib.sha256(public).hexdigest(), "ed25519", "ed25519", {"public": public.hex()})
