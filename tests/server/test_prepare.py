"""`choral operator prepare` and what follows: every site receives the prepared weights, and refuses others."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from safetensors.numpy import save_file
from tests_commands import refused
from tests_commands import run as choral
from tests_material import small_plan, write_reports
from tests_plans import IMAGE, plan_of, written

from client.study import store_plan
from server.exchange import LocalExchange
from server.invitation import agree_on_keys
from server.launch import sign_plan, store_study
from server.rounds import run_study
from server.study import StudyRun
from ssl_core.card import load_encoder, make_card, save_encoder
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.errors import ProtocolError, StateError, TrustError
from ssl_core.objectives.build import build_model
from ssl_core.session import open_plan
from ssl_core.spec.looks import SimclrBank
from ssl_core.start_card import load_start, publish_start
from ssl_core.start_weights import StartFacts, start_hash, start_weights
from ssl_core.trust.envelope import canonical, peek, seal
from ssl_core.trust.identity import Identity, fingerprint

run = partial(choral, "operator")
CORPUS = ("--steps", 3, "--batch", 4)
QUICK = (*CORPUS, "--units", 8)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "images.toml"
    path.write_text(tomli_w.dumps(written(IMAGE)))
    return path


def prepared(plan: Path, out: Path, *words: object) -> dict[str, Any]:
    result = run("prepare", plan, "--out", out, "--json", *words)
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def test_a_task_that_couples_records_trains_the_encoder_alone_and_the_facts_say_so(plan: Path, tmp_path: Path) -> None:
    facts = prepared(plan, tmp_path / "start", *QUICK, "--task", "simclr")
    assert facts["task"] == "simclr" and prepared(plan, tmp_path / "own", *QUICK)["task"] is None
    made, seeded = start_weights(plan_of(IMAGE, start=facts["weights"]), tmp_path / "start"), build_model(plan_of(IMAGE))
    begin = 0
    for name, parameter in seeded.named_parameters():
        part = made[begin : begin + parameter.numel()]
        begin += parameter.numel()
        assert name.startswith("encoder.") != np.array_equal(part, parameter.detach().numpy().ravel()), name
    refused(
        run("prepare", plan, "--out", tmp_path / "none", "--steps", 0, "--from", tmp_path / "start", "--task", "vicreg"),
        "--task",
    )
    assert run("prepare", plan, "--out", tmp_path / "none", "--task", "moco").exit_code == 2


def test_it_writes_weights_and_what_they_were_made_from_without_any_state_folder(plan: Path, tmp_path: Path) -> None:
    facts = prepared(plan, tmp_path / "start", *QUICK, "--seed", 5)
    assert facts == StartFacts.model_validate_json((tmp_path / "start" / "start.json").read_bytes()).model_dump(mode="json")
    assert facts["public"] == {"kind": "procedural image", "seed": 5, "units": 8}
    assert facts["schedule"] == {"steps": 3, "batch": 4, "learning_rate": 1e-3, "warmup": 0.05, "seed": 5}
    assert len(facts["losses"]["task"]) == 3 and facts["taken"] is None and set(facts["software"]) >= {"torch", "numpy"}
    read = plan_of(IMAGE)
    assert start_hash(read, tmp_path / "start") == facts["weights"] != weights_hash(to_vector(build_model(read)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.toml", "start"]


def test_the_same_command_gives_the_same_weights_and_words_for_people(plan: Path, tmp_path: Path) -> None:
    first = prepared(plan, tmp_path / "one", *QUICK)["weights"]
    assert first == prepared(plan, tmp_path / "two", *QUICK)["weights"]
    assert first != prepared(plan, tmp_path / "three", *QUICK, "--seed", 1)["weights"]
    said = run("prepare", plan, "--out", tmp_path / "four", *QUICK).output
    assert first in said and "loss, task" in said and f"--start {tmp_path / 'four'}" in said.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--steps", 0), ("no step and no file", "field: --steps")),
        ((*QUICK, "--partial"), ("no file to take in part", "field: --partial")),
        ((*QUICK, "--learning-rate", 0), ("above 0", "field: learning_rate")),
        (("--steps", 2, "--units", 10**9), ("would not fit in memory", "field: --units")),
        ((*QUICK, "--from", "nowhere"), ("file of weights is missing",)),
        ((*CORPUS, "--public", "nowhere.toml"), ("source file is missing",)),
        (("--task", "simclr", "--batch", 1), ("compares the records", "field: --batch", "limit: 2 or more")),
        (("--task", "barlow-twins", "--batch", 2), ("compares the records", "field: --batch", "limit: 3 or more")),
        # Before anything is generated: so many units would not fit in memory.
        (("--task", "vicreg", "--batch", 1, "--units", 10**9), ("compares the records", "limit: 2 or more")),
        (("--task", "vicreg", "--units", 255), ("fewer units than a batch has", "limit: 255 units", "--batch 255")),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    plan: Path, tmp_path: Path, words: tuple[object, ...], expected: tuple[str, ...]
) -> None:
    refused(run("prepare", plan, "--out", tmp_path / "start", *words), *expected)
    assert [path.name for path in tmp_path.iterdir()] == ["images.toml"]
    refused(run("prepare", plan, "--out", tmp_path, *QUICK), "not overwritten", "field: --out")


def test_words_need_a_public_corpus(federation: Any, tmp_path: Path) -> None:
    plan = tmp_path / "text.toml"
    plan.write_text(tomli_w.dumps(small_plan(federation.names)))
    refused(run("prepare", plan, "--out", tmp_path / "start", *QUICK), "no procedural text", "--public")
    corpus = write_reports(tmp_path / "corpus", patients=9, seed=99)
    facts = prepared(plan, tmp_path / "start", *CORPUS, "--public", corpus)
    assert facts["public"]["units"] == 9 and list(facts["public"]["sha256"]) == ["reports.csv"]
    hospitals = federation.root / "site-a" / "data"
    write_reports(hospitals, patients=9)
    refused(run("prepare", plan, "--out", tmp_path / "no", *CORPUS, "--public", hospitals / "source.toml"), "hospital's state")


class Prepared:
    """A federation, the start weights of its plan, and its study, signed and stored."""

    def __init__(self, federation: Any) -> None:
        self.federation, self.folder = federation, federation.root / "start"
        self.path = federation.root / "plan.toml"
        self.path.write_text(tomli_w.dumps(small_plan(federation.names)))
        corpus = write_reports(federation.root / "corpus", patients=9, seed=99)
        # So far from the seed's weights that the noise of three rounds does not hide it.
        self.facts = prepared(self.path, self.folder, *CORPUS, "--public", corpus, "--learning-rate", 0.3)

    def launch(self) -> str:
        signed = sign_plan(self.federation.operator, self.path, self.folder)
        return store_study(self.federation.operator, signed, self.folder)

    def study(self, plan_hash: str) -> StudyRun:
        exchange = LocalExchange(self.federation.services())
        return StudyRun(self.federation.operator, plan_hash, exchange, lambda _line: None)


@pytest.fixture
def warm(federation: Any) -> Prepared:
    return Prepared(federation)


def test_every_site_receives_the_prepared_weights_and_the_study_trains_from_them(warm: Prepared) -> None:
    plan_hash = warm.launch()
    warm.federation.invite_and_approve(plan_hash)
    run = warm.study(plan_hash)
    assert run.plan.start == run.plan.initial_weights == warm.facts["weights"]
    agree_on_keys(run)
    for name in warm.federation.names:
        assert weights_hash(warm.federation.study(name, plan_hash).history.weights) == warm.facts["weights"]
    run_study(warm.federation.operator.root, plan_hash, LocalExchange(warm.federation.services()))
    result = choral("operator", "publish", plan_hash, "--home", warm.federation.operator.root, "--json")
    release = Path(json.loads(result.stdout)["release"])
    loaded = load_encoder(release, keys=[warm.federation.operator.operator.public])
    assert loaded.card.plan.start == warm.facts["weights"] and warm.facts["weights"] in (release / "card.md").read_text()
    starts = (start_weights(loaded.card.plan, warm.folder), to_vector(build_model(loaded.card.plan)))
    near, far = (float(np.linalg.norm(to_vector(loaded.model) - start)) for start in starts)
    assert 0 < near < far / 2


def test_a_site_refuses_other_weights_than_those_of_the_signed_plan(warm: Prepared) -> None:
    """The operator's machine hands out the seed's weights under a plan that names the prepared ones."""
    plan_hash = warm.launch()
    warm.federation.invite_and_approve(plan_hash)
    run = warm.study(plan_hash)
    kept = run.state.folder / "initial.f32"
    of_the_seed = to_vector(build_model(run.plan)).astype("<f4").tobytes()
    assert len(kept.read_bytes()) == len(of_the_seed) and kept.read_bytes() != of_the_seed
    kept.write_bytes(of_the_seed)
    with pytest.raises(ProtocolError, match="initial weights are not those of the signed plan"):
        agree_on_keys(run)
    for name in warm.federation.names:
        with pytest.raises(StateError, match="sends the initial weights"):
            _ = warm.federation.study(name, plan_hash).history.weights


def test_published_start_weights_are_checked_by_a_site_against_its_roster_before_it_approves(warm: Prepared) -> None:
    home, site = warm.federation.operator.root, warm.federation.root / "site-a"
    done = run("publish", warm.folder, "--home", home)
    assert done.exit_code == 1 and "the public corpus is public" in done.output and not list((home / "releases").iterdir())
    done = run("publish", warm.folder, "--home", home, "--yes", "--json")
    folder = Path(json.loads(done.stdout)["release"])
    assert folder == home / "releases" / f"start-{warm.facts['weights'][:8]}"
    assert load_start(folder, roster=home / "roster.json").card.weights == warm.facts["weights"]
    refused(run("publish", warm.folder, "--home", home, "--yes"), "not overwritten")
    plan_hash = store_study(warm.federation.operator, sign_plan(warm.federation.operator, warm.path, folder), folder)
    store_plan(warm.federation.site("site-a"), (warm.federation.operator.study(plan_hash) / "plan.json").read_bytes())
    words = ("site", "approve", plan_hash, "--home", site, "--start")
    said = choral(*words, folder)
    operator = fingerprint(warm.federation.operator.operator.public)
    assert f"signed by operator {operator}: epsilon 0 added" in said.output, said.output
    assert "the public corpus is public" in said.output and said.exit_code == 1
    foreign = warm.federation.root / "foreign"
    publish_start(warm.folder, foreign, warm.federation.site("site-b").identity)
    refused(choral(*words, foreign), "start-card is not signed by the keys", operator)
    other = warm.federation.root / "other"
    prepared(warm.path, other, *CORPUS, "--public", warm.federation.root / "corpus/source.toml", "--seed", 1)
    publish_start(other, warm.federation.root / "others", warm.federation.operator.operator)
    refused(choral(*words, warm.federation.root / "others"), "not the weights that the plan starts from", warm.facts["weights"])
    refused(choral(*words, warm.folder), "no signed start weights")
    cold = warm.federation.launch()
    store_plan(warm.federation.site("site-a"), (warm.federation.operator.study(cold) / "plan.json").read_bytes())
    refused(choral("site", "approve", cold, "--home", site, "--start", folder), "starts from its seed")
    assert warm.federation.site("site-a").chain.entries("reserve") == []


def test_what_prepared_weights_began_from_is_not_lost_on_the_way(plan: Path, tmp_path: Path) -> None:
    first = prepared(plan, tmp_path / "first", *QUICK)
    publish_start(tmp_path / "first", tmp_path / "published", Identity.generate())
    for name, begin in (("a", "first"), ("b", "first/start.safetensors"), ("c", "published")):
        taken = prepared(plan, tmp_path / name, "--steps", 0, "--from", tmp_path / begin)["taken"]
        assert taken["start"] == first
        assert taken["sha256"] == hashlib.sha256((tmp_path / "first/start.safetensors").read_bytes()).hexdigest()
    facts = tmp_path / "first/start.json"
    facts.write_text(facts.read_text().replace(first["weights"], "ab" * 32))
    refused(
        run("prepare", plan, "--out", tmp_path / "no", "--steps", 0, "--from", tmp_path / "first"), "not those that the facts"
    )


def test_a_file_that_lies_in_a_releases_folder_is_not_that_release(plan: Path, tmp_path: Path) -> None:
    read = plan_of(IMAGE, seed=4)
    weights = to_vector(build_model(read))
    release = tmp_path / "release"
    save_encoder(release, weights, make_card(read, "0" * 64, weights, kind="federated", closed=1, void=0))
    other = tmp_path / "other"
    prepared(plan, other, *QUICK)
    stranger = release / "stranger.safetensors"
    stranger.write_bytes((other / "start.safetensors").read_bytes())
    facts = prepared(plan, tmp_path / "start", "--steps", 0, "--from", stranger)
    assert "release" not in facts["taken"] and facts["taken"]["file"] == "stranger.safetensors"
    stranger.replace(release / "encoder.safetensors")
    refused(run("prepare", plan, "--out", tmp_path / "no", "--steps", 0, "--from", release), "not those that the card names")


def test_the_screen_before_the_approval_says_where_the_weights_come_from(warm: Prepared) -> None:
    for plan_hash, words in ((warm.launch(), warm.facts["weights"]), (warm.federation.launch(), "from the plan's seed, 1")):
        store_plan(warm.federation.site("site-a"), (warm.federation.operator.study(plan_hash) / "plan.json").read_bytes())
        said = choral("site", "approve", plan_hash, "--home", warm.federation.root / "site-a")
        assert words in said.output, said.output


def resigned(federation: Any, **changes: Any) -> bytes:
    """A plan that an operator's key signed, though not by `launch`."""
    body = peek((federation.operator.study(federation.launch()) / "plan.json").read_bytes(), "plan")
    return seal("plan", body | changes, federation.operator.operator)


def test_other_start_weights_than_the_seeds_must_be_named(federation: Any) -> None:
    study = store_plan(federation.site("site-a"), resigned(federation, initial_weights="ab" * 32))
    refused(
        choral("site", "approve", study.plan_hash, "--home", federation.root / "site-a", "--yes"),
        "PolicyError", "other weights than its seed gives", "field: initial_weights",
    )  # fmt: skip
    assert not study.approved() and federation.site("site-a").chain.entries("reserve") == []


def test_a_plan_that_names_two_starts_counts_nowhere(federation: Any) -> None:
    with pytest.raises(TrustError, match="two start weights"):
        open_plan(resigned(federation, start="ab" * 32), federation.operator.operator.public)


def test_a_signed_plan_leaves_no_bank_to_the_build_of_who_reads_it(federation: Any) -> None:
    data = {"kind": "image", "height": 16, "width": 16}
    bank = {"name": "simclr-bank"}
    plain = {"name": "masked-autoencoding", "mask_fraction": 0.5, "decoder_width": 32, "decoder_depth": 1}
    for objective in (bank, {"name": "joint", "tasks": [plain, bank], "weights": [1.0, 1.0]}):
        parts: dict[str, Any] = {"data": data, "encoder": {"name": "vit", "size": "nano", "patch": 4}, "objective": objective}
        with pytest.raises(TrustError, match=r"does not name the version of its bank.*objective\.bank_version"):
            open_plan(resigned(federation, **parts), federation.operator.operator.public)
        bank["bank_version"] = SimclrBank(name="simclr-bank").bank_version
        assert (
            open_plan(resigned(federation, **parts), federation.operator.operator.public)[0].objective.name == objective["name"]
        )
        del bank["bank_version"]


def test_the_plan_and_the_weights_given_must_agree(warm: Prepared, tmp_path: Path) -> None:
    home = warm.federation.operator.root
    before = sorted((home / "studies").glob("*"))
    plan = small_plan(warm.federation.names)
    named = tmp_path / "named.toml"
    named.write_text(tomli_w.dumps({"start": "ab" * 32} | plan))
    refused(run("launch", named, "--start", warm.folder, "--yes", "--home", home), "not those of the plan", "ab" * 32)
    refused(run("launch", named, "--yes", "--home", home), "starts from prepared weights", "--start FOLDER")
    assert sorted((home / "studies").glob("*")) == before
    # Signed on one machine, launched on another: there too the weights are needed.
    out = tmp_path / "signed.json"
    assert run("launch", warm.path, "--start", warm.folder, "--sign-only", out, "--home", home).exit_code == 0
    refused(run("launch", out, "--yes", "--home", home), "starts from prepared weights")


def test_a_site_that_pretrains_alone_takes_the_weights_of_its_plan(warm: Prepared) -> None:
    plan = small_plan(["site-a"], alone=True, start=warm.facts["weights"])
    plan["rounds"] |= {"rounds": 1, "max_void": 0}
    path, home = warm.federation.root / "alone.toml", warm.federation.root / "site-a"
    path.write_text(tomli_w.dumps(plan))
    refused(choral("site", "pretrain", path, "--home", home, "--yes"), "starts from prepared weights")
    assert warm.federation.site("site-a").chain.entries("reserve") == []
    done = choral("site", "pretrain", path, "--home", home, "--yes", "--json", "--start", warm.folder)
    assert done.exit_code == 0, done.output
    encoder = Path(json.loads(done.stdout)["encoder"])
    # What a hospital made for itself is no start of others.
    refused(
        run("prepare", warm.path, "--out", warm.federation.root / "next", "--steps", 0, "--from", encoder),
        "one hospital's own study", "field: --from",
    )  # fmt: skip


def test_an_earlier_release_is_a_start_and_is_named(plan: Path, tmp_path: Path) -> None:
    read = plan_of(IMAGE, seed=4)
    weights = to_vector(build_model(read))
    release = tmp_path / "release"
    save_encoder(release, weights, make_card(read, "0" * 64, weights, kind="federated", closed=1, void=0))
    facts = prepared(plan, tmp_path / "start", "--steps", 0, "--from", release)
    assert facts["weights"] == weights_hash(weights) and facts["public"] is None and facts["schedule"] is None
    assert facts["taken"]["release"] == "study" and facts["taken"]["weights"] == weights_hash(weights)
    assert facts["taken"]["release_start"] is None
    assert facts["taken"]["parameters"] == facts["taken"]["of_parameters"] == weights.size
    again = prepared(plan, tmp_path / "further", *QUICK, "--from", release / "encoder.safetensors")
    assert again["weights"] not in (facts["weights"], prepared(plan, tmp_path / "cold", *QUICK)["weights"])


def test_what_a_release_started_from_is_not_lost_and_what_is_no_study_is_no_release(plan: Path, tmp_path: Path) -> None:
    read = plan_of(IMAGE, seed=4).model_copy(update={"start": "ab" * 32})
    weights = to_vector(build_model(read))
    of_what = {}
    for kind in ("federated", "initial"):
        save_encoder(tmp_path / kind, weights, make_card(read, "0" * 64, weights, kind=kind, closed=1, void=0))
        prepared(plan, tmp_path / f"{kind}-start", "--steps", 0, "--from", tmp_path / kind)
        of_what[kind] = publish_start(tmp_path / f"{kind}-start", tmp_path / f"{kind}-published", Identity.generate())
    assert of_what["federated"].facts.taken["release_start"] == "ab" * 32
    assert any("this release started from" in line for line in of_what["federated"].card.rests_on)
    assert of_what["initial"].card.rests_on[1:] == (
        "the file begun from was made without records of patients, or released with the budget that it cost them",
    )


def test_a_release_of_another_shape_is_refused_and_taken_in_part(plan: Path, tmp_path: Path) -> None:
    wider = plan_of(IMAGE | {"encoder": {"name": "mlp-image", "hidden": 16, "code": 12}})
    weights = to_vector(build_model(wider))
    release = tmp_path / "release"
    save_encoder(release, weights, make_card(wider, "0" * 64, weights, kind="federated", closed=1, void=0))
    words = ("prepare", plan, "--out", tmp_path / "start", "--steps", 0, "--from", release)
    refused(run(*words), "another shape than the plan's model", "encoder.second.weight [12, 16] for [8, 16]", "--partial")
    said = run(*words, "--partial")
    assert said.exit_code == 0 and "another shape: decoder.weight" in said.output and "5 of 8 tensors taken" in said.output


def test_a_model_that_was_fitted_without_noise_is_refused(plan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "encoder.safetensors").write_bytes(b"")
    (folder / "card.json").write_bytes(canonical({"kind": "fine-tuned", "private": False}))
    (tmp_path / "link").symlink_to(folder / "encoder.safetensors")
    for path in (folder, folder / "encoder.safetensors", tmp_path / "link"):
        refused(run("prepare", plan, "--out", tmp_path / "start", "--steps", 0, "--from", path), "without noise")


def test_a_fine_tuned_model_is_known_by_its_head_wherever_its_file_lies(plan: Path, tmp_path: Path) -> None:
    model = build_model(plan_of(IMAGE))
    tensors = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    head = {name: np.zeros(2, np.float32) for name in ("head.weight", "head.bias", "head.centre", "head.scale")}
    save_file(tensors | head, tmp_path / "copied.safetensors")
    words = ("prepare", plan, "--out", tmp_path / "start", "--steps", 0, "--partial", "--from", tmp_path / "copied.safetensors")
    refused(run(*words), "head of a fine-tuned model")
    save_file(tensors, tmp_path / "copied.safetensors")
    assert run(*words).exit_code == 0
