from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_core.errors import ConfigError, TrustError
from ssl_core.trust.authority import Authority, authority_of, read_authority
from ssl_core.trust.identity import fingerprint

KEYS = [bytes([n]) * 32 for n in (171, 3, 200)]


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=9, unique=True), st.data())
def test_a_card_says_the_same_for_every_order_of_its_keys(keys: list[bytes], data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, len(keys)))
    authority = authority_of(keys, threshold)
    assert (
        authority == authority_of(reversed(keys), threshold) and authority.text == authority_of(reversed(keys), threshold).text
    )


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "card.pub"
    for authority in (authority_of(KEYS[:1], 1), authority_of(KEYS, 2), authority_of(KEYS, 3), authority_of(KEYS, 1)):
        path.write_text(authority.text)
        assert read_authority(path) == authority
        path.write_text("\n" + authority.text.replace("\n", "  \r\n") + "\n")
        assert read_authority(path) == authority


def test_one_key_alone_is_what_an_authority_was_before() -> None:
    authority = authority_of(KEYS[:1], 1)
    assert authority.text == KEYS[0].hex() + "\n" and authority.fingerprint == fingerprint(KEYS[0])
    assert authority.words == authority.fingerprint and "2 of 3" in authority_of(KEYS, 2).words


def test_the_fingerprint_covers_every_key_and_the_threshold() -> None:
    cards = [authority_of(KEYS, k) for k in (1, 2, 3)] + [authority_of(KEYS[:2], 2), authority_of([*KEYS[:2], b"x" * 32], 2)]
    assert len({card.fingerprint for card in cards}) == len(cards)


HEX = KEYS[0].hex()
TWO = f"{HEX}\n{KEYS[1].hex()}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "how many"), ("threshold 1\n", "how many"), (TWO, "how many"), ("abcd\n", "line 1"), (HEX.upper(), "line 1"),
        (f"threshold 2\n{HEX}\n{HEX[:-2]}zz\n", "line 3"), (f"{HEX}\nthreshold 1\n", "line 2"),
        (f"threshold 02\n{TWO}", "line 1"), (f"threshold 1 {HEX}\n", "line 1"), (f"{HEX[:32]} {HEX[32:]}\n", "line 1"),
        (f"{HEX}\u00e9\n", "cannot be read"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_card_is_refused_by_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "card.pub"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_authority(path)


@pytest.mark.parametrize(("keys", "threshold"), [([], 1), (KEYS, 0), (KEYS, 4), ([KEYS[0], KEYS[0]], 1), ([b"short"], 1)])
def test_keys_and_threshold_that_make_no_authority_are_refused(keys: list[bytes], threshold: int) -> None:
    with pytest.raises(TrustError):
        authority_of(keys, threshold)
    with pytest.raises(TrustError):
        Authority(tuple(keys), threshold)


def test_more_signatures_than_keys_are_refused_in_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "card.pub"
    for text in (f"threshold 3\n{TWO}", f"threshold 2\n{HEX}\n", f"threshold 1\n{HEX}\n{HEX}\n"):
        path.write_text(text)
        with pytest.raises(TrustError):
            read_authority(path)
