"""Step 10 of 12: uploads, one at a time -> running sum -> sum of w_i q_i over the survivors, words [P], and its mean.

The server's side, which no site trusts. A vector is checked against its signed header, added and dropped, so that
memory does not grow with the vectors of many sites. Order: START, uploads, survivors U, CONSENT when U is not all,
UNMASK, answers, BACKUP when a survivor is lost and t others answered, CLOSE.
Every share is checked against its dealer's commitment as it comes, and every secret against its owner's: a wrong share
costs the answer that held it, not the round, and `faults` names whose it was, with evidence where a third party can
check it. When a participant is not in U, each survivor must tell its pair elements with it, or t others do by BACKUP.
After a crash `resume` with the same START and the same U continues by identical messages (ruling 28).
Raises `ProtocolError` naming a site whose message is wrong (it is not counted), `RoundVoid` when no sum is possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ConfigError, ProtocolError, RoundVoid
from ssl_core.secure_sum import checks, keys
from ssl_core.secure_sum.answer import check_answer
from ssl_core.secure_sum.backup import check_backup_answer
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.evidence import Fault, ProvenFault
from ssl_core.secure_sum.intake import check_again, check_agreement, check_upload, check_upload_ack, need
from ssl_core.secure_sum.messages import Agreement, Close, Start, Upload, Void
from ssl_core.secure_sum.opening import remove_masks
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.server_round import (
    ServerRound,
    is_answered,
    keep_answer,
    keep_relief,
    make_backup,
    make_checkpoint,
    make_close,
    make_consent,
    make_unmask,
    pair_up,
    recover,
)
from ssl_core.secure_sum.shelf import MemoryShelf, Shelf, put_on
from ssl_core.secure_sum.starting import check_own_start
from ssl_core.secure_sum.statements import GENESIS, keyset_hash, read_signed, sign, start_context, transcript, vector_hash
from ssl_core.secure_sum.vector import mean_update
from ssl_core.trust.identity import Identity


class SecureSumCoordinator:
    """The server in one session and key set; it holds one round at a time, its backups on `shelf`."""

    def __init__(self, params: SumParams, identity: Identity, keyset: bytes, shelf: Shelf | None = None) -> None:
        if identity.public != params.server:
            raise ConfigError("identity is not the server of the roster", field="server")
        keys.open_keyset(params, keyset)
        self._params = params
        self._identity = identity
        self._keyset = keyset_hash(keyset)
        self._shelf = MemoryShelf() if shelf is None else shelf
        self._round: ServerRound | None = None

    @staticmethod
    def make_keyset(params: SumParams, offers: Mapping[str, bytes]) -> bytes:
        """E of the offers of all members; names the member whose offer is missing or wrong."""
        return keys.make_keyset(params, offers)

    def start(self, round: int, participants: Sequence[str], model_hash: bytes, previous_close: bytes | None) -> bytes:
        """Open a round; the same START goes to every participant."""
        last = 0 if self._round is None else self._round.start.round
        if self._round is not None and self._round.closed is None and not self._round.void:
            raise ProtocolError("the last round is still open", field="round", value=last, remedy="close or void it")
        checks.round_is_new(round, last)
        close = b"" if previous_close is None else previous_close
        start = Start(
            round=round,
            participants=tuple(sorted(self._params.index(name) for name in participants)),
            model=model_hash,
            keyset=self._keyset,
            previous=transcript(read_signed(Close, close)[1]) if close else GENESIS,
            close=close,
        )
        data = sign(self._identity, start_context(self._params, start), start)
        self.resume(data)
        return data

    def resume(self, start: bytes) -> None:
        """Continue the round of our own START: the sites send again what they sent."""
        last = None if self._round is None else self._round.start
        body = check_own_start(self._params, self._keyset, start, last)
        running = np.zeros(self._params.dimension, self._params.word)
        self._round = ServerRound(start=body, context=start_context(self._params, body), running=running)

    def add_upload(self, site: str, body: bytes, vector: Words) -> bool:
        """Check an upload and add its vector; False when it came twice, or after U was fixed without this site."""
        now, place = self._open(), self._participant(site)
        if now.survivors is not None and place not in now.survivors:
            return False
        upload = decode(Upload, body)
        member = self._params.members[place]
        if place in now.headers:
            with self._blaming(now, site):
                check_again(now.context, member, now.headers[place], upload.header)
            return False
        header, parts = check_upload(self._params, now.context, now.start.participants, member, upload, vector)
        check_upload_ack(self._params, now.start.close, member, upload.ack)
        np.add(now.running, vector, out=now.running)
        now.headers[place], now.dealt[place] = header, put_on(self._shelf, place, parts)
        if upload.ack:
            now.acks[place] = upload.ack
        return True

    @property
    def acknowledged(self) -> tuple[str, ...]:
        """Whose uploads acknowledged the CLOSE in this round's START."""
        return self._params.names(sorted(self._open().acks))

    def checkpoint(self) -> bytes | None:
        """CHECKPOINT of that CLOSE, once t sites acknowledged it."""
        return make_checkpoint(self._params, self._open())

    @property
    def uploaded(self) -> tuple[str, ...]:
        """Whose uploads are in the running sum."""
        return self._params.names(sorted(self._open().headers))

    def fix_survivors(self, survivors: Sequence[str] | None = None) -> bool:
        """Fix U: who uploaded, or when resuming the U that was fixed before; returns whether consent is needed.

        `RoundVoid` when |U| < m. Keep U durably before any CONSENT or UNMASK is sent: sites answer for one U only.
        """
        now = self._open()
        given = tuple(sorted(now.headers if survivors is None else (self._participant(name) for name in survivors)))
        if now.survivors not in (None, given):
            raise ProtocolError("survivors are fixed already", field="survivors")
        checks.survivors_sorted(given)
        if not set(now.headers) <= set(given):
            raise ProtocolError(
                "an upload outside these survivors is in the sum",
                field="survivors",
                remedy="resume the round and name the survivors before any upload",
            )
        limit = self._params.thresholds(len(now.start.participants)).survivors
        if len(given) < limit:
            raise RoundVoid("too few survivors", field="survivors", value=len(given), limit=limit)
        now.survivors = given
        return given != now.start.participants

    @property
    def survivors(self) -> tuple[str, ...] | None:
        """U, once it is fixed."""
        survivors = self._open().survivors
        return None if survivors is None else self._params.names(survivors)

    def consent_requests(self) -> dict[str, bytes]:
        """CONSENT for each survivor; empty when U = C."""
        now, survivors = self._ready()
        if survivors == now.start.participants:
            return {}
        data = sign(self._identity, now.context, make_consent(now, survivors))
        return {name: data for name in self._params.names(survivors)}

    def add_consent(self, site: str, body: bytes) -> None:
        """Check and keep a survivor's agreement."""
        now, survivors = self._ready()
        place = self._survivor(site)
        agreement = decode(Agreement, body)
        check_agreement(now.context, survivors, self._params.members[place], agreement)
        now.agreements[place] = agreement.signature

    @property
    def consented(self) -> bool:
        """Whether at least t survivors agreed, or U = C."""
        now, survivors = self._ready()
        return survivors == now.start.participants or len(now.agreements) >= self._shares(now)

    def unmask_requests(self) -> dict[str, bytes]:
        """UNMASK for each survivor, with the shares sealed to it; the same when asked again."""
        now, survivors = self._ready()
        if not self.consented:
            found = len(now.agreements)
            raise ProtocolError("too few agreements", field="consent", value=found, limit=self._shares(now))
        if not now.requests:
            now.requests = make_unmask(now, survivors)
        return {self._params.members[site].name: sign(self._identity, now.context, body) for site, body in now.requests.items()}

    def add_answer(self, site: str, body: bytes) -> None:
        """Check and keep a survivor's answer; one that holds a wrong share is refused with evidence."""
        now, survivors = self._ready()
        place = self._survivor(site)
        with self._blaming(now, site):
            released = check_answer(self._params, now.context, now.start.participants, survivors, place, now.parts, body)
        if place not in now.answers:
            keep_answer(self._params, now, place, released)

    def backup_requests(self) -> dict[str, bytes]:
        """BACKUP for each survivor that answered, about those that did not; empty while that cannot help."""
        now, survivors = self._ready()
        requests = make_backup(self._params, now, survivors)
        return {self._params.members[site].name: sign(self._identity, now.context, body) for site, body in requests.items()}

    def add_backup(self, site: str, body: bytes) -> None:
        """Check and keep what a survivor that answered says for others."""
        now, survivors = self._ready()
        place = self._survivor(site)
        need(place in now.answers, "site has not answered for itself", site)
        with self._blaming(now, site):
            relief = check_backup_answer(self._params, now.context, now.start.participants, survivors, place, now.parts, body)
        keep_relief(self._params, now, place, relief)

    @property
    def answered(self) -> bool:
        """Whether the sum can be opened: t right shares of each survivor, and each one's elements with lost sites."""
        now, survivors = self._ready()
        return is_answered(self._params, now, survivors)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Who broke the protocol in this round, and the evidence where a third party can check it."""
        return () if self._round is None else tuple(self._round.faults)

    def total(self) -> Words:
        """Sum of w_i q_i over U, words [P] of the ring, not to be changed; `RoundVoid` when a secret fits no commitment."""
        now, survivors = self._ready()
        if not now.opened:
            if not self.answered:
                raise ProtocolError("too few answers for a sum", field="answers", value=len(now.answers))
            own, pairs = recover(self._params, now, survivors)
            remove_masks(own, pairs, now.running)
            now.opened = True
        total = now.running.view()
        total.flags.writeable = False
        return total

    def mean(self) -> npt.NDArray[np.float64]:
        """The mean update of U weighted by w_i, float64 [P] (parameter units)."""
        total = self.total()
        now, survivors = self._ready()
        return mean_update(self._params, now.context, total, weight=self._params.weight_of(survivors))

    def close(self, model: bytes, state: bytes) -> bytes:
        """CLOSE, which names the new model and optimizer state; the same when called again, another model is refused."""
        total = self.total()
        now, survivors = self._ready()
        close = make_close(now, survivors, vector_hash(total), model, state)
        if now.closed not in (None, close):
            raise ProtocolError("round was closed with another model", field="model")
        now.closed = close
        return sign(self._identity, now.context, close)

    def void(self) -> bytes:
        """VOID: this round gives no sum, ever; a closed round is not given up any more."""
        now = self._open(void=True)
        if now.closed is not None:
            raise ProtocolError("round was closed", field="round", value=now.start.round)
        now.void = True
        return sign(self._identity, now.context, Void(round=now.start.round))

    def _open(self, *, void: bool = False) -> ServerRound:
        if self._round is None:
            raise ProtocolError("no round was started", field="round")
        if self._round.void and not void:
            raise RoundVoid("round is void", field="round", value=self._round.start.round)
        return self._round

    def _ready(self) -> tuple[ServerRound, tuple[int, ...]]:
        now = self._open()
        if now.survivors is None:
            raise ProtocolError("survivors are not fixed", field="survivors")
        missing = [site for site in now.survivors if site not in now.headers]
        if missing:
            names = ", ".join(self._params.names(missing))
            raise ProtocolError("survivors have not sent their uploads again", field="sites", value=names)
        pair_up(self._params, now, now.survivors)
        return now, now.survivors

    @contextmanager
    def _blaming(self, now: ServerRound, site: str) -> Iterator[None]:
        try:
            yield
        except ProvenFault as fault:
            now.blame(Fault(sites=(site,), problem=fault.problem, evidence=fault.evidence))
            raise

    def _shares(self, now: ServerRound) -> int:
        return self._params.thresholds(len(now.start.participants)).shares

    def _participant(self, site: str) -> int:
        place = self._params.index(site)
        need(place in self._open().start.participants, "site is not a participant", site)
        return place

    def _survivor(self, site: str) -> int:
        place = self._params.index(site)
        need(place in (self._open().survivors or ()), "site is not a survivor", site)
        return place
