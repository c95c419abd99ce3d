"""Before step 1, at the operator: public images from a seed; nobody is described, so nothing is spent.

Comes in: a seed, a number of images, and what a study says of its images. Goes out: float32 [m, pixels], pooled and
standardised image by image, as `Patients.records` of images; `made_images` gives beside them what each was made from, float32
[m, 3] in FACTORS' order: 0 or 1, 0 or 1, and how many shapes were laid. Dead leaves (Lee, Mumford and Huang, "Occlusion
Models for Natural Images", IJCV 2001, section 3; as training data in Baradad et al., "Learning to See by Looking at Noise",
NeurIPS 2021, section 3.2): shapes of power-law size that cover each other. Different: three kinds of shape (ellipse,
rectangle, three lobes), soft edges, a grain on each shape; ground and grain are noise whose amplitude falls as 1 / f^a with a
random a, or, in `_SHADED` of the images each, the texture of a random program (shaders.py); in half of the images one big body
holds all other shapes, as a chest or a limb does; some are mirrored in part, as bodies are.

Images are made in blocks of `BLOCK`, each from its own generator, so that the first images do not depend on how many are
asked for. numpy's seeded generator is right here: these are no private data, and no noise of privacy. Same seed, same
bytes on one machine; elsewhere the last bit may differ (sin, exp, FFT), which is why the weights travel and not the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.data.images import standardise
from ssl_core.procedural.shaders import shaded
from ssl_core.spec.data import ImageData

BLOCK = 64
FACTORS = ("body", "mirrored", "shapes")
_LEAVES = 18
_LARGEST_LEAF, _SMALLEST_LEAF = 0.5, 0.04
_SIZE_POWER = 2.2
_SHADED = 0.4

Pictures = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Images:
    """Records float32 [m, pixels], each with mean 0 and standard deviation 1, and the factors float32 [m, 3] of each."""

    records: Pictures
    factors: Pictures


def procedural_images(seed: int, count: int, data: ImageData) -> Pictures:
    """float32 [count, pixels]: the first `count` images of `seed`, without what they were made from."""
    return made_images(seed, count, data).records


def made_images(seed: int, count: int, data: ImageData) -> Images:
    """The first `count` images of `seed` and their factors."""
    height, width = data.height // data.pool, data.width // data.pool
    pooled = data.model_copy(update={"height": height, "width": width, "pool": 1, "window": None})
    records, factors = np.empty((count, height * width), np.float32), np.empty((count, len(FACTORS)), np.float32)
    for block, begin in enumerate(range(0, count, BLOCK)):
        pictures, made = _block(np.random.default_rng([seed, block]), height, width)
        records[begin : begin + BLOCK] = standardise(pictures[: count - begin], pooled)[0]
        factors[begin : begin + BLOCK] = made[: count - begin]
    return Images(records, factors)


def _block(rng: np.random.Generator, height: int, width: int) -> tuple[Pictures, Pictures]:
    """BLOCK pictures float32 [BLOCK, height, width], in no unit, and their factors [BLOCK, 3]."""
    side = max(height, width)
    rows, columns = ((np.arange(n, dtype=np.float32) + 0.5 - n / 2) * (2.0 / side) for n in (height, width))
    grid = np.broadcast_arrays(rows[:, None], columns[None, :])
    pixel = 2.0 / side
    pictures = _texture(rng, height, width) * _column(rng.uniform(0.05, 0.5, BLOCK))
    grain = _texture(rng, height, width) * _column(rng.uniform(0.0, 0.15, BLOCK))
    bodies = rng.random(BLOCK) < 0.5
    inside, pictures = _body(rng, grid, pictures, bodies, pixel)
    mirrored = _column(np.where(rng.random(BLOCK) < 0.4, rng.uniform(0.5, 1.0, BLOCK), 0.0))
    leaves = rng.integers(3, _LEAVES + 1, BLOCK)
    for leaf in range(_LEAVES):
        if leaf == _LEAVES - _LEAVES // 3:
            # What comes after is on one side only: symmetry with exceptions.
            pictures = pictures + mirrored * 0.5 * (pictures[:, :, ::-1] - pictures)
        shape = _leaf(rng, grid, np.where(bodies, 0.7, 1.0), pixel)
        shape *= inside * _column(leaf < leaves)
        grey = _column(rng.normal(0.0, 1.0, BLOCK)) + grain * _column(rng.uniform(0.0, 3.0, BLOCK))
        pictures = pictures + shape * (grey - pictures)
    pictures = pictures + _column(rng.uniform(0.0, 0.12, BLOCK)) * rng.standard_normal(pictures.shape, np.float32)
    # The response of a film or a display: monotone, another for each picture.
    seen: Pictures = np.arcsinh(pictures * _column(rng.uniform(0.2, 2.0, BLOCK))).astype(np.float32)
    return seen, np.stack([bodies, mirrored[:, 0, 0] > 0, leaves], axis=1).astype(np.float32)


def _column(values: npt.NDArray[np.generic]) -> Pictures:
    """One number a picture [BLOCK] as float32 [BLOCK, 1, 1]."""
    return np.asarray(values, np.float32)[:, None, None]


def _texture(rng: np.random.Generator, height: int, width: int) -> Pictures:
    """Noise or a shader's texture, mean 0 and standard deviation 1, float32 [BLOCK, height, width]."""
    textures, shaders = _noise(rng, height, width), np.flatnonzero(rng.random(BLOCK) < _SHADED)
    textures[shaders] = shaded(rng, len(shaders), height, width)
    return textures


def _noise(rng: np.random.Generator, height: int, width: int) -> Pictures:
    """Noise with amplitude 1 / f^a, a from 0.4 to 2, mean 0 and standard deviation 1, float32 [BLOCK, height, width]."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    fall = frequency ** -rng.uniform(0.4, 2.0, BLOCK)[:, None, None]
    fall[:, 0, 0] = 0.0
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((BLOCK, height, width))) * fall, s=(height, width))
    scaled: Pictures = (noise / noise.std(axis=(1, 2), keepdims=True)).astype(np.float32)
    return scaled


def _body(
    rng: np.random.Generator, grid: tuple[Pictures, ...], pictures: Pictures, bodies: npt.NDArray[np.bool_], pixel: float
) -> tuple[Pictures, Pictures]:
    """Where leaves may lie, float32 [BLOCK, height, width], and the pictures with their bodies laid in."""
    reach = rng.uniform(0.6, 1.0, (2, BLOCK))
    centre = rng.normal(0.0, 0.08, (2, BLOCK))
    power = _column(rng.uniform(2.0, 5.0, BLOCK))
    across = np.abs((grid[1] - _column(centre[0])) / _column(reach[0]))
    down = np.abs((grid[0] - _column(centre[1])) / _column(reach[1]))
    distance = (across**power + down**power) ** (1.0 / power)
    body = np.clip((1.0 - distance) * _column(reach.min(axis=0) / (pixel * rng.uniform(1.0, 4.0, BLOCK))) + 0.5, 0.0, 1.0)
    shade = _column(rng.normal(0.0, 1.0, BLOCK)) + pictures * _column(rng.uniform(0.1, 1.0, BLOCK))
    outside = _column(rng.normal(0.0, 1.0, BLOCK)) + pictures * _column(rng.uniform(0.0, 0.3, BLOCK))
    laid = np.where(_column(bodies) > 0, body * shade + (1.0 - body) * outside, pictures).astype(np.float32)
    return np.where(_column(bodies) > 0, body, np.float32(1.0)).astype(np.float32), laid


def _leaf(rng: np.random.Generator, grid: tuple[Pictures, ...], spread: npt.NDArray[np.float64], pixel: float) -> Pictures:
    """One shape a picture: how much of each pixel it covers, float32 [BLOCK, height, width]."""
    # Radius r with density ~ r^-power between the two sizes, by its inverse distribution function.
    low, high = _SMALLEST_LEAF ** (1 - _SIZE_POWER), _LARGEST_LEAF ** (1 - _SIZE_POWER)
    radius = (low + rng.random(BLOCK) * (high - low)) ** (1.0 / (1 - _SIZE_POWER))
    radius = np.where(rng.random(BLOCK) < 0.3, rng.uniform(0.1, _LARGEST_LEAF, BLOCK), radius)
    stretch = np.exp(rng.uniform(-0.7, 0.7, BLOCK))
    angle = rng.uniform(0.0, 2.0 * np.pi, BLOCK)
    x, y = (grid[1 - axis] - _column(rng.uniform(-1.0, 1.0, BLOCK) * spread) for axis in range(2))
    cosine, sine = _column(np.cos(angle)), _column(np.sin(angle))
    u = (x * cosine + y * sine) / _column(radius * stretch)
    v = (y * cosine - x * sine) / _column(radius / stretch)
    distance: Pictures = np.sqrt(u * u + v * v)
    kind = rng.integers(0, 3, BLOCK)
    distance[kind == 1] = np.maximum(np.abs(u[kind == 1]), np.abs(v[kind == 1])) * np.float32(1.13)
    lobed = distance[kind == 2]
    share = u[kind == 2] / np.maximum(lobed, np.float32(1e-6))
    # cos 3t = 4 cos^3 t - 3 cos t
    depth = _column(rng.uniform(0.2, 0.5, BLOCK))[kind == 2]
    distance[kind == 2] = lobed / (1.0 + depth * (4.0 * share**3 - 3.0 * share))
    softness = rng.uniform(0.7, 1.5, BLOCK) * np.where(rng.random(BLOCK) < 0.3, 4.0, 1.0)
    opacity = _column(np.where(rng.random(BLOCK) < 0.5, 1.0, rng.uniform(0.3, 1.0, BLOCK)))
    covered: Pictures = np.clip((1.0 - distance) * _column(radius / (pixel * softness)) + 0.5, 0.0, 1.0) * opacity
    return covered
