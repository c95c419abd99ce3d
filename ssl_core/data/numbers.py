"""Step 1 of 12: numbers as they are written in the cells of a table.

Comes in: the text of a cell, without space around it. Goes out: its value, float64. A number is written as digits, with a point
and an exponent where there is one; nothing is guessed of a decimal comma, a sign such as "<", a date.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_LONGEST = 60


def number_of(text: str) -> float | None:
    """The value, infinite for an exponent beyond float64; None for a text that is no number."""
    return float(text) if len(text) <= _LONGEST and _NUMBER.fullmatch(text) else None
