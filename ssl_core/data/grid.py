"""Step 1 of 12: which patches of which slices of a volume become records: a grid, by numbers that are declared alone.

Comes in: the chosen slices and their height and width. Goes out: (slice, top, left) of each patch, slice by slice, each from
the top, each line from the left. On each side of a slice `margin` is left out first. What does not go into a whole number of
steps of `stride`: without `cover`, half of it is left out at either end, so that the grid lies in the middle; with `cover` one
patch more ends where the last ends must lie, over its neighbour. Nothing is filled up: a slice that is smaller than a patch
has none. Of more than `most` patches evenly spaced ones are taken, by their number in that order: no voxel decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssl_core.data.picture import evenly

Sides = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Patches of `size` every `stride` voxels, each (down, across); at most `most` of a volume."""

    size: Sides
    stride: Sides
    margin: Sides
    cover: bool
    most: int

    def places(self, slices: Sequence[int], shape: Sides) -> list[tuple[int, int, int]]:
        """(slice, top, left) of each patch; none where a patch does not go into a slice."""
        down, across = (self._count(side, of) for side, of in enumerate(shape))
        found = []
        for number in evenly(0, len(slices) * down * across, self.most):
            place, rest = divmod(number, down * across)
            row, column = divmod(rest, across)
            found.append((slices[place], self._start(0, shape[0], row), self._start(1, shape[1], column)))
        return found

    def _free(self, side: int, length: int) -> int:
        """How far a patch can be moved along one side."""
        return length - 2 * self.margin[side] - self.size[side]

    def _count(self, side: int, length: int) -> int:
        free, stride = self._free(side, length), self.stride[side]
        return 0 if free < 0 else 1 + (-(-free // stride) if self.cover else free // stride)

    def _start(self, side: int, length: int, number: int) -> int:
        free, stride = self._free(side, length), self.stride[side]
        moved = min(number * stride, free) if self.cover else number * stride + free % stride // 2
        return self.margin[side] + moved
