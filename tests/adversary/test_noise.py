"""Rows 27 and 28: streams that a fork, a worker or a snapshot would repeat, and a noise that stops where it must not."""

from __future__ import annotations

import copy
import math
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from tests_federation import Federation, make_params
from torch.utils.data import DataLoader, Dataset

from ssl_core.errors import PrivacyError, ProtocolError, RoundVoid
from ssl_core.privacy import noise
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.evidence import HeaderOf, Kind, evidence_of, proves
from ssl_core.secure_sum.messages import Upload
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream, FreshStream, UnitCoins, unit_tag

END = math.sqrt(48 * math.log(2))
"""5.7681: where normals made of 24-bit uniforms end."""

EDGES = (END, 6.0, 6.25, 6.5, math.inf)


def in_children(count, draw):
    """What `draw` gives in forked children, bytes each."""
    found = []
    for _ in range(count):
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os.write(write, draw())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as stream:
            found.append(stream.read())
        assert os.waitpid(child, 0)[1] == 0
    return found


def test_row_27_forked_children_have_noise_and_coins_of_their_own():
    source = GaussianNoise()
    tags = np.frombuffer(unit_tag("patient"), np.uint8)[None]
    for draw in (
        lambda: source.normal(8, 1.0).numpy().tobytes(),
        lambda: GaussianNoise().normal(8, 1.0).numpy().tobytes(),
        lambda: UnitCoins.fresh().uniform(tags, "sample", 4).tobytes(),
    ):
        found = [*in_children(4, draw), draw()]
        assert all(found) and len(set(found)) == 5


def test_row_27_b_a_keyed_stream_says_no_rather_than_repeat_itself_in_a_child():
    stream = AesCtrStream(Secret(bytes(32)))

    def draw():
        try:
            return stream.take(16)
        except PrivacyError:
            return b"refused"

    assert in_children(2, draw) == [b"refused"] * 2


class Noised(Dataset):
    """What a careless loader would do: private noise drawn in workers, from a source made before they started."""

    def __init__(self):
        self.source = GaussianNoise()
        self.source.normal(4, 1.0)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.source.normal(4, 1.0)


def test_row_27_c_workers_of_a_data_loader_draw_different_noise():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loader = DataLoader(Noised(), batch_size=2, num_workers=2, multiprocessing_context="fork")
        drawn = torch.cat(list(loader))
    assert drawn.shape == (8, 4) and len({row.numpy().tobytes() for row in drawn}) == 8
    plain = torch.cat(list(DataLoader(Noised(), batch_size=2)))
    assert not {row.numpy().tobytes() for row in drawn} & {row.numpy().tobytes() for row in plain}


def test_row_27_d_a_source_cannot_be_stored_and_a_new_one_is_new():
    source = GaussianNoise()
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="never"):
            way(source)
    assert len({GaussianNoise().normal(2, 1.0).numpy().tobytes() for _ in range(50)}) == 50


@pytest.mark.parametrize("taken", ["after START", "before START"])
def test_row_27_e_a_site_restored_from_a_snapshot_declines_or_is_found_out(taken):
    """Restored after START it has nothing to say in this round. Restored before, it draws anew, and says so too late:

    a second upload under its name is refused by everybody who saw the first, itself included, and convicts its machine.
    """
    federation = Federation(make_params(4))
    name, updates = federation.names[1], federation.whole_updates(1)
    before = federation.stores[name].copy()
    start = federation.begin(1)
    snapshot = before if taken == "before START" else federation.stores[name].copy()
    federation.upload(1, updates)
    first = federation.coordinator._round.headers[1]
    federation.randoms[name] = os.urandom
    federation.stores[name] = snapshot
    federation.restart(name)
    if taken == "after START":
        with pytest.raises(RoundVoid, match="declines"):
            federation.sites[name].upload(1, updates[name])
        return
    federation.sites[name].begin(start, federation.last_total)
    body, vector = federation.sites[name].upload(1, updates[name])
    second = decode(Upload, body)
    both = [HeaderOf(context=second.context, header=header) for header in (first, second.header)]
    assert second.header != first
    assert proves(federation.params, evidence_of(federation.identities[name].public, Kind.UPLOAD, *both))
    with pytest.raises(ProtocolError, match="uploaded twice, differently"):
        federation.coordinator.add_upload(name, body, vector)
    federation.coordinator.fix_survivors()
    for other, request in federation.coordinator.unmask_requests().items():
        if other != name:
            federation.coordinator.add_answer(other, federation.sites[other].unmask(request))
    federation.close(1, lost=federation.names)
    with pytest.raises(ProtocolError, match="rolled back"):
        federation.sites[name].close(federation.last_close, federation.last_total)


class TailStream:
    """A fresh stream whose radii are conditioned on u <= 2^-20, at the resolution that the real one has: 2^-53."""

    share = 2.0**-20

    def __init__(self):
        self._stream = FreshStream()

    def uniform(self, count):
        drawn = self._stream.uniform(count)
        drawn[: count // 2] = np.ceil(drawn[: count // 2] * 2.0**33) * 2.0**-53
        return drawn


class CoarseStream(TailStream):
    """The same with uniforms of 24 bits, as float32 generators have them."""

    def uniform(self, count):
        return np.ceil(super().uniform(count) * 2.0**24) * 2.0**-24


def tail_counts(draws):
    return np.histogram(np.abs(draws.double().numpy()), EDGES)[0]


def follows_gauss(counts, draws):
    """Whether as many of `draws` (all, or those whose tail a stream made likelier) fall between the edges as should."""
    chances = -np.diff([2 * stats.norm.sf(edge) for edge in EDGES]) * draws
    return bool(((counts - chances) ** 2 / chances).sum() < stats.chi2.isf(1e-7, len(chances)))


COUNT = 1 << 21


def test_row_28_noise_reaches_beyond_5_77_sigma_at_the_gaussian_rate(monkeypatch):
    """Importance sampling: |X| > 5.27 needs a radius with u < 2^-20, so that only such radii are drawn, in the stream
    that the real source reads; every draw then stands for 2^20. 2^21 draws do what 2 10^12 plain ones would.
    """
    monkeypatch.setattr(noise, "FreshStream", TailStream)
    counts = tail_counts(GaussianNoise().normal(COUNT, 1.0))
    assert counts.sum() > 10_000 and follows_gauss(counts, COUNT / TailStream.share)


def test_row_28_b_a_swapped_in_torch_normal_fails_the_same_test(monkeypatch):
    monkeypatch.setattr(noise, "FreshStream", TailStream)
    monkeypatch.setattr(GaussianNoise, "normal", lambda self, count, scale: torch.normal(0.0, scale, (count,)))
    counts = tail_counts(GaussianNoise().normal(COUNT, 1.0))
    assert counts.sum() == 0 and not follows_gauss(counts, COUNT / TailStream.share)


def test_row_28_c_uniforms_of_24_bits_fail_the_same_test(monkeypatch):
    monkeypatch.setattr(noise, "FreshStream", CoarseStream)
    counts = tail_counts(GaussianNoise().normal(COUNT, 1.0))
    assert not follows_gauss(counts, COUNT / TailStream.share)


def test_row_28_d_the_real_stream_has_the_resolution_that_the_tail_needs():
    """53 bits: the lowest of them are as even as the highest, and the least of many uniforms is as small as it should be."""
    drawn = FreshStream().uniform(1 << 21)
    low = (drawn * 2.0**53).astype(np.uint64).view(np.uint8).reshape(-1, 8)[:, 0]
    assert stats.chisquare(np.bincount(low, minlength=256)).pvalue > 1e-7
    for power in (8, 12, 16):
        assert stats.binomtest(int((drawn < 2.0**-power).sum()), len(drawn), 2.0**-power).pvalue > 1e-7
