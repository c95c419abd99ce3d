"""Epoch keys: the order of ruling 7, what a key set must be, and what a dishonest member's key cannot do."""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import keys
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.memory import MemoryStore
from ssl_core.secure_sum.messages import KeySet, Offer
from ssl_core.secure_sum.shamir import PRIME
from ssl_core.secure_sum.statements import read_signed, sign
from ssl_core.secure_sum.vault import Contents, Vault
from ssl_core.trust.identity import Secret


@pytest.fixture
def federation(kit):
    return kit.Federation(kit.make_params(4))


def forge(federation, at, *, signer=None, context=None, **changes):
    """The key set with member `at`'s offer changed and signed by itself."""
    body = decode(KeySet, federation.keyset)
    offer = replace(read_signed(Offer, body.offers[at])[1], **changes)
    identity = signer or federation.identities[federation.names[at]]
    data = sign(identity, context or federation.params.hash, offer)
    return encode(replace(body, offers=(*body.offers[:at], data, *body.offers[at + 1 :])))


def public(federation, at):
    return read_signed(Offer, decode(KeySet, federation.keyset).offers[at])[1].key


FORGERIES = {
    "not one offer for each member": lambda f: encode(
        replace(decode(KeySet, f.keyset), offers=decode(KeySet, f.keyset).offers[:3])
    ),
    "not signed by its site": lambda f: forge(f, 1, signer=f.server, key=b"\x09" + bytes(31)),
    "belongs to another study": lambda f: forge(f, 1, context=bytes(32)),
    "stands in another site's place": lambda f: forge(f, 1, site=2),
    "is of another epoch": lambda f: forge(f, 1, epoch=2),
    "is not a canonical X25519 key": lambda f: forge(f, 1, key=public(f, 2)[:31] + bytes([public(f, 2)[31] | 0x80])),
    "repeats another site's key": lambda f: forge(f, 2, key=public(f, 1)),
    "key offer has small order": lambda f: forge(f, 1, key=b"\x01" + bytes(31)),
}


@pytest.mark.parametrize("phrase", FORGERIES)
def test_forged_key_set_is_refused_and_nothing_is_kept(kit, federation, phrase):
    store = MemoryStore()
    federation.randoms = {name: kit.seeded(name) for name in federation.names}
    site = federation.make_site(federation.names[0], store)
    site.offer_keys()
    before, log = store._secrets, list(store._log)
    with pytest.raises(ProtocolError, match=phrase):
        site.accept_keys(FORGERIES[phrase](federation))
    assert store._secrets == before and store._log == log
    site.accept_keys(federation.keyset)


def test_every_refusal_of_a_key_set_has_a_forgery():
    trees = [ast.parse(inspect.getsource(function)) for function in (keys.open_keyset, keys.check_offer)]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    phrases = [c.args[0].value for c in calls if getattr(c.func, "id", "") == "ProtocolError"]
    assert len(phrases) == len(FORGERIES)
    assert all(sum(part in phrase for part in FORGERIES) == 1 for phrase in phrases)


SMALL_ORDER = [
    0,
    1,
    PRIME - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_points_of_small_order_are_refused_by_name_and_by_their_shared_value(federation, point):
    key = point.to_bytes(32, "little")
    with pytest.raises(ProtocolError, match="key offer has small order; field: site; value: site-01"):
        keys.open_keyset(federation.params, forge(federation, 1, key=key))
    with pytest.raises(ProtocolError, match="small order"):
        keys.shared(Secret(bytes(range(32))), key)


def test_offers_of_several_epochs_and_missing_offers_make_no_key_set(kit, federation):
    offers = {name: site.offer_keys() for name, site in federation.sites.items()}
    with pytest.raises(ProtocolError, match=r"lacks an offer.*site-02"):
        keys.make_keyset(federation.params, {n: o for n, o in offers.items() if n != "site-02"})
    offers["site-02"] = federation.sites["site-02"].offer_keys(2)
    with pytest.raises(ProtocolError, match="several epochs"):
        keys.make_keyset(federation.params, offers)


def test_forged_offer_makes_no_key_set(federation):
    offers = {name: site.offer_keys() for name, site in federation.sites.items()}
    offers["site-02"] = offers["site-01"]
    with pytest.raises(ProtocolError, match=r"not signed by its site; field: site; value: site-02"):
        keys.make_keyset(federation.params, offers)


def test_offer_is_the_same_when_asked_again_and_durable_before_it_is_known(kit, federation):
    store = MemoryStore()
    site = federation.make_site(federation.names[0], store)
    offer = site.offer_keys()
    assert site.offer_keys() == offer
    assert federation.make_site(federation.names[0], store).offer_keys() == offer
    assert federation.sites[federation.names[0]].offer_keys() == federation.sites[federation.names[0]].offer_keys()


def test_private_key_is_erased_with_the_same_write_that_keeps_the_chains(federation):
    for name in federation.names:
        contents = decode(Contents, federation.stores[name]._secrets)
        assert len(contents.pending) == 0 and len(contents.chains) == 4 and contents.index == 0


def test_both_ends_have_the_same_chain_and_no_two_pairs_share_one(federation):
    vaults = [Vault(federation.stores[name], federation.params.hash) for name in federation.names]
    chains = {(i, j): vaults[i].chain(j).reveal() for i in range(4) for j in range(4)}
    assert all(chains[i, j] == chains[j, i] for i in range(4) for j in range(4))
    assert len(set(chains.values())) == 10


def test_key_set_is_taken_once_an_epoch(kit, federation):
    site = federation.sites[federation.names[0]]
    store = federation.stores[federation.names[0]]
    before = store.copy()
    site.accept_keys(federation.keyset)
    assert store._log == before._log and store._secrets == before._secrets
    federation.randoms = {name: kit.seeded(f"other {name}") for name in federation.names}
    others = {n: federation.make_site(n, MemoryStore()).offer_keys() for n in federation.names[1:]}
    mine = {federation.names[0]: site.offer_keys()}
    with pytest.raises(ProtocolError, match="another key set was accepted for this epoch"):
        site.accept_keys(keys.make_keyset(federation.params, {**mine, **others}))


def test_key_set_is_taken_after_a_death_between_journal_and_secrets(kit, federation, monkeypatch):
    """The log says that E was accepted, the chains are not kept yet: the same E finishes it."""
    store = MemoryStore()
    federation.randoms = {name: kit.seeded(name) for name in federation.names}
    site = federation.make_site(federation.names[0], store)
    site.offer_keys()

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Vault, "put_chains", dies)
        site.accept_keys(federation.keyset)
    assert [record.kind for record in store._log] == ["OFFERED", "EPOCH"]
    again = federation.make_site(federation.names[0], store)
    again.accept_keys(federation.keyset)
    contents = decode(Contents, store._secrets)
    assert contents.epoch == 1 and len(contents.chains) == 4 and len(contents.pending) == 0 and again.alarms == ()


def test_key_set_needs_our_own_offer(kit, federation):
    stranger = federation.make_site(federation.names[0], MemoryStore())
    with pytest.raises(ProtocolError, match="made no offer for this epoch"):
        stranger.accept_keys(federation.keyset)
    federation.randoms = {name: kit.seeded(f"other {name}") for name in federation.names}
    stranger = federation.make_site(federation.names[0], MemoryStore())
    stranger.offer_keys()
    with pytest.raises(ProtocolError, match="another offer under this site's name"):
        stranger.accept_keys(federation.keyset)


def test_epochs_only_rise(federation):
    site = federation.sites[federation.names[0]]
    latest = site.offer_keys(3)
    assert all(site.offer_keys(epoch) == latest for epoch in (0, 1, 2, 3))
    assert read_signed(Offer, latest)[1].epoch == 3
    site.accept_keys(federation.keyset)
    assert site.offer_keys(1) == latest


def test_lost_secrets_need_a_new_epoch(federation):
    name = federation.names[0]
    federation.stores[name]._secrets = None
    federation.restart(name)
    for _ in range(2):
        offer = federation.sites[name].offer_keys(1)
        assert read_signed(Offer, offer)[1].epoch == 2
        federation.restart(name)
        assert federation.sites[name].offer_keys(2) == offer
        with pytest.raises(ProtocolError, match="round uses another key set"):
            federation.sites[name].begin(federation.coordinator.start(1, federation.names, federation.model, None), None)
        federation.coordinator = federation.make_coordinator()


def test_no_second_key_for_one_epoch_after_the_offer_was_lost_too(federation):
    name = federation.names[0]
    said = set()
    for expected in (2, 3, 4):
        federation.stores[name]._secrets = None
        federation.restart(name)
        offer = read_signed(Offer, federation.sites[name].offer_keys(2))[1]
        assert offer.epoch == expected and offer.key not in said
        said.add(offer.key)


def test_new_epoch_makes_the_open_round_void_and_the_next_exact(kit, federation):
    updates = federation.whole_updates(1)
    federation.begin(1)
    federation.upload(1, updates)
    federation.agree()
    requests = federation.coordinator.unmask_requests()
    offers = {name: site.offer_keys(2) for name, site in federation.sites.items()}
    federation.keyset = federation.coordinator.make_keyset(federation.params, offers)
    for name, site in federation.sites.items():
        site.accept_keys(federation.keyset)
        with pytest.raises(ProtocolError, match="round is void at this site"):
            site.unmask(requests[name])
        federation.restart(name)
    federation.coordinator = federation.make_coordinator()
    total = federation.run(2, updates)
    assert kit.signed_view(total) == federation.expected(updates, federation.names)


def test_a_key_with_the_same_shared_value_gives_other_masks(federation):
    """1/u is u plus the point of order two: X25519 of both is one value, and only the pair in the salt parts them."""
    private = Secret(bytes(range(1, 33)))
    honest = public(federation, 1)
    twin = pow(int.from_bytes(honest, "little"), -1, PRIME).to_bytes(32, "little")
    assert twin != honest
    own = X25519PrivateKey.from_private_bytes(private.reveal())
    exchange = [own.exchange(X25519PublicKey.from_public_bytes(key)) for key in (honest, twin)]
    assert exchange[0] == exchange[1]
    keyset = forge(federation, 2, key=twin)
    keys.open_keyset(federation.params, keyset)
    chains = [
        keys.first_chain(federation.params, keyset, site=0, peer=peer, private=private, public=key).reveal()
        for peer, key in ((1, honest), (2, twin))
    ]
    assert chains[0] != chains[1]


@pytest.mark.parametrize("end", ["void", "new epoch"])
def test_disk_image_after_a_round_was_given_up_holds_no_key_of_it(federation, end):
    """At once, not only when the next round begins."""
    name = federation.names[0]
    federation.begin(1)
    federation.upload(1, federation.whole_updates(1))
    vault = Vault(federation.stores[name], federation.params.hash)
    during = {vault.chain(peer).reveal() for peer in range(4)}
    if end == "void":
        federation.sites[name].void(federation.coordinator.void())
    else:
        offers = {n: site.offer_keys(2) for n, site in federation.sites.items()}
        federation.sites[name].accept_keys(federation.coordinator.make_keyset(federation.params, offers))
    assert not any(key in federation.stores[name]._secrets for key in during)
    assert Vault(federation.stores[name], federation.params.hash).index == 2
    assert not federation.stores[name]._vectors


def test_disk_image_after_a_round_holds_no_key_of_it(kit, federation):
    """Neither the chain keys up to the round nor the epoch's private key, and the masks cannot be computed again."""
    name = federation.names[0]
    during = {}
    federation.begin(1)
    vault = Vault(federation.stores[name], federation.params.hash)
    during = {vault.chain(peer).reveal() for peer in range(4)}
    federation.upload(1, federation.whole_updates(1))
    federation.agree()
    federation.unmask()
    answer = Vault(federation.stores[name], federation.params.hash).answer
    federation.close(1)
    image = federation.stores[name]._secrets + b"".join(record.body for record in federation.stores[name]._log)
    assert not any(key in image for key in during)
    assert answer not in image and len(decode(Contents, federation.stores[name]._secrets).answer) == 0
    assert not federation.stores[name]._vectors
    after = Vault(federation.stores[name], federation.params.hash)
    assert after.index == 2
    assert {keys.advance(Secret(key), 1).reveal() for key in during} == {after.chain(p).reveal() for p in range(4)}
