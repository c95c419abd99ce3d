"""Step 1 of 12: libraries that only some formats need, the optional extra `formats`.

Comes in: a module's name and what it is for. Goes out: the module. Raises `DataError`, with the command that installs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ssl_core.errors import DataError


def needed(module: str, purpose: str) -> Any:
    """The module; called before any record is read."""
    try:
        return import_module(module)
    except ImportError as error:
        raise DataError(
            f"a library that {purpose} need is not installed here",
            field="kind",
            value=module.partition(".")[0],
            remedy="pip install 'choral[formats]'",
        ) from error
