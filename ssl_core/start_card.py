"""Before step 1: who answers for prepared start weights, and for what: a folder of them with a signed card.

Comes in: a folder of prepared weights (start_weights.py), the operator's key. Goes out: a folder of the same two files, byte
by byte, with `card.json` (an envelope that the operator signed) and `card.md`, there whole or not at all. The card names the
SHA-256 of the weights and of the facts. Its epsilon stands beside what it rests on, `rests_on`: that follows from the facts,
the signer's word stands for each line, and a reader refuses a card that says less. None can be checked from the folder alone.

Whoever loads it says whose signature counts, as of a release (card.py). Raises `TrustError` for what was changed, each file and
signature by its own line, `ConfigError` for a folder that is none.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ssl_core.card import AGAIN, CARD_FILE, PAGE_FILE, card_body, described, load_named
from ssl_core.config import Sha256Hex, parse
from ssl_core.errors import ConfigError, TrustError
from ssl_core.folder import new_folder
from ssl_core.session import read_roster
from ssl_core.spec.strict import StrictModel
from ssl_core.start_weights import FACTS_FILE, WEIGHTS_FILE, StartFacts
from ssl_core.trust.envelope import digest, seal
from ssl_core.trust.identity import Identity, fingerprint

_LOG = logging.getLogger("choral")
_KIND = "start-card"
# Frozen with format 1: cards that were signed say it in these words.
_FACTS = "the weights were made as the facts say, and of nothing else"
_CORPUS = "the public corpus is public"
_MODEL = "the file begun from was made without records of patients, or released with the budget that it cost them"
_RELEASE = "the release begun from is one, with the epsilon that its card says"
_STARTED = "the weights that this release started from were made without records of patients, or released with their budget"
_KEYS = {"kind", "seed", "units", "factors"}
"""All that is known of generated units; whoever names files beside them names a corpus."""


class StartCard(StrictModel):
    """What the operator signs: SHA-256 of the weights (vector.py) and of start.json; what was added, and what that rests on.

    epsilon_added: what making these weights added to any patient's spending, as far as every line of `rests_on` holds.
    """

    format: Annotated[int, Field(ge=1, le=1)] = 1
    weights: Sha256Hex
    facts: Sha256Hex
    epsilon_added: Literal[0] = 0
    rests_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadedStart:
    """A card and the facts that it names; the weights beside them are those of both."""

    card: StartCard
    facts: StartFacts

    def to_markdown(self, signer: bytes) -> str:
        """The card as a page for people; `signer`: the public key [32] whose signature it carries."""
        facts, rests = self.facts, self.card.rests_on
        lines = [
            f"# Start weights {self.card.weights[:8]}",
            "",
            f"- weights SHA-256 `{self.card.weights}`; {FACTS_FILE} SHA-256 `{self.card.facts}`",
            f"- data: {described(facts.data)}; encoder {facts.encoder.name}; objective {facts.objective.name}",
            *(f"- {line}" for line in history(facts)),
            f"- signed by operator key {fingerprint(signer)}",
            "",
            "Epsilon 0 is added to what any patient has spent, as far as this holds, for which the signer's word stands:",
            "",
            *(f"- {line}" for line in rests),
            "",
            *(["If so, no record of a person went into them."] if rests == (_FACTS,) else []),
            "The first can be checked by whoever has every file that is named: choral operator prepare, built as it was then, "
            "gives the same bytes again on a machine like the one that made them; on another the last bits may differ.",
            *(["The people in the corpus have no guarantee from these weights."] if _CORPUS in rests else []),
            *(["What the patients of the release have spent stays spent, as its card says."] if _RELEASE in rests else []),
            "What a study promises its own patients rests on none of it: that holds whatever weights the study begins from.",
            "",
        ]
        return "\n".join(lines)


def publish_start(prepared: Path, folder: Path, signer: Identity, *, shown: StartFacts | None = None) -> LoadedStart:
    """Write `folder` (must not exist), whole or not at all, from prepared weights, which are held against their facts.

    shown: what the person saw who answers for it, if any did; `TrustError` where the folder holds something else by now.
    """
    with new_folder(folder) as draft:
        for name in (WEIGHTS_FILE, FACTS_FILE):
            (draft / name).write_bytes(_required(prepared / name).read_bytes())
        # What is read is what will lie there, whatever becomes of the other folder meanwhile.
        facts = read_facts(draft)
        if shown is not None and facts != shown:
            raise TrustError(
                "prepared weights changed while they were looked at",
                field="folder",
                value=str(prepared),
                remedy="publish again",
            )
        card = StartCard(weights=facts.weights, facts=digest((draft / FACTS_FILE).read_bytes()), rests_on=rests_on(facts))
        made = LoadedStart(card, facts)
        (draft / CARD_FILE).write_bytes(seal(_KIND, card.model_dump(mode="json"), signer))
        (draft / PAGE_FILE).write_text(made.to_markdown(signer.public), encoding="utf-8")
    return made


def read_start(folder: Path, *, keys: Sequence[bytes] | None) -> LoadedStart:
    """The card and facts of a folder, whose weights are held against both; without `keys` no signature is checked."""
    if not (folder / CARD_FILE).is_file():
        raise ConfigError(
            "folder holds no signed start weights", field="folder", value=str(folder),
            remedy="ask the operator for the folder that choral operator publish wrote",
        )  # fmt: skip
    card = parse(StartCard, card_body(folder, _KIND, keys), "card of start weights")
    path = folder / FACTS_FILE
    found = digest(path.read_bytes()) if path.is_file() else "no such file"
    if found != card.facts:
        raise TrustError(
            "facts are not those that the card names", field=FACTS_FILE, value=found, limit=card.facts, remedy=AGAIN
        )
    facts = read_facts(folder, card.weights)
    if card.rests_on != rests_on(facts):
        raise TrustError(
            "card does not say what its epsilon rests on", field="rests_on", value="; ".join(card.rests_on),
            limit="; ".join(rests_on(facts)), remedy="ask the operator to publish it again with choral",
        )  # fmt: skip
    return LoadedStart(card, facts)


def load_start(folder: Path, *, roster: Path | None = None, keys: Sequence[bytes] | None = None) -> LoadedStart:
    """What `load_encoder` is to a release: the card must be signed by the operator of `roster`, or by one of `keys`.

    With neither, no signature is checked, and a warning in the log "choral" says so. Raises `TrustError`.
    """
    if roster is not None:
        keys = [bytes.fromhex(read_roster(roster)[0].server.operator)]
    loaded = read_start(folder, keys=keys)
    if keys is None:
        _LOG.warning("start weights %s: signature not checked: no roster given (roster=FILE)", folder.name)
    return loaded


def read_facts(folder: Path, named: str | None = None) -> StartFacts:
    """The facts of a folder of prepared weights, which must be of the weights beside them and, where given, of these."""
    from ssl_core.objectives.build import model_of

    path = _required(folder / FACTS_FILE)
    try:
        raw: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError("facts are not JSON", field=FACTS_FILE, value=str(path)) from error
    if not isinstance(raw, dict):
        raise ConfigError("facts are not a JSON object", field=FACTS_FILE, value=str(path))
    facts = parse(StartFacts, raw, FACTS_FILE)
    if named is not None and facts.weights != named:
        raise TrustError("facts are of other weights than the card", field="weights", value=facts.weights, limit=named)
    load_named(model_of(facts.data, facts.encoder, facts.objective), folder / WEIGHTS_FILE, facts.weights, by="facts name")
    return facts


def _required(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(
            "folder holds no prepared weights", field="folder", value=str(path.parent), limit=path.name,
            remedy="name one that choral operator prepare wrote",
        )  # fmt: skip
    return path


def rests_on(facts: StartFacts) -> tuple[str, ...]:
    """What must hold for epsilon 0, of these weights, of all prepared weights that they began from, and of a release's."""
    found = {_FACTS}
    for each in _line(facts):
        if each.public is not None and not _generated(each):
            found.add(_CORPUS)
        taken = each.taken
        if taken is None or "start" in taken:
            continue
        found.add(_RELEASE if "release" in taken else _MODEL)
        # Of a release's own start only the hash is known. One whose facts do not say whether it had any may have had one.
        if "release" in taken and taken.get("release_start", "") is not None:
            found.add(_STARTED)
    return tuple(line for line in (_FACTS, _CORPUS, _RELEASE, _STARTED, _MODEL) if line in found)


def _line(facts: StartFacts | None) -> Iterator[StartFacts]:
    """These facts, and those of what they began from, back to the first."""
    while facts is not None:
        yield facts
        if facts.taken is None or "start" not in facts.taken:
            return
        before = facts.taken["start"]
        if not isinstance(before, dict):
            raise ConfigError("facts of what was begun from are not a JSON object", field="taken.start")
        facts = parse(StartFacts, before, "taken.start")


def _generated(facts: StartFacts) -> bool:
    public = facts.public or {}
    return public.get("kind") == f"procedural {facts.data.kind}" and set(public) <= _KEYS


def history(facts: StartFacts) -> Iterator[str]:
    """How they were made, last step first; names of files are anybody's."""
    for each in _line(facts):
        if each.schedule is not None and each.public is not None:
            how = ", ".join(f"{name} {value}" for name, value in each.schedule.items())
            hashes = each.public.get("sha256")
            files = f", {len(hashes)} files, SHA-256 in {FACTS_FILE}" if isinstance(hashes, dict) else ""
            seed = f", seed {each.public['seed']}" if "seed" in each.public else ""
            yield _plain(
                f"trained by {each.task or each.objective.name} ({how}) on {each.public.get('kind')}, "
                f"{each.public.get('units')} units{seed}{files}"
            )
        if each.taken is None:
            yield f"begun from the model's seed {each.seed}"
        elif "start" in each.taken:
            yield f"begun from other prepared weights, SHA-256 {_quoted(each.taken['start'].get('weights'))}"
        elif "release" in each.taken:
            name, weights, first = (_quoted(each.taken.get(key)) for key in ("release", "weights", "release_start"))
            started = "" if each.taken.get("release_start") is None else f", which started from SHA-256 {first}"
            yield f"begun from release {name}, weights SHA-256 {weights}{started}"
        else:
            yield f"begun from file {_quoted(each.taken.get('file'))}, SHA-256 {_quoted(each.taken.get('sha256'))}"


def _plain(text: str) -> str:
    """On one line, without what Markdown or a terminal would take for more than letters."""
    return "".join(ch if ch not in "<>[]*`|&" else "?" for ch in text.encode("unicode_escape").decode())


def _quoted(value: object) -> str:
    return f"`{_plain(str(value))}`"
