"""What a site checks before it says anything: one function a check, one sentence a refusal (secure-sum notes 2.3, 2.4).

Each returns None or raises `ProtocolError`; nothing was released then. site.py and closing.py call them one a line, in
order; a test removes each in turn and shows that an attack passes. Those of BACKUP alone stand in backup_checks.py. All
values compared here are public but the journal's, and no message depends on a patient.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum.journal import Entry, RoundState
from ssl_core.secure_sum.messages import Backup, Close, Consent, Header, Signed, Start, Unmask
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.statements import (
    GENESIS,
    close_context,
    is_agreement_of,
    is_header_of,
    is_signed_by,
    transcript,
)

Sites = tuple[int, ...]


def server_signed(params: SumParams, signed: Signed) -> None:
    """The server of the params wrote this."""
    need(is_signed_by(params.server, signed), "message is not signed by the server", field=signed.kind)


def context_is(signed: Signed, context: bytes) -> None:
    """The message is of the round that this site computes itself."""
    need(signed.context == context, "message is of another round, study, key set or model", field="context")


# START


def round_within(params: SumParams, round: int) -> None:
    """Rounds are numbered 1 to the plan's last, void ones included."""
    within = 1 <= round <= params.max_rounds
    need(within, "round is not in the plan", field="round", value=round, limit=params.max_rounds)


def round_is_new(round: int, last_round: int) -> None:
    """A round number is used once (ruling 6)."""
    need(round > last_round, "round number was used before", field="round", value=round, limit=last_round)


def keys_are_ours(offered: bytes, accepted: bytes) -> None:
    """The round uses the key set that this site accepted."""
    need(offered == accepted, "round uses another key set than this site accepted", field="keyset")


def participants_sorted(participants: Sites) -> None:
    """Each participant once, in the order of the members."""
    ordered = participants == tuple(sorted(set(participants)))
    need(ordered, "participants are not sorted, each once", field="participants")


def participants_known(params: SumParams, participants: Sites) -> None:
    """Every participant is a member."""
    known = all(site < len(params.members) for site in participants)
    need(known, "a participant is not a member", field="participants")


def self_invited(site: int, participants: Sites) -> None:
    """This site is a participant."""
    need(site in participants, "this site is not among the participants", field="participants")


def enough_for_roster(params: SumParams, participants: Sites) -> None:
    """|C| >= 3c + 1 with c counted on the roster (ruling 5)."""
    limit = 3 * params.corrupt + 1
    problem = "too few participants for the corrupt sites of the roster"
    need(len(participants) >= limit, problem, field="participants", value=len(participants), limit=limit)


def enough_participants(params: SumParams, participants: Sites) -> None:
    """|C| >= max(min_sites, m)."""
    limit = max(params.min_sites, params.thresholds(len(participants)).survivors)
    found = len(participants)
    need(found >= limit, "too few participants for a sum", field="participants", value=found, limit=limit)


def churn_of_one(participants: Sites, last: Sites) -> None:
    """Two rounds whose participants differ by one site would tell, by difference, about that site."""
    problem = "participants differ from the last round's by exactly one site"
    need(len(set(participants) ^ set(last)) != 1, problem, field="participants")


def churn_within(params: SumParams, participants: Sites, last: Sites) -> None:
    """Participants change from one round to the next by at most what the parameters allow; at first, all members."""
    found = len(set(participants) ^ set(last))
    problem = "participants differ from the last round's by too many sites"
    need(found <= params.max_churn, problem, field="participants", value=found, limit=params.max_churn)


def model_follows(start: Start, close: Close | None, initial: bytes) -> None:
    """A round starts from the model that the last CLOSE named, the first from the signed plan's."""
    expected = initial if close is None else close.model
    need(start.model == expected, "model in START is not the plan's initial one, or the last CLOSE's", field="model")


def previous_follows(start: Start, close: Close | None) -> None:
    """START binds the CLOSE that it carries."""
    expected = GENESIS if close is None else transcript(close)
    need(start.previous == expected, "START does not bind the CLOSE that it carries", field="previous")


def previous_not_forgotten(close: Close | None, own: Close | None) -> None:
    """Once a round is closed, every START carries a CLOSE."""
    need(close is not None or own is None, "START forgets the rounds that were closed", field="close")


def close_before(start: Start, close: Close | None) -> None:
    """The CLOSE in a START is of an earlier round."""
    need(close is None or close.round < start.round, "START carries the CLOSE of a later round", field="close")


# survivors: CONSENT, UNMASK and CLOSE


def survivors_sorted(survivors: Sites) -> None:
    """Each survivor once, in the order of the members."""
    ordered = survivors == tuple(sorted(set(survivors)))
    need(ordered, "survivors are not sorted, each once", field="survivors")


def survivors_invited(survivors: Sites, participants: Sites) -> None:
    """U is a part of C."""
    need(set(survivors) <= set(participants), "a survivor is not a participant", field="survivors")


def enough_survivors(params: SumParams, survivors: Sites, participants: Sites) -> None:
    """|U| >= m, computed here from |C| and c."""
    limit = params.thresholds(len(participants)).survivors
    need(len(survivors) >= limit, "too few survivors", field="survivors", value=len(survivors), limit=limit)


def self_survives(site: int, survivors: Sites) -> None:
    """A site speaks only for sums that contain its own update."""
    need(site in survivors, "this site is not among the survivors", field="survivors")


def round_open(entry: Entry) -> None:
    """The round stands open at this site, with an upload; a void round is refused for ever."""
    if entry.state is RoundState.VOID:
        raise RoundVoid("round is void at this site", field="round", value=entry.round)
    problem = "round is not open at this site, or nothing was uploaded"
    need(entry.state in (RoundState.UPLOADED, RoundState.ANSWERED), problem, field="round", value=entry.round)


def headers_signed(params: SumParams, context: bytes, survivors: Sites, headers: Sequence[Header]) -> None:
    """Every survivor signed an upload of this very round: no phantom swells U."""
    need(len(headers) == len(survivors), "not one header for each survivor", field="headers", value=len(headers))
    for site, header in zip(survivors, headers, strict=True):
        member = params.members[site]
        signed = is_header_of(member.identity, context, header)
        need(signed, "survivor did not sign an upload of this round", field="site", value=member.name)


def own_header(site: int, survivors: Sites, headers: Sequence[Header], own: Header | None) -> None:
    """Our own header is the journal's; a signed one that the journal lacks means that the journal was rolled back."""
    need(
        site not in survivors or headers[survivors.index(site)] == own,
        "upload under this site's name is not the one in its journal",
        field="headers",
        remedy="if no one else holds this site's key, its state folder was rolled back: stop it and tell the authority",
    )


def round_voidable(entry: Entry) -> None:
    """Only a round that stands open here can be given up."""
    open_states = (RoundState.STARTED, RoundState.UPLOADED, RoundState.ANSWERED)
    need(entry.state in open_states, "round is not open at this site", field="round", value=entry.round)


# CONSENT


def consent_needed(consent: Consent, participants: Sites) -> None:
    """For U = C every upload already carries the agreement."""
    need(consent.survivors != participants, "all participants survive: no consent is needed", field="survivors")


def not_answered(entry: Entry, survivors: Sites) -> None:
    """After the answer there is nothing new to agree to (ruling 10); an agreement given before is only said again."""
    said_before = entry.agreed is not None and entry.agreed.survivors == survivors
    need(entry.state is not RoundState.ANSWERED or said_before, "round was answered: no consent any more", field="round")


def agreed_once(entry: Entry, survivors: Sites) -> None:
    """At most one set other than C is agreed to, and then only that one is answered."""
    same = entry.agreed is None or entry.agreed.survivors == survivors
    need(same, "this site agreed to other survivors in this round", field="survivors")


# UNMASK


def addressed_to(site: int, request: Unmask | Backup) -> None:
    """The request is for this site."""
    need(request.recipient == site, "request is addressed to another site", field="recipient")


def answered_once(entry: Entry, survivors: Sites) -> None:
    """One set of survivors a round, for ever. With t > (M + c) / 2, and one agreement a site, no second one can be opened."""
    same = entry.answered is None or entry.answered.survivors == survivors
    need(same, "this site answered for other survivors in this round", field="survivors")


def proof_sorted(unmask: Unmask) -> None:
    """Each signer once."""
    signers = tuple(proof.site for proof in unmask.proof)
    need(signers == tuple(sorted(set(signers))), "signers are not sorted, each once", field="proof")


def proof_by_survivors(unmask: Unmask) -> None:
    """Only survivors agree."""
    need({proof.site for proof in unmask.proof} <= set(unmask.survivors), "a signer does not survive", field="proof")


def proof_complete(params: SumParams, unmask: Unmask, participants: Sites) -> None:
    """All agree to U = C; t at least to another U."""
    everyone = unmask.survivors == participants
    limit = len(participants) if everyone else params.thresholds(len(participants)).shares
    found = len(unmask.proof)
    need(found >= limit, "too few sites agreed to the survivors", field="proof", value=found, limit=limit)


def proof_signed(params: SumParams, context: bytes, unmask: Unmask) -> None:
    """Every agreement is to this U of this round."""
    for proof in unmask.proof:
        member = params.members[proof.site]
        signed = is_agreement_of(member.identity, context, unmask.survivors, proof.signature)
        need(signed, "site did not agree to these survivors", field="site", value=member.name)


def shares_complete(unmask: Unmask) -> None:
    """One sealed share from each survivor."""
    found, limit = len(unmask.shares), len(unmask.survivors)
    need(found == limit, "not one sealed share for each survivor", field="shares", value=found, limit=limit)


# CLOSE


def close_context_is_own(params: SumParams, signed: Signed, close: Close) -> None:
    """The signature's context is that of the round described."""
    need(signed.context == close_context(params, close), "CLOSE does not describe its own round", field="context")


def close_is_our_round(signed: Signed, entry: Entry) -> None:
    """A round that this site started is closed under the context it started with."""
    ours = entry.started is None or entry.started.context == signed.context
    need(ours, "CLOSE is of another round than this site started", field="context")


def close_is_new(close: Close, own: Close | None, last_round: int) -> None:
    """Closed rounds rise, and none comes back that a later START overtook."""
    newer = (own is None or close.round > own.round) and close.round >= last_round
    need(newer, "CLOSE is older than what this site has seen, or another for the same round", field="round")


def close_not_void(entry: Entry) -> None:
    """The server did not sign that the round gives no sum; a new key set that voided it here is no such word."""
    need(not entry.void, "CLOSE is of a round that the server gave up", field="round", value=entry.round)


def close_matches_answer(close: Close, entry: Entry) -> None:
    """The round is closed with the survivors that this site answered for."""
    same = entry.answered is None or close.survivors == entry.answered.survivors
    need(same, "CLOSE names other survivors than this site answered for", field="survivors")


def close_matches_agreement(close: Close, entry: Entry) -> None:
    """The round is closed with the survivors that this site agreed to."""
    same = entry.agreed is None or close.survivors == entry.agreed.survivors
    need(same, "CLOSE names other survivors than this site agreed to", field="survivors")


def need(
    held: bool, problem: str, *, field: str, value: object = None, limit: object = None, remedy: str | None = None
) -> None:
    """Refuse the message unless `held`."""
    if not held:
        raise ProtocolError(problem, field=field, value=value, limit=limit, remedy=remedy)
