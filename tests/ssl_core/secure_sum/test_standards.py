"""Published vectors for every primitive that the secure sum uses, through our own calls where there are any."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ssl_core.errors import TrustError
from ssl_core.secure_sum.keys import extract, shared
from ssl_core.trust.identity import Identity, Secret, verify
from ssl_core.trust.random import AesCtrStream

ORDER = 2**252 + 27742317777372353535851937790883648493


def test_aes_256_ctr_of_sp_800_38a_f_5_5():
    key = Secret(bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"))
    stream = AesCtrStream(key, nonce=bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"))
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    expected = bytes.fromhex(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    key_stream = stream.take(64)
    assert bytes(a ^ b for a, b in zip(plain, key_stream, strict=True)) == expected


@pytest.mark.parametrize(
    ("key", "counter", "plain", "expected"),
    [
        (
            "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104",
            "00000060db5672c97aa8f0b200000001",
            b"Single block msg".hex(),
            "145ad01dbf824ec7560863dc71e3e0c0",
        ),
        (
            "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884",
            "00faac24c1585ef15a43d87500000001",
            bytes(range(32)).hex(),
            "f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c",
        ),
        (
            "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d",
            "001cc5b751a51d70a1c1114800000001",
            bytes(range(36)).hex(),
            "eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8",
        ),
    ],
)
def test_aes_256_ctr_of_rfc_3686(key, counter, plain, expected):
    """Also entered at the counter as a block number, as threads and late parts of a vector do."""
    data, key, start = bytes.fromhex(plain), Secret(bytes.fromhex(key)), bytes.fromhex(counter)
    for stream in (AesCtrStream(key, nonce=start), AesCtrStream(key, block=int.from_bytes(start, "big"))):
        assert bytes(a ^ b for a, b in zip(data, stream.take(len(data)), strict=True)).hex() == expected


def test_key_stream_is_read_as_little_endian_words():
    key = Secret(bytes(32))
    assert AesCtrStream(key).uint32(8).tolist() == np.frombuffer(AesCtrStream(key).take(32), "<u4").tolist()


@pytest.mark.parametrize(
    ("material", "salt", "info", "length", "prk", "okm"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            "".join(f"{at:02x}" for at in range(0x50)),
            "".join(f"{at:02x}" for at in range(0x60, 0xB0)),
            "".join(f"{at:02x}" for at in range(0xB0, 0x100)),
            82,
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            "0b" * 22,
            "",
            "",
            42,
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_of_rfc_5869(material, salt, info, length, prk, okm):
    key = extract(bytes.fromhex(salt), Secret(bytes.fromhex(material)))
    assert key.reveal().hex() == prk
    assert HKDFExpand(SHA256(), length, bytes.fromhex(info)).derive(key.reveal()).hex() == okm


@pytest.mark.parametrize(
    ("scalar", "point", "expected"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_x25519_of_rfc_7748(scalar, point, expected):
    assert shared(Secret(bytes.fromhex(scalar)), bytes.fromhex(point)).reveal().hex() == expected


def test_both_ends_of_rfc_7748_section_6_1():
    base = b"\x09" + bytes(31)
    alice = Secret(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = Secret(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    publics = [shared(private, base).reveal() for private in (alice, bob)]
    assert publics[0].hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert publics[1].hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    values = {shared(alice, publics[1]).reveal().hex(), shared(bob, publics[0]).reveal().hex()}
    assert values == {"4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"}


def test_x25519_iterated_a_thousand_times_as_in_rfc_7748():
    scalar = point = b"\x09" + bytes(31)
    for _ in range(1000):
        scalar, point = shared(Secret(scalar), point).reveal(), scalar
    assert scalar.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


ED25519 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("private", "public", "message", "signature"), ED25519)
def test_ed25519_of_rfc_8032(private, public, message, signature):
    identity = Identity(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private)))
    assert identity.public.hex() == public
    assert identity.sign(bytes.fromhex(message)).hex() == signature
    verify(identity.public, bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize(("private", "public", "message", "signature"), ED25519)
def test_second_spelling_of_a_signature_is_refused(private, public, message, signature):
    """S + L verifies in lax libraries (RFC 8032 section 8.4, malleability)."""
    data = bytes.fromhex(signature)
    other = data[:32] + (int.from_bytes(data[32:], "little") + ORDER).to_bytes(32, "little")
    with pytest.raises(TrustError, match="does not verify"):
        verify(bytes.fromhex(public), bytes.fromhex(message), other)


@pytest.mark.parametrize(("private", "public", "message", "signature"), ED25519)
@pytest.mark.parametrize("y", [1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**255 - 1])
def test_points_that_have_a_second_spelling_are_refused_in_a_signature(private, public, message, signature, y):
    """RFC 8032 section 5.1.3: y below p, and no sign bit on x = 0."""
    data = (y | 1 << 255).to_bytes(32, "little") + bytes.fromhex(signature)[32:]
    with pytest.raises(TrustError, match="does not verify"):
        verify(bytes.fromhex(public), bytes.fromhex(message), data)


@pytest.mark.parametrize("length", [0, 32, 63, 65, 128])
def test_signature_of_another_length_is_refused(length):
    _, public, message, signature = ED25519[0]
    with pytest.raises(TrustError, match="does not verify"):
        verify(bytes.fromhex(public), bytes.fromhex(message), (bytes.fromhex(signature) * 2)[:length])


def test_aes_256_gcm_of_the_gcm_specification():
    """Test case 16 of McGrew and Viega, "The Galois/Counter Mode of Operation"."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")
    plain = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    sealed = AESGCM(key).encrypt(
        bytes.fromhex("cafebabefacedbaddecaf888"), plain, bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    )
    assert sealed.hex() == (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    )
