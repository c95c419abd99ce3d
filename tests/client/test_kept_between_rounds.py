"""A copy of the records that is removed or damaged while a study runs ends it at this site, before a round begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests_network import begun_rounds

from server.exchange import LocalExchange
from server.rounds import run_study
from ssl_core.data.kept import _place
from ssl_core.errors import StateError
from ssl_core.parcel import Parcel


def removed(copy: Path) -> None:
    copy.unlink()


def replaced_by_a_damaged_one(copy: Path) -> None:
    """Other bytes under the name; the file that was open is as it was."""
    whole = copy.read_bytes()
    copy.unlink()
    copy.write_bytes(whole[:-400] + bytes(400))


def damaged_in_place(copy: Path) -> None:
    """One byte of the first record: whether its patient is drawn must not matter."""
    begin = _place(copy)[0]
    with copy.open("r+b") as stream:
        stream.seek(begin)
        byte = stream.read(1)[0]
        stream.seek(begin)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("harm", [removed, replaced_by_a_damaged_one, damaged_in_place])
def test_a_copy_that_goes_between_two_rounds_ends_the_study_here_before_the_next_begins(
    make_federation: Callable[..., Any], harm: Callable[[Path], None]
) -> None:
    """In the process that read it for the round before: an open file would still be there."""
    federation = make_federation(4)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    handlers = federation.services()
    copy, asked = federation.root / "site-b" / "keys" / plan_hash / "patients.npz", [0]

    def harmed(parcel: Parcel) -> Parcel:
        if parcel.kind == "START":
            asked[0] += 1
            if asked[0] == 2:
                harm(copy)
        return handlers["site-b"](parcel)

    with pytest.raises(StateError, match="copy of the approved records"):
        run_study(federation.operator.root, plan_hash, LocalExchange({**handlers, "site-b": harmed}))
    chain = federation.site("site-b").chain
    assert asked[0] == 2 and len(chain.entries("commit")) == 1 and begun_rounds(chain, plan_hash) == [1]
