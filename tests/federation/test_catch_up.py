"""Sites that were away, that lost their model or their keys, and key sets that change: the study goes on, and all end alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests_network import Network

from ssl_core.parcel import Parcel
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.messages import Close, KeySet
from ssl_core.secure_sum.statements import read_signed

NAME = "site-b"


@pytest.fixture
def network(make_federation: Callable[..., Any]) -> Callable[..., Network]:
    return lambda **changes: Network(make_federation(4), **changes)


@pytest.mark.parametrize(("missed", "expected"), [(1, ["CLOSE"]), (2, ["CLOSE", "CLOSE"]), (4, ["CHECKPOINT"])])
@pytest.mark.parametrize("optimizer", ["fedavg", "fedadam"])
def test_a_site_that_was_away_for_some_rounds(
    network: Callable[..., Network], missed: int, expected: list[str], optimizer: str
) -> None:
    study = network(rounds__rounds=7, aggregation__optimizer=optimizer)
    study.away = lambda name: name == NAME and 1 <= study.state.closed().count <= missed
    study.run()
    kinds = study.kinds(NAME)
    assert kinds[:4] == ["INVITE", "KEYS", "START", "UNMASK"]
    assert kinds[4 : 5 + len(expected)] == [*expected, "START"]
    survivors = [event["survivors"] for event in study.events("closed")]
    assert survivors == [4, *[3] * missed, *[4] * (6 - missed)]
    study.all_ended_alike()


def test_a_site_that_was_away_until_the_end_gets_the_last_model_all_the_same(network: Callable[..., Network]) -> None:
    study = network(rounds__rounds=6)
    study.away = lambda name: name == NAME and 1 <= study.state.closed().count < 6
    study.run()
    assert study.kinds(NAME)[4:] == ["CHECKPOINT", "CLOSE"]
    study.all_ended_alike()


@pytest.mark.parametrize("lie", ["model", "sum"])
def test_a_model_or_sum_that_differs_at_one_site_is_refused_there(network: Callable[..., Network], lie: str) -> None:
    """The server shows one site another sum; that site declines until it is shown the others' history."""
    study = network(rounds__rounds=4)

    def meddle(name: str, parcel: Parcel) -> Parcel | None:
        if name == NAME and parcel.kind == "START" and parcel.vector is not None and study.state.closed().count == 1:
            vector = parcel.vector + np.uint32(1) if lie == "sum" else parcel.vector.astype(np.float32)
            return Parcel(parcel.kind, parcel.body, vector)
        return parcel

    study.meddle = meddle
    study.run()
    assert [event["survivors"] for event in study.events("closed")] == [4, 3, 4, 4]
    study.all_ended_alike()


def test_a_site_that_lost_its_model_takes_a_checkpoint(network: Callable[..., Network]) -> None:
    study = network(rounds__rounds=5)

    def meddle(name: str, parcel: Parcel) -> Parcel:
        if name == NAME and parcel.kind == "START" and study.state.closed().count == 2 and not lost:
            lost.append(name)
            (study.federation.site(NAME).study(study.plan_hash) / "model.safetensors").unlink()
            study.restart(NAME)
        return parcel

    lost: list[str] = []
    study.meddle = meddle
    study.run()
    assert [event["survivors"] for event in study.events("closed")] == [4, 4, 3, 4, 4]
    assert "CHECKPOINT" in study.kinds(NAME)
    study.all_ended_alike()


def epoch(study: Network) -> int:
    return decode(KeySet, (study.state.folder / "keyset.bin").read_bytes()).epoch


def test_keys_are_renewed_after_so_many_rounds_of_the_plan(network: Callable[..., Network]) -> None:
    study = network(rounds__rounds=5, rounds__rekey_rounds=2)
    study.run()
    assert epoch(study) == 3 and len(study.events("rekey")) == 2
    assert [event["survivors"] for event in study.events("closed")] == [4] * 5
    keysets = {read_signed(Close, study.state.published(number)[0])[1].keyset for number in (2, 3, 5)}
    assert len(keysets) == 3
    study.all_ended_alike()


def test_a_site_that_is_away_puts_off_the_new_keys_and_no_round(network: Callable[..., Network]) -> None:
    study = network(rounds__rounds=5, rounds__rekey_rounds=2)
    study.away = lambda name: name == NAME and study.state.closed().count in (2, 3)
    study.run()
    assert [event["survivors"] for event in study.events("closed")] == [4, 4, 3, 3, 4]
    assert len(study.events("rekey-waits")) == 2 and len(study.events("rekey")) == 1 and epoch(study) == 2
    study.all_ended_alike()


def test_a_site_that_missed_the_new_keys_gets_them_before_its_next_round(network: Callable[..., Network]) -> None:
    study = network(rounds__rounds=5, rounds__rekey_rounds=2)
    refused: list[str] = []

    def meddle(name: str, parcel: Parcel) -> Parcel | None:
        if name == NAME and parcel.kind == "KEYS" and study.state.closed().count == 2 and not refused:
            refused.append(name)
            return None
        return parcel

    study.meddle = meddle
    study.run()
    assert refused and [event["survivors"] for event in study.events("closed")] == [4] * 5
    study.all_ended_alike()


def test_a_site_that_lost_its_keys_and_records_comes_back_with_new_ones(network: Callable[..., Network]) -> None:
    study = network(rounds__rounds=6)

    def meddle(name: str, parcel: Parcel) -> Parcel:
        if name == NAME and parcel.kind == "START" and study.state.closed().count == 2 and not lost:
            lost.append(name)
            home = study.federation.site(NAME)
            shutil.rmtree(home.root / "keys" / study.plan_hash)
            study.restart(NAME)
            # What a person does who reads the status: approve again, which copies the records and charges nothing.
            found = study.federation.study(NAME, study.plan_hash)
            assert found.lost_records
            found.copy_records_again()
            assert not found.lost_records
        return parcel

    lost: list[str] = []
    study.meddle = meddle
    study.run()
    assert [event["survivors"] for event in study.events("closed")] == [4, 4, 3, 4, 4, 4]
    assert epoch(study) == 2
    home = study.federation.site(NAME)
    assert len(home.chain.entries("reserve")) == 1
    study.all_ended_alike()
    (encoder,) = (home.root / "encoders").iterdir()
    encoder.rename(home.root / "moved")
    assert not study.federation.study(NAME, study.plan_hash).lost_records, "an ended study is not copied again"


def test_a_server_killed_while_it_hands_out_new_keys_hands_them_out_again(network: Callable[..., Network]) -> None:
    class Killed(BaseException):
        pass

    study = network(rounds__rounds=4, rounds__rekey_rounds=2)

    def meddle(name: str, parcel: Parcel) -> Parcel:
        if name == "site-c" and parcel.kind == "KEYS" and epoch(study) == 2 and not killed:
            killed.append(name)
            raise Killed
        return parcel

    killed: list[str] = []
    study.meddle = meddle
    with pytest.raises(Killed):
        study.run()
    study.run()
    assert [event["survivors"] for event in study.events("closed")] == [4] * 4 and epoch(study) == 2
    study.all_ended_alike()
