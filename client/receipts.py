"""Every answer of ours that left this site, but the empty DECLINED: kind, length, SHA-256; a typed view of the chain.

Covers Choral's payloads, not Flower's heartbeats or TLS records (ruling 26). A receipt is written before the message is
handed to Flower, so what left is at most what is written here.
"""

from __future__ import annotations

import hashlib

from ssl_core.chain import Chain
from ssl_core.parcel import Parcel


def record_receipt(chain: Chain, session: str, parcel: Parcel) -> None:
    """Append one receipt for an outgoing `parcel` of the study `session` (plan hash)."""
    digest = hashlib.sha256(parcel.body)
    length = len(parcel.body)
    if parcel.vector is not None:
        data = parcel.vector.astype("<u4", copy=False).tobytes()
        digest.update(data)
        length += len(data)
    chain.append("receipt", {"session": session, "kind": parcel.kind, "bytes": length, "sha256": digest.hexdigest()})


def bytes_out(chain: Chain, session: str) -> int:
    """Bytes of all receipts of one study."""
    return sum(e.body["bytes"] for e in chain.entries("receipt") if e.body["session"] == session)
