"""Step 1 of 12: times as they are written (ISO 8601, or a number in a declared unit), or as a database gives them.

Comes in: a text, a date or a date with time. Goes out: a moment without a zone, in UTC where the text names a zone, else as it
is written; microseconds from the beginning of the year 1, or from where the numbers of a source begin; or a text that sorts as
the moment does. A date alone is its midnight.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal

from ssl_core.data.numbers import number_of
from ssl_core.data.reading import Fault, is_clean

TimeUnit = Literal["iso", "seconds", "minutes", "hours"]

_SECONDS: dict[TimeUnit, int] = {"seconds": 1, "minutes": 60, "hours": 3600}
_FARTHEST_SECONDS = 3.2e11
_FARTHEST = int(_FARTHEST_SECONDS) * 1_000_000


def moment(text: str) -> datetime | None:
    """The moment of an ISO 8601 text; None where it is none."""
    try:
        return _plain(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        return None


def microseconds(text: str, unit: TimeUnit) -> int | Fault:
    """The time of a cell in microseconds, less than 3.2e17 from 0; `Fault` where it is none."""
    if not is_clean(text):
        return Fault.UNREADABLE
    if unit == "iso":
        found = moment(text)
        return Fault.NO_TIME if found is None else (found - datetime.min) // timedelta(microseconds=1)
    number = number_of(text.strip())
    if number is None or abs(number) * _SECONDS[unit] >= _FARTHEST_SECONDS:
        return Fault.NO_TIME_NUMBER
    return round(number * _SECONDS[unit] * 1e6)


def in_order(time: int) -> str:
    """A text by which times from `microseconds` sort."""
    return f"{time + _FARTHEST:019d}"


def sortable(given: object) -> str:
    """A text by which times sort; a text that is no ISO 8601 (2025-03 of FHIR) is taken as it is, what is no time as empty."""
    if isinstance(given, str):
        found = moment(given)
        return given.strip() if found is None else found.isoformat()
    if isinstance(given, datetime):
        return _plain(given).isoformat()
    return datetime(given.year, given.month, given.day).isoformat() if isinstance(given, date) else ""


def _plain(given: datetime) -> datetime:
    return given if given.tzinfo is None else given.astimezone(UTC).replace(tzinfo=None)
