"""Signed start weights: what the card says rests on whose word, and every way to change a folder is refused by its own line."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from safetensors.numpy import load_file, save_file
from tests_plans import IMAGE, plan_of

from ssl_core.card import make_card, read_card, save_encoder
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.errors import ConfigError, TrustError
from ssl_core.objectives.build import build_model
from ssl_core.start_card import StartCard, load_start, publish_start, read_facts, read_start, rests_on
from ssl_core.start_weights import StartFacts, start_weights, write_start
from ssl_core.trust.envelope import canonical, seal
from ssl_core.trust.identity import Identity, fingerprint

PLAN = plan_of(IMAGE)
GENERATED = {"kind": "procedural image", "seed": 3, "units": 8}
CORPUS = {"kind": "public corpus of image", "units": 9, "sha256": {"a.npz": "ab" * 32}}
SCHEDULE = {"steps": 3, "batch": 4}
HOLDS = "the weights were made as the facts say, and of nothing else"


def facts_of(seed: int = 9, **changes: Any) -> StartFacts:
    weights = weights_hash(to_vector(build_model(plan_of(IMAGE, seed=seed))))
    given: dict[str, Any] = {
        "weights": weights, "data": PLAN.data, "encoder": PLAN.encoder, "objective": PLAN.objective, "seed": 0,
        "public": GENERATED, "taken": None, "schedule": SCHEDULE, "losses": {}, "software": {},
    }  # fmt: skip
    return StartFacts(**given | changes)


def prepared(folder: Path, seed: int = 9, **changes: Any) -> Path:
    write_start(folder, build_model(plan_of(IMAGE, seed=seed)), facts_of(seed, **changes))
    return folder


@pytest.fixture
def signer() -> Identity:
    return Identity.generate()


@pytest.fixture
def published(tmp_path: Path, signer: Identity) -> Path:
    publish_start(prepared(tmp_path / "start"), tmp_path / "published", signer)
    return tmp_path / "published"


def test_the_folder_is_whole_carries_the_same_files_and_a_card_that_others_can_verify(
    published: Path, tmp_path: Path, signer: Identity
) -> None:
    assert sorted(path.name for path in published.iterdir()) == ["card.json", "card.md", "start.json", "start.safetensors"]
    for name in ("start.json", "start.safetensors"):
        assert (published / name).read_bytes() == (tmp_path / "start" / name).read_bytes()
    loaded = load_start(published, keys=[signer.public])
    assert loaded.facts == facts_of() and (published / "card.md").read_text() == loaded.to_markdown(signer.public)
    # By the standards alone: DSSE's pre-authentication encoding, SHA-256 and Ed25519, with nothing of this project.
    envelope = json.loads((published / "card.json").read_bytes())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    Ed25519PublicKey.from_public_bytes(signer.public).verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)
    body = json.loads(payload)
    assert body["facts"] == hashlib.sha256((published / "start.json").read_bytes()).hexdigest()
    assert body["epsilon_added"] == 0 and body["rests_on"] == [HOLDS]
    tensors = load_file(published / "start.safetensors")
    order = [name for name, _ in build_model(PLAN).named_parameters()]
    assert body["weights"] == hashlib.sha256(b"".join(tensors[name].astype("<f4").tobytes() for name in order)).hexdigest()


def test_it_is_a_start_of_the_plan_that_names_its_hash(published: Path) -> None:
    plan = PLAN.model_copy(update={"start": facts_of().weights})
    assert weights_hash(start_weights(plan, published)) == plan.start


FIRST = {"file": "release", "sha256": "cd" * 32, "release": "other", "plan": "0" * 64, "weights": "ef" * 32}
RELEASE = FIRST | {"release_start": None}
FOREIGN = {"file": "vit\n.safetensors", "sha256": "cd" * 32}
IS_PUBLIC = "the public corpus is public"
OF_NOBODY = "the file begun from was made without records of patients, or released with the budget that it cost them"
IS_RELEASE = "the release begun from is one, with the epsilon that its card says"
IT_STARTED = "the weights that this release started from were made without records of patients, or released with their budget"


def begun_from(**changes: Any) -> dict[str, Any]:
    return {"file": "start", "sha256": "cd" * 32, "start": facts_of(**changes).model_dump(mode="json")}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ()),
        ({"public": CORPUS}, (IS_PUBLIC,)),
        ({"public": {"kind": "unheard of", "units": 1}}, (IS_PUBLIC,)),
        ({"taken": RELEASE}, (IS_RELEASE,)),
        ({"taken": FIRST | {"release_start": "ab" * 32}}, (IS_RELEASE, IT_STARTED)),
        ({"taken": FIRST}, (IS_RELEASE, IT_STARTED)),
        ({"public": {"kind": "procedural but real", "units": 1}}, (IS_PUBLIC,)),
        ({"public": CORPUS | {"kind": "procedural image"}}, (IS_PUBLIC,)),
        ({"taken": FOREIGN, "public": None, "schedule": None}, (OF_NOBODY,)),
        ({"taken": FOREIGN, "public": CORPUS}, (IS_PUBLIC, OF_NOBODY)),
        ({"taken": begun_from()}, ()),
        ({"taken": begun_from(public=CORPUS)}, (IS_PUBLIC,)),
        ({"taken": begun_from(taken=begun_from(taken=FOREIGN)), "public": CORPUS}, (IS_PUBLIC, OF_NOBODY)),
    ],
)
def test_epsilon_0_stands_beside_all_that_it_rests_on(
    tmp_path: Path, signer: Identity, changes: dict[str, Any], lines: tuple[str, ...]
) -> None:
    made = publish_start(prepared(tmp_path / "start", **changes), tmp_path / "out", signer)
    assert rests_on(made.facts) == made.card.rests_on == (HOLDS, *lines)
    text = (tmp_path / "out" / "card.md").read_text()
    assert all(f"\n- {line}\n" in text for line in (HOLDS, *lines)) and fingerprint(signer.public) in text
    assert ("If so, no record of a person went into them." in text) == (not lines)
    assert ("people in the corpus have no guarantee" in text) == (IS_PUBLIC in lines)
    assert ("stays spent" in text) == (IS_RELEASE in lines)
    assert ("vit\\n.safetensors" in text) == (OF_NOBODY in lines)


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def other_weights(folder: Path, signer: Identity) -> None:
    flipped(folder / "start.safetensors", -1)


def other_precision(folder: Path, signer: Identity) -> None:
    path = folder / "start.safetensors"
    save_file({name: tensor.astype("float64") for name, tensor in load_file(path).items()}, path)


def other_facts(folder: Path, signer: Identity) -> None:
    path = folder / "start.json"
    path.write_text(path.read_text().replace('"seed":3', '"seed":4'))


def no_facts(folder: Path, signer: Identity) -> None:
    (folder / "start.json").unlink()


def other_signature(folder: Path, signer: Identity) -> None:
    path = folder / "card.json"
    envelope = json.loads(path.read_bytes())
    raw = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    raw[5] ^= 1
    envelope["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    path.write_text(json.dumps(envelope))


def other_signer(folder: Path, signer: Identity) -> None:
    body = json.loads(base64.b64decode(json.loads((folder / "card.json").read_bytes())["payload"]))
    (folder / "card.json").write_bytes(seal("start-card", body, Identity.generate()))


def unsigned(folder: Path, signer: Identity) -> None:
    body = base64.b64decode(json.loads((folder / "card.json").read_bytes())["payload"])
    (folder / "card.json").write_bytes(body)


def of_a_release(folder: Path, signer: Identity) -> None:
    body = json.loads(base64.b64decode(json.loads((folder / "card.json").read_bytes())["payload"]))
    (folder / "card.json").write_bytes(seal("card", body, signer))


def says_less(folder: Path, signer: Identity) -> None:
    """The operator itself leaves out that it trained on a corpus."""
    facts = canonical(facts_of(public=CORPUS).model_dump(mode="json")) + b"\n"
    (folder / "start.json").write_bytes(facts)
    card = StartCard(weights=facts_of().weights, facts=hashlib.sha256(facts).hexdigest(), rests_on=(HOLDS,))
    (folder / "card.json").write_bytes(seal("start-card", card.model_dump(mode="json"), signer))


def names_others(folder: Path, signer: Identity) -> None:
    facts = hashlib.sha256((folder / "start.json").read_bytes()).hexdigest()
    card = StartCard(weights="ab" * 32, facts=facts, rests_on=(HOLDS,))
    (folder / "card.json").write_bytes(seal("start-card", card.model_dump(mode="json"), signer))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_weights, "weights are not those that the facts name; field: weights"),
        (other_precision, "tensors are not those of the card's encoder"),
        (other_facts, "facts are not those that the card names; field: start.json"),
        (no_facts, "facts are not those that the card names.*no such file"),
        (other_signature, "not signed by the keys.*0 of them count, 1 in the name of such a key, not made by it"),
        (other_signer, "not signed by the keys.*1 present, 0 of them count; limit"),
        (unsigned, "card is not signed"),
        (of_a_release, "signed document is of another kind"),
        (says_less, "does not say what its epsilon rests on"),
        (names_others, "facts are of other weights than the card"),
    ],
)
def test_what_was_changed_is_refused_by_its_own_line(published: Path, signer: Identity, change: Any, words: str) -> None:
    change(published, signer)
    with pytest.raises(TrustError, match=words):
        load_start(published, keys=[signer.public])


def test_weights_and_facts_are_held_against_the_card_without_any_key(
    published: Path, signer: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_start(published).facts == facts_of()
    assert caplog.messages == ["start weights published: signature not checked: no roster given (roster=FILE)"]
    other_facts(published, signer)
    with pytest.raises(TrustError, match="facts are not those"):
        load_start(published)


def test_neither_kind_of_card_passes_for_the_other(published: Path, tmp_path: Path, signer: Identity) -> None:
    weights = to_vector(build_model(PLAN))
    save_encoder(tmp_path / "release", weights, make_card(PLAN, "0" * 64, weights, kind="federated", closed=1, void=0), signer)
    for keys in (None, [signer.public]):
        with pytest.raises(TrustError, match=r"card is of something else|of another kind"):
            read_card(published, keys=keys)
        with pytest.raises(TrustError, match=r"card is of something else|of another kind"):
            read_start(tmp_path / "release", keys=keys)


def test_weights_that_are_not_of_their_facts_are_never_signed(tmp_path: Path, signer: Identity) -> None:
    folder = prepared(tmp_path / "start")
    flipped(folder / "start.safetensors", -1)
    with pytest.raises(TrustError, match="weights are not those that the facts name"):
        publish_start(folder, tmp_path / "out", signer)
    (folder / "start.json").write_text("{")
    with pytest.raises(ConfigError, match="facts are not JSON"):
        publish_start(folder, tmp_path / "out", signer)
    for name in ("start.json", "start.safetensors"):
        (folder / name).unlink()
        with pytest.raises(ConfigError, match="holds no prepared weights"):
            publish_start(folder, tmp_path / "out", signer)
    assert [path.name for path in tmp_path.iterdir()] == ["start"]
    with pytest.raises(ConfigError, match="holds no signed start weights"):
        read_start(prepared(tmp_path / "unsigned"), keys=[signer.public])


def test_what_a_person_did_not_see_is_not_signed(tmp_path: Path, signer: Identity) -> None:
    shown = read_facts(prepared(tmp_path / "start"))
    swapped = prepared(tmp_path / "swapped", taken=FOREIGN)
    with pytest.raises(TrustError, match="changed while they were looked at"):
        publish_start(swapped, tmp_path / "out", signer, shown=shown)
    assert not (tmp_path / "out").exists()
    publish_start(tmp_path / "start", tmp_path / "out", signer, shown=shown)


def test_names_of_files_are_neither_markup_nor_commands_on_the_page(tmp_path: Path, signer: Identity) -> None:
    name = "<img src=x> [a](b) `c` **d** \x1b[31m\n- no record of a person"
    folder = prepared(tmp_path / "start", taken=FOREIGN | {"file": name}, public=CORPUS | {"kind": name})
    page = publish_start(folder, tmp_path / "out", signer).to_markdown(signer.public)
    (line,) = [each for each in page.splitlines() if "begun from file" in each]
    assert not set("<[*\x1b") & set(page.split("begun from file")[1].splitlines()[0])
    assert line.count("`") == 4 and "\n- no record" not in page


def test_facts_of_odd_types_are_refused_or_shown_without_a_traceback(tmp_path: Path, signer: Identity) -> None:
    folder = prepared(tmp_path / "odd", public=CORPUS | {"sha256": 5}, schedule={"steps": 10**400})
    assert IS_PUBLIC in publish_start(folder, tmp_path / "out", signer).card.rests_on
    nothing = prepared(tmp_path / "none", taken={"file": "finetuned", "start": None})
    with pytest.raises(ConfigError, match="begun from are not a JSON object"):
        publish_start(nothing, tmp_path / "never", signer)


def test_a_kill_before_the_rename_leaves_nothing_and_nothing_is_overwritten(
    tmp_path: Path, signer: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(tmp_path / "start")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        publish_start(folder, tmp_path / "out", signer)
    assert [path.name for path in tmp_path.iterdir()] == ["start"]
    publish_start(folder, tmp_path / "out", signer)
    with pytest.raises(ConfigError, match="not overwritten"):
        publish_start(folder, tmp_path / "out", signer)


def test_facts_that_contradict_themselves_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="public and schedule, or neither"):
        facts_of(public=None)
    with pytest.raises(ValueError, match="masked"):
        facts_of(encoder={"name": "resnet", "size": "nano"})
