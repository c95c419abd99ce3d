from __future__ import annotations

import os

import numpy as np
import pytest
from scipy import stats

from ssl_core.errors import PrivacyError
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream, FreshStream, UnitCoins, unit_tag


def test_the_stream_is_nist_sp_800_38a_f_5_5() -> None:
    key = Secret(bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"))
    stream = AesCtrStream(key, nonce=bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"))
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = bytes.fromhex(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    assert bytes(a ^ b for a, b in zip(plain, stream.take(64), strict=True)) == cipher


def test_pieces_of_the_stream_are_the_stream() -> None:
    key = Secret(bytes(range(32)))
    whole = AesCtrStream(key).take(1_000_000)
    pieces = AesCtrStream(key)
    assert b"".join(pieces.take(n) for n in (1, 15, 333_333, 666_651)) == whole


@pytest.mark.parametrize("nonce", [bytes(16), b"\x00" * 8 + b"\xff" * 8])
def test_a_stream_is_entered_at_any_block(nonce: bytes) -> None:
    key = Secret(bytes(range(32)))
    whole = AesCtrStream(key, nonce=nonce).take(16 * 70_000)
    for block in (0, 1, 255, 65_535, 65_536, 69_000):
        assert AesCtrStream(key, nonce=nonce, block=block).take(100) == whole[16 * block : 16 * block + 100]


@pytest.mark.parametrize(("nonce", "block"), [(b"\xff" * 16, 1), (bytes(16), -1), (bytes(16), 2**128), (bytes(15), 0)])
def test_a_counter_never_wraps(nonce: bytes, block: int) -> None:
    with pytest.raises(PrivacyError, match="counter does not fit"):
        AesCtrStream(Secret(bytes(32)), nonce=nonce, block=block)


def test_uniforms_are_uniform_and_never_zero() -> None:
    drawn = AesCtrStream(Secret(bytes(32))).uniform(200_000)
    assert drawn.min() > 0 and drawn.max() <= 1
    assert stats.kstest(drawn, "uniform").pvalue > 1e-4


def test_a_forked_child_gets_another_stream() -> None:
    stream = FreshStream()
    stream.take(16)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, stream.take(32))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 32) != stream.take(32)
    os.close(reader)
    os.close(writer)


def test_a_keyed_stream_refuses_to_run_in_a_forked_child() -> None:
    stream = AesCtrStream(Secret(bytes(32)))
    child = os.fork()
    if child == 0:
        try:
            stream.take(1)
        except PrivacyError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_units_coins_do_not_depend_on_the_other_units() -> None:
    tags = np.stack([np.frombuffer(unit_tag(f"unit {n}"), np.uint8) for n in range(1000)])
    coins = UnitCoins(Secret(bytes(32)))
    all_units = coins.uniform(tags, "mask", 5)
    some = coins.uniform(tags[[3, 500, 7]], "mask", 5)
    assert np.array_equal(some, all_units[[3, 500, 7]])
    assert stats.kstest(all_units.ravel(), "uniform").pvalue > 1e-4
    assert not np.any(all_units == coins.uniform(tags, "sample", 5))
    assert not np.any(all_units == UnitCoins.fresh().uniform(tags, "mask", 5))
