"""Before step 1, at the operator: textures of short random programs on pixel coordinates, as shaders draw them.

Comes in: a generator, how many, a size. Goes out: float32 [m, height, width], each with mean 0 and standard deviation 1. As
Baradad et al., "Procedural Image Programs for Representation Learning" (NeurIPS 2022), section 3, who train on 21,000 shaders
that people wrote. Different: nobody wrote ours. Each is drawn: three registers hold the coordinates, turned, shifted and
scaled, and the distance from their origin; then `STEPS` times one register is replaced by a function of two, with a rate and a
phase of its own (as in Stanley, "Compositional Pattern Producing Networks", Genetic Programming 8, 2007, section 3). Every
function maps finite values to finite values. Each pixel is the mean of 2 x 2 points, for lines that are finer than it. A
program that draws an even area falls back on stripes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

STEPS = 5
_REGISTERS = 3
_EVEN = 1e-2
"""Below this standard deviation a texture is no texture."""

Fields = npt.NDArray[np.float32]
Function = Callable[[Fields, Fields, Fields, Fields], Fields]
"""Of two registers, a rate and a phase, each float32 [m, 1, 1] or [m, h, w]."""


def _waves(a: Fields, b: Fields, rate: Fields, phase: Fields) -> Fields:
    waves: Fields = np.sin(rate * (a + np.float32(0.5) * b) + phase)
    return waves


def _bent(a: Fields, b: Fields, rate: Fields, phase: Fields) -> Fields:
    bent: Fields = a + np.float32(0.4) * np.sin(rate * b + phase)
    return bent


def _folded(a: Fields, _b: Fields, rate: Fields, phase: Fields) -> Fields:
    """A triangle wave, as mirrors that face each other make of `a`."""
    mirrors: Fields = np.abs(np.mod(rate * a / np.float32(np.pi) + phase, 2) - 1) * 2 - 1
    return mirrors


def _rings(a: Fields, b: Fields, rate: Fields, phase: Fields) -> Fields:
    rings: Fields = np.sin(rate * np.hypot(a, b) + phase)
    return rings


def _spokes(a: Fields, b: Fields, rate: Fields, phase: Fields) -> Fields:
    spokes: Fields = np.sin(np.round(rate) * np.arctan2(a, b) + phase)
    return spokes


def _product(a: Fields, b: Fields, rate: Fields, phase: Fields) -> Fields:
    crossed: Fields = np.tanh(rate * a * b + np.float32(0.2) * np.sin(phase))
    return crossed


def _edge(a: Fields, b: Fields, rate: Fields, phase: Fields) -> Fields:
    edge: Fields = np.tanh(rate * (a - np.float32(0.5) * np.sin(phase) * b))
    return edge


FUNCTIONS: tuple[Function, ...] = (
    _waves, _bent, _folded, _rings, _spokes, _product, _edge
)  # fmt: skip


def shaded(rng: np.random.Generator, count: int, height: int, width: int) -> Fields:
    """`count` textures float32 [count, height, width]; mean 0, standard deviation 1."""
    side = max(height, width)
    rows, columns = ((np.arange(2 * n, dtype=np.float32) + 0.5 - n) / side for n in (height, width))
    angle = _column(rng.uniform(0.0, 2.0 * np.pi, count))
    zoom = _column(np.exp(rng.uniform(-0.5, 0.7, count)))
    x, y = rows[None, :, None] - _column(rng.uniform(-1, 1, count)), columns[None, None, :] - _column(rng.uniform(-1, 1, count))
    turned = zoom * (x * np.cos(angle) + y * np.sin(angle)), zoom * (y * np.cos(angle) - x * np.sin(angle))
    registers = np.stack([*turned, np.hypot(*turned) - 0.7]).astype(np.float32)
    for step in range(STEPS):
        function, into = rng.integers(len(FUNCTIONS), size=count), rng.integers(_REGISTERS, size=count)
        first, second = rng.integers(_REGISTERS, size=(2, count))
        # Rates fall from step to step: what is built of waves is not shaken once more as fast.
        rate = _column(np.exp(rng.uniform(0.5, 2.8 - 0.3 * step, count)))
        phase = _column(rng.uniform(0.0, 2.0 * np.pi, count))
        for number, drawn in enumerate(FUNCTIONS):
            at = np.flatnonzero(function == number)
            registers[into[at], at] = drawn(registers[first[at], at], registers[second[at], at], rate[at], phase[at])
        last = into
    drawn_last, stripes = (
        points.reshape(count, height, 2, width, 2).mean(axis=(2, 4))
        for points in (registers[last, np.arange(count)], np.sin(np.float32(4.0) * turned[0]))
    )
    found = np.where(_column(drawn_last.std(axis=(1, 2))) > _EVEN, drawn_last, stripes)
    found = found - found.mean(axis=(1, 2), keepdims=True)
    textures: Fields = (found / found.std(axis=(1, 2), keepdims=True)).astype(np.float32)
    return textures


def _column(values: npt.NDArray[np.generic]) -> Fields:
    """One number a texture [m] as float32 [m, 1, 1]."""
    return np.asarray(values, np.float32)[:, None, None]
