"""The shared federation of state machines as a fixture."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests_federation import Federation, altered, identity_of, make_params, refusals, repacked, seeded, signed_view


@dataclass(frozen=True)
class Kit:
    """What the tests of this folder build a federation of."""

    Federation = Federation
    make_params = staticmethod(make_params)
    identity_of = staticmethod(identity_of)
    seeded = staticmethod(seeded)
    signed_view = staticmethod(signed_view)
    altered = staticmethod(altered)
    repacked = staticmethod(repacked)
    refusals = staticmethod(refusals)


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()
