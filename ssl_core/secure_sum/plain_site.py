"""PlainSum, the site: the role of site.py without keys, masks, shares or signatures, for tests of everything around it.

IT HIDES NOTHING: the server sees every update. It quantises with the same grid and the same first draw from `random`,
counts with the same thresholds, keeps the same promises (an upload once, one answered set a round, the same bytes when
asked again, over when closed or void), so that a masked sum can be compared with it integer by integer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum import checks
from ssl_core.secure_sum.codec import Fixed, Message, UInt, decode, digest, encode
from ssl_core.secure_sum.journal import Record, RoundState, SiteStore
from ssl_core.secure_sum.messages import Digest, Round, Sites
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.roles import MaskedUpload, RoundTicket
from ssl_core.secure_sum.statements import vector_hash
from ssl_core.secure_sum.vector import quantise
from ssl_core.trust.identity import Identity, Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainStart(Message):
    """A round begins."""

    TAG: ClassVar[str] = "PLAIN-START"
    round: Round
    participants: Sites
    model: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainUpload(Message):
    """Which vector goes beside it."""

    TAG: ClassVar[str] = "PLAIN-UPLOAD"
    round: Round
    vector: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSet(Message):
    """Survivors, proposed (stage 1) or to be summed (stage 2); the site returns the same bytes."""

    TAG: ClassVar[str] = "PLAIN-SET"
    round: Round
    stage: Annotated[int, UInt(1)]
    survivors: Sites


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainEnd(Message):
    """CLOSE with the new model, or VOID with zeros."""

    TAG: ClassVar[str] = "PLAIN-END"
    round: Round
    model: Annotated[bytes, Fixed(32)]


class PlainSite:
    """A site whose vector anyone can read."""

    def __init__(
        self,
        params: SumParams,
        name: str,
        identity: Identity,
        store: SiteStore,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._params = params
        self._site = params.index(name)
        self._store = store
        self._random = random
        self._begun: int | None = None

    def offer_keys(self, epoch: int = 1) -> bytes:
        """There are no keys: the epoch and the place."""
        return bytes([epoch, self._site])

    def accept_keys(self, keyset: bytes) -> None:
        """There are no keys."""

    def state(self, round: int) -> RoundState | None:
        """Where a round stands here; None when it is unknown."""
        kinds = {record.kind for record in self._store.records(round)}
        over = bool(kinds) and round < self._last_round()
        if over and "CLOSED" not in kinds:
            return RoundState.VOID
        order = (RoundState.CLOSED, RoundState.VOID, RoundState.ANSWERED, RoundState.UPLOADED, RoundState.STARTED)
        return next((state for state in order if state.value in kinds), None)

    def begin(self, start: bytes, total: Words | None) -> RoundTicket:
        """Accept a START."""
        body = decode(PlainStart, start)
        checks.round_within(self._params, body.round)
        checks.round_is_new(body.round, self._last_round())
        checks.self_invited(self._site, body.participants)
        self._write(body.round, RoundState.STARTED, start)
        self._begun = body.round
        names = self._params.names(body.participants)
        weight = self._params.members[self._site].weight
        return RoundTicket(
            round=body.round,
            participants=names,
            context=digest("plain", start),
            weight=weight,
        )

    def upload(self, round: int, update: npt.NDArray[np.float32]) -> MaskedUpload:
        """Quantise as the masked sum does; the bytes are kept."""
        kept = self.resend(round)
        if kept is not None:
            return kept
        if self._begun != round:
            raise RoundVoid("round was not begun in this process: this site declines it", field="round", value=round)
        context = digest("plain", self._read(round, RoundState.STARTED) or b"")
        vector = quantise(self._params, context, self._site, update, Secret(self._random(32)))
        body = encode(PlainUpload(round=round, vector=vector_hash(vector)))
        self._store.write_vector(round, vector)
        self._write(round, RoundState.UPLOADED, body)
        return body, vector

    def recognise(self, start: bytes) -> None:
        """Refuse another START of a known round."""
        body = decode(PlainStart, start)
        kept = self._read(body.round, RoundState.STARTED)
        if kept not in (None, start):
            raise ProtocolError("round was begun with another START", field="round", value=body.round)

    def resend(self, round: int) -> MaskedUpload | None:
        """The upload once more; None when there was none."""
        state = self.state(round)
        if state is None:
            raise ProtocolError("round is unknown to this site", field="round", value=round)
        if state in (RoundState.VOID, RoundState.CLOSED):
            raise RoundVoid("round is over at this site", field="round", value=round)
        body, vector = self._read(round, RoundState.UPLOADED), self._store.read_vector(round)
        return None if body is None or vector is None else (body, vector)

    def consent(self, request: bytes) -> bytes:
        """Agree to the proposed survivors."""
        body = self._survive(request, 1)
        kept = self._read(body.round, RoundState.ANSWERED)
        if kept is not None and decode(PlainSet, kept).survivors != body.survivors:
            raise ProtocolError("round was answered: no consent any more", field="round")
        return request

    def unmask(self, request: bytes) -> bytes:
        """Answer for one set of survivors."""
        body = self._survive(request, 2)
        kept = self._read(body.round, RoundState.ANSWERED)
        if kept not in (None, request):
            raise ProtocolError("this site answered for other survivors in this round", field="survivors")
        if kept is None:
            self._write(body.round, RoundState.ANSWERED, request)
        return request

    def backup(self, request: bytes) -> bytes:
        """There is no backup."""
        raise ProtocolError("the plain sum has no backup", field="backup")

    def close(self, close: bytes, total: Words | None) -> bytes:
        """Take a CLOSE; again gives the same."""
        body = decode(PlainEnd, close)
        kept = self._read(body.round, RoundState.CLOSED)
        if kept not in (None, close):
            raise ProtocolError("another CLOSE was taken for this round", field="round", value=body.round)
        if kept is None:
            checks.round_within(self._params, body.round)
            self._write(body.round, RoundState.CLOSED, close)
        return close

    def void(self, message: bytes) -> None:
        """Take a VOID."""
        self._write(decode(PlainEnd, message).round, RoundState.VOID, message)

    def _survive(self, request: bytes, stage: int) -> PlainSet:
        body = decode(PlainSet, request)
        if self.state(body.round) not in (RoundState.UPLOADED, RoundState.ANSWERED) or body.stage != stage:
            raise ProtocolError("round is not open at this site, or nothing was uploaded", field="round")
        checks.self_survives(self._site, body.survivors)
        return body

    def _last_round(self) -> int:
        latest = [self._store.latest(kind) for kind in ("STARTED", "CLOSED", "VOID")]
        return max((record.round for record in latest if record), default=0)

    def _read(self, round: int, state: RoundState) -> bytes | None:
        return next((record.body for record in self._store.records(round) if record.kind == state.value), None)

    def _write(self, round: int, state: RoundState, body: bytes) -> None:
        self._store.append(Record(round, state.value, body))
