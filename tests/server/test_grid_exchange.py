"""GridExchange against a grid in this process: errors mean "ask again", late nodes are asked when they appear."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Error, Message
from flwr.app.message import RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from server import flower_app
from server.flower_app import GridExchange
from ssl_core.errors import ConfigError, ProtocolError
from ssl_core.parcel import Parcel

VECTOR = np.arange(100, dtype=np.uint32)
Reply = RecordDict | Error | None


def key_pair() -> tuple[str, bytes]:
    """The same public key as a roster writes it (OpenSSH) and as Flower lists it (PEM)."""
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    ssh = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return ssh.decode(), pem


KEYS = {"alpha": key_pair(), "beta": key_pair()}
IDS = {"alpha": 11, "beta": 22}


class FakeGrid(Grid):
    """`act(site, times asked, question)` gives the reply; None means that none has come yet."""

    def __init__(self, act: Callable[[str, int, Parcel], Reply], online: Callable[[], Iterable[str]]) -> None:
        self.act, self.online = act, online
        self.asked: dict[str, int] = {}
        self.ttls: list[float] = []
        self.open: dict[str, tuple[str, Message]] = {}
        self.pulled: list[int] = []
        self.broken = 0

    def set_run(self, run: object) -> None:
        raise NotImplementedError

    @property
    def run(self) -> object:
        raise NotImplementedError

    def create_message(self, *_arguments: object, **_options: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        raise NotImplementedError

    def get_nodes(self) -> Iterable[SimpleNamespace]:
        stranger = SimpleNamespace(node_id=99, public_key=key_pair()[1])
        return [stranger] + [SimpleNamespace(node_id=IDS[site], public_key=KEYS[site][1]) for site in self.online()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        if self.broken:
            self.broken -= 1
            raise httpx.ReadError("EOF occurred in violation of protocol")
        ids = []
        for message in messages:
            site = next(name for name, node in IDS.items() if node == message.metadata.dst_node_id)
            self.asked[site] = self.asked.get(site, 0) + 1
            self.ttls.append(message.metadata.ttl)
            identity = f"{site}-{self.asked[site]}"
            message.metadata.__dict__["_message_id"] = identity
            self.open[identity] = (site, message)
            ids.append(identity)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = list(message_ids)
        self.pulled.append(len(wanted))
        found = []
        for identity in wanted:
            site, message = self.open[identity]
            reply = self.act(site, self.asked[site], flower_app._unpack(message.content))
            if reply is None:
                continue
            del self.open[identity]
            found.append(Message(reply, reply_to=message))
        return found

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 2)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)


def exchange_over(grid: FakeGrid) -> GridExchange:
    return GridExchange(grid, {site: ssh for site, (ssh, _) in KEYS.items()})


def upload(question: Parcel) -> RecordDict:
    return flower_app._pack(Parcel("UPLOAD", question.body, question.vector))


def ask(grid: FakeGrid, *, patience_s: float = 20.0, sites: Iterable[str] = KEYS) -> dict[str, Parcel]:
    answers: dict[str, Parcel] = {}
    parcels = {site: Parcel("START", site.encode(), VECTOR) for site in sites}
    exchange_over(grid).ask(parcels, patience_s=patience_s, on_reply=answers.__setitem__, done=lambda: False)
    return answers


def test_nodes_are_mapped_to_sites_by_key_and_strangers_ignored() -> None:
    assert exchange_over(FakeGrid(lambda *_: None, lambda: ["beta"])).reachable() == {"beta"}


def test_vectors_come_back_exactly() -> None:
    answers = ask(FakeGrid(lambda _site, _times, question: upload(question), lambda: KEYS))
    assert answers == {site: Parcel("UPLOAD", site.encode(), VECTOR) for site in KEYS}


def test_a_flower_error_means_ask_again_with_the_same_parcel() -> None:
    bodies: list[bytes] = []

    def act(site: str, times: int, question: Parcel) -> Reply:
        if site == "alpha":
            bodies.append(question.body)
            if times < 3:
                return Error(code=8, reason="Node unavailable")
        return upload(question)

    grid = FakeGrid(act, lambda: KEYS)
    assert set(ask(grid)) == set(KEYS)
    assert bodies == [b"alpha"] * 3
    assert grid.asked == {"alpha": 3, "beta": 1}


def test_unreadable_and_forbidden_replies_are_not_answers() -> None:
    bad = [
        RecordDict(),
        flower_app._pack(Parcel("CONSENT", b"")),
        flower_app._pack(Parcel("UPLOAD", b"", VECTOR.astype(np.float32))),
    ]

    def act(site: str, times: int, question: Parcel) -> Reply:
        return bad[times - 1] if times <= len(bad) else upload(question)

    grid = FakeGrid(act, lambda: KEYS)
    assert ask(grid, sites=["alpha"]) == {"alpha": Parcel("UPLOAD", b"alpha", VECTOR)}
    assert grid.asked == {"alpha": 4}


def test_a_site_that_declines_has_answered() -> None:
    grid = FakeGrid(lambda *_: flower_app._pack(Parcel("DECLINED", b"")), lambda: KEYS)
    assert {answer.kind for answer in ask(grid).values()} == {"DECLINED"}
    assert grid.asked == {"alpha": 1, "beta": 1}


def test_a_late_site_is_asked_when_it_appears() -> None:
    online = ["alpha"]
    threading.Timer(1.0, online.append, ["beta"]).start()
    assert set(ask(FakeGrid(lambda _site, _times, question: upload(question), lambda: online))) == set(KEYS)


def test_patience_ends() -> None:
    grid = FakeGrid(lambda site, _times, question: upload(question) if site == "alpha" else None, lambda: KEYS)
    started = time.monotonic()
    assert set(ask(grid, patience_s=0.5)) == {"alpha"}
    assert time.monotonic() - started >= 0.5
    assert grid.asked == {"alpha": 1, "beta": 1}
    assert all(ttl > 60 for ttl in grid.ttls)


def test_done_ends_it_at_once() -> None:
    grid = FakeGrid(lambda _site, _times, question: upload(question), lambda: KEYS)
    answers: dict[str, Parcel] = {}
    parcels = {site: Parcel("START", b"", VECTOR) for site in KEYS}
    exchange_over(grid).ask(parcels, patience_s=60, on_reply=answers.__setitem__, done=lambda: len(answers) == 1)
    assert len(answers) == 1


def test_a_broken_connection_is_not_the_end_of_the_study() -> None:
    grid = FakeGrid(lambda _site, _times, question: upload(question), lambda: KEYS)
    grid.broken = 3
    assert set(ask(grid)) == set(KEYS)


def test_what_the_caller_raises_passes_through() -> None:
    def refuse(_site: str, _parcel: Parcel) -> None:
        raise ProtocolError("caller")

    grid = FakeGrid(lambda _site, _times, question: upload(question), lambda: KEYS)
    parcels = {"alpha": Parcel("START", b"", VECTOR)}
    with pytest.raises(ProtocolError, match="caller"):
        exchange_over(grid).ask(parcels, patience_s=60, on_reply=refuse, done=lambda: False)


def test_bad_rosters_and_unknown_sites_are_refused() -> None:
    grid = FakeGrid(lambda *_: None, lambda: KEYS)
    ssh = KEYS["alpha"][0]
    with pytest.raises(ConfigError, match="same SuperNode key"):
        GridExchange(grid, {"alpha": ssh, "beta": KEYS["alpha"][1].decode()})
    with pytest.raises(ProtocolError, match="gamma"):
        ask(grid, sites=["gamma"])
