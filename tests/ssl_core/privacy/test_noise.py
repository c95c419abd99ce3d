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

from ssl_core.errors import PrivacyError
from ssl_core.privacy.noise import GaussianNoise, box_muller
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream


def test_draws_are_independent_normals_of_the_asked_scale() -> None:
    draws = GaussianNoise().normal(200_001, 2.5).numpy()
    assert draws.dtype == np.float32 and draws.shape == (200_001,)
    assert stats.kstest(draws / 2.5, "norm").pvalue > 1e-7
    # Neighbours, and the two normals that share a pair of uniforms (half a block of 2^15 apart).
    for apart in (1, 2, 1 << 14, 1 << 15):
        assert abs(np.corrcoef(draws[:-apart], draws[apart:])[0, 1]) < 6 / math.sqrt(len(draws) - apart)
    squares = draws[: 6 << 15].reshape(6, 2, -1).astype(np.float64) ** 2
    assert abs(np.corrcoef(squares[:, 0].ravel(), squares[:, 1].ravel())[0, 1]) < 6 / math.sqrt(3 << 15)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is there")
def test_what_a_device_shapes_of_the_same_bytes_is_what_the_processor_does() -> None:
    key, sources = bytes(range(32)), [GaussianNoise(), GaussianNoise(device=torch.device("cuda"))]
    for source in sources:
        source._stream = AesCtrStream(Secret(key))  # type: ignore[assignment]
    here, there = (source.normal(1 << 15, 1.5) for source in sources)
    assert there.device.type == "cuda" and torch.allclose(there.cpu(), here, rtol=1e-6, atol=1e-6)
    wide = GaussianNoise(device=torch.device("cuda")).normal((1 << 20) + 7, 1.0).cpu().numpy()
    assert stats.kstest(wide, "norm").pvalue > 1e-7


def test_several_samples_have_uniform_p_values() -> None:
    source = GaussianNoise()
    values = [stats.kstest(source.normal(5000, 1.0).numpy(), "norm").pvalue for _ in range(40)]
    assert stats.kstest(values, "uniform").pvalue > 1e-6


def test_tails_reach_beyond_what_float32_generators_can_give() -> None:
    least = 2.0**-53
    found = box_muller(torch.tensor([least, least, 1.0, 0.5], dtype=torch.float64))
    farthest = math.sqrt(-2 * math.log(least))
    assert farthest > 8.5 > math.sqrt(48 * math.log(2))
    assert found[0].item() == pytest.approx(farthest, rel=1e-12)
    assert found[1].item() == pytest.approx(-farthest, rel=1e-12)
    # A uniform a little below 2^-24, the least of a 24-bit generator, already passes its end.
    beyond = box_muller(torch.tensor([0.9 * 2.0**-24, 1.0], dtype=torch.float64))
    assert beyond[0].item() > 5.7681
    assert box_muller(torch.tensor([1.0, 0.3], dtype=torch.float64)).abs().max() == 0


def test_box_muller_is_the_formula() -> None:
    uniforms = np.random.default_rng(0).random(2000) * 0.999 + 0.001
    radius, angle = np.sqrt(-2 * np.log(uniforms[:1000])), 2 * np.pi * uniforms[1000:]
    wanted = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    found = box_muller(torch.from_numpy(uniforms.copy())).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)


def test_the_stream_is_aes_256_ctr_by_the_published_vector() -> None:
    """NIST SP 800-38A, F.5.5, CTR-AES256: key stream = plaintext xor ciphertext."""
    key = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
    plain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    cipher = "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    stream = AesCtrStream(Secret(bytes.fromhex(key)), nonce=bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"))
    wanted = bytes(a ^ b for a, b in zip(bytes.fromhex(plain), bytes.fromhex(cipher), strict=True))
    uniforms = stream.uniform(4)
    words = [int.from_bytes(wanted[i : i + 8], "little") for i in range(0, 32, 8)]
    assert uniforms.tolist() == [((word >> 11) + 1) * 2.0**-53 for word in words]


def test_sizes_and_scales_at_the_edges() -> None:
    source = GaussianNoise()
    for count in (0, 1, 2, (1 << 15) - 1, (1 << 15) + 1):
        assert source.normal(count, 1.0).shape == (count,)
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(PrivacyError, match="standard_deviation"):
            source.normal(4, scale)


def test_no_source_is_repeated_by_a_fork_a_copy_or_a_second_one() -> None:
    source = GaussianNoise()
    assert not torch.equal(GaussianNoise().normal(16, 1.0), source.normal(16, 1.0))
    assert not torch.equal(source.normal(16, 1.0), source.normal(16, 1.0))
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="never"):
            way(source)
    with pytest.raises(TypeError):
        GaussianNoise(0)
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads; the child only draws eight numbers and leaves.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.write(write, source.normal(8, 1.0).numpy().tobytes())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        theirs = np.frombuffer(stream.read(), np.float32)
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == 8 and not np.array_equal(theirs, source.normal(8, 1.0).numpy())
