"""On whose word `choral finetune` and `choral embed` take an encoder; whatever they refuse, nothing is written."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_commands import edit, refused, run
from typer.testing import Result

from client.origin import NOT_CHECKED
from client.study import store_plan
from server.exchange import LocalExchange
from server.registry import publish
from server.round_state import Closed, RoundState
from server.rounds import run_study
from ssl_core.card import read_card, save_encoder
from ssl_core.encoders.vector import weights_hash
from ssl_core.model_update import GlobalModel, ServerState
from ssl_core.session import open_plan
from ssl_core.trust.envelope import canonical
from ssl_core.trust.identity import Identity, fingerprint
from ssl_core.trust.roster import sign_roster


def weights_of(folder: Path) -> Any:
    """float32 [P] of an encoder's folder, in the model's order."""
    from ssl_core.card import read_encoder
    from ssl_core.encoders.vector import to_vector

    return to_vector(read_encoder(folder).model)


def labelled(federation: Any) -> tuple[Path, Path]:
    """The source of site-a, and labels of all its patients."""
    source = federation.root / "data" / "site-a" / "source.toml"
    labels = source.with_name("labels.csv")
    with labels.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient", "heart"])
        writer.writerows([f"p{n}", n % 2] for n in range(6))
    return source, labels


def both(federation: Any, encoder: Path, *more: object) -> tuple[Result, Result, Path]:
    """What `choral embed` and `choral finetune` say of an encoder, and the folder that they write to."""
    source, labels = labelled(federation)
    out = federation.root / "out"
    embedded = run("embed", encoder, "--source", source, "--out", out / "features.npz", *more)
    tuned = run("finetune", encoder, "--source", source, "--labels", labels, "--out", out / "model", "--json", *more)
    return embedded, tuned, out


def both_refused(federation: Any, encoder: Path, *words: str, more: tuple[object, ...] = ()) -> None:
    embedded, tuned, out = both(federation, encoder, *more)
    for result in (embedded, tuned):
        refused(result, "field: ", "value: ", "remedy: ", *words)
    assert not out.exists()


@pytest.fixture
def release(federation: Any) -> Path:
    """What the operator published of a study of one round."""
    plan_hash = federation.launch(rounds__rounds=1)
    state = RoundState(federation.operator.study(plan_hash))
    state.open_round(1, b"start")
    weights = state.closed().model.weights + np.float32(0.5)
    state.close(Closed(1, 1, GlobalModel(weights, ServerState.empty()), b"close", weights.view(np.uint32)))
    return publish(federation.operator, plan_hash)


def test_a_release_is_taken_on_its_operators_signature(federation: Any, release: Path) -> None:
    roster = federation.site("site-a").root / "roster.json"
    embedded, tuned, out = both(federation, release, "--roster", roster)
    line = f"signature checked: by operator {fingerprint(federation.operator.operator.public)} of roster version 1"
    for result in (embedded, tuned):
        assert result.exit_code == 0 and line in result.stderr and NOT_CHECKED not in result.output
    assert json.loads(tuned.stdout)["origin"].startswith(line) and fingerprint(federation.authority.public) in tuned.stderr
    assert {path.name for path in out.iterdir()} == {"features.npz", "model"}


def test_without_a_roster_it_says_that_nothing_was_checked(federation: Any, release: Path) -> None:
    embedded, tuned, out = both(federation, release)
    for result in (embedded, tuned):
        assert result.exit_code == 0 and result.stderr == NOT_CHECKED + "\n"
    assert json.loads(tuned.stdout)["origin"] == NOT_CHECKED == "signature not checked: no roster given (--roster FILE)"
    assert {path.name for path in out.iterdir()} == {"features.npz", "model"}


def test_a_release_that_is_not_what_the_operator_signed_is_refused(federation: Any, release: Path) -> None:
    roster, root = federation.operator.root / "roster.json", federation.root
    weights, card = weights_of(release), read_card(release)
    more = ("--roster", roster)

    other = Identity.generate()
    save_encoder(root / "forged", weights, card, other)
    limit = f"limit: 1 of {fingerprint(federation.operator.operator.public)}"
    both_refused(federation, root / "forged", "TrustError: card is not signed by the keys", limit, more=more)
    save_encoder(root / "plain", weights, card)
    both_refused(federation, root / "plain", "TrustError: card is not signed", "card.json", "its own state folder", more=more)

    changed = weights + np.float32(1)
    save_encoder(root / "other", changed, card.model_copy(update={"weights": weights_hash(changed)}), other)
    for name, words in (
        ("encoder.safetensors", ("TrustError: weights are not those", "field: weights", f"limit: {card.weights}")),
        ("card.json", ("TrustError: card is not signed by the keys", limit)),
    ):
        copy = Path(shutil.copytree(release, root / f"with-{name}"))
        shutil.copy(root / "other" / name, copy / name)
        both_refused(federation, copy, *words, more=more)

    def one_byte(name: str, old: bytes, place: int) -> Path:
        """A copy of the release in which the byte `place` behind `old` is another letter."""
        copy = Path(shutil.copytree(release, root / f"byte-{name}-{place}"))
        data = bytearray((copy / name).read_bytes())
        at = (data.index(old) + len(old) + place) % len(data)
        data[at] = ord("B") if data[at] == ord("A") else ord("A")
        (copy / name).write_bytes(data)
        return copy

    tensor = one_byte("encoder.safetensors", b"}}", 100)
    both_refused(
        federation, tensor, "TrustError: weights are not those that the card names", f"limit: {card.weights}", more=more
    )
    both_refused(federation, one_byte("card.json", b'"sig":"', 12), "TrustError: card is not signed by the keys", more=more)
    both_refused(federation, one_byte("card.json", b'"payload":"', 40), "TrustError", more=more)
    both_refused(federation, one_byte("card.json", b'"signature', 0), "not a signed envelope", "field: card.json", more=more)


def test_a_roster_that_is_missing_forged_or_of_another_federation_is_refused(federation: Any, release: Path) -> None:
    roster, digest = federation.operator.roster()
    assert digest
    given = federation.root / "given.json"
    both_refused(federation, release, "ConfigError: roster file is missing", "field: roster", more=("--roster", given))
    given.write_bytes(sign_roster(roster, [Identity.generate()]))
    both_refused(federation, release, "TrustError: roster is not signed by the keys", more=("--roster", given))
    stranger = Identity.generate()
    server = roster.server.model_copy(update={"operator": stranger.public_hex})
    given.write_bytes(sign_roster(roster.model_copy(update={"server": server}), [federation.authority]))
    limit = f"limit: 1 of {fingerprint(stranger.public)}"
    both_refused(federation, release, "TrustError: card is not signed by the keys", limit, more=("--roster", given))


def test_an_encoder_of_the_sites_own_folder_is_taken_on_its_log(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3, patients=6)
    plan_hash = federation.launch(rounds__rounds=1)
    federation.invite_and_approve(plan_hash)
    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services()))
    home = federation.root / "site-a"
    (own,) = (home / "encoders").iterdir()
    embedded, tuned, out = both(federation, own)
    for result in (embedded, tuned):
        assert result.exit_code == 0, result.output
        assert result.stderr == f"checked against the log of site site-a: study {plan_hash[:12]} was approved here\n"
    shutil.rmtree(out)

    weights, card = weights_of(own), read_card(own)
    good = Path(shutil.move(own, federation.root / "good"))

    def put(changed: Any, **fields: Any) -> None:
        shutil.rmtree(own, ignore_errors=True)
        save_encoder(own, changed, card.model_copy(update={"weights": weights_hash(changed)} | fields))

    put(weights + np.float32(1))
    limit = f"limit: {card.weights}"
    both_refused(federation, own, "TrustError: weights are not those of the study's last round", "field: weights", limit)
    put(weights, plan_hash="ab" * 32)
    both_refused(federation, own, "TrustError: no such study was approved at this site", "value: " + "ab" * 32)
    put(weights, plan=card.plan.model_copy(update={"seed": 3}))
    both_refused(federation, own, "TrustError: plan is not the one approved here", f"limit: plan {plan_hash}")
    put(weights, kind="alone")
    both_refused(federation, own, "TrustError: plan is not the one approved here", "alone")
    put(weights, rounds_void=1)
    both_refused(federation, own, "TrustError: rounds are not those of the study", "value: 2", "limit: 1")
    (home / "studies" / plan_hash / "plan.json").rename(federation.root / "kept.json")
    put(weights)
    both_refused(federation, own, "TrustError: the study's signed plan is missing here", "plan.json")
    (federation.root / "kept.json").rename(home / "studies" / plan_hash / "plan.json")

    # A plan that the site was invited to, and one that it approved and never finished, vouch for nothing.
    other = federation.launch(rounds__rounds=1, seed=5)
    invitation = (federation.operator.study(other) / "plan.json").read_bytes()
    store_plan(federation.site("site-a"), invitation)
    put(weights, plan=open_plan(invitation, federation.operator.operator.public)[0], plan_hash=other)
    both_refused(federation, own, "TrustError: no such study was approved at this site")
    federation.study("site-a", other).approve("person")
    both_refused(federation, own, "TrustError: study was not finished here")

    shutil.rmtree(own)
    shutil.copytree(good, own)
    assert both(federation, own)[1].exit_code == 0
    shutil.rmtree(out)
    with sqlite3.connect(home / "chain.db") as log:
        log.execute("DELETE FROM log WHERE sequence = (SELECT max(sequence) FROM log)")
    log.close()
    for result in both(federation, own)[:2]:
        refused(result, "ChainError", "tell the authority")
    assert not out.exists()


def test_an_encoder_that_a_site_trained_alone_is_taken_on_its_ledger(federation: Any) -> None:
    home = federation.root / "site-a"
    federation.launch(rounds__rounds=1, rounds__steps_per_round=1, rounds__max_void=0)
    plan = federation.root / "plan.toml"
    edit(plan, alone=True, sites=[{"name": "site-a", "nominal_size": 40}])
    own = Path(json.loads(run("site", "pretrain", plan, "--home", home, "--yes", "--json").stdout)["encoder"])
    embedded, tuned, out = both(federation, own)
    card = read_card(own)
    for result in (embedded, tuned):
        assert result.exit_code == 0 and f"study {card.plan_hash[:12]} was approved here" in result.stderr
    shutil.rmtree(out)
    body = json.loads((own / "card.json").read_text())
    for path, words in (
        (("plan", "privacy", "noise_multiplier"), "plan is not the one approved here"),
        (("kind",), "plan is not the one approved here"),
        (("weights",), "weights are not those that the card names"),
    ):
        bad = json.loads(json.dumps(body))
        part = bad
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = {"noise_multiplier": 9.0, "kind": "federated", "weights": "ab" * 32}[path[-1]]
        (own / "card.json").write_bytes(canonical(bad))
        both_refused(federation, own, f"TrustError: {words}")
    # Elsewhere than in its site's folder nobody vouches for it.
    (own / "card.json").write_bytes(canonical(body))
    copy = Path(shutil.copytree(own, federation.root / "copy"))
    assert NOT_CHECKED in both(federation, copy)[0].stderr
