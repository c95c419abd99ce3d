"""Rows 5, 24 and 25: keys in another's place, keys and signatures of wrong form, what a disk tells, the mask streams."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import tests_federation
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests_federation import Federation, identity_of, make_params
from tests_malicious import MaliciousServer

from client.journal import SiteJournal
from ssl_core.chain import Chain
from ssl_core.errors import PrivacyError, ProtocolError
from ssl_core.secure_sum import keys, masks
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.evidence import Kind, ProvenFault
from ssl_core.secure_sum.messages import KeySet, Offer, Signed, Start
from ssl_core.secure_sum.shamir import PRIME
from ssl_core.secure_sum.statements import is_signed_by, read_signed, sign
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream

ORDER = 2**252 + 27742317777372353535851937790883648493
EIGHT = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
"""u-coordinates of the points of order 8 (Bernstein, "Curve25519", section 3)."""


def pending(count=4):
    """Sites that offered keys and have accepted none: (sites by place, their offers, the params)."""
    federation = Federation(make_params(count))
    offers = {name: site.offer_keys(2) for name, site in federation.sites.items()}
    return federation, offers


def put(federation, offers, place, offer):
    ordered = [offers[name] for name in federation.names]
    ordered[place] = offer
    return encode(KeySet(epoch=2, offers=tuple(ordered)))


def test_row_05_a_swapped_x25519_key_fails_at_its_signature():
    """The server would sit between site 0 and site 1 and know the mask of their pair."""
    federation, offers = pending()
    names, params = federation.names, federation.params
    mine = X25519PrivateKey.from_private_bytes(hashlib.sha256(b"the server's own").digest()).public_key().public_bytes_raw()
    signed, offer = read_signed(Offer, offers[names[1]])
    swapped = replace(offer, key=mine)
    forged = {
        "old signature": encode(replace(signed, body=encode(swapped))),
        "server's signature": sign(federation.server, params.hash, swapped),
        "colluder's signature": sign(identity_of(names[3]), params.hash, swapped),
        "colluder's own offer": offers[names[3]],
        "of another study": sign(identity_of(names[1]), bytes(32), swapped),
        "of another epoch": federation.make_site(names[1], federation.stores[names[1]].copy()).offer_keys(3),
    }
    before = federation.stores[names[0]].read_secrets()
    for what, data in forged.items():
        with pytest.raises(ProtocolError, match="key offer"):
            federation.sites[names[0]].accept_keys(put(federation, offers, 1, data))
        assert federation.stores[names[0]].read_secrets() == before, what
    federation.sites[names[0]].accept_keys(put(federation, offers, 1, offers[names[1]]))


def test_row_05_b_site_1_is_convicted_when_it_signs_two_keys_for_two_sites():
    """A corrupt site can split the view of its own pairs; both sides meet, and anybody can check it."""
    federation, offers = pending()
    names = federation.names
    other = replace(read_signed(Offer, offers[names[1]])[1], key=bytes([9] * 32))
    second = sign(identity_of(names[1]), federation.params.hash, other)
    federation.sites[names[0]].accept_keys(put(federation, offers, 1, offers[names[1]]))
    with pytest.raises(ProvenFault) as caught:
        federation.sites[names[0]].accept_keys(put(federation, offers, 1, second))
    assert caught.value.evidence.kind == Kind.OFFER and caught.value.evidence.party == identity_of(names[1]).public
    federation.sites[names[2]].accept_keys(put(federation, offers, 1, second))
    federation.keyset = put(federation, offers, 1, second)
    server = MaliciousServer(federation, corrupt=0)
    server.begin(server.forge_start()[0], [0, 2])
    assert [error.problem for error in server.refused] == ["round uses another key set than this site accepted"]


@pytest.mark.parametrize("value", [0, 1, PRIME - 1, *EIGHT])
def test_row_24_keys_of_small_order_are_refused(value):
    """Signed by a corrupt member: every pair key with it would be known to all."""
    federation, offers = pending()
    names = federation.names
    offer = replace(read_signed(Offer, offers[names[3]])[1], key=value.to_bytes(32, "little"))
    signed = sign(identity_of(names[3]), federation.params.hash, offer)
    with pytest.raises(ProtocolError, match="small order"):
        federation.sites[names[0]].accept_keys(put(federation, offers, 3, signed))
    assert Vault(federation.stores[names[0]], federation.params.hash).epoch == 1


@pytest.mark.parametrize("value", [PRIME, PRIME + 1, 2**256 - 1, 9 + 2**255])
def test_row_24_b_second_spellings_and_copies_of_a_key_are_refused(value):
    federation, offers = pending()
    names, params = federation.names, federation.params
    offer = read_signed(Offer, offers[names[3]])[1]
    spelled = sign(identity_of(names[3]), params.hash, replace(offer, key=value.to_bytes(32, "little")))
    with pytest.raises(ProtocolError, match="canonical"):
        federation.sites[names[0]].accept_keys(put(federation, offers, 3, spelled))
    copied = sign(identity_of(names[3]), params.hash, replace(offer, key=read_signed(Offer, offers[names[1]])[1].key))
    with pytest.raises(ProtocolError, match="repeats another site's key"):
        federation.sites[names[0]].accept_keys(put(federation, offers, 3, copied))


def test_row_24_c_a_malleated_signature_is_refused():
    """S + L verifies by the equation alone (RFC 8032, 5.1.7): with it two different bytes would say one thing."""
    server = MaliciousServer(Federation(make_params(4)))
    start, _ = server.forge_start()
    signed = read_signed(Start, start)[0]
    half = int.from_bytes(signed.signature[32:], "little") + ORDER
    malleated = replace(signed, signature=signed.signature[:32] + half.to_bytes(32, "little"))
    assert is_signed_by(server.params.server, signed) and not is_signed_by(server.params.server, malleated)
    with pytest.raises(ProtocolError, match="not signed by the server"):
        server.site(0).begin(encode(malleated), server.federation.last_total)
    assert server.site(0).begin(start, server.federation.last_total).round == 1
    assert decode(Signed, start) == signed


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    """A federation whose sites keep their state as real ones do: a chain in SQLite and a folder of secret files."""
    made = []

    def store():
        folder = tmp_path / f"site-{len(made)}"
        folder.mkdir()
        made.append(folder)
        return SiteJournal(Chain(folder / "chain.db", create=True), folder / "keys", "aa")

    monkeypatch.setattr(tests_federation, "MemoryStore", store)
    return Federation(make_params(4)), made


def image(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_row_24_d_a_disk_image_taken_after_the_round_opens_none_of_its_masks(on_disk):
    federation, folders = on_disk
    names, params = federation.names, federation.params
    offer = federation.sites[names[0]].offer_keys(2)
    private = Vault(federation.stores[names[0]], params.hash).pending.reveal()
    assert private in image(folders[0]), "it must be kept until the key set comes"
    offers = {name: offer if name == names[0] else federation.sites[name].offer_keys(2) for name in names}
    federation.keyset = federation.role.make_keyset(params, offers)
    for site in federation.sites.values():
        site.accept_keys(federation.keyset)
    assert private not in image(folders[0]), "erased with the first key set"
    federation.coordinator = federation.make_coordinator()
    gone = []
    for number in (1, 2, 3):
        federation.run(number, federation.whole_updates(number))
        chains = [Vault(federation.stores[names[0]], params.hash).chain(peer).reveal() for peer in range(4)]
        assert all(chain in image(folders[0]) for chain in chains)
        context = federation.coordinator._round.context
        elements = [keys.pair_element(Secret(chain), context).to_bytes(32, "big") for chain in chains]
        gone += [*chains, *elements]
        federation.close(number)
        found = image(folders[0])
        assert not any(secret in found for secret in (private, *gone)), f"round {number}"
    left = Vault(federation.stores[names[0]], params.hash)
    reachable = {keys.advance(left.chain(peer), steps).reveal() for peer in range(4) for steps in range(40)}
    assert left.index == 4 and not reachable & set(gone), "CK_4 leads to no earlier key"
    assert not any(path.suffix in (".u32", ".bin") and path.stem != "secrets" for path in (folders[0] / "keys").iterdir())


def mask_streams():
    """{name: 64 KiB} of the masks of one site with two peers, in two rounds, two contexts, two epochs, and its own."""
    found = {}
    for model in ("a", "bb"):
        federation = Federation(make_params(4), initial=np.full(11, len(model), np.float32))
        for epoch in (1, 2):
            if epoch == 2:
                offers = {name: site.offer_keys(2) for name, site in federation.sites.items()}
                federation.keyset = federation.role.make_keyset(federation.params, offers)
                for site in federation.sites.values():
                    site.accept_keys(federation.keyset)
            server = MaliciousServer(federation)
            for round in (2 * epoch - 1, 2 * epoch):
                context = server.begin(server.forge_start(round)[0])
                vault = Vault(federation.stores[server.name(0)], federation.params.hash)
                for peer in (1, 2):
                    key = masks.pair_mask(keys.pair_element(vault.chain(peer), context))
                    found[model, epoch, round, peer] = AesCtrStream(key).take(1 << 16)
    return found


def test_row_25_mask_streams_of_one_pair_share_no_block():
    """Rounds, contexts, epochs and peers each give another stream: no 16-byte block occurs twice in all of them."""
    streams = mask_streams()
    streams["own", 1], streams["own", 2] = (AesCtrStream(masks.self_mask(value)).take(1 << 16) for value in (1, 2))
    streams["pair", 1] = AesCtrStream(masks.pair_mask(1)).take(1 << 16)
    blocks = [stream[at : at + 16] for stream in streams.values() for at in range(0, 1 << 16, 16)]
    assert len(streams) == 19 and len(set(blocks)) == len(blocks) == 19 * 4096


@pytest.mark.parametrize("width", ["u4", "u2"])
def test_row_25_b_the_threads_of_one_vector_never_meet_a_counter_twice(width):
    """A vector of several spans is the one stream, whoever computes which part of it: no block is used twice."""
    length = (1 << 19) + 1000
    key = Secret(bytes(range(32)))
    for threads in (1, 3):
        vector = np.zeros(length, width)
        masks.apply(vector, add=[key], subtract=[], threads=threads)
        stream = vector.tobytes()
        assert stream == AesCtrStream(key).take(vector.nbytes)
        whole = [stream[at : at + 16] for at in range(0, len(stream) - 15, 16)]
        assert len(set(whole)) == len(whole)


def test_row_25_c_the_counter_never_wraps():
    with pytest.raises(PrivacyError, match="counter does not fit"):
        AesCtrStream(Secret(bytes(32)), nonce=bytes([255] * 16), block=1)
    with pytest.raises(PrivacyError, match="counter does not fit"):
        AesCtrStream(Secret(bytes(32)), block=1 << 128)
    longest = make_params(4, dimension=(1 << 32) - 1).dimension
    assert longest * 4 // 16 < 1 << 128, "the longest vector that can be declared"
