"""Frozen vectors of each derivation by itself: held by the package, and by a second implementation that shares no code with it.

The first two tests alone use the package. The others recompute each file with tests/shared/tests_second_*.py; whole rounds
and evidence stand in test_second_decoder.py.
"""

from __future__ import annotations

import hashlib
import json
import struct

import pytest
import tests_second_model as model
import tests_second_primitives as prim
import tests_second_ring as ring
import tests_second_study as study
import tests_second_wire as wire
from tests_vector_codec import message_types
from tests_vector_files import FOLDER, files, frozen, text_of, unhex

from ssl_core.errors import ConfigError, ProtocolError
from ssl_core.secure_sum import codec, shamir
from ssl_core.secure_sum.keys import shared
from ssl_core.trust.identity import Secret

MODELS = json.loads((FOLDER.parent / "model_update.json").read_text())


@pytest.mark.parametrize("name", files())
def test_file_is_what_the_package_gives_today(name):
    """After a change on purpose: python tests/ssl_core/secure_sum/write_vectors.py."""
    found = text_of(files()[name]()) + "\n"
    kept = (FOLDER / name).read_text()
    differing = [pair for pair in zip(found.splitlines(), kept.splitlines(), strict=False) if pair[0] != pair[1]]
    assert not differing, [side[:200] for side in differing[0]]
    assert found == kept


def test_folder_holds_these_files_and_stays_small():
    kept = list(FOLDER.iterdir())
    assert sorted(path.name for path in kept) == sorted(files())
    assert sum(path.stat().st_size for path in kept) < 600_000


# codec.json


@pytest.mark.parametrize("case", frozen("codec.json")["messages"], ids=lambda case: case["type"])
def test_message_is_read_and_written(case):
    data = bytes.fromhex(case["bytes"])
    values = wire.parse(case["type"], data)
    assert wire.plain(case["type"], values) == case["fields"]
    assert wire.build(case["type"], **values) == data
    for other in set(wire.MESSAGES) - {case["type"]}:
        with pytest.raises(wire.Malformed):
            wire.parse(other, data)


@pytest.mark.parametrize("case", frozen("codec.json")["messages"], ids=lambda case: case["type"])
def test_cut_message_is_refused(case):
    data = bytes.fromhex(case["bytes"])
    for end in {0, 3, 4, len(data) // 2, len(data) - 1}:
        with pytest.raises(wire.Malformed):
            wire.parse(case["type"], data[:end])


def test_every_message_type_stands_in_both_tables():
    assert {case["type"] for case in frozen("codec.json")["messages"]} == set(wire.MESSAGES)


@pytest.mark.parametrize("case", frozen("codec.json")["refused"], ids=lambda case: case["why"])
def test_second_spelling_is_refused_by_both(case):
    data = bytes.fromhex(case["bytes"])
    with pytest.raises(wire.Malformed):
        wire.parse(case["type"], data)
    form = next(form for form in message_types() if case["type"] == form.TAG)
    with pytest.raises((ProtocolError, ConfigError)):
        codec.decode(form, data)


# context.json


def test_context_and_transcript():
    told = frozen("context.json")
    params = study.Study(bytes.fromhex(told["params"]["bytes"]))
    assert params.hash.hex() == told["params"]["hash"]
    assert prim.digest("keyset", bytes.fromhex(told["keyset"]["bytes"])).hex() == told["keyset"]["hash"]
    assert study.GENESIS.hex() == told["genesis"]
    for context in told["contexts"]:
        fields = wire.parse("CONTEXT", bytes.fromhex(context["bytes"]))
        names = ("keyset", "round", "participants", "model", "previous")
        assert params.context(*(fields[name] for name in names)) == fields
        assert params.context_hash(*(fields[name] for name in names)).hex() == context["hash"]
    close = wire.parse("CLOSE", bytes.fromhex(told["close"]["bytes"]))
    assert study.transcript(close).hex() == told["close"]["transcript"]
    assert params.close_hash(close).hex() == told["close"]["context"] == told["contexts"][0]["hash"]
    assert fields["previous"].hex() == told["close"]["transcript"]


def test_parts_and_vectors():
    told = frozen("context.json")
    parts = wire.parse("PARTS", bytes.fromhex(told["parts"]["bytes"]))
    assert [leaf.hex() for leaf in study.parts_leaves(parts)] == told["parts"]["leaves"]
    assert study.parts_hash(parts).hex() == told["parts"]["hash"]
    for vector in told["vectors"]:
        assert prim.sha256(ring.vector_bytes(vector["words"], vector["bits"])).hex() == vector["hash"]


def test_what_is_signed():
    told = frozen("context.json")
    context, seed = bytes.fromhex(told["contexts"][0]["hash"]), bytes.fromhex(told["seed"])
    header = wire.parse("HEADER", bytes.fromhex(told["header"]))
    expected = [
        prim.join("sign/VOID", context, wire.build("VOID", round=7)),
        prim.join("sign/HEADER", context, header["vector"], header["parts"]),
        study.survivors_statement(context, [0, 2, 300]),
        prim.join("sign/ANSWER-HEAD", bytes.fromhex(told["answer_head"])),
    ]
    assert prim.ed25519_public(seed).hex() == told["public"]
    assert [text.hex() for text in expected] == [case["statement"] for case in told["signed"]]
    for text, case in zip(expected, told["signed"], strict=True):
        assert prim.ed25519_sign(seed, text).hex() == case["signature"]
        assert prim.ed25519_verifies(bytes.fromhex(told["public"]), text, bytes.fromhex(case["signature"]))


# keys.json


def test_chains_and_pair_elements():
    told = frozen("keys.json")
    params = study.Study(bytes.fromhex(told["params"]))
    privates, publics, keyset = unhex(told["privates"]), unhex(told["publics"]), bytes.fromhex(told["keyset"])
    assert [prim.x25519_public(private) for private in privates] == publics
    assert params.open_keyset(keyset) == dict(enumerate(publics))
    for pair in told["pairs"]:
        low, high = pair["sites"]
        one, other = prim.x25519(privates[low], publics[high]), prim.x25519(privates[high], publics[low])
        assert one == other and one.hex() == pair["shared"]
        salt = study.chain_salt(params, keyset, high, low)
        assert salt.hex() == pair["salt"]
        first = prim.hkdf_extract(salt, one)
        for steps, chain in pair["chains"].items():
            assert study.ratchet(first, int(steps)).hex() == chain
        for context, element in zip(unhex(told["contexts"]), pair["elements"], strict=True):
            found = study.pair_element(bytes.fromhex(pair["chains"]["1"]), context)
            assert prim.element_bytes(found).hex() == element


@pytest.mark.parametrize("point", frozen("keys.json")["refused"])
def test_points_of_small_order_give_zero_and_are_refused(point):
    private = hashlib.sha256(b"private").digest()
    assert prim.x25519(private, bytes.fromhex(point)) == bytes(32)
    with pytest.raises(ProtocolError, match="small order"):
        shared(Secret(private), bytes.fromhex(point))


# seals.json and shamir.json


@pytest.mark.parametrize("case", frozen("seals.json")["cases"], ids=lambda case: f"{case['sender']} to {case['recipient']}")
def test_seal(case):
    told = frozen("seals.json")
    context, chain = bytes.fromhex(told["context"]), bytes.fromhex(told["chain"])
    ends, kind, content = (case["sender"], case["recipient"]), case["kind"], bytes.fromhex(case["content"])
    bound = study.route(context, *ends, kind)
    key = prim.derive(chain, bound)
    assert (bound.hex(), key.hex()) == (case["bound"], case["key"])
    blob = bytes.fromhex(case["blob"])
    assert prim.seal(key, bytes.fromhex(case["nonce"]), content, bound) == blob
    assert prim.unseal(key, blob, bound) == content
    for wrong in ((context, ends[0], ends[1] + 1, kind), (context, ends[0] + 1, ends[1], kind), (bytes(32), *ends, kind)):
        moved = study.route(*wrong)
        assert prim.unseal(prim.derive(chain, moved), blob, moved) is None
    assert prim.unseal(key, blob[:-1] + bytes([blob[-1] ^ 1]), bound) is None
    if kind == "share":
        commitment = study.share_hash(context, *ends, content)
    else:
        shares = [content[at : at + 32] for at in range(0, len(content), 32)]
        leaves = study.backup_leaves(context, *ends, case["peers"], shares)
        assert [leaf.hex() for leaf in leaves] == case["leaves"]
        commitment = study.backup_hash(context, *ends, leaves)
    assert commitment.hex() == case["commitment"]
    assert prim.digest("complaint", context, *(prim.u16(end) for end in ends), key).hex() == case["complaint"]


def test_commitments_to_elements():
    told = frozen("seals.json")
    context, element = bytes.fromhex(told["context"]), int(told["element"], 16)
    assert study.secret_hash(context, element, own=True).hex() == told["own"]
    assert study.secret_hash(context, element, own=False).hex() == told["pair"]


@pytest.mark.parametrize("case", frozen("shamir.json")["cases"], ids=lambda case: case["what"])
def test_shares(case):
    secret, drawn, points = int(case["secret"], 16), bytes.fromhex(case["drawn"]), case["points"]
    shares = prim.shares_of(secret, drawn, points)
    assert [prim.element_bytes(share).hex() for share in shares] == case["shares"]
    held = dict(zip(points, shares, strict=True))
    assert prim.secret_of(dict(list(held.items())[-case["threshold"] :])) == secret
    if case["threshold"] > 1:
        assert prim.secret_of(dict(list(held.items())[: case["threshold"] - 1])) != secret


def test_field_elements():
    told = frozen("shamir.json")
    for one in told["elements"]:
        assert prim.element_bytes(prim.wide_element(bytes.fromhex(one["drawn"]))).hex() == one["element"]
    for data in unhex(told["refused"]):
        assert prim.element_of(data) is None and not shamir.is_element(data)


# masks.json, ring.json and rotation.json


def test_mask_streams():
    told = frozen("masks.json")
    element, other = int(told["element"], 16), int(told["other"], 16)
    keys = {"self": ring.self_key(element), "pair": ring.pair_key(element)}
    assert {kind: key.hex() for kind, key in keys.items()} == told["keys"]
    for case in told["streams"]:
        key = keys[case["kind"]]
        assert ring.stream_words(key, 8, case["bits"], begin=case["first"]) == case["words"]
    assert max(case["first"] * case["bits"] // 8 for case in told["streams"]) > 2**33
    add = [keys["self"], ring.pair_key(other)]
    assert ring.masked(list(range(11)), 32, add=add, subtract=[keys["pair"]]) == told["mixed"]


def test_rounding_and_means():
    told = frozen("ring.json")
    key = bytes.fromhex(told["key"])
    for case in told["words"]:
        grid = {name: case[name] for name in ("bits", "levels", "update_range", "weight")}
        assert ring.rounded(case["update"], key=key, begin=case["first"], **grid) == case["words"]
    for case in told["means"]:
        grid = {name: case[name] for name in ("bits", "levels", "weight")}
        assert ring.mean_of(case["total"], update_range=told["update_range"], **grid) == case["mean"]


def test_rotation():
    told = frozen("rotation.json")
    words = bytes.fromhex(told["session"]), bytes.fromhex(told["context"])
    for case in told["cases"]:
        assert ring.turned(case["update"], *words) == case["rotated"]
        assert ring.turned_back(case["total"], *words) == case["back"]
    long = told["long"]
    total = [float(long["factor"] * at % 65536 - 32768) for at in range(long["length"])]
    back = ring.turned_back(total, *words)
    assert back[:8] == long["back"]
    assert hashlib.sha256(struct.pack(f"<{len(back)}d", *back)).hexdigest() == long["hash"]


# model_update.json


@pytest.mark.parametrize("case", MODELS["cases"], ids=lambda case: case["spec"]["optimizer"])
def test_server_step(case):
    rule = {"momentum": 0.0, "betas": [0.9, 0.99], "epsilon": 1e-3} | case["spec"]
    weights = bytes.fromhex(MODELS["weights"])
    now = model.Model(rule, struct.unpack(f"<{len(weights) // 4}f", weights))
    for mean, after in zip(unhex(MODELS["means"]), case["after"], strict=True):
        now = now.after(struct.unpack(f"<{len(mean) // 8}d", mean))
        assert struct.pack(f"<{len(now.weights)}f", *now.weights).hex() == after
