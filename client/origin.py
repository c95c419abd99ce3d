"""Step 13: on whose word an encoder is taken before a site fine-tunes it.

Comes in: an encoder's folder and, where one is given, a roster file. Goes out: the loaded encoder and one line that says
what was checked. That the weights are those of the card is checked always. Beyond that:

- `--roster FILE`: the operator of that roster must have signed the card.
- a folder `encoders/NAME` of a site's state folder: the site wrote it without a signature, so its log must vouch for it:
  the study was approved and charged here, and the weights are those of its last CLOSE, which was taken from nobody but
  the server of the roster that counted then.
- neither: nothing more; the line says so.

A site's own card carries no signature over its epsilons: `choral site ledger` has them.

Raises `TrustError`, `ConfigError`, and `ChainError` for a log that was tampered with.
"""

from __future__ import annotations

from pathlib import Path

from client.home import SiteHome
from client.journal import latest_record
from ssl_core.card import Card, LoadedEncoder, read_encoder
from ssl_core.config import StudyPlan, parse
from ssl_core.errors import TrustError
from ssl_core.secure_sum.messages import Close
from ssl_core.secure_sum.statements import read_signed
from ssl_core.session import read_roster
from ssl_core.trust.envelope import canonical, digest, peek
from ssl_core.trust.identity import fingerprint

NOT_CHECKED = "signature not checked: no roster given (--roster FILE)"
_AGAIN = "use the operator's release of this study with --roster, and find out who changed this state folder"


def open_encoder(folder: Path, roster: Path | None) -> tuple[LoadedEncoder, str]:
    """(encoder, one line for people); see the module's first lines for what is checked."""
    if roster is not None:
        listed, _ = read_roster(roster)
        operator = bytes.fromhex(listed.server.operator)
        loaded = read_encoder(folder, keys=[operator])
        return loaded, (
            f"signature checked: by operator {fingerprint(operator)} of roster version {listed.version}, "
            f"which authority {listed.authority.words} signed"
        )
    loaded = read_encoder(folder)
    place = folder.resolve().parent
    if place.name != "encoders" or not (place.parent / "site.toml").is_file():
        return loaded, NOT_CHECKED
    home = SiteHome(place.parent)
    try:
        check_own(home, loaded.card)
    finally:
        home.chain.close()
    return loaded, f"checked against the log of site {home.config.name}: study {loaded.card.plan_hash[:12]} was approved here"


def check_own(home: SiteHome, card: Card) -> None:
    """Raise `TrustError` unless the site's log vouches for the study, its plan, its rounds and, where summed, the weights."""
    if not any(entry.body["study"] == card.plan_hash for entry in home.chain.entries("reserve")):
        raise TrustError(
            "no such study was approved at this site", field="plan_hash", value=card.plan_hash, limit="studies of the ledger",
            remedy=_AGAIN,
        )  # fmt: skip
    alone = card.plan.alone
    plan, plan_hash = (card.plan, _hash_of(card.plan)) if alone else _stored(home, card.plan_hash)
    if plan != card.plan or plan_hash != card.plan_hash or alone != (card.kind == "alone"):
        raise TrustError(
            "plan is not the one approved here", field="plan, kind", value=f"{card.plan.name}, {card.kind}",
            limit=f"plan {card.plan_hash}", remedy=_AGAIN,
        )  # fmt: skip
    if alone:
        return
    record = latest_record(home.chain, card.plan_hash, "CLOSED")
    if record is None:
        raise TrustError("study was not finished here", field="plan_hash", value=card.plan_hash, remedy=_AGAIN)
    last = read_signed(Close, record.body)[1]
    if last.model.hex() != card.weights:
        raise TrustError(
            "weights are not those of the study's last round", field="weights", value=card.weights, limit=last.model.hex(),
            remedy=_AGAIN,
        )  # fmt: skip
    if last.round != card.rounds_closed + card.rounds_void:
        raise TrustError(
            "rounds are not those of the study", field="rounds_closed + rounds_void",
            value=card.rounds_closed + card.rounds_void, limit=last.round, remedy=_AGAIN,
        )  # fmt: skip


def _hash_of(plan: StudyPlan) -> str:
    # As it stood in the card: a later version may know more fields, whose defaults were not hashed.
    return digest(canonical(plan.model_dump(mode="json", exclude_unset=True)))


def _stored(home: SiteHome, plan_hash: str) -> tuple[StudyPlan, str]:
    """The plan as it was verified when the site was invited, and its hash."""
    path = home.study(plan_hash) / "plan.json"
    if not path.is_file():
        raise TrustError("the study's signed plan is missing here", field="path", value=str(path), remedy=_AGAIN)
    body = peek(path.read_bytes(), "plan")
    return parse(StudyPlan, body, "study plan"), digest(canonical(body))
