"""One site that lies about its keys, and kills at lines that only housekeeping reaches: no study may end of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests_network import Network

import client.study
import server.epochs
import server.round_state
from client.leftovers import drop_leftovers
from ssl_core.errors import StateError
from ssl_core.parcel import OutgoingKind, Parcel
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.messages import KeySet, Offer
from ssl_core.secure_sum.statements import read_signed, sign
from ssl_core.session import open_approval, sign_approval
from ssl_core.trust.identity import Identity

LIAR = "site-a"


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def network(make_federation: Callable[..., Any]) -> Callable[..., Network]:
    return lambda **changes: Network(make_federation(4, patients=10), **changes)


def survivors(study: Network) -> list[int]:
    return [event["survivors"] for event in study.events("closed")]


def epoch(study: Network) -> int:
    return decode(KeySet, (study.state.folder / "keyset.bin").read_bytes()).epoch


def offer(study: Network, epoch: int, key: bytes, signer: Identity | None = None) -> bytes:
    home, own = study.federation.site(LIAR), study.federation.study(LIAR, study.plan_hash)
    return sign(signer or home.identity, own.params.hash, Offer(epoch=epoch, site=own.params.index(LIAR), key=key))


def of_another(study: Network) -> bytes:
    keyset = decode(KeySet, (study.state.folder / "keyset.bin").read_bytes())
    return offer(study, 2, read_signed(Offer, keyset.offers[1])[1].key)


def later(study: Network, epoch: int) -> bytes:
    body = bytes.fromhex(study.plan_hash) + epoch.to_bytes(4, "big")
    return study.services[LIAR](Parcel("OFFER", body)).body


LIES: dict[str, Callable[[Network], bytes]] = {
    "rubbish": lambda study: b"rubbish",
    "signed by nobody": lambda study: offer(study, 2, b"\x09" + bytes(31), Identity.generate()),
    "a key of small order": lambda study: offer(study, 2, bytes(32)),
    "an epoch at the end of all numbers": lambda study: offer(study, 2**32 - 1, b"\x09" + bytes(31)),
    "an epoch that is still taken": lambda study: offer(study, 17, b"\x09" + bytes(31)),
    "another's key": of_another,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_site_that_lies_about_its_keys_keeps_itself_out_and_nobody_else(network: Callable[..., Network], lie: str) -> None:
    study = network(rounds__rounds=5)
    study.meddle = lambda name, parcel: (
        None if (name, parcel.kind, study.state.closed().count) == (LIAR, "START", 1) else parcel
    )

    def answer(name: str, question: Parcel, reply: Parcel) -> Parcel:
        if name == LIAR and question.kind == "OFFER":
            return Parcel(OutgoingKind.OFFER, LIES[lie](study))
        return reply

    study.answer = answer
    study.run()
    assert len(survivors(study)) == 5 and min(survivors(study)) >= 3
    assert survivors(study)[0] == 4 and not study.events("failed")


def test_a_site_that_says_again_and_again_that_its_keys_are_lost_makes_few_new_ones(network: Callable[..., Network]) -> None:
    study = network(rounds__rounds=9)
    study.meddle = lambda name, parcel: (
        None if (name, parcel.kind) == (LIAR, "START") and study.state.closed().count else parcel
    )

    def answer(name: str, question: Parcel, reply: Parcel) -> Parcel:
        if name == LIAR and question.kind == "OFFER" and reply.kind == "OFFER":
            return Parcel(OutgoingKind.OFFER, later(study, epoch(study) + 1))
        return reply

    study.answer = answer
    study.run()
    assert survivors(study) == [4, *[3] * 8] and 1 <= len(study.events("rekey")) <= 2


@pytest.mark.parametrize("lie", ["rubbish", "a key of small order"])
def test_an_approval_with_a_wrong_offer_is_refused_and_named(network: Callable[..., Network], lie: str) -> None:
    study = network(rounds__rounds=1, rounds__approval_patience_s=1e-9)
    home = study.federation.site(LIAR)

    def answer(name: str, question: Parcel, reply: Parcel) -> Parcel:
        if (name, reply.kind) != (LIAR, "APPROVAL"):
            return reply
        approval = open_approval(reply.body, home.identity.public, study.plan_hash)
        forged = approval.model_copy(update={"offer": LIES[lie](study).hex()})
        return Parcel(reply.kind, sign_approval(forged, home.identity))

    study.answer = answer
    with pytest.raises(StateError, match="not every site approved the study in time") as caught:
        study.run()
    assert caught.value.value == LIAR and [event["site"] for event in study.events("refused")] == [LIAR]


def test_a_site_that_declined_for_long_comes_back_and_gets_the_last_model(network: Callable[..., Network]) -> None:
    study = network(rounds__rounds=10)
    study.meddle = lambda name, parcel: (
        None if (name, parcel.kind) == (LIAR, "START") and 1 <= study.state.closed().count <= 5 else parcel
    )
    study.run()
    assert survivors(study)[0] == 4 and survivors(study)[-1] == 4 and survivors(study)[1:6] == [3] * 5
    study.all_ended_alike()


def test_killed_while_an_old_round_is_deleted_the_study_goes_on(
    network: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = network(rounds__rounds=8)
    study.away = lambda name: name == LIAR and 1 <= study.state.closed().count <= 6
    real, done = shutil.rmtree, []

    def rmtree(path: Path, *arguments: Any, **options: Any) -> None:
        if path.name.endswith("old-1") and not done:
            done.append(path)
            (path / "round.json").unlink()
            raise Killed
        real(path, *arguments, **options)

    monkeypatch.setattr(server.round_state.shutil, "rmtree", rmtree)
    with pytest.raises(Killed):
        study.run()
    study.run()
    assert done and survivors(study)[-1] == 4
    assert not list((study.state.folder / "closed").glob(".*"))
    study.all_ended_alike()


def test_killed_between_the_encoder_and_the_deletion_the_copy_goes_all_the_same(
    network: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = network(rounds__rounds=2)
    real, killed = client.study.Study.forget, []

    def forget(own: client.study.Study) -> None:
        if not killed:
            killed.append(own.home.root.name)
            raise Killed
        real(own)

    monkeypatch.setattr(client.study.Study, "forget", forget)
    with pytest.raises(Killed):
        study.run()
    (name,) = killed
    found = study.federation.study(name, study.plan_hash)
    assert found.finished and found.kept_records.kept
    drop_leftovers(study.federation.site(name))
    assert not found.kept_records.kept and not (found.folder / "model.safetensors").exists()
    study.restart(name)
    study.run()
    study.all_ended_alike()


def test_killed_between_the_new_key_set_and_its_note_it_is_handed_out(
    network: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = network(rounds__rounds=6, rounds__rekey_rounds=3)
    real, killed = server.epochs.write_durably, []

    def write(path: Path, data: bytes) -> None:
        real(path, data)
        if path.name == "keyset.bin" and epoch(study) == 2 and not killed:
            killed.append(path)
            raise Killed

    monkeypatch.setattr(server.epochs, "write_durably", write)
    with pytest.raises(Killed):
        study.run()
    study.run()
    assert survivors(study) == [4] * 6 and epoch(study) == 2
    study.all_ended_alike()


def test_a_folder_of_another_version_is_named(network: Callable[..., Network]) -> None:
    study = network(rounds__rounds=3)

    def meddle(_name: str, parcel: Parcel) -> Parcel:
        if study.state.closed().count == 2 and parcel.kind == "START":
            raise Killed
        return parcel

    study.meddle = meddle
    with pytest.raises(Killed):
        study.run()
    for path in study.state.folder.glob("closed/*/total.u*"):
        path.unlink()
    with pytest.raises(StateError, match=r"not one published sum.*launched anew"):
        study.run()
