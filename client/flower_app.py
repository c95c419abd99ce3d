"""Step 9 of 12: Flower message -> parcel -> the site's service -> parcel -> Flower reply.

Comes in: a Flower Message whose content is exactly one ConfigRecord "parcel" and one ArrayRecord "arrays".
Goes out: a reply of the same form. Whatever fails inside, the server sees a DECLINED parcel without a reason: no
exception text ever becomes a Flower error (ruling 26). The site's own log names the error's type and place; the text
only if it is one of Choral's own errors, which carry nothing about patients.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from ssl_core.errors import ChoralError, ProtocolError
from ssl_core.parcel import DECLINED, Parcel, check_incoming, check_outgoing, from_plain, to_plain

_LOG = logging.getLogger("choral.site")
_FIELDS, _ARRAYS = "parcel", "arrays"

App = Callable[[Message], Message]


class Service(Protocol):
    """What answers for the site."""

    def handle(self, parcel: Parcel) -> Parcel:
        """The answer to one question of the server."""


def make_app(site_home: Path, service: Service | None = None) -> App:
    """The function that turns one Flower message into its reply; loads the site's service once."""
    if service is None:
        from client.site_service import SiteService

        service = SiteService(site_home)
    answering: Service = service

    def app(message: Message) -> Message:
        return Message(pack(_answer(answering, message)), reply_to=message)

    return app


def pack(parcel: Parcel) -> RecordDict:
    """A parcel as Flower's records; Flower sends arrays in chunks and keeps their dtype."""
    fields, arrays = to_plain(parcel)
    wrapped = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    return RecordDict({_FIELDS: ConfigRecord(dict(fields)), _ARRAYS: wrapped})


def unpack(content: RecordDict) -> Parcel:
    """Inverse of `pack`; ProtocolError for anything that `pack` cannot have made."""
    if set(content) != {_FIELDS, _ARRAYS}:
        raise ProtocolError("a Flower message has unknown or missing records", limit=f"{_FIELDS}, {_ARRAYS}")
    fields, wrapped = content[_FIELDS], content[_ARRAYS]
    if not isinstance(fields, ConfigRecord) or not isinstance(wrapped, ArrayRecord):
        raise ProtocolError("a Flower message has records of wrong types")
    return from_plain(fields, {name: _unwrap(array) for name, array in wrapped.items()})


def _unwrap(array: Array) -> np.ndarray:
    try:
        return np.asarray(array.numpy())
    except (TypeError, ValueError, EOFError, OSError) as error:
        raise ProtocolError("a Flower array cannot be read", value=type(error).__name__) from None


def _answer(service: Service, message: Message) -> Parcel:
    try:
        question = unpack(message.content)
        kind = check_incoming(question)
        answer = service.handle(question)
        check_outgoing(kind, answer)
    except ChoralError as error:
        _LOG.warning("declined: %s", error)
        return DECLINED
    except Exception as error:
        # Every other error too must look the same to the server; its text may hold patients' data, its place does not.
        frames = traceback.extract_tb(error.__traceback__)
        place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-4:]))
        _LOG.error("declined after an internal error: %s at %s", type(error).__name__, place)
        return DECLINED
    return answer
