"""Writes tests/vectors/secure_sum.json: one round of four sites with known randomness, from the package itself.

All upload, the last one too late: the others consent, answer, and one of them speaks for the other two (BACKUP).

Run once, by hand, when the protocol changes on purpose; test_vectors.py then holds both the package and an independent
recomputation to the file: python tests/ssl_core/secure_sum/write_vectors.py
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

from ssl_core.model_update import weights_digest
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.keys import pair_element
from ssl_core.secure_sum.messages import Backup, Close, Parts, Start, Upload
from ssl_core.secure_sum.statements import keyset_hash, read_signed, sign, transcript
from ssl_core.secure_sum.vault import Vault

HERE = Path(__file__).resolve().parent
FILE = HERE.parents[1] / "vectors" / "secure_sum.json"


def load_kit():
    spec = importlib.util.spec_from_file_location("secure_sum_conftest", HERE / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Kit()


def recording(random, draws):
    def draw(count):
        value = random(count)
        draws.append(value.hex())
        return value

    return draw


def compute(kit) -> dict:
    """The vectors, as the package gives them now."""
    params = kit.make_params(4, dimension=9, update_range=0.25)
    draws = {member.name: [] for member in params.members}

    class Recorded(kit.Federation):
        def make_site(self, name, store=None):
            self.randoms[name] = recording(kit.seeded(f"vector {name}"), draws[name])
            return super().make_site(name, store)

    federation = Recorded(params)
    names = federation.names
    vaults = [Vault(federation.stores[name], params.hash) for name in names]
    first = [[vaults[i].chain(j).reveal().hex() for j in range(4)] for i in range(4)]
    start = federation.begin(1)
    context = read_signed(Start, start)[0].context
    vaults = [Vault(federation.stores[name], params.hash) for name in names]
    second = [[vaults[i].chain(j).reveal().hex() for j in range(4)] for i in range(4)]
    elements = [[pair_element(vaults[i].chain(j), context).to_bytes(32, "big").hex() for j in range(4)] for i in range(4)]
    updates = {name: np.linspace(-0.3, 0.3, 9, dtype=np.float32) * (at + 1) / 4 for at, name in enumerate(names)}
    updates = {name: update.astype(np.float32) for name, update in updates.items()}
    uploads, packed = {}, {}
    for name in names:
        body, vector = federation.sites[name].upload(1, updates[name])
        if name != names[3]:
            federation.coordinator.add_upload(name, body, vector)
        upload = decode(Upload, body)
        parts = packed[name] = decode(Parts, upload.parts)
        uploads[name] = {
            "body": body.hex(),
            "y": vector.tolist(),
            "header": [part.hex() for part in (upload.header.vector, upload.header.parts, upload.header.signature)],
            "agreement": parts.agreement.hex(),
            "commitments": [commitment.hex() for commitment in parts.commitments],
            "shares": [[packet.share.blob.hex(), packet.share.commitment.hex()] for packet in parts.packets],
            "backups": [[packet.backup.blob.hex(), packet.backup.commitment.hex()] for packet in parts.packets],
        }
    federation.agree()
    answers = {name: federation.sites[name].unmask(r) for name, r in federation.coordinator.unmask_requests().items()}
    for name, answer in answers.items():
        federation.coordinator.add_answer(name, answer)
    sealed = tuple(packed[name].packets[0].backup for name in names[1:3])
    request = Backup(round=1, recipient=0, survivors=(0, 1, 2), missing=(1, 2), backups=sealed)
    reply = federation.sites[names[0]].backup(sign(federation.server, context, request))
    total = federation.coordinator.total()
    close = federation.close(1)
    return {
        "session": params.session.hex(),
        "roster": params.roster.hex(),
        "members": [[m.name, m.identity.hex(), m.weight] for m in params.members],
        "corrupt": params.corrupt,
        "server": params.server.hex(),
        "dimension": params.dimension,
        "update_range": params.update_range,
        "min_sites": params.min_sites,
        "max_rounds": params.max_rounds,
        "bits": params.bits,
        "backup": params.backup,
        "max_churn": params.max_churn,
        "model": weights_digest(federation.initial).hex(),
        "params_hash": params.hash.hex(),
        "keyset": federation.keyset.hex(),
        "keyset_hash": keyset_hash(federation.keyset).hex(),
        "draws": draws,
        "CK_0": first,
        "CK_1": second,
        "start": start.hex(),
        "context": context.hex(),
        "e": elements,
        "updates": {name: [float(value) for value in update] for name, update in updates.items()},
        "uploads": uploads,
        "answers": {name: answer.hex() for name, answer in answers.items()},
        "backup_answer": reply.hex(),
        "total": total.tolist(),
        "close": close.hex(),
        "transcript": transcript(read_signed(Close, close)[1]).hex(),
    }


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(compute(load_kit()), indent=1) + "\n")
