"""Before step 1: tasks that couple the records of a batch; the public stage may train by them (warm_start), no plan may."""

from __future__ import annotations

from enum import StrEnum


class CoupledTask(StrEnum):
    """As `choral operator prepare --task` takes them."""

    SIMCLR = "simclr"
    VICREG = "vicreg"
    BARLOW_TWINS = "barlow-twins"
