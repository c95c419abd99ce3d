"""Row 18: server and c sites hold everything they saw; what they saw is the same whichever honest site sent what."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests_federation import Federation, make_params
from tests_malicious import MaliciousServer

from ssl_core.secure_sum import keys, masks, vector
from ssl_core.secure_sum.vault import Vault

ONE, OTHER = 0, 3
"""Two honest sites of equal weight; 5 and 6 of seven collude."""

SMALL = 4096


def view(server, context):
    """All bytes that server and colluders have of a round: uploads, answers, their own stores."""
    heard = server.contexts[context]
    replies = [server.ask_unmask(context, site, server.everyone) for site in server.honest]
    stores = [server.federation.stores[server.name(place)] for place in server.corrupt]
    said = [vector.tobytes() for vector in heard.vectors.values()]
    packets = [repr((heard.parts[at], heard.agreements)) for at in sorted(heard.parts)]
    return said, packets, replies, [(store.read_secrets(), store._log) for store in stores]


def play(updates):
    server = MaliciousServer(Federation(make_params(7, dimension=SMALL)))
    return server, server.open_round(updates)


def swapped(updates, names):
    return updates | {names[ONE]: updates[names[OTHER]], names[OTHER]: updates[names[ONE]]}


def test_row_18_swapped_updates_under_a_shifted_pair_mask_give_the_same_view_to_the_byte(monkeypatch):
    """A simulator: all coins the same, the mask of the honest pair shifted by the difference of what was swapped.

    A uniform mask is as likely as the shifted one, so the two views have the same chance: nothing in any message depends
    on the updates but through the sum. The next test looks at whether the mask is uniform.
    """
    names = Federation(make_params(7, dimension=SMALL)).names
    updates = Federation(make_params(7, dimension=SMALL)).whole_updates(5)
    assert make_params(7).members[ONE].weight == make_params(7).members[OTHER].weight == 1
    server, context = play(updates)
    seen = view(server, context)
    before = Vault(server.federation.stores[names[ONE]], server.params.hash)
    hidden = masks.pair_mask(keys.pair_element(before.chain(OTHER), context)).reveal()
    change = (updates[names[OTHER]].astype(np.int64) - updates[names[ONE]].astype(np.int64)).astype(np.uint32)
    real = masks.apply_part

    def shifted(part, *, first, add, subtract):
        real(part, first=first, add=add, subtract=subtract)
        shift = change[first : first + len(part)]
        if any(key.reveal() == hidden for key in subtract):
            np.add(part, -shift, out=part)
        if any(key.reveal() == hidden for key in add):
            np.add(part, shift, out=part)

    monkeypatch.setattr(vector.masks, "apply_part", shifted)
    again, same = play(swapped(updates, names))
    assert same == context and view(again, same) == seen
    monkeypatch.undo()
    plain, _ = play(swapped(updates, names))
    assert plain.contexts[context].vectors[ONE].tobytes() != seen[0][0], "without the shift the views differ"


def residues(bits, round, values):
    """What is left of the honest pair's vectors in one round once every mask that can be known is off."""
    params = make_params(7, dimension=SMALL, bits=bits)
    federation = Federation(params)
    server = MaliciousServer(federation)
    updates = {name: np.zeros(SMALL, np.float32) for name in federation.names} | values(federation.names)
    context = server.open_round(updates, round)
    for site in server.honest:
        server.ask_unmask(context, site, server.everyone)
    assert server.opened().keys() == {frozenset(server.honest)}
    heard = server.contexts[context]
    left = {}
    for at in (ONE, OTHER):
        y = heard.vectors[at].copy()
        own = masks.self_mask(server._own(context, heard, at))
        known = [peer for peer in server.everyone if peer not in (ONE, OTHER)]
        # More than the server can have: every honest site's pair elements, but that of the two.
        chains = Vault(federation.stores[server.name(at)], params.hash)
        elements = {peer: masks.pair_mask(keys.pair_element(chains.chain(peer), context)) for peer in known}
        masks.apply(
            y,
            add=[key for peer, key in elements.items() if peer > at],
            subtract=[own, *(key for peer, key in elements.items() if peer < at)],
        )
        left[at] = y
    return left[ONE], left[OTHER]


WORLDS = {
    "one": lambda names: {names[ONE]: np.full(SMALL, 900.0, np.float32), names[OTHER]: np.full(SMALL, -300.0, np.float32)},
    "swapped": lambda names: {names[ONE]: np.full(SMALL, -300.0, np.float32), names[OTHER]: np.full(SMALL, 900.0, np.float32)},
    "all in one": lambda names: {names[ONE]: np.full(SMALL, 600.0, np.float32)},
}


@pytest.mark.parametrize("bits", [32, 16])
def test_row_18_b_only_the_pairs_sum_is_left_and_each_part_of_it_is_uniform(bits):
    """In three worlds with one sum, over several rounds: chi-square of the words' bytes, and of low and high word bits."""
    found = {}
    for name, values in WORLDS.items():
        parts = [residues(bits, round, values) for round in range(1, 7)]
        first = np.concatenate([one for one, _ in parts])
        for one, other in parts:
            total = (one + other).view(f"i{bits // 8}")
            assert bits == 16 or set(total.tolist()) == {600}
        assert stats.chisquare(np.bincount(first.view(np.uint8), minlength=256)).pvalue > 1e-6, name
        assert stats.kstest(first / 2.0**bits, "uniform").pvalue > 1e-6, name
        found[name] = first
    # The same keys in every world, so the streams are the same: what differs is the shift, which uniform words hide.
    for name in ("swapped", "all in one"):
        assert stats.ks_2samp(found["one"], found[name]).pvalue > 1e-6, name
