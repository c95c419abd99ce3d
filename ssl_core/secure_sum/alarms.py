"""What a site does when a message that it refuses contradicts one that it acted upon: it keeps both, and says so.

Comes in: a refused message and the journal's signed messages of the same round. Goes out: `ProvenFault` with the first
piece of evidence; every piece is durable in the journal before that, and changes nothing else there. Evidence holds the
server's own signed messages, headers and agreements: all of them public between server and sites (evidence.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.evidence import AgreementOf, Evidence, HeaderOf, Kind, ProvenFault, evidence_of, proves
from ssl_core.secure_sum.journal import Entry, Journal
from ssl_core.secure_sum.messages import Close, Consent, Context, Signed, Start, Unmask
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.statements import read_signed, start_round

_OF_THE_SERVER = (Kind.ROUND, Kind.CLOSE, Kind.VOID, Kind.SURVIVORS)


@contextmanager
def alarmed(params: SumParams, journal: Journal, round: int, message: bytes) -> Iterator[None]:
    """Inside: the checks of `message`. A refusal that comes with evidence leaves as `ProvenFault`."""
    try:
        yield
    except ProtocolError as error:
        found = contradictions(params, journal.entry(round), message)
        for evidence in found:
            journal.alarm(evidence)
        if found and not isinstance(error, RoundVoid):
            raise ProvenFault(error, found[0]) from error
        raise


def contradictions(params: SumParams, entry: Entry, message: bytes) -> list[Evidence]:
    """Proven contradictions between `message` and what the server said in its round: its own first, then sites'."""
    found = []
    for kept in entry.said:
        sides = [evidence_of(params.server, kind, kept, message) for kind in _OF_THE_SERVER]
        found += [evidence for evidence in sides if proves(params, evidence)][:1]
    round = None if entry.started is None else start_round(params, read_signed(Start, entry.started.request)[1])
    for kept in entry.said:
        one, other = _site_statements(kept, round), _site_statements(message, round)
        pairs = [
            evidence_of(params.members[site].identity, kind, one[site, kind], other[site, kind])
            for site, kind in sorted(one.keys() & other.keys())
            if site < len(params.members)
        ]
        found += [evidence for evidence in pairs if proves(params, evidence)]
    return found


def _site_statements(data: bytes, round: Context | None) -> dict[tuple[int, Kind], HeaderOf | AgreementOf]:
    """What sites signed inside a server's message: their headers, and their agreements to a set."""
    signed = decode(Signed, data)
    if signed.kind == Consent.TAG:
        consent = read_signed(Consent, data)[1]
        return _headers(signed.context, consent)
    if signed.kind == Close.TAG:
        return _headers(signed.context, read_signed(Close, data)[1])
    if signed.kind == Unmask.TAG and round is not None:
        unmask = read_signed(Unmask, data)[1]
        return {
            (proof.site, Kind.AGREEMENT): AgreementOf(round=round, survivors=unmask.survivors, signature=proof.signature)
            for proof in unmask.proof
        }
    return {}


def _headers(context: bytes, body: Consent | Close) -> dict[tuple[int, Kind], HeaderOf | AgreementOf]:
    paired = zip(body.survivors, body.headers, strict=False)
    return {(site, Kind.UPLOAD): HeaderOf(context=context, header=header) for site, header in paired}
