"""Step 1 of 12: the JSON schema of every kind of source TOML, for editors.

Comes in: nothing; MODELS of source.py, whatever readers are in it. Goes out: one JSON schema, a choice by `kind`.
"""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from ssl_core.data.source import MODELS


def source_schema() -> dict[str, Any]:
    """The schema, draft 2020-12."""
    choice: Any = functools.reduce(operator.or_, MODELS.values())
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[choice, Field(discriminator="kind")])
    schema: dict[str, Any] = adapter.json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Choral source", **schema}
