"""The site's Flower end: exact arrays, the allow-list, and failures that all look the same from outside."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.flower_app import make_app, pack, unpack
from ssl_core.errors import PolicyError, ProtocolError
from ssl_core.parcel import DECLINED, Parcel

VECTOR = np.array([0, 1, 2**31, 2**32 - 1], dtype=np.uint32)


class Scripted:
    def __init__(self, act: Callable[[Parcel], Parcel]) -> None:
        self.handle = act


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 2)
    monkeypatch.setattr(TaskIdentity, "_node_id", 3)


def reply(act: Callable[[Parcel], Parcel], content: RecordDict) -> Message:
    message = Message(content, 7, "query")
    message.metadata.__dict__["_message_id"] = "m"
    return make_app(Path("unused"), Scripted(act))(message)


def raising(error: Exception) -> Callable[[Parcel], Parcel]:
    def act(_parcel: Parcel) -> Parcel:
        raise error

    return act


def test_vector_goes_through_exactly() -> None:
    question = Parcel("START", b"\0\xff", VECTOR)
    answer = unpack(reply(lambda parcel: Parcel("UPLOAD", parcel.body, parcel.vector), pack(question)).content)
    assert answer == Parcel("UPLOAD", b"\0\xff", VECTOR)
    assert answer.vector is not None
    assert answer.vector.dtype == np.uint32


@pytest.mark.parametrize(
    "error",
    [
        PolicyError("epsilon would pass the limit", value=3.2),
        RuntimeError("Mrs Example, born 1950"),
        MemoryError("row 17"),
        KeyError("patient-4"),
    ],
)
def test_every_failure_is_the_same_bytes(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        message = reply(raising(error), pack(Parcel("START", b"")))
    assert not message.has_error()
    assert unpack(message.content) == DECLINED
    assert type(error).__name__ in caplog.text or "epsilon would pass" in caplog.text
    for text in ("Mrs Example", "row 17", "patient-4"):
        assert text not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        Parcel("METRICS", b"loss"),
        Parcel("CLOSE_ACK", b""),
        Parcel("UPLOAD", b"", VECTOR.astype(np.float32)),
        Parcel("UPLOAD", b""),
        Parcel("START", b""),
    ],
)
def test_what_is_not_allowed_does_not_leave(answer: Parcel) -> None:
    assert unpack(reply(lambda _parcel: answer, pack(Parcel("START", b""))).content) == DECLINED


def test_unknown_questions_never_reach_the_service() -> None:
    reached: list[Parcel] = []
    good = pack(Parcel("START", b"", VECTOR))
    extra = RecordDict({**good, "metrics": MetricRecord({"loss": 1.0})})
    wrong = RecordDict({"parcel": ArrayRecord(), "arrays": ArrayRecord()})
    lying = Array(dtype="uint32", shape=(4,), stype="numpy.ndarray", data=b"not an array")
    torch = Array(dtype="uint32", shape=(4,), stype="torch.tensor", data=VECTOR.tobytes())
    fields = ConfigRecord({"kind": "START", "body": b""})
    contents = [extra, wrong, RecordDict(), pack(Parcel("EXEC", b""))]
    contents += [RecordDict({"parcel": fields, "arrays": ArrayRecord({"vector": array})}) for array in (lying, torch)]
    for content in contents:
        answer = reply(lambda parcel: (reached.append(parcel), DECLINED)[1], content)
        assert unpack(answer.content) == DECLINED
    assert reached == []


def test_pickled_arrays_are_refused() -> None:
    import io

    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    array = Array(dtype="uint32", shape=(1,), stype="numpy.ndarray", data=file.getvalue())
    content = RecordDict({"parcel": ConfigRecord({"kind": "START", "body": b""}), "arrays": ArrayRecord({"vector": array})})
    with pytest.raises(ProtocolError, match="cannot be read"):
        unpack(content)


def test_a_flower_error_as_question_is_declined() -> None:
    original = Message(pack(Parcel("START", b"")), 7, "query")
    original.metadata.__dict__["_message_id"] = "m"
    broken = Message(Error(code=0, reason="x"), reply_to=original)
    broken.metadata.__dict__["_message_id"] = "n"
    assert unpack(make_app(Path("unused"), Scripted(lambda parcel: parcel))(broken).content) == DECLINED
