"""Row 26: a whole study with every secret noted as it is made; then all that leaves or stays behind is searched for them."""

from __future__ import annotations

import ast
import base64
import logging
import pickle
import re

import numpy as np
import pytest
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from client.flower_app import make_app, pack, unpack
from client.journal import SiteJournal
from client.site_service import SiteService
from server.exchange import LocalExchange
from server.rounds import run_study
from ssl_core.parcel import DECLINED, IncomingKind, OutgoingKind, Parcel
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.messages import Answer
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import FreshStream

WIDTH = 16
"""Bytes of a secret that are looked for: as unlikely by chance as a whole one."""

BEGINS = "the study begins"


class Watch:
    """Every secret that was made, by its first bytes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.known: set[bytes] = set()
        real = Secret.__init__

        def noted(secret: Secret, value: bytes) -> None:
            real(secret, value)
            self.note(bytes(value))

        patch.setattr(Secret, "__init__", noted)

    def note(self, value: bytes) -> None:
        if len(value) >= WIDTH and any(value[:WIDTH]):
            self.known.add(value[:WIDTH])

    def found_in(self, data: bytes, allowed: frozenset[bytes] = frozenset()) -> bool:
        """Whether a secret stands in these bytes, at any place."""
        looked = self.known - allowed
        return any(data[at : at + WIDTH] in looked for at in range(len(data) - WIDTH + 1))

    def found_in_text(self, text: str) -> bool:
        """Whether one stands in a text: as it is, in hex, base64 or decimal digits, or as Python shows bytes or a list."""
        parts = [text.encode("utf-8", "surrogateescape")]
        for digits in re.findall(r"[0-9a-fA-F]{32,}", text):
            parts += [bytes.fromhex(digits[at : len(digits) - (len(digits) - at) % 2]) for at in (0, 1)]
        for word in re.findall(r"[A-Za-z0-9+/_\-]{20,}={0,2}", text):
            plain = word.rstrip("=").replace("-", "+").replace("_", "/")
            parts += [base64.b64decode(plain[: len(plain) // 4 * 4])]
        for number in re.findall(r"\d{30,}", text):
            parts += [int(number).to_bytes(len(number), "big").lstrip(b"\0"), int(number).to_bytes(len(number), "big")[-32:]]
        for literal in re.findall(r"b'(?:[^'\\]|\\.)*'|b\"(?:[^\"\\]|\\.)*\"", text):
            parts += [ast.literal_eval(literal)]
        for numbers in re.findall(r"\[(?:\d{1,3}, ){15,}\d{1,3}\]", text):
            parts += [bytes(value % 256 for value in ast.literal_eval(numbers))]
        return any(self.found_in(part) for part in parts)


def test_row_26_the_search_finds_a_secret_in_every_spelling(monkeypatch):
    """Positive control: the search below is no empty one."""
    watch = Watch(monkeypatch)
    value = np.random.default_rng(0).bytes(32)
    secret = Secret(value)
    spellings = [
        value.hex(),
        repr(value),
        str(list(value)),
        str(int.from_bytes(value, "big")),
        base64.b64encode(value).decode(),
    ]
    for spelling in (*spellings, base64.urlsafe_b64encode(value).decode()):
        assert watch.found_in_text(f"ran into {spelling}, sorry"), spelling
    assert watch.found_in(b"xyz" + value + b"z") and not watch.found_in(value[1:])
    assert not watch.found_in_text(f"{secret!r} {value[:8].hex()}")


@pytest.fixture
def study(make_federation, monkeypatch, caplog):
    """A study that ran to its end, with every answer of every site, the log of everything, and what was made secret."""
    federation = make_federation(4, patients=6)
    watch = Watch(monkeypatch)
    caplog.set_level(logging.DEBUG)
    logging.getLogger("choral.site").debug(BEGINS)
    for name in federation.names:
        watch.note(federation.site(name).identity.private_key.private_bytes_raw())
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    services = {name: SiteService(federation.root / name) for name in federation.names}
    answers: list[Parcel] = []

    def asked(name):
        def handle(parcel):
            answers.append(services[name].handle(parcel))
            return answers[-1]

        return handle

    lost = federation.names[3]
    exchange = LocalExchange(
        {name: asked(name) for name in federation.names},
        lost=lambda name, parcel, _: name == lost and parcel.kind in (IncomingKind.START, IncomingKind.UNMASK),
    )
    run_study(federation.operator.root, plan_hash, exchange)
    assert {answer.kind for answer in answers} >= {"APPROVAL", "KEYS_ACK", "UPLOAD", "CONSENT", "UNMASK", "CLOSE_ACK"}
    assert len(watch.known) > 200
    return federation, watch, plan_hash, services, answers, caplog


def assert_no_secret_in_records(watch, answers):
    """Flower's records of every answer hold none but those that an UNMASK must give."""
    for answer in answers:
        allowed: frozenset[bytes] = frozenset()
        if answer.kind == OutgoingKind.UNMASK:
            # Kept as one secret until CLOSE, the answer is what it must give: shares, elements, and their marks.
            given = [value.reveal() for value in decode(Answer, answer.body).values]
            allowed = frozenset(part[:WIDTH] for value in (*given, b"_" + answer.body) for part in (value, value[1:]))
        record = pack(answer)
        assert not watch.found_in(bytes(record["parcel"]["body"]), allowed), answer.kind
        for array in record["arrays"].values():
            assert not watch.found_in(array.numpy().tobytes()), answer.kind
        assert not watch.found_in_text(repr(answer)) and not watch.found_in_text(str(dict(record["parcel"])["kind"]))


def test_row_26_b_no_secret_leaves_in_flowers_records_nor_in_the_log(study, monkeypatch):
    """After the study every kind of question comes again, damaged, through Flower's messages: all are DECLINED alike."""
    federation, watch, plan_hash, services, answers, caplog = study
    assert_no_secret_in_records(watch, answers)
    for number, name in enumerate(("_run_id", "_task_id", "_node_id")):
        monkeypatch.setattr(TaskIdentity, name, number + 1)
    app = make_app(federation.root / federation.names[0], services[federation.names[0]])
    for kind in IncomingKind:
        for body in (b"", bytes.fromhex(plan_hash), bytes.fromhex(plan_hash) + b"\xff" * 200):
            for vector in (None, np.full(3, np.nan, np.float32)):
                question = Message(pack(Parcel(kind, body, vector)), 7, "query")
                question.metadata.__dict__["_message_id"] = "m"
                assert unpack(app(question).content) == DECLINED
    # What was logged while the study ran is kept apart from what was logged since.
    records = [*caplog.get_records("setup"), *caplog.records]
    assert len(caplog.records) > 20 and records[0].getMessage() == BEGINS
    assert any("declined" in record.getMessage() for record in records)
    for record in records:
        assert not watch.found_in_text(record.getMessage()) and not watch.found_in_text(repr(vars(record)))


def assert_no_secret_on_disk(federation, watch, plan_hash):
    """Chains, encoders and plans of the sites, everything of the server's study."""
    for name in federation.names:
        home = federation.site(name)
        for entry in home.chain.entries():
            assert not watch.found_in_text(str(entry.body))
            if entry.kind.startswith("sum/"):
                assert not watch.found_in(base64.b64decode(entry.body["body"])), entry.body["event"]
        kept = [path for part in ("encoders", "studies", "logs") for path in (home.root / part).rglob("*") if path.is_file()]
        assert kept and not any(watch.found_in(path.read_bytes()) for path in kept)
    folder = federation.operator.study(plan_hash)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"plan.json", "events.jsonl"}
    for path in files:
        assert not watch.found_in(path.read_bytes()), path.name


def test_row_26_c_no_secret_stays_in_a_file_a_repr_or_a_pickle(study, tmp_path):
    federation, watch, plan_hash, services, _, _ = study
    assert_no_secret_on_disk(federation, watch, plan_hash)
    study_ = services[federation.names[0]]._study(plan_hash)
    site, identity = study_.secure_sum, federation.site(federation.names[0]).identity
    journal = SiteJournal(federation.site(federation.names[0]).chain, tmp_path / "keys", plan_hash)
    hidden = (site, site._vault, site._vault._now, site._vault._now.chains, identity, GaussianNoise(), FreshStream())
    for held in (*hidden, journal, study_, services[federation.names[0]], make_app(federation.root / federation.names[0])):
        assert not watch.found_in_text(repr(held)) and not watch.found_in_text(str(held))
    for held in hidden:
        with pytest.raises(TypeError, match=r"pickle|stored"):
            pickle.dumps(held)
