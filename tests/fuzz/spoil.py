"""Spoiled messages: what a parser must survive, made from real ones; the same every time for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

_LENGTHS = (0, 1, 2, 4, 31, 32, 33, 255, 256, 1023, 1024, 1025, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def _flip(data: bytearray, draw: random.Random, _: Sequence[bytes]) -> None:
    for _round in range(draw.randint(1, 3)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _length(data: bytearray, draw: random.Random, _: Sequence[bytes]) -> None:
    """A length or count that lies: most fields begin with four bytes that say how long they are."""
    places = [at for at in range(len(data) - 3) if data[at] == 0 and data[at + 1] == 0] or [0]
    at = draw.choice(places)
    value = int.from_bytes(data[at : at + 4], "big") + draw.choice((-1, 1)) if draw.random() < 0.4 else draw.choice(_LENGTHS)
    data[at : at + 4] = (value % (1 << 32)).to_bytes(4, "big")


def _cut(data: bytearray, draw: random.Random, _: Sequence[bytes]) -> None:
    del data[draw.randrange(len(data)) :]


def _grow(data: bytearray, draw: random.Random, _: Sequence[bytes]) -> None:
    data += draw.randbytes(draw.choice((1, 4, 40)))


def _leave_out(data: bytearray, draw: random.Random, _: Sequence[bytes]) -> None:
    at = draw.randrange(len(data))
    del data[at : at + draw.choice((1, 4, 36))]


def _repeat(data: bytearray, draw: random.Random, _: Sequence[bytes]) -> None:
    at = draw.randrange(len(data))
    data[at:at] = data[at : at + draw.choice((4, 36, 100))]


def _clear(data: bytearray, draw: random.Random, _: Sequence[bytes]) -> None:
    at, fill = draw.randrange(len(data)), draw.choice((b"\0", b"\xff"))
    part = data[at : at + draw.choice((2, 32, 64))]
    data[at : at + len(part)] = fill * len(part)


def _graft(data: bytearray, draw: random.Random, seeds: Sequence[bytes]) -> None:
    other = draw.choice(seeds)
    at = draw.randrange(len(data))
    data[at:] = other[draw.randrange(len(other) + 1) :]


_WAYS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip, _length, _length, _cut, _grow, _leave_out, _repeat, _clear, _graft,
)  # fmt: skip


def spoiled(seeds: Iterable[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Each seed as it is, then `count` inputs spoiled in one to three ways."""
    kept = sorted(set(seeds))
    yield from kept
    draw = random.Random(seed)
    for _ in range(count):
        data = bytearray(draw.choice(kept))
        for _again in range(draw.choice((1, 1, 2, 3))):
            if data:
                draw.choice(_WAYS)(data, draw, kept)
        yield bytes(data)
