"""Step 1 of 12: times as they are written (ISO 8601), or as a database gives them.

Comes in: a text, a date or a date with time. Goes out: a moment without a zone, in UTC where the text names a zone, else as it
is written; or a text that sorts as the moment does. A date alone is its midnight.
"""

from __future__ import annotations

from datetime import UTC, date, datetime


def moment(text: str) -> datetime | None:
    """The moment of an ISO 8601 text; None where it is none."""
    try:
        return _plain(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        return None


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
