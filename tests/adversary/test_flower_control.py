"""Row 19, the other control: flwr's own SecAgg+ functions, asked for both secrets of one node, give its vector away.

A server with honest parameters lists one node among the active and among the dead. Nothing in the client's functions
says that the two must be disjoint, so that every node returns its share of that node's mask seed and of its key.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

import numpy as np
import pytest
from tests_federation import Federation, make_params
from tests_malicious import MaliciousServer

try:
    from flwr.app import ConfigRecord
    from flwr.common import bytes_to_ndarray, ndarray_to_bytes, ndarrays_to_parameters
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
    from flwr.common.secure_aggregation.secaggplus_constants import Key
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
    from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

    # Its package gives a function under the module's own name.
    theirs = import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
    STEPS = (theirs._setup, theirs._share_keys, theirs._collect_masked_vectors, theirs._unmask)
except (ImportError, AttributeError) as error:
    if version("flwr").startswith("1.41."):
        raise
    pytest.skip(f"flwr {version('flwr')} has other functions: {error}", allow_module_level=True)

NODES, THRESHOLD, VICTIM = 5, 4, 2
MODULUS = 1 << 32


def a_round(vectors):
    """(states, public keys, masked vectors) of flwr's first three stages, with the parameters of an honest server."""
    setup, share_keys, collect, _ = STEPS
    states = [theirs.SecAggPlusState() for _ in range(NODES)]
    publics = {}
    for node, state in enumerate(states):
        state.nid = node
        given = {Key.SAMPLE_NUMBER: NODES, Key.SHARE_NUMBER: NODES, Key.THRESHOLD: THRESHOLD, Key.CLIPPING_RANGE: 8.0}
        given |= {Key.TARGET_RANGE: 1 << 22, Key.MOD_RANGE: MODULUS, Key.MAX_WEIGHT: 1000.0}
        said = setup(state, ConfigRecord(given))
        publics[node] = (said[Key.PUBLIC_KEY_1], said[Key.PUBLIC_KEY_2])
    letters = {node: [] for node in range(NODES)}
    for node, state in enumerate(states):
        said = share_keys(state, ConfigRecord({str(other): list(keys) for other, keys in publics.items()}))
        for to, text in zip(said[Key.DESTINATION_LIST], said[Key.CIPHERTEXT_LIST], strict=True):
            letters[to].append((node, text))
    masked = {}
    for node, state in enumerate(states):
        given = {Key.CIPHERTEXT_LIST: [text for _, text in letters[node]], Key.SOURCE_LIST: [at for at, _ in letters[node]]}
        said = collect(state, ConfigRecord(given), 500, ndarrays_to_parameters([vectors[node]]))
        masked[node] = [bytes_to_ndarray(part) for part in said[Key.MASKED_PARAMETERS]]
    return states, publics, masked


def test_row_19_i_flowers_functions_give_the_vector_of_any_node_away(monkeypatch):
    draw = np.random.default_rng(0)
    vectors = [draw.standard_normal(50).astype(np.float32) for _ in range(NODES)]
    quantised = []
    real = theirs.factor_combine
    monkeypatch.setattr(theirs, "factor_combine", lambda *given: quantised.append(real(*given)) or quantised[-1])
    states, publics, masked = a_round(vectors)
    seeds, private = [], []
    everyone = list(range(NODES))
    for state in states[:THRESHOLD]:
        try:
            said = STEPS[3](state, ConfigRecord({Key.ACTIVE_NODE_ID_LIST: everyone, Key.DEAD_NODE_ID_LIST: [VICTIM]}))
        except ValueError as error:
            pytest.skip(f"flwr {version('flwr')} refuses a node that is active and dead: {error}")
        seeds.append(said[Key.SHARE_LIST][VICTIM])
        private.append(said[Key.SHARE_LIST][NODES])
    assert seeds[0] != private[0]
    shapes = [part.shape for part in masked[VICTIM]]
    open_ = [part.copy() for part in masked[VICTIM]]
    own = pseudo_rand_gen(combine_shares(seeds), MODULUS, shapes)
    key = bytes_to_private_key(combine_shares(private))
    masks = [(-1, own)]
    for other in set(everyone) - {VICTIM}:
        shared = generate_shared_key(key, bytes_to_public_key(publics[other][0]))
        masks.append((-1 if VICTIM > other else 1, pseudo_rand_gen(shared, MODULUS, shapes)))
    for sign, mask in masks:
        open_ = [(part + sign * noise) % MODULUS for part, noise in zip(open_, mask, strict=True)]
    assert all(np.array_equal(mine, its.astype(np.int64) % MODULUS) for mine, its in zip(open_, quantised[VICTIM], strict=True))
    recovered = open_[1] * 16.0 / (1 << 22) - 8.0
    assert np.abs(recovered - 0.5 * vectors[VICTIM]).max() < 1e-5, "half of it: 500 examples of 1000"
    assert ndarray_to_bytes(open_[1]) != ndarray_to_bytes(masked[VICTIM][1])


def test_row_19_j_asked_the_same_way_our_sites_say_no():
    """Active: all. Dead: the victim. In our messages: UNMASK for all, then BACKUP and UNMASK for all but it."""
    server = MaliciousServer(Federation(make_params(NODES)), corrupt=0)
    updates = server.federation.whole_updates(1)
    context = server.open_round(updates)
    without = tuple(place for place in server.everyone if place != VICTIM)
    for place in server.everyone:
        assert server.ask_unmask(context, place, server.everyone) is not None
        if place != VICTIM:
            assert server.ask_backup(context, place, without) is None
            assert not server.ask_consent(context, place, without)
            assert server.ask_unmask(context, place, without) is None
    assert server.opened() == {frozenset(server.everyone): server.expected(updates, server.everyone)}
