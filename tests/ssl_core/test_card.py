from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from tests_tasks import plan as task_plan

from ssl_core.card import Card, load_encoder, make_card, read_card, save_encoder
from ssl_core.config import StudyPlan, parse
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.errors import ConfigError, TrustError
from ssl_core.objectives.build import build_model
from ssl_core.privacy.accountant import Schedule, epsilon, epsilon_replace_one
from ssl_core.privacy.statement import rounded_up
from ssl_core.trust.identity import Identity, fingerprint

HASH = "ab" * 32


@pytest.fixture(scope="module")
def plan() -> StudyPlan:
    data = tomllib.loads((files("deploy") / "studies" / "reports.toml").read_text())
    data["data"] |= {"words": 8, "codes": 1, "buckets": 32}
    data["encoder"]["width"] = 8
    data["rounds"] |= {"min_sites": 3}
    data["sites"] = [{"name": f"site-{letter}", "nominal_size": 40} for letter in "abc"]
    return parse(StudyPlan, data, "plan")


@pytest.fixture(scope="module")
def weights(plan: StudyPlan) -> Any:
    start = to_vector(build_model(plan))
    return np.random.default_rng(0).normal(size=start.size).astype(np.float32)


@pytest.fixture(scope="module")
def card(plan: StudyPlan, weights: Any) -> Card:
    return make_card(plan, HASH, weights, kind="federated", closed=10, void=0)


@pytest.fixture
def release(tmp_path: Path, weights: Any, card: Card) -> tuple[Path, Identity]:
    signer = Identity.generate()
    save_encoder(tmp_path / "release", weights, card, signer)
    return tmp_path / "release", signer


def test_the_text_states_unit_adjacency_delta_and_that_nothing_is_authenticated(card: Card, plan: StudyPlan) -> None:
    text = card.to_markdown()
    schedule = Schedule(plan.privacy.noise_multiplier, plan.privacy.sampling_rate, plan.total_steps)
    cost, replaced = epsilon([schedule], plan.privacy.delta), epsilon_replace_one([schedule], plan.privacy.delta)
    for words in (
        "unit: patient", "epsilon (add or remove one patient)", "epsilon (replace one)", "delta 1e-05", "sigma 0.696",
        "accountant: dp-accounting PLD", HASH, card.weights, "kind: federated",
        f"| site-b | {rounded_up(cost)} | {rounded_up(replaced)} | {plan.total_steps} |",
    ):  # fmt: skip
        assert words in text, words
    assert "not authenticated" in text and "for this study alone" in text
    assert replaced > cost > 0


def test_epsilon_is_of_what_the_plan_reserves_however_many_rounds_were_void(plan: StudyPlan, weights: Any, card: Card) -> None:
    """Of the number that came about it would be false: it is chosen by a server that may have seen the updates before.

    Here he voids rounds of one step (q = 1, sigma 10) until the privacy loss is beyond what a card of so many steps would say.
    """
    delta, most, walks = 9e-4, 20, 200_000
    rng, loss = np.random.default_rng(0), np.zeros(walks)
    going, needed = np.ones(walks, bool), 0.0
    for steps in range(1, most + 1):
        loss += rng.normal(0.005, 0.1, walks)
        said = epsilon([Schedule(10.0, 1.0, steps)], delta)
        stopped = going & (loss > said)
        needed += float(-np.expm1(said - loss[stopped]).sum()) / walks
        going &= ~stopped
    assert needed > 2 * delta
    for void in range(plan.rounds.max_void + 1):
        assert make_card(plan, HASH, weights, kind="federated", closed=10, void=void).site_privacy == card.site_privacy
    assert card.site_privacy[0].steps == plan.total_steps


def test_the_card_of_a_study_with_buckets_says_what_c_bounds_and_no_other_does(card: Card) -> None:
    made = task_plan(("image", "resnet", "simclr-buckets"), 1)
    text = make_card(made, HASH, to_vector(build_model(made)), kind="federated", closed=1, void=0).to_markdown()
    assert "- C is of a bucket of about 16 patients; one can change it by 2 C: noise sigma x 2 C\n" in text
    assert "bucket" not in card.to_markdown()


def test_a_saved_encoder_is_loaded_with_the_same_bytes(release: tuple[Path, Identity], weights: Any, card: Card) -> None:
    folder, signer = release
    loaded = load_encoder(folder, keys=[signer.public])
    assert loaded.card == card and to_vector(loaded.model).tobytes() == weights.tobytes()
    assert (folder / "card.md").read_text() == card.to_markdown()
    assert {path.name for path in folder.parent.iterdir()} == {"release"}
    assert {path.name for path in folder.iterdir()} == {"encoder.safetensors", "card.json", "card.md"}


def test_a_signed_card_is_taken_from_its_signer_alone(
    release: tuple[Path, Identity], tmp_path: Path, weights: Any, card: Card
) -> None:
    folder, _ = release
    with pytest.raises(TrustError, match="card is not signed"):
        load_encoder(folder, keys=[Identity.generate().public])
    save_encoder(tmp_path / "plain", weights, card)
    assert read_card(tmp_path / "plain") == card
    with pytest.raises(TrustError, match="card is not signed") as caught:
        read_card(tmp_path / "plain", keys=[Identity.generate().public])
    assert caught.value.field == "card.json" and caught.value.limit and caught.value.remedy


def test_a_changed_card_is_refused(release: tuple[Path, Identity]) -> None:
    folder, signer = release
    path = folder / "card.json"
    good = json.loads(path.read_text())
    other = Identity.generate()
    foreign = folder.parent / "foreign"
    body = read_card(folder).model_copy(update={"rounds_void": 1})
    save_encoder(foreign, to_vector(load_encoder(folder).model), body, other)
    path.write_text(json.dumps(good | {"payload": json.loads((foreign / "card.json").read_text())["payload"]}))
    with pytest.raises(TrustError, match="card is not signed"):
        read_card(folder, keys=[signer.public])
    for text, error, words in (
        ("", TrustError, "not JSON"),
        ("[1]", TrustError, "not a JSON object"),
        ("{}", ConfigError, "card is not valid"),
        (body.model_dump_json().replace('"format":1', '"formats":1', 1), ConfigError, "formats"),
    ):
        path.write_text(text)
        with pytest.raises(error, match=words):
            read_card(folder)
    path.unlink()
    with pytest.raises(ConfigError, match="holds no encoder"):
        load_encoder(folder)


def test_changed_weights_are_refused(release: tuple[Path, Identity]) -> None:
    folder, _ = release
    path = folder / "encoder.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(TrustError, match="not those that the card names") as caught:
        load_encoder(folder)
    assert caught.value.field == "weights"
    tensors = load(good)
    first = next(name for name, tensor in sorted(tensors.items()) if tensor.ndim == 2)
    for broken in (
        save({k: v for k, v in tensors.items() if k != first}),
        save(tensors | {first: tensors[first].reshape(-1)}),
        save(tensors | {first: tensors[first].view(np.int32)}),
    ):
        path.write_bytes(broken)
        with pytest.raises(TrustError, match="tensors are not those") as caught:
            load_encoder(folder)
        assert caught.value.field == f"encoder.safetensors: {first}"
        assert caught.value.value and caught.value.limit and caught.value.remedy
    path.write_bytes(good[:20])
    with pytest.raises(TrustError, match="cannot be read"):
        load_encoder(folder)
    path.unlink()
    with pytest.raises(TrustError, match="cannot be read"):
        load_encoder(folder)


def test_one_changed_bit_is_refused_or_changes_nothing_that_is_read(
    release: tuple[Path, Identity], weights: Any, card: Card
) -> None:
    folder, signer = release
    draw = np.random.default_rng(1)
    refused = 0
    for name in ("encoder.safetensors", "card.json"):
        path = folder / name
        good = path.read_bytes()
        # The whole header of the tensors, where a changed bit may be a legal file, and places all over both.
        places = [*range(0, 448, 7), *draw.integers(0, len(good), 200).tolist()]
        for place in places:
            bad = bytearray(good)
            bad[place % len(good)] ^= 1 << int(draw.integers(8))
            path.write_bytes(bad)
            try:
                loaded = load_encoder(folder, keys=[signer.public])
            except TrustError:
                refused += 1
            else:
                assert loaded.card == card and to_vector(loaded.model).tobytes() == weights.tobytes(), (name, place)
        path.write_bytes(good)
    assert refused > 400


def test_a_right_card_for_other_weights_is_refused(release: tuple[Path, Identity], weights: Any) -> None:
    folder, signer = release
    other = (weights + np.float32(1)).astype(np.float32)
    body = read_card(folder).model_copy(update={"weights": weights_hash(other)})
    save_encoder(folder.parent / "other", other, body, signer)
    (folder / "encoder.safetensors").write_bytes((folder.parent / "other" / "encoder.safetensors").read_bytes())
    with pytest.raises(TrustError, match="not those that the card names") as caught:
        load_encoder(folder, keys=[signer.public])
    error = caught.value
    assert (error.field, error.value, error.limit) == ("weights", weights_hash(other), weights_hash(weights)) and error.remedy


def test_a_rosters_operator_counts_and_without_a_roster_the_log_says_so(
    make_federation: Callable[..., Any], weights: Any, card: Card, caplog: pytest.LogCaptureFixture
) -> None:
    federation = make_federation(3, patients=1)
    root, operator = federation.root, federation.operator
    roster = operator.root / "roster.json"
    for name, signer in (
        ("good", operator.operator),
        ("online", operator.server),
        ("site", federation.site("site-a").identity),
    ):
        save_encoder(root / name, weights, card, signer)
    assert load_encoder(root / "good", roster=roster).card == card
    assert caplog.messages == []
    for name in ("online", "site"):
        with pytest.raises(TrustError, match="card is not signed by the keys") as caught:
            load_encoder(root / name, roster=roster)
        assert fingerprint(operator.operator.public) in str(caught.value.limit)
    with pytest.raises(ConfigError, match="roster file is missing"):
        load_encoder(root / "good", roster=root / "none.json")
    forged = json.loads(roster.read_text())
    roster.write_text(json.dumps(forged | {"signatures": []}))
    with pytest.raises(TrustError, match="roster is not signed"):
        load_encoder(root / "good", roster=roster)
    assert caplog.messages == []
    load_encoder(root / "site")
    assert caplog.messages == ["encoder site: signature not checked: no roster given (roster=FILE)"]


def test_a_release_is_never_overwritten_and_holds_the_cards_weights(
    release: tuple[Path, Identity], tmp_path: Path, weights: Any, card: Card
) -> None:
    folder, signer = release
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConfigError, match="not overwritten"):
        save_encoder(folder, weights, card, signer)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(TrustError, match="not those of the card"):
        save_encoder(tmp_path / "other", weights + np.float32(1), card)
    assert not (tmp_path / "other").exists()


def test_a_kill_before_the_rename_leaves_no_release(
    tmp_path: Path, weights: Any, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    real, folder = os.replace, tmp_path / "release"

    def replace(source: Any, target: Any) -> None:
        if Path(target) == folder:
            raise Killed
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            save_encoder(folder, weights, card)
    assert not folder.exists()
    save_encoder(folder, weights, card)
    assert load_encoder(folder).card == card and {path.name for path in tmp_path.iterdir()} == {"release"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
