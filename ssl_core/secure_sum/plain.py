"""PlainSum: both roles without keys, masks, shares or signatures, for tests of everything around the sum.

IT HIDES NOTHING: the server sees every update. It quantises on the same grid with the same first draw from `random`,
counts with the same thresholds and raises the same errors, so that a masked sum can be compared with it integer by
integer. `PlainSite` stands in plain_site.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum import checks
from ssl_core.secure_sum.codec import decode, digest, encode
from ssl_core.secure_sum.evidence import Fault
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.plain_site import PlainEnd, PlainSet, PlainSite, PlainStart, PlainUpload
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.statements import vector_hash
from ssl_core.secure_sum.vector import mean_update
from ssl_core.trust.identity import Identity

__all__ = ["PlainCoordinator", "PlainSite"]


class PlainCoordinator:
    """A server that adds what it can read."""

    def __init__(self, params: SumParams, identity: Identity, keyset: bytes) -> None:
        self._params = params
        self._start: PlainStart | None = None
        self._over = True
        self._closed: bytes | None = None
        self._survivors: tuple[int, ...] | None = None
        self._clear()

    @staticmethod
    def make_keyset(params: SumParams, offers: Mapping[str, bytes]) -> bytes:
        """There are no keys: the offers one after the other."""
        return b"".join(offers[member.name] for member in params.members)

    def start(self, round: int, participants: Sequence[str], model_hash: bytes, previous_close: bytes | None) -> bytes:
        """Open a round."""
        if not self._over:
            raise ProtocolError("the last round is still open", field="round")
        checks.round_is_new(round, 0 if self._start is None else self._start.round)
        places = tuple(sorted(self._params.index(name) for name in participants))
        start = encode(PlainStart(round=round, participants=places, model=model_hash))
        self.resume(start)
        return start

    def resume(self, start: bytes) -> None:
        """Continue an open round."""
        body = decode(PlainStart, start)
        checks.enough_participants(self._params, body.participants)
        self._start, self._over, self._closed = body, False, None
        self._clear()

    def add_upload(self, site: str, body: bytes, vector: Words) -> bool:
        """Add an upload."""
        place, upload = self._params.index(site), decode(PlainUpload, body)
        if place in self._uploads or (self._survivors is not None and place not in self._survivors):
            return False
        now = self._now(upload)
        if place not in now.participants or upload.vector != vector_hash(vector):
            raise ProtocolError("upload does not fit", field="site", value=site)
        self._uploads[place] = body
        np.add(self._total, vector, out=self._total)
        return True

    @property
    def uploaded(self) -> tuple[str, ...]:
        """Whose uploads are in the sum."""
        return self._params.names(sorted(self._uploads))

    def fix_survivors(self, survivors: Sequence[str] | None = None) -> bool:
        """Fix U; `RoundVoid` when |U| < m."""
        given = tuple(sorted(self._uploads if survivors is None else map(self._params.index, survivors)))
        if self._survivors not in (None, given) or not set(self._uploads) <= set(given):
            raise ProtocolError("survivors are fixed already", field="survivors")
        limit = self._params.thresholds(len(self._now().participants)).survivors
        if len(given) < limit:
            raise RoundVoid("too few survivors", field="survivors", value=len(given), limit=limit)
        self._survivors = given
        return given != self._now().participants

    @property
    def survivors(self) -> tuple[str, ...] | None:
        """U, once it is fixed."""
        return None if self._survivors is None else self._params.names(self._survivors)

    def consent_requests(self) -> dict[str, bytes]:
        """The proposed set for each survivor; empty when U = C."""
        return {} if self._ready() == self._now().participants else self._requests(1)

    def add_consent(self, site: str, body: bytes) -> None:
        """Take an agreement."""
        self._take(self._consents, site, body, 1)

    @property
    def consented(self) -> bool:
        """Whether t survivors agreed, or U = C."""
        return self._ready() == self._now().participants or len(self._consents) >= self._shares()

    def unmask_requests(self) -> dict[str, bytes]:
        """The set to be summed for each survivor."""
        if not self.consented:
            raise ProtocolError("too few agreements", field="consent", value=len(self._consents), limit=self._shares())
        return self._requests(2)

    def add_answer(self, site: str, body: bytes) -> None:
        """Take an answer."""
        self._take(self._answers, site, body, 2)

    def backup_requests(self) -> dict[str, bytes]:
        """There is no backup."""
        return {}

    def add_backup(self, site: str, body: bytes) -> None:
        """There is no backup."""
        raise ProtocolError("the plain sum has no backup", field="site", value=site)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """There are no signatures to prove any."""
        return ()

    @property
    def answered(self) -> bool:
        """t answers when U = C, else all, as in the masked sum without backup."""
        survivors = self._ready()
        return len(self._answers) >= (self._shares() if survivors == self._now().participants else len(survivors))

    def total(self) -> Words:
        """Sum over the survivors, words [P]."""
        if not self.answered:
            raise ProtocolError("too few answers for a sum", field="answers", value=len(self._answers))
        return self._total

    def mean(self) -> npt.NDArray[np.float64]:
        """The weighted mean, float64 [P]."""
        weight, context = self._params.weight_of(self._ready()), digest("plain", encode(self._now()))
        return mean_update(self._params, context, self.total(), weight=weight)

    @property
    def acknowledged(self) -> tuple[str, ...]:
        """Uploads acknowledge nothing here."""
        return ()

    def checkpoint(self) -> bytes | None:
        """There is none."""
        return None

    def close(self, model: bytes, state: bytes) -> bytes:
        """End the round."""
        self.total()
        self._over = True
        self._closed = encode(PlainEnd(round=self._now().round, model=model))
        return self._closed

    def void(self) -> bytes:
        """Give the round up."""
        self._over = True
        return encode(PlainEnd(round=self._now().round, model=bytes(32)))

    def _clear(self) -> None:
        self._uploads: dict[int, bytes] = {}
        self._consents: set[int] = set()
        self._answers: set[int] = set()
        self._survivors = None
        self._total = np.zeros(self._params.dimension, self._params.word)

    def _now(self, message: PlainUpload | PlainSet | None = None) -> PlainStart:
        if self._start is None or (message is not None and message.round != self._start.round):
            raise ProtocolError("message is of no open round", field="round")
        return self._start

    def _ready(self) -> tuple[int, ...]:
        if self._survivors is None or not set(self._survivors) <= set(self._uploads):
            raise ProtocolError("survivors are not fixed, or have not uploaded", field="survivors")
        return self._survivors

    def _shares(self) -> int:
        return self._params.thresholds(len(self._now().participants)).shares

    def _requests(self, stage: int) -> dict[str, bytes]:
        survivors = self._ready()
        data = encode(PlainSet(round=self._now().round, stage=stage, survivors=survivors))
        return {name: data for name in self._params.names(survivors)}

    def _take(self, kept: set[int], site: str, body: bytes, stage: int) -> None:
        found, place = decode(PlainSet, body), self._params.index(site)
        self._now(found)
        if place not in self._ready() or found.survivors != self._survivors or found.stage != stage:
            raise ProtocolError("message does not fit", field="site", value=site)
        kept.add(place)
